//! Measures how fast readings get from the embedded log into committed rows, and what limits that:
//! reading the log, parsing it, computing features, or storing them.
//!
//!     cargo build --workspace --example ingest
//!     target/debug/examples/ingest [READINGS] [METRICS per report] [RUNS] [FEATURES.toml]
//!
//! 50 zones with 4 devices each send a report every 10 s with METRICS metrics. Every run ingests
//! the whole log into a new DuckDB file.

use feature_store::sql_expressions::open_engine;
use std::{path::Path, time::Duration, time::Instant};

use anyhow::{Context, Result, ensure};
use eventlog::{EventLog, PartitionOffsets, Record};
use feature_store::{FeatureStore, FeatureStoreSettings, engine::EngineOutput, log_record};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId, topic::READINGS};
use tokio_util::sync::CancellationToken;

const ZONES: usize = 50;
const DEVICES: usize = 4;
const INTERVAL_MS: i64 = 10_000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;
const METRICS: [(&str, f64, f64); 8] = [
    ("temperature", 21.0, 4.0),
    ("humidity", 55.0, 12.0),
    ("co2", 600.0, 150.0),
    ("light", 9000.0, 8000.0),
    ("soil_moisture", 38.0, 6.0),
    ("soil_temperature", 18.0, 2.0),
    ("pressure", 1013.0, 8.0),
    ("battery", 3.9, 0.2),
];

#[tokio::main]
async fn main() -> Result<()> {
    let definitions = std::env::args().nth(4);
    let mut args = std::env::args().skip(1).take(3).map(|arg| arg.parse::<usize>());
    let mut arg = |default| args.next().unwrap_or(Ok(default));
    let (readings, metrics, runs) = (arg(6_000_000)?, arg(6)?, arg(3)?);
    ensure!((1..=METRICS.len()).contains(&metrics), "1 to {} metrics per report", METRICS.len());
    let reports = readings / metrics;
    let dir = tempfile::tempdir()?;
    let log_settings = eventlog::EventLogConfig::for_embedded(&dir.path().join("log"));
    let log = EventLog::open(&log_settings)?;
    let bytes = append_reports(&log, reports, metrics).await?;
    let readings = reports * metrics;
    println!(
        "{readings} readings in {reports} reports of {metrics} metrics, {} bytes each; medians of {runs} runs",
        bytes / reports
    );
    let mut settings =
        FeatureStoreSettings { log: log_settings, ..FeatureStoreSettings::default() };
    settings.engine.features = definitions.unwrap_or_default().into();
    print_result(
        "log read",
        readings,
        &measure_runs(runs, async || time_log_read(&log, reports, |_| {}).await).await?,
    );
    let parsed = async || {
        let mut records = 0;
        time_log_read(&log, reports, |entry| {
            records += usize::from(log_record::parse_record(entry).report.is_ok());
        })
        .await
    };
    print_result("log read and parsed", readings, &measure_runs(runs, parsed).await?);
    let mut rows = 0;
    let computed = async || {
        let mut engine = open_engine(&settings.engine, MetricTable::default(), &[])?;
        let mut output = EngineOutput::default();
        rows = 0;
        let took = time_log_read(&log, reports, |entry| {
            if let Ok(report) = log_record::parse_record(entry).report {
                engine.ingest_report(&report, report.arrival_ms, &mut output);
                rows += output.rows.len();
                output.qualities.clear();
                output.rows.clear();
            }
        });
        took.await
    };
    print_result("… and computed, on one thread", readings, &measure_runs(runs, computed).await?);
    let mut file_bytes = 0;
    let mut number = 0;
    let mut shown = String::new();
    let ingested = async || {
        number += 1;
        settings.store.path = dir.path().join(format!("run-{number}.duckdb"));
        let took = time_ingestion(&log, &settings, readings as u64, &mut shown).await?;
        file_bytes = std::fs::metadata(&settings.store.path)?.len();
        // Opens the file that was just written, as a restart does.
        let start = Instant::now();
        let restarted = FeatureStore::open(&settings, MetricTable::default())?;
        ensure!(
            restarted.committed_counts().readings == readings as u64,
            "every reading is stored"
        );
        println!("    run {number}: {took:.2?}; restarted in {:.2?}", start.elapsed());
        drop(restarted);
        std::fs::remove_file(&settings.store.path)?;
        Ok(took)
    };
    print_result("log to committed rows", readings, &measure_runs(runs, ingested).await?);
    println!(
        "{shown}; {rows} feature rows; {:.0} bytes per reading in the file",
        file_bytes as f64 / readings as f64
    );
    println!("peak memory of this program: {}", peak_memory(Path::new("/proc/self/status"))?);
    Ok(())
}

