use crate::sql_expressions::open_engine;
use feature_engine::sql::SqlReading;
use std::time::{SystemTime, UNIX_EPOCH};

use telemetry::{MetricTable, QualityFlag, ReportSource, SensorReading, SensorReport, SmolStr};

use super::history::ZoneHistory;
use crate::{
    StoreError,
    engine::{EngineOutput, FeatureEngine, FeatureRow, ZoneProgress},
    settings,
};

/// Result of processing a history.
pub(super) struct PipelineOutcome {
    /// Quality flags, by series and reading.
    pub(super) qualities: Vec<Vec<QualityFlag>>,
    /// Progress of the zone.
    pub(super) progress: ZoneProgress,
}

/// Processes a history in an engine of its own, in the order of arrival. Rows go to `keep` as
/// they become final.
pub(super) fn process_history(
    history: &ZoneHistory,
    settings: &settings::EngineSettings,
    metrics: &MetricTable,
    columns: &[SmolStr],
    keep: impl FnMut(&FeatureRow),
) -> Result<PipelineOutcome, StoreError> {
    let mut engine = open_engine(settings, metrics.clone(), columns)?;
    let received_ms = now_ms();
    let arrived_at_once = history.series.iter().all(|series| series.arrival_ms.is_none());
    let qualities = if arrived_at_once && !engine.has_sql() {
        ingest_by_feed(history, received_ms, &mut engine, keep)
    } else {
        ingest_by_reports(history, received_ms, &mut engine, keep)
    };
    let progress = engine.zones().next().map(|(_, _, progress)| progress.clone());
    Ok(PipelineOutcome { qualities, progress: progress.unwrap_or_default() })
}

/// Number of readings after which finished rows go to `keep`.
const CHUNK_READINGS: usize = 4096;
/// Number of readings after which finished rows of a feed go to `keep`.
const BUFFERED_ROWS_MAX: usize = 64;

fn ingest_by_feed(
    history: &ZoneHistory,
    received_ms: i64,
    engine: &mut FeatureEngine,
    mut keep: impl FnMut(&FeatureRow),
) -> Vec<Vec<QualityFlag>> {
    let mut qualities = empty_qualities(history);
    let mut feed = engine.open_feed(&history.zone, received_ms);
    let numbers: Vec<(u16, usize)> = history
        .series
        .iter()
        .map(|series| {
            (feed.device_number(&series.sensor.device), feed.metric_number(&series.sensor.metric))
        })
        .collect();
    for (taken, (number, at)) in history.iter_by_arrival().enumerate() {
        let series = &history.series[number];
        let (device, metric) = numbers[number];
        let quality = feed.ingest_reading(device, metric, series.event_ms[at], series.value[at]);
        qualities[number].push(quality);
        if taken % BUFFERED_ROWS_MAX == 0 {
            feed.take_rows().iter().for_each(&mut keep);
        }
    }
    while feed.finish_some() {
        feed.take_rows().iter().for_each(&mut keep);
    }
    feed.take_rows().iter().for_each(keep);
    qualities
}

fn ingest_by_reports(
    history: &ZoneHistory,
    received_ms: i64,
    engine: &mut FeatureEngine,
    mut keep: impl FnMut(&FeatureRow),
) -> Vec<Vec<QualityFlag>> {
    let mut qualities = empty_qualities(history);
    let mut output = EngineOutput::default();
    // One report, refilled for each reading, so that nothing is allocated.
    let empty = SensorReading { metric: SmolStr::default(), event_ms: 0, value: 0.0 };
    let mut report = SensorReport {
        zone: history.zone.clone(),
        device: SmolStr::default(),
        boot: None,
        seq: None,
        arrival_ms: 0,
        source: ReportSource::Backfill,
        readings: vec![empty],
    };
    let mut order = history.iter_by_arrival().peekable();
    while order.peek().is_some() {
        let chunk: Vec<(usize, usize)> = order.by_ref().take(CHUNK_READINGS).collect();
        let readings = chunk.iter().map(|(number, at)| {
            let series = &history.series[*number];
            SqlReading {
                value: series.value[*at],
                metric: &series.sensor.metric,
                site: &history.zone.site,
                zone: &history.zone.zone,
                device: &series.sensor.device,
                event_ms: series.event_ms[*at],
            }
        });
        engine.ingest_batch(readings, &mut output, |batch| {
            for (number, at) in &chunk {
                let series = &history.series[*number];
                report.device.clone_from(&series.sensor.device);
                report.arrival_ms = series.arrival_ms(*at);
                let reading = &mut report.readings[0];
                reading.metric.clone_from(&series.sensor.metric);
                (reading.event_ms, reading.value) = (series.event_ms[*at], series.value[*at]);
                qualities[*number].extend(batch.ingest_report(&report, received_ms));
            }
        });
        output.qualities.clear();
        output.rows.drain(..).for_each(|row| keep(&row));
    }
    while engine.finish_some(&mut output) {
        output.rows.drain(..).for_each(|row| keep(&row));
    }
    output.rows.iter().for_each(keep);
    qualities
}

/// The receive time of the recording: nothing in it can be later.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn empty_qualities(history: &ZoneHistory) -> Vec<Vec<QualityFlag>> {
    history.series.iter().map(|series| Vec::with_capacity(series.len())).collect()
}
