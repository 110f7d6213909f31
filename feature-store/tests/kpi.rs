//! Hourly and daily KPIs, compared with SQL over the readings.

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use duckdb::Connection;
use eventlog::EventLog;
use microclimate_feature_store::{
    FeatureStore, FeatureStoreSettings,
    backfill::{self, BackfillLayout, BackfillRequest},
    kpi::{KpiQuery, PeriodLength},
};
use proptest::prelude::*;
use support::live;
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// 2025-03-28T00:00:00Z: Berlin's clock goes from 2 to 3 in the night to the 30th.
const START_S: i64 = 1_743_120_000;

fn berlin_settings(dir: &Path) -> FeatureStoreSettings {
    let mut settings = support::settings(dir);
    "Europe/Berlin".clone_into(&mut settings.engine.time_zone);
    settings
}

/// Writes five days by the minute with a gap, faults and copies.
fn write_recording(dir: &Path) -> std::path::PathBuf {
    let mut text = "time,zone,device,metric,value\n".to_owned();
    for minute in 0..5 * 1440_i64 {
        if (2000..2100).contains(&minute) {
            continue;
        }
        let time_s = START_S + minute * 60 + minute % 7;
        let temperature =
            if minute % 1000 == 999 { 579.0 } else { 20.0 + (minute % 97) as f64 / 20.0 };
        text += &format!("{time_s},farm/bay-1,t,temperature,{temperature}\n");
        if minute % 500 == 0 {
            text += &format!("{time_s},farm/bay-1,t,temperature,{temperature}\n");
        }
        text +=
            &format!("{time_s},farm/bay-1,l,light,{}\n", if minute % 1440 < 600 { 500 } else { 0 });
    }
    let path = dir.join("a.csv");
    std::fs::write(&path, text).unwrap();
    path
}

fn backfill_recording(settings: &FeatureStoreSettings, path: &Path) {
    let request = BackfillRequest {
        path: path.to_owned(),
        layout: BackfillLayout::Csv,
        site: "farm".to_owned(),
        zones: Vec::new(),
        from_ms: None,
        to_ms: None,
        features_only: false,
        as_published: false,
        time_zone: jiff::tz::TimeZone::UTC,
        time_format: telemetry::TimeFormat::Iso,
        rejects: path.with_extension("rejects"),
        jobs: 1,
    };
    backfill::run_backfill(settings, &MetricTable::default(), &request, &|_| {}).unwrap();
}

fn kpi_query(length: PeriodLength) -> KpiQuery {
    let zone = ZoneId::new("farm", "bay-1");
    KpiQuery { zone, length, from_ms: None, to_ms: None, limit: 1000 }
}

/// Returns how many hours there are, and how far they differ from SQL over the readings.
fn compare_hours_with_sql(settings: &FeatureStoreSettings) -> (u64, f64) {
    let sql = Connection::open(&settings.store.path).unwrap();
    sql
        .query_row(
            "WITH oracle AS (
                SELECT metric, date_trunc('hour', event) AS hour, count(*) AS n,
                    count(*) FILTER (quality = 'ok') / count(*) AS share,
                    min(value) FILTER (quality = 'ok') AS lo, avg(value) FILTER (quality = 'ok') AS mean,
                    max(value) FILTER (quality = 'ok') AS hi, stddev_samp(value) FILTER (quality = 'ok') AS std
                FROM silver.readings WHERE quality <> 'duplicate' GROUP BY ALL
             )
             SELECT count(*), max(greatest(abs(coalesce(k.readings, 0)::DOUBLE - coalesce(n, 0)), abs(k.valid_share - share), abs(k.min - lo),
                 abs(k.max - hi), abs(k.mean - o.mean), abs(coalesce(k.std, 0) - coalesce(o.std, 0))))
             FROM gold.hourly k FULL JOIN oracle o ON k.metric = o.metric AND k.hour = o.hour",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap()
}

