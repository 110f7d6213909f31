use std::{collections::HashMap, sync::Arc};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use telemetry::{MetricTable, Quality, Reading, Report, SmolStr, Source, ZoneId};

use super::{
    HOUR_MS,
    catalog::{AGGREGATES, Catalog, Schema, aggregates},
    join,
    sequence::Sequences,
    series::{Point, Series},
};
use crate::settings;

/// Corrections wait for this much event time, so that a burst of late readings
/// makes each row anew once.
const CORRECTION_DELAY_MS: i64 = 600_000;
/// The window behind the join features.
const JOIN_WINDOW_MS: i64 = 600_000;

/// The features of a zone at a time.
#[derive(Clone, Debug)]
pub struct Row {
    /// The zone.
    pub zone: ZoneId,
    /// UTC milliseconds.
    pub at_ms: i64,
    /// 0, or the number of the correction that made it anew.
    pub revision: i64,
    /// The names of the values.
    pub schema: Arc<Schema>,
    /// In the order of the schema's names; NaN where there is none.
    pub values: Arc<[f64]>,
}

/// How far a zone has come: with its readings, all that a restart needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Newest event time of a reading that counts.
    pub newest_ms: Option<i64>,
    /// Rows up to here are final.
    pub watermark_ms: Option<i64>,
    /// The newest final row.
    pub final_ms: Option<i64>,
    /// The oldest event time that came after its row was final.
    pub dirty_ms: Option<i64>,
    /// Where the watermark was then.
    pub dirty_since_ms: Option<i64>,
    /// Corrections so far.
    pub corrections: i64,
    /// Whether the newest report was measured now, so that time passes for
    /// this zone even when it is silent.
    pub live: bool,
}

/// The readings of a zone and how far it has come.
#[derive(Debug)]
pub(super) struct Zone {
    id: ZoneId,
    devices: HashMap<SmolStr, u32>,
    series: HashMap<SmolStr, Series>,
    sequences: Sequences,
    pub(super) progress: Progress,
    forgotten_ms: i64,
}

/// What all zones share.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) engine: settings::Engine,
    pub(super) time_zone: TimeZone,
    pub(super) metrics: MetricTable,
}

impl Zone {
    pub(super) fn new(id: ZoneId, progress: Progress) -> Self {
        Self {
            id,
            devices: HashMap::new(),
            series: HashMap::new(),
            sequences: Sequences::default(),
            progress,
            forgotten_ms: i64::MIN,
        }
    }

    /// Judges one reading and takes it in if it counts.
    pub(super) fn take(&mut self, report: &Report, reading: &Reading, rules: &Rules) -> Quality {
        let device = self.device(&report.device);
        let quality = self.judge(report, reading, device, rules);
        if quality.is_ok() {
            self.insert(device, reading, rules);
            self.note_progress(reading.event_ms, rules);
            self.progress.live = report.source == Source::Live;
        }
        quality
    }

    /// Takes in a reading that was judged before this program started; `run`
    /// is boot id and sequence number.
    pub(super) fn restore(
        &mut self,
        device: &SmolStr,
        run: Option<(&SmolStr, u64)>,
        reading: &Reading,
        quality: Quality,
        rules: &Rules,
    ) {
        let device = self.device(device);
        if let Some((boot, seq)) = run {
            self.sequences.insert(device, &reading.metric, boot, seq);
        }
        if quality.is_ok() {
            self.insert(device, reading, rules);
        }
    }

    fn device(&mut self, name: &SmolStr) -> u32 {
        if let Some(number) = self.devices.get(name) {
            return *number;
        }
        let number = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
        self.devices.insert(name.clone(), number);
        number
    }

