use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arrow_array::{RecordBatch, RecordBatchReader};
use feature_engine::{FeatureEngine, FeatureRow, engine::EngineOutput};
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_arrow::PyRecordBatchReader;
use telemetry::{ReportSource, SensorReading, SensorReport, SmolStr};

use crate::{
    config::EngineConfig,
    errors::InputError,
    input::{FrameLayout, FrameReading, FrameReadings, ZoneInputReadings},
    order::IngestOrder,
    output::{BATCH_ROWS, RowTable, convert_rows, row_schema},
};

/// How often the interpreter is asked for signals.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// Now, UTC ms: nothing in a recording was received later.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Reads all readings of a frame.
pub(crate) fn read_frame(
    reader: PyRecordBatchReader,
    config: &EngineConfig,
    source: ReportSource,
) -> PyResult<FrameReadings> {
    let reader = reader.into_reader()?;
    let layout = FrameLayout::from_schema(&reader.schema(), config)?;
    let mut frame = FrameReadings::default();
    for batch in reader {
        let batch = batch.map_err(|error| InputError::new_err(error.to_string()))?;
        frame.add_batch(&batch, &layout, config, source)?;
    }
    Ok(frame)
}

/// Report that is refilled for each reading.
pub(crate) fn empty_report(zone: &ZoneInputReadings) -> SensorReport {
    let reading = SensorReading { metric: SmolStr::default(), event_ms: 0, value: 0.0 };
    SensorReport {
        zone: zone.zone.clone(),
        device: SmolStr::default(),
        boot: None,
        seq: None,
        arrival_ms: 0,
        source: ReportSource::Backfill,
        readings: vec![reading],
    }
}

/// Puts a reading into a report.
pub(crate) fn fill_report(report: &mut SensorReport, frame: &FrameReadings, one: &FrameReading) {
    report.device.clone_from(&frame.devices.names[one.device as usize]);
    report.boot = one.run.map(|(boot, _)| frame.boots.names[boot as usize].clone());
    report.seq = one.run.map(|(_, seq)| seq);
    report.arrival_ms = one.arrival_ms;
    report.source = one.source;
    let reading = &mut report.readings[0];
    reading.metric.clone_from(&frame.metrics.names[one.metric as usize]);
    (reading.event_ms, reading.value) = (one.event_ms, one.value);
}

/// Computes the rows of all zones of a frame, each zone in an engine of its own.
#[pyfunction]
#[pyo3(signature = (frame, definitions, metrics, settings, columns, order, received_ms, threads))]
pub(crate) fn compute_features(
    py: Python<'_>,
    frame: PyRecordBatchReader,
    definitions: Option<(String, String)>,
    metrics: &str,
    settings: &str,
    columns: Option<Vec<String>>,
    order: &str,
    received_ms: Option<i64>,
    threads: usize,
) -> PyResult<RowTable> {
    let config = EngineConfig::new(definitions, metrics, settings, columns)?;
    let order = IngestOrder::parse(order)?;
    let mut frame = read_frame(frame, &config, ReportSource::Backfill)?;
    py.detach(|| order.apply(&mut frame))?;
    let columns = config.columns.clone().unwrap_or_else(|| {
        let names: BTreeSet<&SmolStr> = frame.metrics.names.iter().collect();
        names.into_iter().cloned().collect()
    });
    for metric in &frame.metrics.names {
        if !columns.contains(metric) {
            return Err(InputError::new_err(format!(
                "the frame has readings of `{metric}`, which is not among the columns {}",
                columns.join(", ")
            )));
        }
    }
    let received_ms = received_ms.unwrap_or_else(now_ms);
    let names = config.open_engine(&columns)?.schema().clone();
    let schema = row_schema(&names);
    // Zones in the order of their names, so that the table does not depend on threads.
    frame.zones.sort_by(|a, b| a.zone.cmp(&b.zone));
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let (next, is_cancelled) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done: Mutex<BTreeMap<usize, Vec<RecordBatch>>> = Mutex::new(BTreeMap::new());
    let work = |frame: &FrameReadings| -> PyResult<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(zone) = frame.zones.get(number) else { return Ok(()) };
            let mut engine = config.open_engine(&columns)?;
            let mut batches = Vec::new();
            let mut convert = |rows: &[FeatureRow]| -> PyResult<()> {
                batches.push(convert_rows(rows, &names, &schema)?);
                Ok(())
            };
            run_zone(frame, zone, received_ms, &mut engine, &is_cancelled, &mut convert)?;
            if is_cancelled.load(Ordering::Relaxed) {
                return Ok(());
            }
            done.lock().expect("no thread panics").insert(number, batches);
        }
    };
    std::thread::scope(|scope| {
        let (sender, finished) = mpsc::channel();
        // Shared with the closure that runs without the interpreter.
        let finished = Mutex::new(finished);
        let workers = threads.min(frame.zones.len()).max(1);
        for _ in 0..workers {
            let (sender, frame, work) = (sender.clone(), &frame, &work);
            scope.spawn(move || {
                // The receiver outlives all threads of the scope.
                let _ = sender.send(work(frame));
            });
        }
        let mut left = workers;
        let mut result = Ok(());
        while left > 0 {
            let waited = py
                .detach(|| finished.lock().expect("no thread panics").recv_timeout(SIGNALS_EVERY));
            match waited {
                Ok(one) => {
                    left -= 1;
                    result = result.and(one);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => result = result.and(py.check_signals()),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    result = result.and(Err(PyRuntimeError::new_err("a thread panicked")));
                    break;
                }
            }
            if result.is_err() {
                is_cancelled.store(true, Ordering::Relaxed);
            }
        }
        result
    })?;
    let done = done.into_inner().expect("no thread panics");
    Ok(RowTable::new(done.into_values().flatten().collect(), schema))
}

