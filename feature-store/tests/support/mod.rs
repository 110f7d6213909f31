//! A feature store that ingests a log, and its results.

#![allow(dead_code)] // each test file uses its part of it

use std::{collections::BTreeMap, path::Path, time::Duration};

use eventlog::{EventLog, Record};
use microclimate_feature_store::{FeatureStore, FeatureStoreSettings, FrameQuery};
use telemetry::{MetricTable, SensorReport, topic::READINGS};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a test that waits this long has failed.
const AGES: Duration = Duration::from_mins(2);

/// A DuckDB file and an embedded log in a folder.
pub(crate) fn settings(dir: &Path) -> FeatureStoreSettings {
    let mut settings = FeatureStoreSettings::default();
    settings.store.path = dir.join("microclimate.duckdb");
    settings.log = eventlog::EventLogConfig::for_embedded(&dir.join("log"));
    settings
}

/// Counts the readings of reports.
pub(crate) fn readings(reports: &[SensorReport]) -> u64 {
    reports.iter().map(|report| report.readings.len() as u64).sum()
}

/// Appends reports, and waits until they are durable.
pub(crate) async fn append(log: &EventLog, reports: &[SensorReport]) {
    let writer = log.open_writer(READINGS).unwrap();
    let mut receipts = Vec::new();
    for report in reports {
        let record = Record::new(report.zone.to_string(), report.to_json(), report.arrival_ms);
        receipts.push(writer.append(record).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
}

/// Runs a feature store until it has committed this number of readings in total, then stops it.
pub(crate) async fn run(
    settings: &FeatureStoreSettings,
    log: &EventLog,
    readings: u64,
) -> FeatureStore {
    let store = FeatureStore::open(settings, MetricTable::default()).unwrap();
    let shutdown = CancellationToken::new();
    let running = {
        let (store, log, shutdown) = (store.clone(), log.clone(), shutdown.clone());
        tokio::spawn(async move { store.run(&log, shutdown).await })
    };
    let consumed = async {
        while store.committed_counts().readings < readings {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(AGES, consumed).await.expect("all is consumed");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    store
}

/// Does the same, and waits until no row was emitted for longer than the detection of the end of
/// data takes.
pub(crate) async fn run_to_end(settings: &FeatureStoreSettings, log: &EventLog, readings: u64) {
    let store = FeatureStore::open(settings, MetricTable::default()).unwrap();
    let shutdown = CancellationToken::new();
    let running = {
        let (store, log, shutdown) = (store.clone(), log.clone(), shutdown.clone());
        tokio::spawn(async move { store.run(&log, shutdown).await })
    };
    let ended = async {
        let (mut before, mut same) = (0, 0);
        while store.committed_counts().readings < readings || same < 14 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let rows = store.committed_counts().rows;
            same = if rows == before { same + 1 } else { 0 };
            before = rows;
        }
    };
    tokio::time::timeout(AGES, ended).await.expect("the data ends");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

/// Appends reports to the configured log, and ingests them after what is already there.
pub(crate) async fn live(settings: &FeatureStoreSettings, reports: &[SensorReport]) {
    let log = EventLog::open(&settings.log).unwrap();
    append(&log, reports).await;
    let before =
        FeatureStore::open(settings, MetricTable::default()).unwrap().committed_counts().readings;
    run(settings, &log, before + readings(reports)).await;
}

/// Bits of all values by name, for each zone and time.
pub(crate) type Frame = BTreeMap<(String, i64), BTreeMap<String, Option<u64>>>;

/// Reads all rows, as corrected.
pub(crate) fn frame(store: &FeatureStore) -> Frame {
    let table = store.read_feature_frame(&FrameQuery::default()).unwrap();
    let zones = table.column("zone").unwrap().str().unwrap().clone();
    let at_ms = table.column("at_ms").unwrap().i64().unwrap().clone();
    let values = |row: usize| {
        let values = table.columns()[3..].iter().map(|column| {
            (column.name().to_string(), column.f64().unwrap().get(row).map(f64::to_bits))
        });
        values.collect()
    };
    (0..table.height())
        .map(|row| ((zones.get(row).unwrap().to_owned(), at_ms.get(row).unwrap()), values(row)))
        .collect()
}

/// Fails with the first row in which two frames differ.
#[track_caller]
pub(crate) fn assert_same(found: &Frame, expect: &Frame) {
    assert!(found.keys().eq(expect.keys()), "{} rows, expected {}", found.len(), expect.len());
    for (key, expect) in expect {
        let found = &found[key];
        let wrong = expect.iter().find(|(name, bits)| found.get(*name) != Some(bits));
        if let Some((name, bits)) = wrong {
            let number = |bits: Option<u64>| bits.map(f64::from_bits);
            let found = found.get(name).copied().flatten();
            panic!("{key:?} {name}: {:?}, expected {:?}", number(found), number(*bits));
        }
        assert_eq!(found.len(), expect.len(), "{key:?} has other features");
    }
}
