//! The building data, where `MICROCLIMATE_DATA` has it. Sensors measure every five seconds, at
//! whole seconds, so many readings are on the edges of windows.

mod support;

use std::{collections::BTreeMap, path::PathBuf};

use duckdb::Connection;
use eventlog::EventLog;
use microclimate_feature_store::{
    FeatureStore, FeatureStoreSettings,
    backfill::{self, BackfillLayout, BackfillRequest},
};
use support::{append, assert_same, frame, live, readings, run};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId};
use tempfile::TempDir;

const ROOMS: [&str; 3] = ["415", "442", "510"];
/// 2013-08-25T00:00:00Z to six hours of the next day: a whole day, and further rows.
const FROM_MS: i64 = 1_377_388_800_000;
const HOURS: i64 = 30;
const METRICS: [&str; 5] = ["temperature", "humidity", "co2", "light", "motion"];
const DEFINITIONS: &str = r#"
version = 1
[windows]
10m = ["count", "mean", "std", "min", "max", "first", "last", "delta", "slope"]
1h = ["count", "mean", "std", "min", "max", "first", "last", "delta", "slope"]
24h = ["count", "mean", "std", "min", "max", "first", "last", "delta", "slope"]
"#;
/// SQL of each aggregate over values `value` at `event`, and the tolerated difference, in units
/// or relative to values above 1. Of readings at the same time, the larger counts as newer.
const ORACLE: [(&str, &str, f64); 9] = [
    ("count", "count(value)::DOUBLE", 0.0),
    ("mean", "avg(value)", 1e-12),
    ("std", "stddev_samp(value)", 1e-9),
    ("min", "min(value)", 0.0),
    ("max", "max(value)", 0.0),
    ("first", "first(value ORDER BY event, value)", 0.0),
    ("last", "last(value ORDER BY event, value)", 0.0),
    (
        "delta",
        "CASE WHEN count(value) > 1
              THEN last(value ORDER BY event, value) - first(value ORDER BY event, value) END",
        1e-12,
    ),
    (
        "slope",
        "CASE WHEN count(DISTINCT event) > 1
              THEN regr_slope(value, epoch_us(event - TIMESTAMP '2013-08-25') / 3.6e9) END",
        1e-6,
    ),
];

fn oracle_settings(dir: &TempDir) -> FeatureStoreSettings {
    let mut settings = support::settings(dir.path());
    settings.engine.features = dir.path().join("features.toml");
    std::fs::write(&settings.engine.features, DEFINITIONS).unwrap();
    settings
}

/// A small and fast generator with the same numbers everywhere: xorshift64*.
struct Xorshift64Star(u64);

impl Xorshift64Star {
    fn next_below(&mut self, end: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end as u64) as i64
    }
}

/// Reads the readings that a backfill has stored, as devices would have sent them: one report of
/// everything that a room measured in a second.
fn read_recorded_reports(path: &std::path::Path) -> Vec<SensorReport> {
    let file = Connection::open(path).unwrap();
    let mut statement = file
        .prepare(
            "SELECT s.site, s.zone, s.device, s.metric, epoch_ms(b.event), b.value
             FROM bronze.recorded b JOIN silver.series s ON b.series = s.id ORDER BY 5, 2, 3, b.line",
        )
        .unwrap();
    let mut found = statement.query([]).unwrap();
    let mut reports: Vec<SensorReport> = Vec::new();
    while let Some(row) = found.next().unwrap() {
        let text = |column: usize| row.get::<_, String>(column).unwrap();
        let event_ms = row.get(4).unwrap();
        let reading =
            SensorReading { metric: text(3).into(), event_ms, value: row.get(5).unwrap() };
        let (zone, device) = (ZoneId::new(text(0), text(1)), text(2).into());
        match reports.last_mut() {
            Some(last)
                if last.arrival_ms == event_ms && last.zone == zone && last.device == device =>
            {
                last.readings.push(reading);
            }
            _ => reports.push(SensorReport {
                zone,
                device,
                boot: None,
                seq: None,
                arrival_ms: event_ms,
                source: ReportSource::Replay,
                readings: vec![reading],
            }),
        }
    }
    reports
}

/// Delays each report by up to two minutes, repeats some, and delays forty minutes of one room by
/// five hours.
fn disturb_reports(in_order: &[SensorReport]) -> Vec<SensorReport> {
    let mut dice = Xorshift64Star(2013);
    let mut sent: Vec<(i64, &SensorReport)> = Vec::new();
    let held = FROM_MS + 8 * 3_600_000..FROM_MS + 8 * 3_600_000 + 40 * 60_000;
    for report in in_order {
        let mut at_ms = report.arrival_ms + dice.next_below(119_000);
        if report.zone.zone == ROOMS[0] && held.contains(&report.arrival_ms) {
            at_ms += 5 * 3_600_000;
        }
        sent.push((at_ms, report));
        if dice.next_below(20) == 0 {
            sent.push((at_ms + dice.next_below(3_600_000), report));
        }
    }
    sent.sort_by_key(|(at_ms, _)| *at_ms);
    sent.into_iter().map(|(_, report)| report.clone()).collect()
}

