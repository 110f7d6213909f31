//! Simulated zones of six metrics.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eventlog::{EventLog, Record};
use microclimate_feature_store::FeatureStore;
use telemetry::{ReportSource, SensorReading, SensorReport, ZoneId, topic::READINGS};
use tokio_util::sync::CancellationToken;

const METRICS: [(&str, f64); 6] = [
    ("temperature", 21.0),
    ("humidity", 55.0),
    ("co2", 640.0),
    ("light", 800.0),
    ("soil_moisture", 38.0),
    ("pressure", 1013.0),
];
const MINUTES: i64 = 24 * 60;
/// Live reports per second.
const LIVE_PER_S: u32 = 200;

pub(crate) fn zone_name(number: usize) -> String {
    format!("farm/bay-{number}")
}

fn simulated_record(
    zone: &str,
    event_ms: i64,
    source: ReportSource,
    vary: impl Fn(f64) -> f64,
) -> Record {
    let readings = METRICS.map(|(metric, usual)| SensorReading {
        metric: metric.into(),
        event_ms,
        value: (vary(usual) * 100.0).round() / 100.0,
    });
    let report = SensorReport {
        zone: zone.parse::<ZoneId>().expect("a zone"),
        device: "probe".into(),
        boot: None,
        seq: None,
        arrival_ms: event_ms,
        source,
        readings: readings.to_vec(),
    };
    Record::new(zone, report.to_json(), event_ms)
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Appends a day of every zone, with a report every five minutes; returns the number of readings.
pub(crate) async fn append_history(log: &EventLog, zones: usize) -> u64 {
    let writer = log.open_writer(READINGS).expect("a writer");
    let start_ms = now_ms() - MINUTES * 60_000;
    let mut receipts = Vec::new();
    for minute in (0..MINUTES).step_by(5) {
        for number in 0..zones {
            let wave = (minute as f64 / 90.0 + number as f64).sin();
            let event_ms = start_ms + minute * 60_000;
            let record =
                simulated_record(&zone_name(number), event_ms, ReportSource::Replay, |usual| {
                    usual * (1.0 + 0.1 * wave)
                });
            receipts.push(writer.append(record).await.expect("room in the log"));
        }
    }
    let readings = receipts.len() * METRICS.len();
    for receipt in receipts {
        receipt.await.expect("a durable record");
    }
    readings as u64
}

/// Waits until this number of readings is committed.
pub(crate) async fn wait_until_ingested(store: &FeatureStore, readings: u64) {
    while store.committed_counts().readings < readings {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Appends live reports until `shutdown`.
pub(crate) async fn append_live(log: EventLog, zones: usize, shutdown: CancellationToken) {
    let writer = log.open_writer(READINGS).expect("a writer");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / LIVE_PER_S);
    let mut number = 0;
    while !shutdown.is_cancelled() {
        ticks.tick().await;
        number += 1;
        let wave = (number as f64 / 1000.0).sin();
        let record =
            simulated_record(&zone_name(number % zones), now_ms(), ReportSource::Live, |usual| {
                usual * (1.0 + 0.1 * wave)
            });
        if let Ok(receipt) = writer.append(record).await {
            drop(receipt);
        }
    }
}

/// Measures the time from appending a report to its online row, ms: median and 99th percentile of
/// 500.
pub(crate) async fn measure_freshness(log: &EventLog, store: &FeatureStore) -> [f64; 2] {
    let writer = log.open_writer(READINGS).expect("a writer");
    let mut rows = store.subscribe_rows();
    let mut took_ms = Vec::new();
    for i in 0..500_u32 {
        // Every value occurs once and is rounded as in the report, so that its row can be
        // recognised.
        let value = f64::from(1000 + i) / 100.0;
        let record = simulated_record("farm/fresh", now_ms(), ReportSource::Live, |_| value);
        let before = Instant::now();
        let receipt = writer.append(record).await.expect("room in the log");
        loop {
            let row = rows.recv().await.expect("a row");
            let place = row.schema.names.iter().position(|name| name == "temperature_last");
            if place.is_some_and(|place| row.values[place] == value) && row.zone.zone == "fresh" {
                break;
            }
        }
        took_ms.push(before.elapsed().as_secs_f64() * 1000.0);
        receipt.await.expect("a durable record");
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    took_ms.sort_unstable_by(f64::total_cmp);
    [took_ms[250], took_ms[495]]
}