    fn judge(&mut self, report: &Report, reading: &Reading, device: u32, rules: &Rules) -> Quality {
        let Reading { metric, event_ms, value } = reading;
        // A device's own numbers tell copies of a message apart from equal
        // values, but only within one run.
        let is_new = match (&report.boot, report.seq) {
            (Some(boot), Some(seq)) => self.sequences.insert(device, metric, boot, seq),
            _ => true,
        };
        let point = Point { event_ms: *event_ms, value: *value, device };
        let is_known = || self.series.get(metric).is_some_and(|series| series.contains(&point));
        let late_max_ms = i64::from(rules.engine.late_max_s) * 1000;
        if !is_new || is_known() {
            Quality::Duplicate
        } else if !value.is_finite() {
            Quality::NotANumber
        } else if rules.metrics.get(metric).is_some_and(|metric| !metric.is_plausible(*value)) {
            Quality::OutOfRange
        } else if event_ms - report.arrival_ms > i64::from(rules.engine.future_max_s) * 1000 {
            Quality::Future
        } else if self.progress.watermark_ms.is_some_and(|ms| *event_ms < ms - late_max_ms) {
            Quality::Late
        } else {
            Quality::Ok
        }
    }

    fn insert(&mut self, device: u32, reading: &Reading, rules: &Rules) {
        let Reading { metric, event_ms, value } = reading;
        self.forget(*event_ms, rules);
        let point = Point { event_ms: *event_ms, value: *value, device };
        match self.series.get_mut(metric) {
            Some(series) => series.insert(point),
            None => self.series.entry(metric.clone()).or_default().insert(point),
        }
    }

    /// Lets go what no window and no correction can need, before the tiles of
    /// a long gap are made.
    fn forget(&mut self, event_ms: i64, rules: &Rules) {
        let kept_ms = rules.engine.widest_ms()
            + i64::from(rules.engine.late_max_s + rules.engine.lateness_s) * 1000
            + CORRECTION_DELAY_MS
            + HOUR_MS;
        let until_ms = event_ms.saturating_sub(kept_ms);
        if until_ms > self.forgotten_ms.saturating_add(HOUR_MS) {
            self.forgotten_ms = until_ms;
            self.series.values_mut().for_each(|series| series.forget(until_ms));
        }
    }

    fn note_progress(&mut self, event_ms: i64, rules: &Rules) {
        let newest_ms = self.progress.newest_ms.unwrap_or(i64::MIN).max(event_ms);
        self.progress.newest_ms = Some(newest_ms);
        self.advance(newest_ms - i64::from(rules.engine.lateness_s) * 1000);
        if self.progress.final_ms.is_some_and(|final_ms| event_ms <= final_ms) {
            let dirty_ms = self.progress.dirty_ms.unwrap_or(i64::MAX);
            self.progress.dirty_ms = Some(dirty_ms.min(event_ms));
            if self.progress.dirty_since_ms.is_none() {
                self.progress.dirty_since_ms = self.progress.watermark_ms;
            }
        }
    }

    /// Moves the watermark, never back.
    pub(super) fn advance(&mut self, watermark_ms: i64) {
        let now = self.progress.watermark_ms.get_or_insert(watermark_ms);
        *now = (*now).max(watermark_ms);
    }

    /// The rows that late readings changed, and those that have become final.
    pub(super) fn final_rows(&mut self, catalog: &Catalog, rules: &Rules, rows: &mut Vec<Row>) {
        let Some(watermark_ms) = self.progress.watermark_ms else { return };
        let grid_ms = i64::from(rules.engine.grid_s) * 1000;
        let final_ms = watermark_ms.div_euclid(grid_ms) * grid_ms;
        if self.progress.final_ms.is_some_and(|before| before >= final_ms) {
            return;
        }
        self.corrected_rows(watermark_ms, grid_ms, catalog, rules, rows);
        let first_ms = match self.progress.final_ms {
            Some(before) => Some(before + grid_ms),
            None => self.next_ms(i64::MIN).map(|oldest_ms| grid_up(oldest_ms, grid_ms)),
        };
        let mut at_ms = first_ms.unwrap_or(i64::MAX);
        while at_ms <= final_ms {
            if self.speaks(at_ms, rules) {
                rows.push(self.row(at_ms, 0, catalog, rules));
                at_ms += grid_ms;
            } else {
                // On to the first reading after the silence, if there is one.
                at_ms = self.next_ms(at_ms).map_or(i64::MAX, |next_ms| grid_up(next_ms, grid_ms));
            }
        }
        self.progress.final_ms = Some(final_ms);
    }