/// Compares with SQL, by metric and window: the number of rows, the readings on either edge, and
/// the largest difference of each aggregate.
fn check_oracle(settings: &FeatureStoreSettings) {
    let file = Connection::open(&settings.store.path).unwrap();
    for metric in METRICS {
        for (window, width) in [("10m", "10 minutes"), ("1h", "1 hour"), ("24h", "24 hours")] {
            let got = |aggregate: &str| format!("{metric}_{aggregate}_{window}");
            let each = |of: &dyn Fn(&(&str, &str, f64)) -> String| {
                ORACLE.iter().map(of).collect::<Vec<_>>().join(", ")
            };
            let sql = format!(
                "WITH expected AS (
                     SELECT f.zone, f.time,
                            count(*) FILTER (event = f.time) AS on_right, {}
                     FROM features.rows f LEFT JOIN silver.readings r
                       ON r.zone = f.zone AND r.metric = '{metric}' AND r.quality = 'ok'
                      AND r.event > f.time - INTERVAL '{width}' AND r.event <= f.time
                     WHERE f.revision = 0 AND epoch_ms(f.time) % 1500000 = 0
                     GROUP BY f.zone, f.time
                 )
                 SELECT count(*), sum(on_right)::UBIGINT,
                        (SELECT count(*) FROM expected e JOIN silver.readings r
                         ON r.zone = e.zone AND r.metric = '{metric}' AND r.quality = 'ok'
                        AND r.event = e.time - INTERVAL '{width}')::UBIGINT, {}
                 FROM expected",
                each(&|(name, sql, _)| {
                    format!("any_value(f.{}) AS got_{name}, {sql} AS want_{name}", got(name))
                }),
                each(&|(name, ..)| {
                    format!(
                        "max(CASE WHEN got_{name} IS NULL AND want_{name} IS NULL THEN 0
                                  WHEN got_{name} IS NULL OR want_{name} IS NULL THEN 'inf'::DOUBLE
                                  ELSE abs(got_{name} - want_{name}) / greatest(1, abs(want_{name}))
                             END)"
                    )
                }),
            );
            let (rows, right, left, worst) = file
                .query_row(&sql, [], |row| {
                    let worst: Vec<f64> =
                        (3..3 + ORACLE.len()).map(|i| row.get(i)).collect::<Result<_, _>>()?;
                    Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?, row.get::<_, u64>(2)?, worst))
                })
                .unwrap();
            println!("{metric} {window}: {rows} rows, {right} readings at t, {left} at t - w");
            assert!(rows > 100, "{metric} {window}: {rows} rows");
            for ((name, _, within), worst) in ORACLE.iter().zip(worst) {
                assert!(worst <= *within, "{}: {worst} off", got(name));
            }
        }
    }
    let edges = "SELECT count(*) FROM silver.readings WHERE epoch_ms(event) % 60000 = 0";
    let edges: u64 = file.query_row(edges, [], |row| row.get(0)).unwrap();
    assert!(edges > 1000, "only {edges} readings are on the grid, where edges are");
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_rooms_live_backfilled_and_disturbed_match_sql() {
    let Some(data) = std::env::var_os("MICROCLIMATE_DATA").map(PathBuf::from) else {
        println!("skipped: MICROCLIMATE_DATA is not set (see CONTRIBUTING.md)");
        return;
    };
    let [filled, lived, shaken] = [(); 3].map(|()| TempDir::new().unwrap());
    let request = BackfillRequest {
        path: data.join("KETI"),
        layout: BackfillLayout::Keti,
        site: "keti".to_owned(),
        zones: ROOMS.map(str::to_owned).to_vec(),
        from_ms: Some(FROM_MS),
        to_ms: Some(FROM_MS + HOURS * 3_600_000),
        features_only: false,
        as_published: false,
        time_zone: jiff::tz::TimeZone::UTC,
        time_format: telemetry::TimeFormat::Iso,
        rejects: filled.path().join("rejects.csv"),
        jobs: 2,
    };
    let of_backfill = oracle_settings(&filled);
    let summary =
        backfill::run_backfill(&of_backfill, &MetricTable::default(), &request, &|_| {}).unwrap();
    let in_order = read_recorded_reports(&of_backfill.store.path);
    println!("{summary:?}");
    assert_eq!(summary.zones as usize, ROOMS.len());
    assert_eq!(summary.readings, readings(&in_order));
    assert!(summary.readings > 200_000, "{summary:?}");

    let of_live = oracle_settings(&lived);
    live(&of_live, &in_order).await;
    let of_shaken = oracle_settings(&shaken);
    let shaken_reports = disturb_reports(&in_order);
    let log = EventLog::open(&of_shaken.log).unwrap();
    append(&log, &shaken_reports).await;
    let store = run(&of_shaken, &log, readings(&shaken_reports)).await;
    let counts = store.committed_counts();
    let doubled = readings(&shaken_reports) - readings(&in_order);
    println!("disturbed: {counts:?}, {doubled} twice");
    assert!(counts.corrections > 60 && doubled > 1000, "{counts:?}");
    let got = frame(&store);
    drop(store);

    let want = {
        let store = FeatureStore::open(&of_live, MetricTable::default()).unwrap();
        let by_quality = |counts: BTreeMap<&'static str, u64>| counts["ok"];
        assert_eq!(by_quality(counts.by_quality), by_quality(store.committed_counts().by_quality));
        frame(&store)
    };
    assert_same(&frame(&FeatureStore::open(&of_backfill, MetricTable::default()).unwrap()), &want);
    assert_same(&got, &want);
    check_oracle(&of_live);
}
