//! Zones that a wrong clock pushed ahead, set back automatically and by the command.

mod support;

use duckdb::Connection;
use eventlog::{EventLog, Record};
use microclimate_feature_store::{FeatureStoreSettings, StoreError, set_back};
use support::{Frame, assert_same, frame, run, settings};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId, topic::READINGS};
use tempfile::TempDir;

const SECOND_MS: i64 = 1000;
const DAY_MS: i64 = 86_400_000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;

fn probe_report(at_ms: i64, source: ReportSource) -> SensorReport {
    let value = 20.0 + (at_ms / SECOND_MS % 50) as f64 / 10.0;
    SensorReport {
        zone: ZoneId::new("farm", "bay-1"),
        device: "probe".into(),
        boot: None,
        seq: None,
        arrival_ms: at_ms,
        source,
        readings: vec![SensorReading { metric: "temperature".into(), event_ms: at_ms, value }],
    }
}

/// Appends reports, each received when it arrived.
async fn append_as_received(settings: &FeatureStoreSettings, reports: &[SensorReport]) -> EventLog {
    let log = EventLog::open(&settings.log).unwrap();
    let writer = log.open_writer(READINGS).unwrap();
    for report in reports {
        let record = Record::new(report.zone.to_string(), report.to_json(), report.arrival_ms);
        writer.append(record).await.unwrap().await.unwrap();
    }
    log
}

/// Generates a reading every ten seconds.
fn reports_every_ten_seconds(from: i64, until: i64, source: ReportSource) -> Vec<SensorReport> {
    let times = (from..until).step_by(10).map(|second| START_MS + second * SECOND_MS);
    times.map(|at_ms| probe_report(at_ms, source)).collect()
}

fn query_count(settings: &FeatureStoreSettings, sql: &str) -> u64 {
    let connection = Connection::open(&settings.store.path).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Keeps the rows up to a time.
fn rows_until(frame: Frame, until_ms: i64) -> Frame {
    frame.into_iter().filter(|((_, at_ms), _)| *at_ms <= until_ms).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_a_month_ahead_for_a_minute_rights_itself() {
    let (dir, clean_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (pushed, clean) = (settings(dir.path()), settings(clean_dir.path()));
    let before = reports_every_ten_seconds(0, 3600, ReportSource::Live);
    let after = reports_every_ten_seconds(3660, 7200, ReportSource::Live);
    let ahead: Vec<SensorReport> = (3600..3660)
        .step_by(10)
        .map(|second| probe_report(START_MS + second * SECOND_MS + 30 * DAY_MS, ReportSource::Live))
        .collect();
    let punctual = [before.clone(), after.clone()].concat();
    let log = append_as_received(&clean, &punctual).await;
    let expected = run(&clean, &log, punctual.len() as u64).await;
    let disturbed = [before, ahead, after].concat();
    let log = append_as_received(&pushed, &disturbed).await;
    let found = run(&pushed, &log, disturbed.len() as u64).await;
    let counts = found.committed_counts();
    assert_eq!((counts.by_quality.get("future"), counts.by_quality.get("late")), (Some(&6), None));
    assert_eq!(counts.by_quality["ok"], punctual.len() as u64);
    // The clock of this machine is later still, so both have an hour of rows after the last
    // reading.
    let end_ms = START_MS + 7000 * SECOND_MS;
    assert_same(&rows_until(frame(&found), end_ms), &rows_until(frame(&expected), end_ms));
    drop(found);
    let flagged = "SELECT count(*) FROM silver.readings WHERE quality = 'future'";
    assert_eq!(query_count(&pushed, flagged), 6);
    let ahead = "SELECT count(*) FROM features.rows WHERE time > '2025-06-03'";
    assert_eq!(query_count(&pushed, ahead), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_sets_a_zone_back() {
    let (dir, clean_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (pushed, clean) = (settings(dir.path()), settings(clean_dir.path()));
    // Ingested by a program that accepted every timestamp.
    let mut credulous = pushed.clone();
    credulous.engine.future_max_s = u32::MAX;
    // Such timestamps would keep every reading from the lake.
    credulous.lake.silver_days = 0;
    let mut reports = reports_every_ten_seconds(0, 7200, ReportSource::Replay);
    let log = append_as_received(&clean, &reports).await;
    let expected = run(&clean, &log, reports.len() as u64).await;
    reports.insert(360, probe_report(4_070_908_800_000, ReportSource::Replay));
    let log = append_as_received(&pushed, &reports).await;
    drop(run(&credulous, &log, reports.len() as u64).await);
    let late = "SELECT count(*) FROM silver.readings WHERE quality = 'late'";
    assert_eq!(query_count(&pushed, late), 360);

    let zone = ZoneId::new("farm", "bay-1");
    let result = set_back(&pushed, &zone, START_MS + DAY_MS).unwrap();
    assert_eq!((result.future, result.admitted), (1, 360));
    assert_eq!(query_count(&pushed, late), 0);
    let found =
        microclimate_feature_store::FeatureStore::open(&pushed, MetricTable::default()).unwrap();
    assert_eq!(found.committed_counts().by_quality["ok"], 720);
    let end_ms = START_MS + 7000 * SECOND_MS;
    assert_same(&rows_until(frame(&found), end_ms), &rows_until(frame(&expected), end_ms));
    drop(found);
    // A second run changes nothing.
    let again = set_back(&pushed, &zone, START_MS + DAY_MS).unwrap();
    assert_eq!((again.future, again.admitted, again.rows.0), (0, 0, again.rows.1));
    let unknown = set_back(&pushed, &ZoneId::new("farm", "bay-9"), START_MS).unwrap_err();
    assert!(matches!(unknown, StoreError::UnknownZone { .. }));
    assert!(unknown.to_string().contains("hint: the file has farm/bay-1"), "{unknown}");
}
