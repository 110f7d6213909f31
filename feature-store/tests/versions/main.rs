//! Definitions that change: past rows are recomputed beside the old ones.
//!
//! # Layout
//! - here: switched, kept, dropped
//! - `killed`: the same, with kills at any moment

mod killed;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use duckdb::Connection;
use eventlog::EventLog;
use microclimate_feature_store::{FeatureStore, FeatureStoreSettings};
use support::{append, assert_same, frame, run};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId};
use tempfile::TempDir;

/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;
const OLD_DEFINITIONS: &str = "version = 1\n[windows]\n10m = ['mean', 'max']\n";
const NEW_DEFINITIONS: &str = "
version = 1
[windows]
10m = ['mean']
1h = ['slope']
[metrics.humidity]
where = 'value < 70'
[joins.sum]
value = 'temperature_mean_10m + humidity_mean_10m'
";

fn version_settings(dir: &Path, file: &str, definitions: &str) -> FeatureStoreSettings {
    let mut settings = support::settings(dir);
    settings.store.path = dir.join(file);
    settings.engine.features = dir.join(format!("{file}.toml"));
    std::fs::write(&settings.engine.features, definitions).unwrap();
    settings
}

/// Generates `count` reports of two zones, one each 20 s; some are late, some are copies.
fn generate_reports(count: i64) -> Vec<SensorReport> {
    let report = |i: i64| {
        let event_ms = START_MS + i * 20_000 - if i % 50 == 7 { 900_000 } else { 0 };
        let reading =
            |metric: &str, value| SensorReading { metric: metric.into(), event_ms, value };
        SensorReport {
            zone: ZoneId::new("farm", if i % 3 == 0 { "bay-2" } else { "bay-1" }),
            device: "probe".into(),
            boot: Some("b".into()),
            seq: Some((i - i64::from(i % 40 == 39)) as u64),
            arrival_ms: START_MS + i * 20_000,
            source: ReportSource::Replay,
            readings: vec![
                reading("temperature", 20.0 + (i % 17) as f64 / 10.0),
                reading("humidity", 50.0 + (i % 25) as f64),
            ],
        }
    };
    (0..count).map(report).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_definitions_recompute_all_rows_and_keep_the_old() {
    let dir = TempDir::new().unwrap();
    let old = version_settings(dir.path(), "store.duckdb", OLD_DEFINITIONS);
    let log = EventLog::open(&old.log).unwrap();
    let reports = generate_reports(600);
    let (before, after) = reports.split_at(400);
    append(&log, before).await;
    let before_readings = 2 * before.len() as u64;
    let store = run(&old, &log, before_readings).await;
    let old_rows = frame(&store).len();
    assert!(old_rows > 200, "{old_rows}");
    drop(store);
    // The state that a killed rebuild leaves.
    let file = Connection::open(&old.store.path).unwrap();
    file.execute_batch(
        "CREATE TABLE features.rows_v2 (site VARCHAR); INSERT INTO features.rows_v2 VALUES ('x')",
    )
    .unwrap();
    drop(file);

    let new = version_settings(dir.path(), "store.duckdb", NEW_DEFINITIONS);
    drop(FeatureStore::open(&new, MetricTable::default()).unwrap());
    append(&log, after).await;
    let all = before_readings + 2 * after.len() as u64;
    let found = run(&new, &log, all).await;
    let expect =
        run(&version_settings(dir.path(), "fresh.duckdb", NEW_DEFINITIONS), &log, all).await;
    assert_eq!(found.feature_names(), expect.feature_names());
    assert!(found.feature_names().iter().any(|name| name == "temperature_slope_1h"));
    assert_same(&frame(&found), &frame(&expect));
    drop(found);

    let file = Connection::open(&new.store.path).unwrap();
    let count = |sql: &str| file.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    let stored_rows_sql = "SELECT count(DISTINCT (zone, time)) FROM features.rows_v1";
    assert_eq!(count(stored_rows_sql), old_rows as u64, "the old rows are stored");
    // With their own columns; a few have no reading in ten minutes.
    assert!(count("SELECT count(temperature_max_10m) FROM features.rows_v1") > 200);
    assert_eq!(count("SELECT count(*) FROM meta.definitions"), 2);
    assert_eq!(count("SELECT version FROM meta.definitions WHERE active"), 2);
    assert_eq!(count("SELECT count(DISTINCT schema_hash) FROM features.rows"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_definitions_recompute_nothing_and_old_versions_can_be_dropped() {
    let dir = TempDir::new().unwrap();
    let old = version_settings(dir.path(), "store.duckdb", OLD_DEFINITIONS);
    let log = EventLog::open(&old.log).unwrap();
    append(&log, &generate_reports(100)).await;
    drop(run(&old, &log, 200).await);
    let commented =
        version_settings(dir.path(), "store.duckdb", &format!("{OLD_DEFINITIONS}# nothing else\n"));
    let versions = |settings: &FeatureStoreSettings| -> Vec<(i32, bool)> {
        let store = FeatureStore::open(settings, MetricTable::default()).unwrap();
        store
            .read_versions()
            .unwrap()
            .iter()
            .map(|version| (version.number, version.is_active))
            .collect()
    };
    assert_eq!(versions(&commented), [(1, true)]);
    let new = version_settings(dir.path(), "store.duckdb", NEW_DEFINITIONS);
    assert_eq!(versions(&new), [(1, false), (2, true)]);
    assert!(microclimate_feature_store::drop_version(&new, 1).unwrap());
    assert!(!microclimate_feature_store::drop_version(&new, 2).unwrap(), "the active one stays");
    assert!(!microclimate_feature_store::drop_version(&new, 7).unwrap());
    assert_eq!(versions(&new), [(2, true)]);
}
