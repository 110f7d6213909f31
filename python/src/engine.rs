use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use feature_engine::{
    FeatureEngine,
    engine::{EngineOutput, SNAPSHOT_VERSION},
};
use pyo3::{prelude::*, pybacked::PyBackedBytes, types::PyBytes};
use pyo3_arrow::PyRecordBatchReader;
use telemetry::{ReportSource, SmolStr, ZoneId};

use crate::{
    config::EngineConfig,
    errors::{InputError, OrderError, SnapshotError},
    features::{empty_report, fill_report, now_ms, read_frame},
    order::IngestOrder,
    output::RowTable,
};

/// The feature engine for streams: `microclimate.Engine` wraps it.
#[pyclass(module = "microclimate._engine", frozen)]
pub(crate) struct StreamEngine {
    config: EngineConfig,
    state: Mutex<StreamState>,
}

struct StreamState {
    engine: FeatureEngine,
    /// Number of readings by quality flag.
    quality_counts: BTreeMap<&'static str, u64>,
    /// Newest arrival of each zone, ms, for frames that must be in order.
    arrivals: HashMap<ZoneId, i64>,
}

/// Fields of `microclimate.Progress`.
type ProgressParts = (Option<i64>, Option<i64>, Option<i64>, bool);

fn parse_zone(zone: &str) -> PyResult<ZoneId> {
    zone.parse().map_err(|error| InputError::new_err(format!("{error}")))
}

fn snapshot_error(error: feature_engine::engine::SnapshotError) -> PyErr {
    SnapshotError::new_err(error.to_string())
}

impl StreamEngine {
    fn state(&self) -> MutexGuard<'_, StreamState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call of the engine without the interpreter and returns its rows.
    fn run_call(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut FeatureEngine, &mut EngineOutput) + Send,
    ) -> PyResult<RowTable> {
        py.detach(|| {
            let mut state = self.state();
            let mut output = EngineOutput::default();
            call(&mut state.engine, &mut output);
            RowTable::from_rows(&output.rows, state.engine.schema())
        })
    }
}

#[pymethods]
impl StreamEngine {
    #[new]
    #[pyo3(signature = (definitions, metrics, settings, columns))]
    fn new(
        definitions: Option<(String, String)>,
        metrics: &str,
        settings: &str,
        columns: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let config = EngineConfig::new(definitions, metrics, settings, columns)?;
        let engine = config.open_engine(config.columns.as_deref().unwrap_or_default())?;
        let (quality_counts, arrivals) = (BTreeMap::new(), HashMap::new());
        let state = Mutex::new(StreamState { engine, quality_counts, arrivals });
        Ok(Self { config, state })
    }

    /// Names of the features, in the order of columns.
    #[getter]
    fn feature_names(&self) -> Vec<String> {
        self.state().engine.schema().names.iter().map(SmolStr::to_string).collect()
    }

    #[getter]
    fn schema_hash(&self) -> String {
        self.state().engine.schema().hash.to_string()
    }

    #[getter]
    fn definitions_hash(&self) -> String {
        self.config.definitions.compute_hash().to_string()
    }

