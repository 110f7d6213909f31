//! Recordings through the engine into a real DuckDB file.

mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use duckdb::Connection;
use eventlog::EventLog;
use microclimate_feature_store::{
    FeatureStore, FeatureStoreSettings, StoreError,
    backfill::{self, BackfillLayout, BackfillRequest, BackfillSummary},
};
use support::{Frame, append, assert_same, frame, live, run_to_end, settings};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId};
use tempfile::TempDir;

/// 2013-08-24T00:00:00Z
const START_S: i64 = 1_377_302_400;

fn backfill_request(path: &Path, layout: BackfillLayout) -> BackfillRequest {
    BackfillRequest {
        path: path.to_owned(),
        layout,
        site: "keti".to_owned(),
        zones: Vec::new(),
        from_ms: None,
        to_ms: None,
        features_only: false,
        as_published: false,
        time_zone: jiff::tz::TimeZone::UTC,
        time_format: telemetry::TimeFormat::Iso,
        rejects: path.join("rejects.csv"),
        jobs: 2,
    }
}

fn run_backfill(
    settings: &FeatureStoreSettings,
    request: &BackfillRequest,
) -> Result<BackfillSummary, StoreError> {
    backfill::run_backfill(settings, &MetricTable::default(), request, &|_| {})
}

/// Returns (second, value) of a sensor in a room: every 5 s with gaps, and a few faults.
fn sensor_values(room: usize, sensor: usize, seconds: i64) -> Vec<(i64, f64)> {
    (0..seconds / 5)
        .filter(|i| (i + room as i64 * 31) % 977 > 40)
        .map(|i| {
            let value = match (sensor, i % 4001) {
                (0, 4000) => 579.27,
                (0, _) => 22.0 + ((i as f64) / 700.0 + room as f64).sin() * 3.0,
                (1, _) => f64::from(u8::from(i % 90 == 0)) * 30.0,
                _ => 400.0 + ((i * 7919) % 500) as f64 + sensor as f64,
            };
            (START_S + i * 5 + sensor as i64 % 3, (value * 100.0).round() / 100.0)
        })
        .collect()
}

const SENSORS: [(&str, &str); 3] =
    [("temperature", "temperature"), ("pir", "motion"), ("co2", "co2")];

/// Writes rooms in the layout of KETI.
fn write_recording(dir: &Path, rooms: usize, seconds: i64) -> PathBuf {
    for room in 0..rooms {
        let folder = dir.join(format!("KETI/{}", 400 + room));
        std::fs::create_dir_all(&folder).unwrap();
        for (sensor, (file, _)) in SENSORS.iter().enumerate() {
            let lines = sensor_values(room, sensor, seconds);
            let text: String =
                lines.iter().map(|(s, value)| format!("{s}, {value:.2}\n")).collect();
            std::fs::write(folder.join(format!("{file}.csv")), text).unwrap();
        }
    }
    dir.join("KETI")
}

/// Returns the same readings as reports, in the order of time, then of sensors.
fn recording_reports(rooms: usize, seconds: i64) -> Vec<SensorReport> {
    let mut all = Vec::new();
    for room in 0..rooms {
        let mut names: Vec<usize> = (0..SENSORS.len()).collect();
        names.sort_by_key(|sensor| SENSORS[*sensor].0);
        for sensor in names {
            let (device, metric) = SENSORS[sensor];
            for (second, value) in sensor_values(room, sensor, seconds) {
                let event_ms = second * 1000;
                all.push(SensorReport {
                    zone: ZoneId::new("keti", (400 + room).to_string()),
                    device: device.into(),
                    boot: None,
                    seq: None,
                    arrival_ms: event_ms,
                    source: ReportSource::Replay,
                    readings: vec![SensorReading { metric: metric.into(), event_ms, value }],
                });
            }
        }
    }
    all.sort_by_key(|report| report.arrival_ms);
    all
}

/// Reads all rows of a file.
fn read_rows(settings: &FeatureStoreSettings) -> Frame {
    frame(&FeatureStore::open(settings, MetricTable::default()).unwrap())
}

