//! Runs messages through the engine with a simulated clock: time advances, the program stops and
//! restarts, and all rows are recorded by revision.

use microclimate_feature_store::sql_expressions::open_engine;
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use microclimate_feature_store::{
    FeatureRow, FeatureStoreSettings,
    engine::{EngineOutput, FeatureEngine, ZoneProgress},
};
use telemetry::{
    MetricTable, QualityFlag, ReportSource, SensorReading, SensorReport, SmolStr, ZoneId,
};

use crate::{
    oracle::{DEFINITIONS, ZoneReadings, expected_qualities},
    schedule::{METRICS, MINUTE_MS, SimulatedMessage},
};

/// Ingest path of the messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum IngestPath {
    /// Live: the machine's clock advances between them.
    Live,
    /// A recording with arrival times.
    Recorded,
}

/// A row; long runs keep the values of some rows only.
pub(crate) struct RowRevision {
    pub(crate) revision: i64,
    /// Hash of the bits of all values.
    pub(crate) hash: u64,
    pub(crate) row: Option<FeatureRow>,
    at_ms: i64,
}

/// An engine with all its output.
pub(crate) struct EngineRun {
    settings: FeatureStoreSettings,
    pub(crate) engine: FeatureEngine,
    door: IngestPath,
    /// Readings that a store would have stored.
    kept: Vec<(SimulatedMessage, QualityFlag)>,
    /// Rows by zone, in the order in which they were emitted.
    rows: BTreeMap<ZoneId, Vec<RowRevision>>,
    /// The values of one row in this many are kept.
    every: i64,
}

pub(crate) fn zone_id(zone: usize) -> ZoneId {
    ZoneId::new("farm", format!("bay-{zone}"))
}

pub(crate) fn report_of(message: &SimulatedMessage, door: IngestPath) -> SensorReport {
    SensorReport {
        zone: zone_id(message.zone),
        device: device_name(message),
        boot: None,
        seq: None,
        arrival_ms: message.arrival_ms,
        source: if door == IngestPath::Live { ReportSource::Live } else { ReportSource::Backfill },
        readings: vec![reading_of(message)],
    }
}

fn device_name(message: &SimulatedMessage) -> SmolStr {
    format!("sensor-{}", message.device).into()
}

fn reading_of(message: &SimulatedMessage) -> SensorReading {
    let SimulatedMessage { metric, event_ms, value, .. } = *message;
    SensorReading { metric: metric.into(), event_ms, value }
}

impl EngineRun {
    /// Keeps the values of one row in `every`.
    pub(crate) fn new(door: IngestPath, every: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = FeatureStoreSettings::default();
        settings.engine.features = dir.path().join("features.toml");
        std::fs::write(&settings.engine.features, DEFINITIONS).unwrap();
        let engine = new_engine(&settings);
        // The definitions are read once.
        drop(dir);
        let every = every.max(1) as i64;
        Self { settings, engine, door, kept: Vec::new(), rows: BTreeMap::new(), every }
    }

    /// Ingests a message at its arrival.
    pub(crate) fn ingest_message(&mut self, message: &SimulatedMessage) -> QualityFlag {
        let mut output = EngineOutput::default();
        let received_ms =
            if self.door == IngestPath::Live { message.arrival_ms } else { 4_000_000_000_000 };
        self.engine.ingest_report(&report_of(message, self.door), received_ms, &mut output);
        assert_eq!(output.pushed_ahead, [], "no clock of the gateway was wrong");
        self.keep_rows(output.rows);
        self.kept.push((message.clone(), output.qualities[0]));
        output.qualities[0]
    }

    pub(crate) fn keep_rows(&mut self, rows: Vec<FeatureRow>) {
        for row in rows {
            let mut hasher = DefaultHasher::new();
            row.values.iter().for_each(|value| value.to_bits().hash(&mut hasher));
            let is_whole = row.at_ms.div_euclid(MINUTE_MS) % self.every == 0;
            let FeatureRow { at_ms, revision, .. } = row;
            let rows = self.rows.entry(row.zone.clone()).or_default();
            let row = is_whole.then_some(row);
            rows.push(RowRevision { revision, hash: hasher.finish(), row, at_ms });
        }
    }

    /// Returns how many rows were written; each revision counts.
    pub(crate) fn rows_written(&self) -> usize {
        self.rows.values().map(Vec::len).sum()
    }