    #[getter]
    fn quality_counts(&self) -> BTreeMap<&'static str, u64> {
        self.state().quality_counts.clone()
    }

    #[getter]
    fn zones(&self) -> Vec<String> {
        let mut zones: Vec<String> =
            self.state().engine.zones().map(|(zone, ..)| zone.to_string()).collect();
        zones.sort_unstable();
        zones
    }

    #[getter]
    fn retention_ms(&self) -> i64 {
        self.state().engine.retention_ms()
    }

    #[classattr]
    const SNAPSHOT_VERSION: u16 = SNAPSHOT_VERSION;

    /// Smallest and largest plausible value of every metric.
    #[getter]
    fn plausible_ranges(&self) -> BTreeMap<String, (f64, f64)> {
        let names = self.config.metric_names();
        let range = |name: SmolStr| {
            let spec = self.config.metrics.get(&name)?;
            Some((name.to_string(), (spec.min, spec.max)))
        };
        names.into_iter().filter_map(range).collect()
    }

    /// Time up to which a zone's rows are final, its newest event and arrival, UTC ms, and whether
    /// it has live readings.
    fn progress(&self, zone: &str) -> PyResult<Option<ProgressParts>> {
        let zone = parse_zone(zone)?;
        let state = self.state();
        let found = state.engine.zones().find(|(id, ..)| **id == zone);
        Ok(found.map(|(.., own)| (own.final_ms, own.newest_ms, own.arrival_ms, own.live)))
    }

    fn ingest(
        &self,
        py: Python<'_>,
        frame: PyRecordBatchReader,
        order: &str,
        received_ms: Option<i64>,
        source: &str,
    ) -> PyResult<RowTable> {
        let order = IngestOrder::parse(order)?;
        let source = ReportSource::ALL
            .into_iter()
            .find(|known| known.as_str() == source)
            .ok_or_else(|| InputError::new_err(format!("`{source}` is not a source")))?;
        let mut frame = read_frame(frame, &self.config, source)?;
        let received_ms = received_ms.unwrap_or_else(now_ms);
        py.detach(|| {
            let mut state = self.state();
            if let Some(columns) = &self.config.columns
                && let Some(other) = frame.metrics.names.iter().find(|name| !columns.contains(name))
            {
                return Err(InputError::new_err(format!(
                    "the frame has readings of `{other}`, which is not among the columns {}",
                    columns.join(", ")
                )));
            }
            order.apply(&mut frame)?;
            if order != IngestOrder::Log {
                // Checked for all zones before any reading is ingested.
                for zone in &frame.zones {
                    let first_ms = zone.readings.first().map(|one| one.arrival_ms);
                    let before_ms = state.arrivals.get(&zone.zone);
                    if let (Some(first_ms), Some(before_ms)) = (first_ms, before_ms)
                        && first_ms < *before_ms
                    {
                        return Err(OrderError::new_err(format!(
                            "zone {}: the frame begins at an arrival of {first_ms} ms, {} ms before \
                             the newest one that was ingested; expected the order of arrival\n  hint: \
                             order=\"log\" takes rows as a log has them",
                            zone.zone,
                            before_ms - first_ms,
                        )));
                    }
                }
            }
            let StreamState { engine, quality_counts, arrivals } = &mut *state;
            let mut output = EngineOutput::default();
            for zone in &frame.zones {
                let mut report = empty_report(zone);
                for one in &zone.readings {
                    fill_report(&mut report, &frame, one);
                    engine.ingest_report(&report, received_ms, &mut output);
                }
                if let Some(last) = zone.readings.iter().map(|one| one.arrival_ms).max() {
                    let newest = arrivals.entry(zone.zone.clone()).or_insert(last);
                    *newest = last.max(*newest);
                }
            }
            for quality in &output.qualities {
                *quality_counts.entry(quality.as_str()).or_default() += 1;
            }
            RowTable::from_rows(&output.rows, engine.schema())
        })
    }

    fn finish(&self, py: Python<'_>) -> PyResult<RowTable> {
        self.run_call(py, FeatureEngine::finish_all)
    }

    fn finish_zone(&self, py: Python<'_>, zone: &str) -> PyResult<RowTable> {
        let zone = parse_zone(zone)?;
        self.run_call(py, |engine, output| engine.finish_zone(&zone, output))
    }

    fn complete_zone(&self, py: Python<'_>, zone: &str, until_ms: i64) -> PyResult<RowTable> {
        let zone = parse_zone(zone)?;
        self.run_call(py, |engine, output| engine.complete_zone(&zone, until_ms, output))
    }

    fn advance_clock(&self, py: Python<'_>, now_ms: i64) -> PyResult<RowTable> {
        self.run_call(py, |engine, output| engine.advance_clock(now_ms, output))
    }

    /// Newest row of each zone that has changed since the last call.
    fn changed_rows(&self, py: Python<'_>) -> PyResult<RowTable> {
        self.run_call(py, |engine, output| output.rows = engine.take_changed_rows())
    }

    fn remove_zone(&self, zone: &str) -> PyResult<()> {
        let zone = parse_zone(zone)?;
        let mut state = self.state();
        state.arrivals.remove(&zone);
        state.engine.remove_zones(&[zone].into());
        Ok(())
    }

    fn snapshot<'py>(&self, py: Python<'py>, zone: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let zone = parse_zone(zone)?;
        let bytes = py.detach(|| self.state().engine.snapshot(&zone));
        Ok(bytes.map(|bytes| PyBytes::new(py, &bytes)))
    }

    fn restore(&self, py: Python<'_>, snapshot: &[u8]) -> PyResult<String> {
        py.detach(|| {
            let mut state = self.state();
            let zone = state.engine.restore(snapshot).map_err(snapshot_error)?;
            Ok(state.note_restored(zone))
        })
    }

    /// Head, written hours and removed hours.
    fn snapshot_changes<'py>(
        &self,
        py: Python<'py>,
        zone: &str,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, BTreeMap<i64, Bound<'py, PyBytes>>, Vec<i64>)>> {
        let zone = parse_zone(zone)?;
        let changes = py.detach(|| self.state().engine.snapshot_changes(&zone));
        Ok(changes.map(|changes| {
            let written = changes.written_hours.iter();
            (
                PyBytes::new(py, &changes.head),
                written.map(|(hour, bytes)| (*hour, PyBytes::new(py, bytes))).collect(),
                changes.removed_hours.into_iter().collect(),
            )
        }))
    }

    fn restore_parts(
        &self,
        py: Python<'_>,
        head: &[u8],
        hours: BTreeMap<i64, PyBackedBytes>,
    ) -> PyResult<String> {
        py.detach(|| {
            let hours = hours.iter().map(|(hour, bytes)| (*hour, &bytes[..])).collect();
            let mut state = self.state();
            let zone = state.engine.restore_parts(head, &hours).map_err(snapshot_error)?;
            Ok(state.note_restored(zone))
        })
    }
}

impl StreamState {
    /// Takes the newest arrival of a restored zone as the one before the next frame.
    fn note_restored(&mut self, zone: ZoneId) -> String {
        let found = self.engine.zones().find(|(id, ..)| **id == zone);
        let newest =
            found.and_then(|(.., progress)| (!progress.live).then_some(progress.arrival_ms)?);
        match newest {
            Some(arrival_ms) => self.arrivals.insert(zone.clone(), arrival_ms),
            None => self.arrivals.remove(&zone),
        };
        zone.to_string()
    }
}