/// Ingests the readings of a zone and completes its rows.
fn run_zone(
    frame: &FrameReadings,
    zone: &ZoneInputReadings,
    received_ms: i64,
    engine: &mut FeatureEngine,
    is_cancelled: &AtomicBool,
    convert: &mut impl FnMut(&[FeatureRow]) -> PyResult<()>,
) -> PyResult<()> {
    let mut waiting: Vec<FeatureRow> = Vec::new();
    if frame.has_arrivals || frame.has_runs || frame.has_sources {
        let mut report = empty_report(zone);
        let mut output = EngineOutput::default();
        for one in &zone.readings {
            fill_report(&mut report, frame, one);
            engine.ingest_report(&report, received_ms, &mut output);
            output.qualities.clear();
            drain_full(&mut output.rows, convert)?;
            if is_cancelled.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        while engine.finish_some(&mut output) {
            drain_full(&mut output.rows, convert)?;
        }
        waiting.append(&mut output.rows);
    } else {
        // Readings that arrived at their event times: the fast way to the same rows.
        let mut feed = engine.open_feed(&zone.zone, received_ms);
        let mut device = NumberCache::default();
        let mut metric = NumberCache::default();
        for (number, one) in zone.readings.iter().enumerate() {
            let device =
                device.get(one.device, |at| feed.device_number(&frame.devices.names[at as usize]));
            let metric =
                metric.get(one.metric, |at| feed.metric_number(&frame.metrics.names[at as usize]));
            feed.ingest_reading(device, metric, one.event_ms, one.value);
            if number % 64 == 0 {
                waiting.append(&mut feed.take_rows());
                drain_full(&mut waiting, convert)?;
                if is_cancelled.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
        }
        while feed.finish_some() {
            waiting.append(&mut feed.take_rows());
            drain_full(&mut waiting, convert)?;
        }
        waiting.append(&mut feed.take_rows());
    }
    for rows in waiting.chunks(BATCH_ROWS) {
        convert(rows)?;
    }
    Ok(())
}

/// Converts rows once there are enough for a batch.
fn drain_full(
    rows: &mut Vec<FeatureRow>,
    convert: &mut impl FnMut(&[FeatureRow]) -> PyResult<()>,
) -> PyResult<()> {
    while rows.len() >= BATCH_ROWS {
        convert(&rows[..BATCH_ROWS])?;
        rows.drain(..BATCH_ROWS);
    }
    Ok(())
}

/// Numbers of the frame → numbers of the feed.
struct NumberCache<T>(Vec<Option<T>>);

impl<T> Default for NumberCache<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> NumberCache<T> {
    fn get(&mut self, at: u32, find: impl FnOnce(u32) -> T) -> T {
        let at = at as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        *self.0[at].get_or_insert_with(|| find(at as u32))
    }
}
