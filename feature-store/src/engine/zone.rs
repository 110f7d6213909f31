use std::collections::HashMap;

use agronomy::sun::Place;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use telemetry::{MetricTable, Quality, Reading, Report, SmolStr, Source, ZoneId};

use super::{
    DAY_MS, HOUR_MS,
    catalog::Catalog,
    derive::{Derivation, Sun},
    driest::{self, Soil},
    readings::{EVENT_MS_MAX, Point, Readings},
    sequence::{Sequences, is_stored_copy},
    series::Series,
    sql::Made,
    summary::Hold,
};
use crate::{definitions::SqlReading, settings};

/// Corrections wait for this much event time, so that a burst of late readings
/// makes each row anew once.
pub(super) const CORRECTION_DELAY_MS: i64 = 600_000;
/// Readings that are remembered because they arrived after a row's time.
const BEHIND_MAX: usize = 100_000;

/// How far a zone has come: with its readings, all that a restart needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Readings that arrived after the time of a row that is not final yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<Behind>,
}

/// A reading that arrived after the time of a row that it belongs to: the row as
/// it was known at its time is without it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Behind {
    metric: SmolStr,
    device: SmolStr,
    event_ms: i64,
    pub(super) arrival_ms: i64,
    value: f64,
    /// What SQL made of it for each derived metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    derived: Option<Vec<Option<f64>>>,
}

/// The readings of a zone and how far it has come.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) id: ZoneId,
    pub(super) devices: Vec<SmolStr>,
    device_numbers: HashMap<SmolStr, u16>,
    pub(super) slots: Vec<Slot>,
    /// Where the next metric probably is: reports name them in one order.
    slot_next: usize,
    pub(super) soil: Soil,
    pub(super) progress: Progress,
    sun: Sun,
    forgotten_ms: i64,
    /// Whether anything has come since the newest row was last asked for.
    pub(super) touched: bool,
}

/// One metric of the zone.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) metric: SmolStr,
    plausible: Option<(f64, f64)>,
    /// Whether the drying of the soil depends on it.
    feeds_soil: bool,
    /// By the device's number.
    sequences: Vec<Sequences>,
    /// There once a reading counts.
    pub(super) kept: Option<Kept>,
}

/// The readings of one metric that count.
#[derive(Debug)]
pub(super) struct Kept {
    /// The number of its columns.
    pub(super) block: usize,
    pub(super) series: Series,
    /// Readings made of them, with the number of their columns.
    pub(super) derived: Vec<(Derivation, usize, Series)>,
}

/// What all zones share.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) engine: settings::Engine,
    pub(super) time_zone: TimeZone,
    pub(super) place: Option<Place>,
    pub(super) metrics: MetricTable,
    pub(super) hold: Hold,
}

impl Rules {
    /// Event time behind the newest reading that rows may still be made anew of.
    fn correctable_ms(&self) -> i64 {
        i64::from(self.engine.late_max_s + self.engine.lateness_s) * 1000
            + CORRECTION_DELAY_MS
            + HOUR_MS
    }
}

impl Zone {
    pub(super) fn new(id: ZoneId, progress: Progress) -> Self {
        Self {
            id,
            devices: Vec::new(),
            device_numbers: HashMap::new(),
            slots: Vec::new(),
            slot_next: 0,
            soil: Soil::default(),
            progress,
            sun: Sun::default(),
            forgotten_ms: i64::MIN,
            touched: true,
        }
    }

    /// Judges one reading and takes it in if it counts.
    pub(super) fn take(
        &mut self,
        report: &Report,
        device: u16,
        reading: &Reading,
        catalog: &mut Catalog,
        rules: &Rules,
    ) -> Quality {
        let slot = self.slot(&reading.metric, rules);
        let run = report.boot.as_ref().zip(report.seq);
        let is_new = !is_stored_copy(report, reading)
            && run.is_none_or(|(boot, seq)| {
                self.slots[slot].is_new(device, boot, seq, report.arrival_ms, reading)
            });
        let quality = if is_new {
            self.take_new(
                slot,
                device,
                reading.event_ms,
                reading.value,
                report.arrival_ms,
                catalog,
                rules,
            )
        } else {
            Quality::Duplicate
        };
        if quality.is_ok() {
            self.progress.live = report.source == Source::Live;
        }
        quality
    }

