use std::time::{SystemTime, UNIX_EPOCH};

use telemetry::{MetricTable, Quality, Reading, Report, SmolStr, Source};

use super::history::History;
use crate::{
    StoreError,
    definitions::SqlReading,
    engine::{Engine, Output, Progress, Row},
    settings,
};

/// What came of a history.
pub(super) struct Outcome {
    /// For each series, for each of its readings.
    pub(super) qualities: Vec<Vec<Quality>>,
    /// How far the zone has come.
    pub(super) progress: Progress,
}

/// Takes a history through an engine of its own, in the order in which it was
/// known; rows go to `keep` as they become final.
pub(super) fn run(
    history: &History,
    settings: &settings::Engine,
    metrics: &MetricTable,
    columns: &[SmolStr],
    keep: impl FnMut(&Row),
) -> Result<Outcome, StoreError> {
    let mut engine = Engine::new(settings, metrics.clone(), columns)?;
    let received_ms = now_ms();
    let arrived_at_once = history.series.iter().all(|series| series.arrival_ms.is_none());
    let qualities = if arrived_at_once && !engine.runs_sql() {
        by_feed(history, received_ms, &mut engine, keep)
    } else {
        by_reports(history, received_ms, &mut engine, keep)
    };
    let progress = engine.zones().next().map(|(_, _, progress)| progress.clone());
    Ok(Outcome { qualities, progress: progress.unwrap_or_default() })
}

/// Readings between two times that rows are kept.
const CHUNK: usize = 4096;
/// Rows waiting to be kept.
const ROWS_MAX: usize = 64;

fn by_feed(
    history: &History,
    received_ms: i64,
    engine: &mut Engine,
    mut keep: impl FnMut(&Row),
) -> Vec<Vec<Quality>> {
    let mut qualities = none_yet(history);
    let mut feed = engine.feed(&history.zone, received_ms);
    let numbers: Vec<(u16, usize)> = history
        .series
        .iter()
        .map(|series| (feed.device(&series.sensor.device), feed.metric(&series.sensor.metric)))
        .collect();
    for (taken, (number, at)) in history.in_order().enumerate() {
        let series = &history.series[number];
        let (device, metric) = numbers[number];
        let quality = feed.ingest_reading(device, metric, series.event_ms[at], series.value[at]);
        qualities[number].push(quality);
        if taken % ROWS_MAX == 0 {
            feed.rows().iter().for_each(&mut keep);
        }
    }
    while feed.finish_some() {
        feed.rows().iter().for_each(&mut keep);
    }
    feed.rows().iter().for_each(keep);
    qualities
}

fn by_reports(
    history: &History,
    received_ms: i64,
    engine: &mut Engine,
    mut keep: impl FnMut(&Row),
) -> Vec<Vec<Quality>> {
    let mut qualities = none_yet(history);
    let mut output = Output::default();
    // One report, filled anew for each reading: nothing is allocated.
    let empty = Reading { metric: SmolStr::default(), event_ms: 0, value: 0.0 };
    let mut report = Report {
        zone: history.zone.clone(),
        device: SmolStr::default(),
        boot: None,
        seq: None,
        arrival_ms: 0,
        source: Source::Backfill,
        readings: vec![empty],
    };
    let mut order = history.in_order().peekable();
    while order.peek().is_some() {
        let chunk: Vec<(usize, usize)> = order.by_ref().take(CHUNK).collect();
        engine.run_ahead(chunk.iter().map(|(number, at)| {
            let series = &history.series[*number];
            SqlReading {
                value: series.value[*at],
                metric: &series.sensor.metric,
                site: &history.zone.site,
                zone: &history.zone.zone,
                device: &series.sensor.device,
                event_ms: series.event_ms[*at],
            }
        }));
        for (number, at) in chunk {
            let series = &history.series[number];
            report.device.clone_from(&series.sensor.device);
            report.arrival_ms = series.arrival_ms(at);
            let reading = &mut report.readings[0];
            reading.metric.clone_from(&series.sensor.metric);
            (reading.event_ms, reading.value) = (series.event_ms[at], series.value[at]);
            engine.ingest_report(&report, received_ms, &mut output);
            qualities[number].append(&mut output.qualities);
        }
        engine.join(&mut output.rows);
        output.rows.drain(..).for_each(|row| keep(&row));
    }
    while engine.finish_some(&mut output) {
        output.rows.drain(..).for_each(|row| keep(&row));
    }
    output.rows.iter().for_each(keep);
    qualities
}

/// The time at which the recording is taken in: nothing in it is known to be later.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn none_yet(history: &History) -> Vec<Vec<Quality>> {
    history.series.iter().map(|series| Vec::with_capacity(series.len())).collect()
}