fn query_count(settings: &FeatureStoreSettings, sql: &str) -> u64 {
    let connection = Connection::open(&settings.store.path).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_what_live_readings_would_have_been() {
    const SECONDS: i64 = 8 * 3600;
    let dir = TempDir::new().unwrap();
    let path = write_recording(dir.path(), 3, SECONDS);
    let (filled, lived) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let summary =
        run_backfill(&settings(filled.path()), &backfill_request(&path, BackfillLayout::Keti))
            .unwrap();
    let reports = recording_reports(3, SECONDS);
    let log = EventLog::open(&settings(lived.path()).log).unwrap();
    append(&log, &reports).await;
    run_to_end(&settings(lived.path()), &log, reports.len() as u64).await;
    assert_eq!(summary.zones, 3);
    assert_eq!(summary.readings, reports.len() as u64);
    assert!(summary.by_quality["out_of_range"] > 0, "{summary:?}");
    let (got, want) = (read_rows(&settings(filled.path())), read_rows(&settings(lived.path())));
    assert_eq!(got.len() as u64, summary.rows);
    assert_same(&got, &want);
    // Every reading is stored as its file has it, and with its quality flag.
    let settings = settings(filled.path());
    for sql in [
        "SELECT count(*) FROM bronze.recorded",
        "SELECT count(*) FROM silver.readings WHERE source = 'backfill'",
    ] {
        assert_eq!(query_count(&settings, sql), reports.len() as u64, "{sql}");
    }
    let differ = "SELECT count(*) FROM bronze.recorded b
        LEFT JOIN silver.data d ON b.series = d.series AND b.event = d.event AND b.value = d.value
        WHERE d.value IS NULL";
    assert_eq!(query_count(&settings, differ), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_readings_go_on_from_where_a_backfill_ended() {
    const SECONDS: i64 = 4 * 3600;
    let all = recording_reports(2, SECONDS);
    let half_ms = (START_S + SECONDS / 2) * 1000;
    let dir = TempDir::new().unwrap();
    let path = write_recording(dir.path(), 2, SECONDS);
    let (parts, whole) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let first =
        BackfillRequest { to_ms: Some(half_ms), ..backfill_request(&path, BackfillLayout::Keti) };
    run_backfill(&settings(parts.path()), &first).unwrap();
    let rest: Vec<SensorReport> =
        all.iter().filter(|report| report.arrival_ms >= half_ms).cloned().collect();
    live(&settings(parts.path()), &rest).await;
    live(&settings(whole.path()), &all).await;
    let (got, want) = (read_rows(&settings(parts.path())), read_rows(&settings(whole.path())));
    assert_same(&got, &want);
}

#[test]
fn again_it_repeats_nothing_and_another_history_of_a_zone_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = write_recording(dir.path(), 3, 7200);
    let settings = settings(dir.path());
    let two = BackfillRequest {
        zones: vec!["400".into(), "401".into()],
        ..backfill_request(&path, BackfillLayout::Keti)
    };
    let first = run_backfill(&settings, &two).unwrap();
    let again = run_backfill(&settings, &backfill_request(&path, BackfillLayout::Keti)).unwrap();
    assert_eq!((first.zones, again.zones, again.zones_before), (2, 1, 2));
    let all = first.readings + again.readings;
    assert_eq!(query_count(&settings, "SELECT count(*) FROM silver.data"), all);
    let part = BackfillRequest {
        from_ms: Some(START_S * 1000),
        to_ms: Some((START_S + 600) * 1000),
        ..two
    };
    let error = run_backfill(&settings, &part).unwrap_err().to_string();
    assert!(error.contains("keti/40") && error.contains("hint:"), "{error}");
    assert_eq!(query_count(&settings, "SELECT count(*) FROM silver.data"), all);
}

#[test]
fn features_only_keeps_rows_and_kpis_and_no_readings() {
    let dir = TempDir::new().unwrap();
    let path = write_recording(dir.path(), 1, 7200);
    let settings = settings(dir.path());
    let only =
        BackfillRequest { features_only: true, ..backfill_request(&path, BackfillLayout::Keti) };
    let summary = run_backfill(&settings, &only).unwrap();
    assert_eq!(query_count(&settings, "SELECT count(*) FROM silver.data"), 0);
    assert_eq!(query_count(&settings, "SELECT count(*) FROM bronze.recorded"), 0);
    assert_eq!(query_count(&settings, "SELECT count(*) FROM features.rows"), summary.rows);
    assert_eq!(
        query_count(&settings, "SELECT sum(readings)::UBIGINT FROM gold.hourly"),
        summary.readings
    );
}

#[test]
fn bad_lines_are_listed_and_a_file_of_another_kind_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = write_recording(dir.path(), 1, 7200);
    let file = path.join("400/co2.csv");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}oops, 5\n1377309600, \"x\"\n")).unwrap();
    let rejects = dir.path().join("rejects.csv");
    let request = BackfillRequest {
        rejects: rejects.clone(),
        ..backfill_request(&path, BackfillLayout::Keti)
    };
    let summary = run_backfill(&settings(dir.path()), &request).unwrap();
    assert_eq!((summary.rejects, summary.rejects_file.as_deref()), (2, Some(&*rejects)));
    let listed = std::fs::read_to_string(&rejects).unwrap();
    let lines = text.lines().count();
    assert!(listed.starts_with("file,line,column,found,expected\n"), "{listed}");
    assert!(listed.contains(&format!("co2.csv\",{},1,\"oops", lines + 1)), "{listed}");
    assert!(listed.contains(&format!("co2.csv\",{},13,\"\"\"x\"\"\"", lines + 2)), "{listed}");

    let other = TempDir::new().unwrap();
    std::fs::create_dir_all(other.path().join("401")).unwrap();
    std::fs::write(other.path().join("401/co2.csv"), "time;value\n2013;5\n2014;6\n").unwrap();
    let request = BackfillRequest {
        zones: Vec::new(),
        ..backfill_request(other.path(), BackfillLayout::Keti)
    };
    let error = run_backfill(&settings(other.path()), &request).unwrap_err().to_string();
    assert!(
        error.contains("co2.csv:1:1: found `time;value`") && error.contains("hint:"),
        "{error}"
    );
    assert_eq!(query_count(&settings(other.path()), "SELECT count(*) FROM features.rows"), 0);
}

