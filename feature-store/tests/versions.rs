//! Definitions that change: rows of the past are made anew beside the old ones.

use std::{collections::BTreeMap, path::Path, time::Duration};

use duckdb::Connection;
use eventlog::{EventLog, Record};
use feature_store::{FeatureStore, FrameQuery, Settings};
use telemetry::{MetricTable, Reading, Report, Source, ZoneId, topic::READINGS};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;
const OLD: &str = "version = 1\n[windows]\n10m = ['mean', 'max']\n";
const NEW: &str = "
version = 1
[windows]
10m = ['mean']
1h = ['slope']
[metrics.humidity]
where = 'value < 70'
[joins.sum]
value = 'temperature_mean_10m + humidity_mean_10m'
";

fn settings(dir: &Path, file: &str, definitions: &str) -> Settings {
    let mut settings = Settings::default();
    settings.store.path = dir.join(file);
    settings.log = eventlog::Settings::embedded(&dir.join("log"));
    settings.engine.features = dir.join(format!("{file}.toml"));
    std::fs::write(&settings.engine.features, definitions).unwrap();
    settings
}

/// Two zones, some hours, a reading each 20 s; some come late, some are copies.
fn reports() -> Vec<Report> {
    let report = |i: i64| {
        let event_ms = START_MS + i * 20_000 - if i % 50 == 7 { 900_000 } else { 0 };
        let reading = |metric: &str, value| Reading { metric: metric.into(), event_ms, value };
        Report {
            zone: ZoneId::new("farm", if i % 3 == 0 { "bay-2" } else { "bay-1" }),
            device: "probe".into(),
            boot: Some("b".into()),
            seq: Some((i - i64::from(i % 40 == 39)) as u64),
            arrival_ms: START_MS + i * 20_000,
            source: Source::Replay,
            readings: vec![
                reading("temperature", 20.0 + (i % 17) as f64 / 10.0),
                reading("humidity", 50.0 + (i % 25) as f64),
            ],
        }
    };
    (0..600).map(report).collect()
}

async fn run(settings: &Settings, log: &EventLog, readings: u64) -> FeatureStore {
    let store = FeatureStore::open(settings, MetricTable::default()).unwrap();
    let shutdown = CancellationToken::new();
    let running = {
        let (store, log, shutdown) = (store.clone(), log.clone(), shutdown.clone());
        tokio::spawn(async move { store.run(&log, shutdown).await })
    };
    let consumed = async {
        while store.counts().readings < readings {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), consumed).await.expect("all is consumed");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    store
}

async fn append(log: &EventLog, reports: &[Report]) {
    let writer = log.writer(READINGS).unwrap();
    for report in reports {
        let record = Record::new(report.zone.to_string(), report.to_json(), report.arrival_ms);
        writer.append(record).await.unwrap().await.unwrap();
    }
}

type Rows = Vec<(String, i64, BTreeMap<String, Option<u64>>)>;

/// The rows with the bits of the features of the definitions.
fn rows(store: &FeatureStore) -> Rows {
    let table = store.frame(&FrameQuery::default()).unwrap();
    let zones = table.column("zone").unwrap().str().unwrap().clone();
    let at_ms = table.column("at_ms").unwrap().i64().unwrap().clone();
    let values = |row: usize| {
        let values = table.columns()[3..].iter().map(|column| {
            (column.name().to_string(), column.f64().unwrap().get(row).map(f64::to_bits))
        });
        values.collect()
    };
    (0..table.height())
        .map(|row| (zones.get(row).unwrap().to_owned(), at_ms.get(row).unwrap(), values(row)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_definitions_make_all_rows_anew_and_keep_the_old() {
    let dir = TempDir::new().unwrap();
    let old = settings(dir.path(), "store.duckdb", OLD);
    let log = EventLog::open(&old.log).unwrap();
    let reports = reports();
    let (before, after) = reports.split_at(400);
    append(&log, before).await;
    let before_readings = 2 * before.len() as u64;
    let store = run(&old, &log, before_readings).await;
    let old_rows = rows(&store).len();
    assert!(old_rows > 200, "{old_rows}");
    drop(store);
    // As a backfill that was killed leaves it.
    let file = Connection::open(&old.store.path).unwrap();
    file.execute_batch(
        "CREATE TABLE features.rows_v2 (site VARCHAR); INSERT INTO features.rows_v2 VALUES ('x')",
    )
    .unwrap();
    drop(file);

    let new = settings(dir.path(), "store.duckdb", NEW);
    drop(FeatureStore::open(&new, MetricTable::default()).unwrap());
    append(&log, after).await;
    let all = before_readings + 2 * after.len() as u64;
    let found = run(&new, &log, all).await;
    let expect = run(&settings(dir.path(), "fresh.duckdb", NEW), &log, all).await;
    assert_eq!(found.columns(), expect.columns());
    assert!(found.columns().iter().any(|name| name == "temperature_slope_1h"));
    assert_eq!(rows(&found), rows(&expect));
    drop(found);

    let file = Connection::open(&new.store.path).unwrap();
    let count = |sql: &str| file.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    let kept = "SELECT count(DISTINCT (zone, time)) FROM features.rows_v1";
    assert_eq!(count(kept), old_rows as u64, "the old rows are there");
    // With their own columns; a few have no reading in ten minutes.
    assert!(count("SELECT count(temperature_max_10m) FROM features.rows_v1") > 200);
    assert_eq!(count("SELECT count(*) FROM meta.definitions"), 2);
    assert_eq!(count("SELECT version FROM meta.definitions WHERE active"), 2);
    assert_eq!(count("SELECT count(DISTINCT schema_hash) FROM features.rows"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_definitions_make_nothing_anew_and_old_ones_can_go() {
    let dir = TempDir::new().unwrap();
    let old = settings(dir.path(), "store.duckdb", OLD);
    let log = EventLog::open(&old.log).unwrap();
    append(&log, &reports()[..100]).await;
    drop(run(&old, &log, 200).await);
    let commented = settings(dir.path(), "store.duckdb", &format!("{OLD}# nothing else\n"));
    let versions = |settings: &Settings| -> Vec<(i32, bool)> {
        let store = FeatureStore::open(settings, MetricTable::default()).unwrap();
        store.versions().unwrap().iter().map(|own| (own.number, own.is_active)).collect()
    };
    assert_eq!(versions(&commented), [(1, true)]);
    let new = settings(dir.path(), "store.duckdb", NEW);
    assert_eq!(versions(&new), [(1, false), (2, true)]);
    assert!(feature_store::drop_version(&new, 1).unwrap());
    assert!(!feature_store::drop_version(&new, 2).unwrap(), "the active one stays");
    assert!(!feature_store::drop_version(&new, 7).unwrap());
    assert_eq!(versions(&new), [(2, true)]);
}
