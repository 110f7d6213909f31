//! Rows in the lake remain part of every answer of a running store.

use std::{path::Path, time::Duration};

use eventlog::EventLog;
use microclimate_feature_store::{
    FeatureStore, FeatureStoreSettings, FrameQuery, HistoryQuery, PointQuery, ReadingQuery,
    RevisionMode, SqlQuery,
    kpi::{KpiQuery, PeriodLength},
    sql_sandbox::SqlLimits,
};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId, topic::READINGS};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// 2025-06-02T00:00:00Z.
const START_MS: i64 = 1_748_822_400_000;
const DAY_MS: i64 = 86_400_000;
const DAYS: i64 = 24;
const TEST_TIMEOUT: Duration = Duration::from_mins(2);

fn store_settings(dir: &Path) -> FeatureStoreSettings {
    let mut settings = FeatureStoreSettings::default();
    settings.store.path = dir.join("microclimate.duckdb");
    settings.log = eventlog::EventLogConfig::for_embedded(&dir.join("log"));
    // Rows that are deleted automatically would be missing after the move.
    settings.lake.revisions_days = 0;
    settings
}

fn lake_settings(dir: &Path) -> FeatureStoreSettings {
    let mut settings = store_settings(dir);
    settings.lake.path = dir.join("lake");
    settings.lake.bronze_days = 3;
    settings.lake.silver_days = 16;
    settings.lake.features_days = 10;
    settings
}

/// Generates reports of two zones with two metrics, every twenty minutes; some arrive a day late.
fn generate_reports() -> Vec<SensorReport> {
    let mut reports = Vec::new();
    for minute in (0..DAYS * 1440).step_by(20) {
        for zone in ["bay-1", "bay-2"] {
            let event_ms = START_MS + minute * 60_000;
            let late_ms = if minute % 1000 == 0 { DAY_MS } else { 0 };
            let reading =
                |metric: &str, value: f64| SensorReading { metric: metric.into(), event_ms, value };
            reports.push(SensorReport {
                zone: ZoneId::new("farm", zone),
                device: "probe".into(),
                boot: None,
                seq: None,
                arrival_ms: event_ms + late_ms,
                source: ReportSource::Replay,
                readings: vec![
                    reading("temperature", 20.0 + (minute % 700) as f64 / 100.0),
                    reading("humidity", 50.0 + (minute % 300) as f64 / 10.0),
                ],
            });
        }
    }
    reports.sort_by_key(|report| report.arrival_ms);
    reports
}