    /// Advances time.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        let mut output = EngineOutput::default();
        self.engine.advance_clock(now_ms, &mut output);
        self.keep_rows(output.rows);
    }

    pub(crate) fn finish(&mut self) {
        let mut output = EngineOutput::default();
        self.engine.finish_all(&mut output);
        self.keep_rows(output.rows);
    }

    /// Stops and restarts with what a store keeps: the progress as text, and the readings within
    /// the retention.
    pub(crate) fn restart(&mut self) {
        let texts: Vec<(ZoneId, String)> = self
            .engine
            .zones()
            .map(|(zone, _, progress)| (zone.clone(), serde_json::to_string(progress).unwrap()))
            .collect();
        let mut engine = engine_with(&self.settings, DEFINITIONS);
        let mut oldest_ms = BTreeMap::new();
        for (zone, text) in texts {
            let progress: ZoneProgress = serde_json::from_str(&text).unwrap();
            let row_ms = progress.oldest_row_ms().unwrap_or(0);
            oldest_ms.insert(zone.clone(), row_ms - engine.retention_ms());
            engine.restore_zone(zone, progress);
        }
        for (message, quality) in &self.kept {
            let zone = zone_id(message.zone);
            if message.event_ms > oldest_ms[&zone] {
                let (arrival_ms, reading) = (message.arrival_ms, reading_of(message));
                engine.restore_reading(
                    &zone,
                    &device_name(message),
                    None,
                    &reading,
                    arrival_ms,
                    *quality,
                );
            }
        }
        self.engine = engine;
    }

    /// Returns the rows of a zone by time: as known, or the newest revision of each.
    pub(crate) fn rows_by_time(
        &self,
        zone: usize,
        is_as_known: bool,
    ) -> BTreeMap<i64, &RowRevision> {
        let mut table: BTreeMap<i64, &RowRevision> = BTreeMap::new();
        for row in self.rows.get(&zone_id(zone)).into_iter().flatten() {
            if is_as_known && row.revision > 0 {
                continue;
            }
            let known = table.entry(row.at_ms).or_insert(row);
            assert!(
                std::ptr::eq(*known, row) || known.revision != row.revision,
                "{zone} {} has revision {} twice",
                row.at_ms,
                row.revision
            );
            if row.revision > known.revision {
                *known = row;
            }
        }
        table
    }

    pub(crate) fn zone_progress(&self, zone: usize) -> ZoneProgress {
        let id = zone_id(zone);
        let found = self.engine.zones().find(|(zone, ..)| **zone == id);
        found.map(|(.., progress)| progress.clone()).unwrap_or_default()
    }

    /// Checks all rows against plain loops, and the values of one row in `every`. Returns the
    /// numbers of compared rows and values.
    pub(crate) fn check_against_oracle(
        &self,
        messages: &[SimulatedMessage],
        every: usize,
    ) -> (usize, usize) {
        let qualities = expected_qualities(messages);
        for ((message, expect), (_, found)) in messages.iter().zip(&qualities).zip(&self.kept) {
            assert_eq!(found, expect, "{message:?}");
        }
        let zones = messages.iter().map(|message| message.zone + 1).max().unwrap_or(0);
        let (mut rows, mut values) = (0, 0);
        for zone in 0..zones {
            let readings = ZoneReadings::new(messages, &qualities, zone);
            let progress = self.zone_progress(zone);
            let Some(final_ms) = progress.final_ms else { continue };
            for is_as_known in [true, false] {
                let arrived = |at_ms: i64| if is_as_known { at_ms } else { i64::MAX };
                let table = self.rows_by_time(zone, is_as_known);
                let times = readings.row_times(i64::MIN, final_ms, arrived);
                let found: std::collections::BTreeSet<i64> = table.keys().copied().collect();
                let odd = found.symmetric_difference(&times).next();
                assert!(
                    odd.is_none(),
                    "zone {zone}, as known {is_as_known}: {} rows, expected {}, such as at {odd:?}",
                    found.len(),
                    times.len()
                );
                rows += table.len();
                let whole = table.values().filter_map(|kept| kept.row.as_ref());
                for row in whole.step_by(every) {
                    let at_ms = &row.at_ms;
                    let expect = readings.expected_features(*at_ms, arrived(*at_ms));
                    for (name, value) in row.schema.names.iter().zip(row.values.iter()) {
                        let Some(expect) = expect.get(name.as_str()) else { continue };
                        let found = Some(*value).filter(|value| !value.is_nan());
                        let is_same = match (found, expect) {
                            (Some(a), Some(b)) => (a - b).abs() <= 1e-7 * b.abs().max(1.0),
                            (a, b) => a == *b,
                        };
                        assert!(
                            is_same,
                            "zone {zone} {name} at {at_ms} (as known {is_as_known}, revision {}): \
                             {found:?}, expected {expect:?}",
                            row.revision
                        );
                        values += 1;
                    }
                }
            }
        }
        (rows, values)
    }
}

fn new_engine(settings: &FeatureStoreSettings) -> FeatureEngine {
    let columns = METRICS.map(Into::into);
    open_engine(&settings.engine, MetricTable::default(), &columns).unwrap()
}

/// Creates an engine with definitions from a new file.
fn engine_with(settings: &FeatureStoreSettings, definitions: &str) -> FeatureEngine {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings.clone();
    settings.engine.features = dir.path().join("features.toml");
    std::fs::write(&settings.engine.features, definitions).unwrap();
    new_engine(&settings)
}

/// Runs messages, live with time advancing each minute, or recorded. Restarts `restarts` times.
pub(crate) fn run_messages(
    messages: &[SimulatedMessage],
    door: IngestPath,
    restarts: usize,
) -> EngineRun {
    run_with(messages, door, restarts, 1)
}

/// Runs messages and keeps the values of one row in `every_row`.
pub(crate) fn run_with(
    messages: &[SimulatedMessage],
    door: IngestPath,
    restarts: usize,
    every_row: usize,
) -> EngineRun {
    let mut run = EngineRun::new(door, every_row);
    let mut now_ms = messages.first().map_or(0, |message| message.arrival_ms);
    let every = messages.len() / (restarts + 1) + 1;
    for (number, message) in messages.iter().enumerate() {
        if door == IngestPath::Live {
            // Once a minute is enough; of a long gap only the end matters.
            while message.arrival_ms - now_ms > MINUTE_MS {
                now_ms += MINUTE_MS;
                run.tick(now_ms);
            }
        }
        if number > 0 && number % every == 0 {
            run.restart();
        }
        run.ingest_message(message);
    }
    run.finish();
    run
}