#[test]
fn csv_and_parquet_give_the_same_rows() {
    let dir = TempDir::new().unwrap();
    let mut text = "time,site,zone,device,metric,value\n".to_owned();
    for report in recording_reports(2, 7200) {
        let SensorReading { metric, event_ms, value } = &report.readings[0];
        text +=
            &format!("{event_ms},keti,{},{},{metric},{value}\n", report.zone.zone, report.device);
    }
    let csv = dir.path().join("a.csv");
    std::fs::write(&csv, text).unwrap();
    let parquet = dir.path().join("a.parquet");
    Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!(
            "COPY (SELECT make_timestamp_ms(time) AS time, * EXCLUDE (time)
             FROM read_csv('{}')) TO '{}' (FORMAT parquet)",
            csv.display(),
            parquet.display()
        ))
        .unwrap();
    let mut frames = Vec::new();
    for (path, layout) in [(&csv, BackfillLayout::Csv), (&parquet, BackfillLayout::Parquet)] {
        let store = TempDir::new().unwrap();
        let request = BackfillRequest {
            rejects: store.path().join("r.csv"),
            ..backfill_request(path, layout)
        };
        let summary = run_backfill(&settings(store.path()), &request).unwrap();
        assert_eq!((summary.zones, summary.rejects), (2, 0), "{layout:?}");
        frames.push(read_rows(&settings(store.path())));
    }
    assert!(frames[0].len() > 200 && frames[0] == frames[1]);
}

/// A kill −9 at any moment and another run give the same result as an undisturbed run.
#[test]
fn killed_and_run_again_it_neither_loses_nor_repeats() {
    let dir = TempDir::new().unwrap();
    let path = write_recording(dir.path(), 6, 6 * 3600);
    let whole = TempDir::new().unwrap();
    let started = std::time::Instant::now();
    let expected =
        run_backfill(&settings(whole.path()), &backfill_request(&path, BackfillLayout::Keti))
            .unwrap();
    let took = started.elapsed();
    let sums = |settings: &FeatureStoreSettings| -> Vec<u64> {
        [
            "SELECT count(*) FROM silver.data",
            "SELECT count(*) FROM bronze.recorded",
            "SELECT count(*) FROM features.rows",
            "SELECT count(*) FROM gold.hourly",
            "SELECT count(*) FROM gold.daily",
            "SELECT count(DISTINCT (series, event, value)) FROM silver.data",
            "SELECT (sum(hash(zone, time, temperature_last, co2_last)) % 1000000007)::UBIGINT FROM features.rows",
        ]
        .map(|sql| query_count(settings, sql))
        .into()
    };
    let want = sums(&settings(whole.path()));
    assert_eq!(want[0], expected.readings);
    for kill in 1..=8_u32 {
        let store = TempDir::new().unwrap();
        let program = |kill_after: Option<Duration>| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_feature-store"))
                .args(["backfill", "--layout", "keti", "--site", "keti"])
                .arg(&path)
                .arg(format!(
                    "--set=store.path={}",
                    store.path().join("microclimate.duckdb").display()
                ))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if let Some(after) = kill_after {
                std::thread::sleep(after);
                child.kill().unwrap();
            }
            child.wait().unwrap()
        };
        program(Some(took * kill / 8));
        assert!(program(None).success(), "killed after {kill}/8");
        assert_eq!(sums(&settings(store.path())), want, "killed after {kill}/8");
    }
}