#[test]
fn hours_are_what_sql_finds_and_days_are_those_of_the_clock() {
    let dir = TempDir::new().unwrap();
    let settings = berlin_settings(dir.path());
    backfill_recording(&settings, &write_recording(dir.path()));
    let worst = compare_hours_with_sql(&settings);
    assert!(worst.0 > 200 && worst.1 < 1e-9, "{worst:?}");
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    let days = store.read_kpis(&kpi_query(PeriodLength::Day)).unwrap();
    let hours: Vec<f64> = days.iter().rev().map(|day| day.period.length_hours()).collect();
    assert_eq!(hours, [24.0, 24.0, 23.0, 24.0, 24.0, 24.0]);
    let all: u64 = days.iter().map(|day| day.metrics["temperature"].count).sum();
    let of_hours = store.read_kpis(&kpi_query(PeriodLength::Hour)).unwrap();
    assert_eq!(all, of_hours.iter().map(|hour| hour.metrics["temperature"].count).sum::<u64>());
    let day = &days[3];
    assert_eq!(day.period.length_hours(), 23.0);
    assert!((day.light_h.unwrap() - 10.0).abs() < 0.5, "{day:?}");
    assert_eq!(days[4].metrics["temperature"].gap_max_s, 102.0 * 60.0 - 3.0, "{:?}", days[4]);
}