    /// Judges a reading that no sequence number has shown to be a copy.
    #[allow(clippy::too_many_arguments)] // the parts of a reading, unpacked on the hot path
    pub(super) fn take_new(
        &mut self,
        slot: usize,
        device: u16,
        event_ms: i64,
        value: f64,
        arrival_ms: i64,
        catalog: &mut Catalog,
        rules: &Rules,
    ) -> Quality {
        let quality = self.judge(slot, device, event_ms, value, arrival_ms, rules);
        if quality.is_ok() {
            let made = self.made(slot, device, event_ms, value, catalog);
            let is_kept = made.as_ref().is_none_or(|made| made.is_kept);
            let derived = made.map(|made| made.derived);
            if is_kept {
                self.insert(slot, device, event_ms, value, derived.as_deref(), catalog, rules);
            }
            self.note_progress(event_ms, rules);
            if is_kept {
                self.note_arrival(slot, device, event_ms, value, arrival_ms, derived, rules);
            }
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
        catalog: &mut Catalog,
        rules: &Rules,
    ) {
        let device = self.device(device);
        let slot = self.slot(&reading.metric, rules);
        if let Some((boot, seq)) = run {
            self.slots[slot].is_new(device, boot, seq, reading.event_ms, reading);
        }
        if quality.is_ok() {
            let Reading { event_ms, value, .. } = *reading;
            let made = self.made(slot, device, event_ms, value, catalog);
            if made.as_ref().is_none_or(|made| made.is_kept) {
                let derived = made.map(|made| made.derived);
                self.insert(slot, device, event_ms, value, derived.as_deref(), catalog, rules);
            }
        }
    }

    /// What SQL makes of a reading, where there is any about it.
    fn made(
        &self,
        slot: usize,
        device: u16,
        event_ms: i64,
        value: f64,
        catalog: &mut Catalog,
    ) -> Option<Made> {
        let ahead = catalog.ahead.as_mut()?;
        let device = self.devices.get(usize::from(device)).map_or("", SmolStr::as_str);
        let (metric, site, zone) = (&self.slots[slot].metric, &self.id.site, &self.id.zone);
        ahead.take(&SqlReading { value, metric, site, zone, device, event_ms })
    }

    /// A device's number. The 65,536th and later ones share the last number: only
    /// copies are told apart by it.
    pub(super) fn device(&mut self, name: &SmolStr) -> u16 {
        if let Some(number) = self.device_numbers.get(name) {
            return *number;
        }
        let number = u16::try_from(self.devices.len()).unwrap_or(u16::MAX);
        self.device_numbers.insert(name.clone(), number);
        self.devices.push(name.clone());
        number
    }

    /// A metric's number within the zone: there are few, so they are looked
    /// through.
    pub(super) fn slot(&mut self, metric: &SmolStr, rules: &Rules) -> usize {
        let is_it = |slot: &usize| self.slots.get(*slot).is_some_and(|one| one.metric == *metric);
        let found = [self.slot_next, 0].into_iter().find(is_it);
        if let Some(slot) = found.or_else(|| (1..self.slots.len()).find(is_it)) {
            self.slot_next = slot + 1;
            return slot;
        }
        let plausible = rules.metrics.get(metric).map(|metric| (metric.min, metric.max));
        let feeds_soil = [MOISTURE, IRRIGATION].contains(&metric.as_str());
        let (metric, sequences) = (metric.clone(), Vec::new());
        self.slots.push(Slot { metric, plausible, feeds_soil, sequences, kept: None });
        self.slots.len() - 1
    }

    fn judge(
        &self,
        slot: usize,
        device: u16,
        event_ms: i64,
        value: f64,
        arrival_ms: i64,
        rules: &Rules,
    ) -> Quality {
        let slot = &self.slots[slot];
        let late_max_ms = i64::from(rules.engine.late_max_s) * 1000;
        let future_max_ms = i64::from(rules.engine.future_max_s) * 1000;
        let point = Point::new(event_ms, value, device);
        if event_ms.unsigned_abs() >= EVENT_MS_MAX.unsigned_abs() {
            Quality::Future
        } else if slot.kept.as_ref().is_some_and(|kept| kept.series.readings().contains(&point)) {
            Quality::Duplicate
        } else if !value.is_finite() {
            Quality::NotANumber
        } else if slot.plausible.is_some_and(|(min, max)| !(min..=max).contains(&value)) {
            Quality::OutOfRange
        } else if event_ms > arrival_ms.saturating_add(future_max_ms) {
            Quality::Future
        } else if self.progress.watermark_ms.is_some_and(|ms| event_ms < ms - late_max_ms) {
            Quality::Late
        } else {
            Quality::Ok
        }
    }

    #[allow(clippy::too_many_arguments)] // the parts of a reading, unpacked on the hot path
    fn insert(
        &mut self,
        slot: usize,
        device: u16,
        event_ms: i64,
        value: f64,
        derived: Option<&[Option<f64>]>,
        catalog: &mut Catalog,
        rules: &Rules,
    ) {
        self.touched = true;
        self.forget(event_ms, catalog, rules);
        let slot = &mut self.slots[slot];
        if slot.kept.is_none() {
            let block = catalog.add(&slot.metric);
            slot.kept = Some(Kept::new(block, catalog, rules.hold));
        }
        let kept = slot.kept.as_mut().expect("it was just made");
        let is_up = self.sun.is_up(event_ms, rules.place);
        kept.insert(Point::new(event_ms, value, device), derived, is_up);
        if slot.feeds_soil {
            self.soil.changed(event_ms);
        }
    }

    /// Lets go what no window and no correction can need, before the tiles of
    /// a long gap are made.
    fn forget(&mut self, event_ms: i64, catalog: &Catalog, rules: &Rules) {
        let until_ms = event_ms.saturating_sub(rules.correctable_ms());
        if until_ms <= self.forgotten_ms.saturating_add(HOUR_MS) {
            return;
        }
        self.forgotten_ms = until_ms;
        for slot in &mut self.slots {
            let feeds_soil = slot.feeds_soil && catalog.driest.is_wanted();
            let Some(kept) = &mut slot.kept else { continue };
            // A day at least: the newest value and the first row after a silence.
            let least_ms = if feeds_soil { driest::KEPT_MS } else { DAY_MS };
            let of = |block: usize| until_ms - catalog.block(block).widest_ms().max(least_ms);
            kept.series.forget(of(kept.block));
            kept.derived.iter_mut().for_each(|(_, block, series)| series.forget(of(*block)));
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

    /// Remembers a reading that a row will have which was not known at the row's
    /// time.
    #[allow(clippy::too_many_arguments)] // the parts of a reading, unpacked on the hot path
    fn note_arrival(
        &mut self,
        slot: usize,
        device: u16,
        event_ms: i64,
        value: f64,
        arrival_ms: i64,
        derived: Option<Vec<Option<f64>>>,
        rules: &Rules,
    ) {
        if arrival_ms <= event_ms {
            return;
        }
        let open_ms = self.progress.final_ms.map_or(event_ms, |ms| event_ms.max(ms + 1));
        let is_behind = grid_up(open_ms, rules.grid_ms()) < arrival_ms;
        if is_behind && self.progress.behind.len() < BEHIND_MAX {
            let (metric, device) = (
                self.slots[slot].metric.clone(),
                self.devices.get(usize::from(device)).cloned().unwrap_or_default(),
            );
            let reading = Behind { metric, device, event_ms, arrival_ms, value, derived };
            self.progress.behind.push(reading);
        }
    }

    /// Moves the watermark, never back.
    pub(super) fn advance(&mut self, watermark_ms: i64) {
        let now = self.progress.watermark_ms.get_or_insert(watermark_ms);
        *now = (*now).max(watermark_ms);
    }

    /// Takes readings out, or puts them back in.
    pub(super) fn set_behind(&mut self, behind: &[Behind], is_there: bool, rules: &Rules) {
        for reading in behind {
            let Some(device) = self.device_numbers.get(&reading.device).copied() else { continue };
            let point = Point::new(reading.event_ms, reading.value, device);
            let is_up = self.sun.is_up(reading.event_ms, rules.place);
            let slot = self.slots.iter_mut().find(|slot| slot.metric == reading.metric);
            let Some(slot) = slot else { continue };
            let Some(kept) = slot.kept.as_mut() else { continue };
            let derived = reading.derived.as_deref();
            if is_there {
                kept.insert(point, derived, is_up);
            } else {
                kept.remove(&point, derived, is_up);
            }
            if slot.feeds_soil {
                self.soil.changed(reading.event_ms);
            }
        }
    }

    /// The readings of a metric that count.
    pub(super) fn readings(&self, metric: &str) -> Option<&Readings> {
        let slot = self.slots.iter().find(|slot| slot.metric == metric)?;
        slot.kept.as_ref().map(|kept| kept.series.readings())
    }

    /// The first event time after `at_ms`.
    pub(super) fn next_ms(&self, at_ms: i64) -> Option<i64> {
        let kept = self.slots.iter().filter_map(|slot| slot.kept.as_ref());
        kept.filter_map(|kept| kept.series.readings().next_ms(at_ms)).min()
    }

    /// Metrics that there are readings of, by name.
    pub(super) fn metrics(&self) -> Vec<SmolStr> {
        let kept = self.slots.iter().filter(|slot| slot.kept.is_some());
        let mut metrics: Vec<_> = kept.map(|slot| slot.metric.clone()).collect();
        metrics.sort_unstable();
        metrics
    }
}

/// The metric whose drying is followed.
pub(super) const MOISTURE: &str = "soil_moisture";
/// The metric that says when water flows.
pub(super) const IRRIGATION: &str = "irrigation";

impl Behind {
    /// Whether a row of that time was made known without it.
    pub(super) fn is_of(&self, at_ms: i64) -> bool {
        self.event_ms <= at_ms && at_ms < self.arrival_ms
    }
}

impl Slot {
    /// Notes a device's own number, which tells copies of a message apart from
    /// equal values; false if the reading was there already.
    fn is_new(
        &mut self,
        device: u16,
        boot: &SmolStr,
        seq: u64,
        arrival_ms: i64,
        reading: &Reading,
    ) -> bool {
        let device = usize::from(device);
        if device >= self.sequences.len() {
            self.sequences.resize_with(device + 1, Sequences::default);
        }
        let Reading { event_ms, value, .. } = *reading;
        self.sequences[device].insert(boot, seq, event_ms, arrival_ms, value)
    }
}

impl Kept {
    fn new(number: usize, catalog: &Catalog, hold: Hold) -> Self {
        let series = |number: usize| {
            let block = catalog.block(number);
            let windows = block.windows.iter().map(|w| (w.width_ms, w.has_quantiles));
            Series::new(hold, windows, block.bins)
        };
        let derived = catalog.block(number).derived.iter();
        Self {
            block: number,
            series: series(number),
            derived: derived.map(|(of, own)| (Derivation::of(of), *own, series(*own))).collect(),
        }
    }

    /// Puts a reading in, and what is derived of it: of what SQL made, or of its value.
    fn insert(&mut self, point: Point, derived: Option<&[Option<f64>]>, is_up: Option<bool>) {
        self.series.insert(point);
        self.for_each_derived(point, derived, is_up, |series, point| series.insert(point));
    }

    fn remove(&mut self, point: &Point, derived: Option<&[Option<f64>]>, is_up: Option<bool>) {
        self.series.remove(point);
        self.for_each_derived(*point, derived, is_up, |series, point| series.remove(&point));
    }

    fn for_each_derived(
        &mut self,
        point: Point,
        derived: Option<&[Option<f64>]>,
        is_up: Option<bool>,
        act: impl Fn(&mut Series, Point),
    ) {
        for (i, (derivation, _, series)) in self.derived.iter_mut().enumerate() {
            let value = derived.map_or(Some(point.value), |derived| derived[i]);
            if let Some(value) = value.and_then(|value| derivation.value(value, is_up)) {
                act(series, Point::new(point.event_ms(), value, point.device()));
            }
        }
    }
}

/// The first grid time that is not before `at_ms`.
pub(super) fn grid_up(at_ms: i64, grid_ms: i64) -> i64 {
    let below = at_ms.div_euclid(grid_ms) * grid_ms;
    if below == at_ms { below } else { below + grid_ms }
}