/// Runs a store until `is_done`, which is polled.
async fn run_until(
    settings: &FeatureStoreSettings,
    mut is_done: impl FnMut(&FeatureStore) -> bool,
) {
    let log = EventLog::open(&settings.log).unwrap();
    let store = FeatureStore::open(settings, MetricTable::default()).unwrap();
    let shutdown = CancellationToken::new();
    let running = {
        let (store, shutdown) = (store.clone(), shutdown.clone());
        tokio::spawn(async move { store.run(&log, shutdown).await })
    };
    let done = async {
        while !is_done(&store) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, done).await.expect("it is done");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

fn run_sql(store: &FeatureStore, text: &str) -> String {
    let limits = SqlLimits {
        rows_max: 1000,
        bytes_max: 10_000_000,
        time_max: TEST_TIMEOUT,
        memory_bytes_max: 500_000_000,
    };
    let query = SqlQuery::checked(text).unwrap();
    let (table, _) = store.run_sql(&query, limits, &CancellationToken::new()).unwrap();
    format!("{:?}", table.batches)
}

/// Collects all answers about the past, as text.
fn collect_answers(store: &FeatureStore) -> Vec<(String, String)> {
    let zone = ZoneId::new("farm", "bay-1");
    let mut answers = Vec::new();
    let mut add = |name: String, answer: String| answers.push((name, answer));
    for (name, query) in [
        ("first days", ReadingQuery { to_ms: Some(START_MS + 2 * DAY_MS), ..Default::default() }),
        ("one zone", ReadingQuery { zone: Some(zone.clone()), ..Default::default() }),
        (
            "one metric",
            ReadingQuery {
                metric: Some("humidity".to_owned()),
                from_ms: Some(START_MS + 5 * DAY_MS),
                to_ms: Some(START_MS + 9 * DAY_MS),
                ..Default::default()
            },
        ),
        ("a quality", ReadingQuery { quality: Some("late".to_owned()), ..Default::default() }),
    ] {
        // Page by page to the end.
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (rows, next) =
                store.read_readings(&ReadingQuery { after, limit: 700, ..query.clone() }).unwrap();
            all.extend(rows);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert!(name == "a quality" || all.len() > 100, "{name}: {}", all.len());
        add(format!("readings of {name}"), format!("{all:?}"));
    }
    let quality =
        microclimate_feature_store::store::QualityQuery { limit: 100, ..Default::default() };
    add("quality".to_owned(), format!("{:?}", store.read_quality_counts(&quality).unwrap()));
    for mode in [None, Some(RevisionMode::AsKnown), Some(RevisionMode::AsCorrected)] {
        let query = HistoryQuery {
            zone: zone.clone(),
            frame: FrameQuery {
                from_ms: Some(START_MS + 3 * DAY_MS),
                to_ms: Some(START_MS + 4 * DAY_MS),
                columns: Some(vec!["temperature_mean_1h".to_owned()]),
                ..Default::default()
            },
            mode,
            limit: 2000,
        };
        let history = store.read_history(&query).unwrap();
        assert!(history.len() > 500, "{mode:?}: {}", history.len());
        add(format!("history {mode:?}"), format!("{history:?}"));
    }
    let columns = Some(vec!["humidity_mean_24h".to_owned()]);
    let query = FrameQuery { columns: columns.clone(), step_s: Some(3600), ..Default::default() };
    add(
        "frame".to_owned(),
        format!(
            "{:?}",
            store
                .read_feature_frame(&query)
                .unwrap()
                .column("humidity_mean_24h")
                .unwrap()
                .f64()
                .unwrap()
                .iter()
                .collect::<Vec<_>>()
        ),
    );
    let points = (1..DAYS).map(|day| (zone.clone(), START_MS + day * DAY_MS)).collect();
    let query =
        PointQuery { points, mode: RevisionMode::AsKnown, columns, age_s_max: 600, version: None };
    add("points".to_owned(), format!("{:?}", store.read_points(&query).unwrap().batches));
    for length in [PeriodLength::Hour, PeriodLength::Day] {
        let query =
            KpiQuery { zone: zone.clone(), length, from_ms: None, to_ms: None, limit: 1000 };
        add(format!("KPIs {length:?}"), format!("{:?}", store.read_kpis(&query).unwrap()));
    }
    let explained =
        store.explain_value(&zone, "temperature_mean_1h", START_MS + 2 * DAY_MS, 10).unwrap();
    add("explanation".to_owned(), serde_json::to_string(&explained).unwrap());
    for text in [
        "SELECT zone, metric, count(*) AS n, round(sum(value), 6) AS s, min(event) AS t FROM silver.readings GROUP BY ALL ORDER BY ALL",
        "SELECT count(*) AS n FROM silver.readings WHERE site = 'farm' AND zone = 'bay-2' AND event < '2025-06-04'",
        "SELECT count(*) AS n, min(time) AS t FROM features.rows WHERE revision = 0",
        "SELECT count(*) AS n, max(\"offset\") AS o FROM bronze.records",
        "SELECT zone, value FROM silver.readings WHERE metric = 'humidity' ORDER BY event, zone LIMIT 3",
    ] {
        add(text.to_owned(), run_sql(store, text));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_moved_is_still_there_for_every_question_of_a_running_store() {
    let dir = TempDir::new().unwrap();
    let reports = generate_reports();
    let all: u64 = reports.iter().map(|report| report.readings.len() as u64).sum();
    let settings = store_settings(dir.path());
    let log = EventLog::open(&settings.log).unwrap();
    let writer = log.open_writer(READINGS).unwrap();
    let mut receipts = Vec::new();
    for report in &reports {
        let key = report.zone.to_string();
        let record = eventlog::Record::new(key, report.to_json(), report.arrival_ms);
        receipts.push(writer.append(record).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    drop((writer, log));
    // Until the end of the data was detected and its rows are complete.
    let (mut rows, mut since) = (0, std::time::Instant::now());
    run_until(&settings, |store| {
        let counts = store.committed_counts();
        if counts.rows != rows || counts.readings != all {
            (rows, since) = (counts.rows, std::time::Instant::now());
        }
        since.elapsed() > std::time::Duration::from_secs(14)
    })
    .await;
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    let expect = collect_answers(&store);
    drop(store);

    let settings = lake_settings(dir.path());
    let listed = "SELECT \"table\", count(*) AS files FROM meta.lake GROUP BY ALL ORDER BY ALL";
    let mut found = None;
    run_until(&settings, |store| {
        let tables = run_sql(store, listed);
        if !["features", "readings", "records"].iter().all(|table| tables.contains(table)) {
            return false;
        }
        found.get_or_insert_with(|| collect_answers(store));
        true
    })
    .await;
    for ((name, found), (_, expect)) in found.unwrap().iter().zip(&expect) {
        assert!(found == expect, "{name}:\n{found:.2000}\nexpected\n{expect:.2000}");
    }
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    assert!(collect_answers(&store) == expect, "after a restart too");
}