fn temperature_report(minute: i64, value: f64) -> SensorReport {
    let event_ms = (START_S + minute * 60) * 1000;
    SensorReport {
        zone: ZoneId::new("farm", "bay-1"),
        device: "t".into(),
        boot: None,
        seq: None,
        arrival_ms: event_ms,
        source: ReportSource::Replay,
        readings: vec![SensorReading { metric: "temperature".into(), event_ms, value }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_reading_is_in_its_hour_and_its_day() {
    let dir = TempDir::new().unwrap();
    let mut settings = berlin_settings(dir.path());
    settings.log = eventlog::EventLogConfig::for_embedded(&dir.path().join("log"));
    let first: Vec<SensorReport> = (0..300)
        .filter(|minute| minute % 60 != 7)
        .map(|minute| temperature_report(minute, 20.0))
        .collect();
    live(&settings, &first).await;
    let before = compare_hours_with_sql(&settings);
    assert!(before.0 == 5 && before.1 < 1e-9, "{before:?}");
    // A reading of the second hour that arrives hours later, and a copy of an existing one.
    live(
        &settings,
        &[
            temperature_report(67, 31.0),
            temperature_report(68, 20.0),
            temperature_report(300, 20.0),
        ],
    )
    .await;
    let after = compare_hours_with_sql(&settings);
    assert!(after.0 == 6 && after.1 < 1e-9, "{after:?}");
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    let hour = &store.read_kpis(&kpi_query(PeriodLength::Hour)).unwrap()[4];
    let of_hour = hour.metrics["temperature"];
    assert_eq!((of_hour.count, of_hour.max), (60, Some(31.0)), "{hour:?}");
    let days = store.read_kpis(&kpi_query(PeriodLength::Day)).unwrap();
    assert_eq!((days.len(), days[0].metrics["temperature"].count), (1, 297), "{days:?}");
}

/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;
/// Days after an hour with valid readings in which a metric is expected.
const EXPECTED_MS: i64 = 7 * 24 * HOUR_MS;

/// Counts of an hour or day of a metric: readings, valid readings, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct PeriodCounts {
    readings: u64,
    valid: u64,
    sum: f64,
}

impl PeriodCounts {
    fn is_close(self, other: Self) -> bool {
        self.readings == other.readings
            && self.valid == other.valid
            && (self.sum - other.sum).abs() < 1e-6
    }
}

type MetricPeriods = BTreeMap<(String, String, i64), PeriodCounts>;

/// Returns the start of the local hour; the offset is whole hours, or constant.
fn hour_start(at_ms: i64, offset_ms: i64) -> i64 {
    (at_ms + offset_ms).div_euclid(HOUR_MS) * HOUR_MS - offset_ms
}

/// Computes the expected hours of gold by loops over the readings: every hour with readings, and
/// every local hour in which a metric was expected but silent.
fn hours_by_loops(sql: &Connection, offset_ms: i64) -> MetricPeriods {
    let has_lake: bool = sql
        .query_row(
            "SELECT count(*) > 0 FROM duckdb_views() WHERE schema_name = 'lake' AND view_name = 'all_readings'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let readings = if has_lake { "lake.all_readings" } else { "silver.readings" };
    let mut statement = sql
        .prepare(&format!(
            "SELECT zone, metric, epoch_ms(event), value, quality = 'ok' FROM {readings} WHERE quality <> 'duplicate'"
        ))
        .unwrap();
    let mut found = statement.query([]).unwrap();
    let mut hours = MetricPeriods::new();
    while let Some(row) = found.next().unwrap() {
        let start_ms = hour_start(row.get(2).unwrap(), offset_ms);
        let hour = hours.entry((row.get(0).unwrap(), row.get(1).unwrap(), start_ms)).or_default();
        hour.readings += 1;
        if row.get(4).unwrap() {
            hour.valid += 1;
            hour.sum += row.get::<_, f64>(3).unwrap();
        }
    }
    let mut statement = sql
        .prepare("SELECT zone, epoch_ms(newest) FROM meta.zones WHERE newest IS NOT NULL")
        .unwrap();
    let clocks: Vec<(String, i64)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let valid: Vec<(String, String, i64)> =
        hours.iter().filter(|(_, hour)| hour.valid > 0).map(|(key, _)| key.clone()).collect();
    for (zone, metric, start_ms) in valid {
        let clock_ms = clocks.iter().find(|(id, _)| *id == zone).unwrap().1;
        let mut silent_ms = start_ms + HOUR_MS;
        while silent_ms <= clock_ms && silent_ms - start_ms <= EXPECTED_MS {
            hours.entry((zone.clone(), metric.clone(), silent_ms)).or_default();
            silent_ms += HOUR_MS;
        }
    }
    hours
}

/// Reads the contents of gold.
fn read_gold(
    sql: &Connection,
    table: &str,
    start: &str,
) -> (MetricPeriods, BTreeMap<(String, i64), f64>) {
    let mut statement = sql
        .prepare(&format!(
            "SELECT zone, metric, epoch_ms({start}), readings,
                    coalesce(round(valid_share * readings), 0)::UBIGINT, coalesce(mean, 0), quality,
                    valid_share IS NULL, completeness, min IS NULL
             FROM gold.{table}"
        ))
        .unwrap();
    let mut found = statement.query([]).unwrap();
    let mut periods = MetricPeriods::new();
    let mut qualities: BTreeMap<(String, i64), Vec<f64>> = BTreeMap::new();
    while let Some(row) = found.next().unwrap() {
        let key: (String, String, i64) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        let (readings, valid): (u64, u64) = (row.get(3).unwrap(), row.get(4).unwrap());
        let sum = row.get::<_, f64>(5).unwrap() * valid as f64;
        let quality: f64 = row.get(6).unwrap();
        if readings == 0 {
            let nothing: (bool, f64, bool) =
                (row.get(7).unwrap(), row.get(8).unwrap(), row.get(9).unwrap());
            assert_eq!((nothing, quality), ((true, 0.0, true), 0.0), "{key:?}");
        }
        qualities.entry((key.0.clone(), key.2)).or_default().push(quality);
        let before = periods.insert(key.clone(), PeriodCounts { readings, valid, sum });
        assert_eq!(before, None, "{key:?} exists twice");
    }
    let mean = |all: Vec<f64>| all.iter().sum::<f64>() / all.len() as f64;
    (periods, qualities.into_iter().map(|(key, all)| (key, mean(all))).collect())
}

/// Holds the gold of a file against loops over its readings; the hours of metrics that it has.
#[track_caller]
fn check_gold(
    settings: &FeatureStoreSettings,
    offset_ms: impl Fn(i64) -> i64,
    hour_offset_ms: i64,
) -> usize {
    let sql = Connection::open(&settings.store.path).unwrap();
    let expect = hours_by_loops(&sql, hour_offset_ms);
    let (found, qualities) = read_gold(&sql, "hourly", "hour");
    for (key, counts) in &expect {
        let found = found.get(key).unwrap_or_else(|| panic!("no row of {key:?}: {counts:?}"));
        assert!(found.is_close(*counts), "{key:?}: {found:?}, expected {counts:?}");
    }
    for (key, counts) in &found {
        assert!(expect.contains_key(key), "{key:?} was not expected: {counts:?}");
    }
    let mut days = MetricPeriods::new();
    for ((zone, metric, start_ms), hour) in &expect {
        let local_ms = start_ms + offset_ms(*start_ms);
        let day = local_ms.div_euclid(24 * HOUR_MS);
        let all = days.entry((zone.clone(), metric.clone(), day)).or_default();
        all.readings += hour.readings;
        all.valid += hour.valid;
        all.sum += hour.sum;
    }
    let (of_days, day_qualities) = read_gold(&sql, "daily", "day_start");
    let of_days: MetricPeriods = of_days
        .into_iter()
        .map(|((zone, metric, start_ms), counts)| {
            let local_ms = start_ms + offset_ms(start_ms);
            ((zone, metric, local_ms.div_euclid(24 * HOUR_MS)), counts)
        })
        .collect();
    assert!(of_days.keys().eq(days.keys()), "{:?}\n{:?}", of_days.keys(), days.keys());
    for (key, counts) in &days {
        assert!(of_days[key].is_close(*counts), "{key:?}: {:?}, expected {counts:?}", of_days[key]);
    }
    for (table, start, qualities) in
        [("hourly_zones", "hour", qualities), ("daily_zones", "day_start", day_qualities)]
    {
        let mut statement = sql
            .prepare(&format!("SELECT zone, epoch_ms({start}), quality FROM gold.{table}"))
            .unwrap();
        let rows: Vec<((String, i64), f64)> = statement
            .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.len(), qualities.len(), "{table}");
        for (key, quality) in rows {
            assert!(
                (quality - qualities[&key]).abs() < 1e-9,
                "{table} {key:?}: {quality}, expected {}",
                qualities[&key]
            );
        }
    }
    found.len()
}

/// Summer time in Berlin begins on 30 March 2025, 1:00 UTC.
fn berlin_offset_ms(at_ms: i64) -> i64 {
    if at_ms >= 1_743_296_400_000 { 2 * HOUR_MS } else { HOUR_MS }
}

fn metric_report(
    zone: usize,
    metric: usize,
    event_ms: i64,
    arrival_ms: i64,
    value: f64,
) -> SensorReport {
    let metric = ["temperature", "humidity", "light"][metric];
    SensorReport {
        zone: ZoneId::new("farm", ["bay-1", "bay-2"][zone]),
        device: metric.into(),
        boot: None,
        seq: None,
        arrival_ms,
        source: ReportSource::Replay,
        readings: vec![SensorReading { metric: metric.into(), event_ms, value }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_a_month_is_counted_whole() {
    let dir = TempDir::new().unwrap();
    let settings = berlin_settings(dir.path());
    let hour = |hour: i64| (START_S + hour * 3600) * 1000;
    // The newest reading first, then everything before it, up to forty days late.
    let now_ms = hour(40 * 24);
    let mut reports = vec![metric_report(0, 0, now_ms, now_ms, 20.0)];
    for i in 0..40 * 24 {
        let event_ms = hour((i * 7919) % (40 * 24)) + 600_000;
        reports.push(metric_report(0, 0, event_ms, now_ms, 20.0));
    }
    live(&settings, &reports).await;
    assert_eq!(check_gold(&settings, berlin_offset_ms, 0), 40 * 24 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_metric_is_a_row_and_lowers_the_quality_of_its_zone() {
    let dir = TempDir::new().unwrap();
    let settings = berlin_settings(dir.path());
    let mut reports = Vec::new();
    for minute in 0..12 * 60_i64 {
        let event_ms = (START_S + minute * 60) * 1000;
        // The whole zone is silent from the 9th to the 10th hour, humidity from the 4th to the
        // 6th.
        if (9 * 60..11 * 60).contains(&minute) {
            continue;
        }
        reports.push(metric_report(0, 0, event_ms, event_ms, 20.0));
        if !(4 * 60..7 * 60).contains(&minute) {
            reports.push(metric_report(0, 1, event_ms, event_ms, 50.0 + (minute % 7) as f64));
        }
    }
    live(&settings, &reports).await;
    assert_eq!(check_gold(&settings, berlin_offset_ms, 0), 24);
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    let hours = store.read_kpis(&kpi_query(PeriodLength::Hour)).unwrap();
    let shown: Vec<(u64, u64, f64)> = hours
        .iter()
        .rev()
        .map(|hour| {
            let [t, h] = ["temperature", "humidity"].map(|metric| hour.metrics[metric].count);
            (t, h, hour.quality.unwrap().round())
        })
        .collect();
    let (full, half, none) = ((60, 60, 100.0), (60, 0, 50.0), (0, 0, 0.0));
    let expect = [full, full, full, full, half, half, half, full, full, none, none, full];
    assert_eq!(shown, expect);
    // A metric that never had readings is not expected.
    assert!(hours.iter().all(|hour| hour.metrics.len() == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_pass_for_a_live_zone_that_has_fallen_silent() {
    let dir = TempDir::new().unwrap();
    let mut settings = berlin_settings(dir.path());
    settings.kpi.refresh_s = 0;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let last_ms = now_ms - 3 * HOUR_MS;
    let mut reports = vec![];
    for minute in 0..30 {
        let event_ms = last_ms - minute * 60_000;
        let report = metric_report(0, 0, event_ms, event_ms, 20.0);
        reports.insert(0, SensorReport { source: ReportSource::Live, ..report });
    }
    let log = EventLog::open(&settings.log).unwrap();
    support::append(&log, &reports).await;
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    let shutdown = CancellationToken::new();
    let running = {
        let (store, shutdown) = (store.clone(), shutdown.clone());
        tokio::spawn(async move { store.run(&log, shutdown).await })
    };
    let silent = async {
        loop {
            let hours = store.read_kpis(&kpi_query(PeriodLength::Hour)).unwrap();
            let silent: Vec<_> =
                hours.iter().filter(|hour| hour.metrics["temperature"].count == 0).collect();
            if silent.len() >= 3 {
                assert!(silent.iter().all(|hour| hour.quality == Some(0.0)));
                assert!(hours[0].period.start_ms <= now_ms + HOUR_MS);
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), silent).await.expect("hours pass");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    // Stopped for the night and started again: nothing is counted twice.
    let before = store.read_kpis(&kpi_query(PeriodLength::Hour)).unwrap().len();
    drop(store);
    live(&settings, &[]).await;
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    assert_eq!(store.read_kpis(&kpi_query(PeriodLength::Hour)).unwrap().len(), before);
}

/// An earlier file: silent metrics had no rows, and late hours were dropped.
#[test]
fn earlier_files_are_completed() {
    let dir = TempDir::new().unwrap();
    let settings = berlin_settings(dir.path());
    backfill_recording(&settings, &write_recording(dir.path()));
    let all = check_gold(&settings, berlin_offset_ms, 0);
    let sql = Connection::open(&settings.store.path).unwrap();
    sql.execute_batch(
        "DROP TABLE meta.kpi_zones;
         DELETE FROM gold.hourly WHERE hour < '2025-03-29' OR readings = 0;
         DELETE FROM gold.hourly_zones WHERE hour < '2025-03-29';
         DELETE FROM gold.daily WHERE day_start < '2025-03-29';
         DELETE FROM gold.daily_zones WHERE day_start < '2025-03-29';",
    )
    .unwrap();
    drop(sql);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let log = EventLog::open(&settings.log).unwrap();
        support::run(&settings, &log, 0).await;
    });
    assert_eq!(check_gold(&settings, berlin_offset_ms, 0), all);
}

/// Reports that arrive between two starts of the store, and whether old rows move to the lake
/// afterwards.
type IngestRound = (Vec<SensorReport>, bool);

/// Generates readings of two months in any order, in several runs: some invalid, some twice, some
/// in the future, some weeks late.
fn arbitrary_rounds() -> impl Strategy<Value = Vec<IngestRound>> {
    let reading = (
        0..2_usize,
        0..3_usize,
        prop_oneof![3 => 0..60 * 24_i64, 2 => 50 * 24..60 * 24_i64],
        0..3600_i64,
        prop_oneof![8 => Just(20.0), 1 => Just(5e4)],
        prop_oneof![3 => Just(0), 1 => Just(40 * 24 * HOUR_MS), 1 => Just(-20 * HOUR_MS)],
        any::<bool>(),
    );
    let round = prop::collection::vec(reading, 1..60);
    prop::collection::vec((round, any::<bool>(), any::<bool>()), 1..4).prop_map(|rounds| {
        let report = |(zone, metric, hour, second, value, late_ms, is_twice)| {
            let event_ms: i64 = (START_S + hour * 3600 + second) * 1000;
            let value = if value == 20.0 { value + (second % 90) as f64 / 10.0 } else { value };
            let report = metric_report(zone, metric, event_ms, event_ms + late_ms, value);
            std::iter::repeat_n(report, if is_twice { 2 } else { 1 })
        };
        let of_round = |(readings, is_in_order, moves): (Vec<_>, bool, bool)| {
            let mut reports: Vec<SensorReport> = readings.into_iter().flat_map(report).collect();
            if is_in_order {
                reports.sort_by_key(|report| report.readings[0].event_ms);
            }
            (reports, moves)
        };
        rounds.into_iter().map(of_round).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 30, ..ProptestConfig::default() })]

    #[test]
    fn gold_is_what_loops_over_the_readings_find(rounds in arbitrary_rounds(), is_india in any::<bool>()) {
        let dir = TempDir::new().unwrap();
        let mut settings = berlin_settings(dir.path());
        if is_india {
            "Asia/Kolkata".clone_into(&mut settings.engine.time_zone);
        }
        settings.lake.path = dir.path().join("lake");
        settings.lake.silver_days = 16;
        let half_ms = HOUR_MS / 2;
        let offset_ms = |at_ms| if is_india { 5 * HOUR_MS + half_ms } else { berlin_offset_ms(at_ms) };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for (reports, moves) in rounds {
            runtime.block_on(live(&settings, &reports));
            check_gold(&settings, offset_ms, if is_india { half_ms } else { 0 });
            if moves {
                move_to_lake(&settings);
                check_gold(&settings, offset_ms, if is_india { half_ms } else { 0 });
            }
        }
    }
}

/// Runs the program, as a user would.
fn move_to_lake(settings: &FeatureStoreSettings) {
    let set = |key: &str, value: &dyn std::fmt::Display| format!("{key}={value}");
    let ran = Command::new(env!("CARGO_BIN_EXE_feature-store"))
        .args(["lake", "move", "--set", &set("store.path", &settings.store.path.display())])
        .args(["--set", &set("lake.path", &settings.lake.path.display())])
        .args(["--set", &set("lake.silver_days", &settings.lake.silver_days)])
        .args(["--set", &set("engine.time_zone", &settings.engine.time_zone)])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