/// Writes the log and returns the bytes of its payloads.
async fn append_reports(log: &EventLog, reports: usize, metrics: usize) -> Result<usize> {
    let writer = log.open_writer(READINGS)?;
    let mut bytes = 0;
    let mut last = None;
    for number in 0..reports {
        let (tick, device) = (number / (ZONES * DEVICES), number % (ZONES * DEVICES));
        let event_ms = START_MS + tick as i64 * INTERVAL_MS + (device * 37 % 1000) as i64;
        let hours = tick as f64 / 360.0;
        let readings = METRICS[..metrics].iter().map(|(metric, base, swing)| SensorReading {
            metric: (*metric).into(),
            event_ms,
            value: ((base
                + swing * (hours / 3.8 + device as f64).sin()
                + swing * ((number * 7919 % 100) as f64) / 2000.0)
                * 100.0)
                .round()
                / 100.0,
        });
        let report = SensorReport {
            zone: ZoneId::new("farm", format!("bay-{}", device % ZONES)),
            device: format!("probe-{}", device / ZONES).into(),
            boot: Some("a1b2c3d4".into()),
            seq: Some(tick as u64),
            arrival_ms: event_ms + 120,
            source: ReportSource::Replay,
            readings: readings.collect(),
        };
        let payload = report.to_json();
        bytes += payload.len();
        let record = Record::new(report.zone.to_string(), payload, report.arrival_ms);
        last = Some(writer.append(record).await?);
    }
    last.context("no reports")?.await?;
    Ok(bytes)
}

async fn time_log_read(
    log: &EventLog,
    reports: usize,
    mut each: impl FnMut(eventlog::StoredRecord),
) -> Result<Duration> {
    let mut reader = log.open_reader(READINGS, &PartitionOffsets::new())?;
    let start = Instant::now();
    let mut left = reports;
    while left > 0 {
        let entries = reader.next_batch(4096, Duration::from_secs(10)).await?;
        left -= entries.len();
        entries.into_iter().for_each(&mut each);
    }
    Ok(start.elapsed())
}

async fn time_ingestion(
    log: &EventLog,
    settings: &FeatureStoreSettings,
    readings: u64,
    shown: &mut String,
) -> Result<Duration> {
    let store = FeatureStore::open(settings, MetricTable::default())?;
    let stop = CancellationToken::new();
    let start = Instant::now();
    let running = {
        let (store, log, stop) = (store.clone(), log.clone(), stop.clone());
        tokio::spawn(async move { store.run(&log, stop).await })
    };
    while store.committed_counts().readings < readings {
        ensure!(!running.is_finished(), "the feature store ended early");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = start.elapsed();
    let commits = store.commit_totals();
    *shown = format!("{} transactions took {:.2?} of it", commits.count, commits.took);
    stop.cancel();
    running.await??;
    Ok(took)
}

async fn measure_runs(
    runs: usize,
    mut run: impl AsyncFnMut() -> Result<Duration>,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..runs {
        times.push(run().await?);
    }
    times.sort_unstable();
    Ok(times)
}

fn print_result(what: &str, readings: usize, times: &[Duration]) {
    let seconds = times[times.len() / 2].as_secs_f64();
    println!("{what:<32} {seconds:>7.2} s {:>9.2} M readings/s", readings as f64 / seconds / 1e6);
}

fn peak_memory(status: &Path) -> Result<String> {
    let status = std::fs::read_to_string(status)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.context("no VmHWM")?.trim().to_owned())
}