    fn corrected_rows(
        &mut self,
        watermark_ms: i64,
        grid_ms: i64,
        catalog: &Catalog,
        rules: &Rules,
        rows: &mut Vec<Row>,
    ) {
        let Progress { dirty_ms: Some(dirty_ms), dirty_since_ms, final_ms: Some(final_ms), .. } =
            self.progress
        else {
            return;
        };
        if dirty_since_ms.is_some_and(|since| watermark_ms < since + CORRECTION_DELAY_MS) {
            return;
        }
        self.progress.corrections += 1;
        let mut at_ms = grid_up(dirty_ms, grid_ms);
        while at_ms <= final_ms {
            if self.speaks(at_ms, rules) {
                rows.push(self.row(at_ms, self.progress.corrections, catalog, rules));
            }
            at_ms += grid_ms;
        }
        (self.progress.dirty_ms, self.progress.dirty_since_ms) = (None, None);
    }

    /// The row at the newest event time, as far as is known now.
    pub(super) fn latest_row(&mut self, catalog: &Catalog, rules: &Rules) -> Option<Row> {
        self.progress.newest_ms.map(|at_ms| self.row(at_ms, 0, catalog, rules))
    }

    fn row(&mut self, at_ms: i64, revision: i64, catalog: &Catalog, rules: &Rules) -> Row {
        let schema = catalog.schema().clone();
        let mut values = vec![f64::NAN; schema.names.len()];
        let mut mean = |metric: &str| {
            let window = self.series.get_mut(metric)?.window(at_ms - JOIN_WINDOW_MS, at_ms);
            window.mean()
        };
        let climate = [mean("temperature"), mean("humidity")].map(|m| m.unwrap_or(f64::NAN));
        let joined = join::of(at_ms, &rules.time_zone, climate);
        values[..joined.len()].copy_from_slice(&joined);
        let widest_ms = rules.engine.widest_ms();
        for (metric, series) in &mut self.series {
            let Some(block) = catalog.block(metric) else { continue };
            let columns = &mut values[block.columns.clone()];
            if let Some(last) = series.last(at_ms - widest_ms, at_ms) {
                columns[0] = last.value;
                columns[1] = (at_ms - last.event_ms) as f64 / 1000.0;
            }
            let of_windows = columns[2..].chunks_exact_mut(AGGREGATES.len());
            for (window, columns) in block.windows.iter().zip(of_windows) {
                let summary = series.window(at_ms - window.width_ms(), at_ms);
                columns.copy_from_slice(&aggregates(*window, &summary, rules.engine.interval_s));
            }
        }
        Row { zone: self.id.clone(), at_ms, revision, schema, values: values.into() }
    }

    /// Whether any metric had a reading shortly before.
    fn speaks(&self, at_ms: i64, rules: &Rules) -> bool {
        let silence_max_ms = i64::from(rules.engine.silence_max_s) * 1000;
        self.series.values().any(|series| series.last(at_ms - silence_max_ms, at_ms).is_some())
    }

    /// The first event time after `at_ms`.
    fn next_ms(&self, at_ms: i64) -> Option<i64> {
        self.series.values().filter_map(|series| series.next_ms(at_ms)).min()
    }

    /// Metrics that there are readings of, by name.
    pub(super) fn metrics(&self) -> Vec<SmolStr> {
        let mut metrics: Vec<_> = self.series.keys().cloned().collect();
        metrics.sort_unstable();
        metrics
    }
}

/// The first grid time that is not before `at_ms`.
fn grid_up(at_ms: i64, grid_ms: i64) -> i64 {
    let below = at_ms.div_euclid(grid_ms) * grid_ms;
    if below == at_ms { below } else { below + grid_ms }
}
