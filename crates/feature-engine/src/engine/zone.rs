use std::collections::{BTreeMap, BTreeSet, HashMap};

use agronomy::sun::GeoLocation;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use telemetry::{
    MetricTable, QualityFlag, ReportSource, SensorReading, SensorReport, SmolStr, ZoneId,
};

use super::{
    DAY_MS, HOUR_MS,
    catalog::FeatureCatalog,
    derivation::DaylightCache,
    device_clock::DeviceClock,
    drying::{self, SoilTrends},
    feature_row::FeatureRow,
    metric_state::{MetricSlot, MetricState},
    pending_readings::{PendingReading, PendingReadings},
    progress::{SetBackSigns, ZoneProgress, round_up_to_grid},
    sequence::is_stored_copy,
    sorted_readings::{EVENT_MS_MAX, PackedReading, SortedReadings, hour_of},
    sql_prefetch::DerivedValues,
    window_summary::HoldDuration,
};
use crate::{settings::EngineSettings, sql::SqlReading};

/// How long the gateway must have reported an earlier time before its later one counts as wrong,
/// ms.
const SET_BACK_AFTER_MS: i64 = 600_000;

/// Readings and progress of one zone.
#[derive(Debug)]
pub(super) struct ZoneState {
    pub(super) id: ZoneId,
    pub(super) devices: Vec<SmolStr>,
    device_numbers: HashMap<SmolStr, u16>,
    pub(super) slots: Vec<MetricSlot>,
    /// Slot in which the next metric probably is: reports name their metrics in a fixed order.
    slot_next: usize,
    /// Readings that are in no slot yet.
    pub(super) pending: PendingReadings,
    pub(super) soil: SoilTrends,
    pub(super) progress: ZoneProgress,
    pub(super) sun: DaylightCache,
    pub(super) forgotten_ms: i64,
    /// Clock estimates by device number.
    pub(super) clocks: Vec<DeviceClock>,
    /// Whether a reading has arrived since the newest row was last taken.
    pub(super) is_changed: bool,
    pub(super) activity: ZoneActivity,
    /// Number of the last report of the zone, in the engine's count.
    pub(super) last_report_number: u64,
    /// Number of ingested readings.
    pub(super) reading_count: u64,
    /// Checksums of the hours that the last incremental snapshot has as they are now. Empty while
    /// nobody takes any.
    pub(super) stored_hours: BTreeMap<i64, u32>,
    /// Hours that the last incremental snapshot lists, changed since or not.
    pub(super) listed_hours: BTreeSet<i64>,
}

/// Arrivals since time last advanced, from which the end of a burst is detected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ZoneActivity {
    pub(super) has_reading: bool,
    pub(super) has_late_reading: bool,
    /// When time last advanced after a reading, and after a late one, UTC ms.
    pub(super) reading_ms: Option<i64>,
    pub(super) late_reading_ms: Option<i64>,
    /// When the first late reading since the last recomputation was noticed, UTC ms.
    pub(super) late_since_ms: Option<i64>,
    /// Whether the end of the data was handled.
    pub(super) is_finished: bool,
}

/// Settings that all zones share.
#[derive(Debug)]
pub(super) struct EngineRules {
    pub(super) engine: EngineSettings,
    pub(super) time_zone: TimeZone,
    pub(super) place: Option<GeoLocation>,
    pub(super) metrics: MetricTable,
    pub(super) hold: HoldDuration,
}

/// A reading with numbers in place of names.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberedReading {
    pub(super) slot: usize,
    pub(super) device: u16,
    pub(super) event_ms: i64,
    pub(super) value: f64,
    /// Arrival time as recorded, UTC ms.
    pub(super) arrival_ms: i64,
    /// Receive time by the receiver's clock, UTC ms.
    pub(super) received_ms: i64,
}

impl NumberedReading {
    const fn to_packed(self) -> PackedReading {
        PackedReading::new(self.event_ms, self.value, self.device)
    }
}

impl EngineRules {
    pub(super) fn grid_ms(&self) -> i64 {
        i64::from(self.engine.grid_s) * 1000
    }

    pub(super) fn lateness_ms(&self) -> i64 {
        i64::from(self.engine.lateness_s) * 1000
    }

    fn late_max_ms(&self) -> i64 {
        i64::from(self.engine.late_max_s) * 1000
    }

    fn future_max_ms(&self) -> i64 {
        i64::from(self.engine.future_max_s) * 1000
    }
}

impl ZoneState {
    pub(super) fn new(id: ZoneId, progress: ZoneProgress) -> Self {
        Self {
            id,
            devices: Vec::new(),
            device_numbers: HashMap::new(),
            slots: Vec::new(),
            slot_next: 0,
            pending: PendingReadings::default(),
            soil: SoilTrends::default(),
            progress,
            sun: DaylightCache::default(),
            forgotten_ms: i64::MIN,
            clocks: Vec::new(),
            is_changed: true,
            activity: ZoneActivity::default(),
            last_report_number: 0,
            reading_count: 0,
            stored_hours: BTreeMap::new(),
            listed_hours: BTreeSet::new(),
        }
    }

    /// Flags one reading of a report and ingests it if it is valid. Rows that its arrival makes
    /// final are emitted first.
    #[allow(clippy::too_many_arguments)] // the parts of a reading, and what all zones share
    pub(super) fn ingest_reading(
        &mut self,
        report: &SensorReport,
        received_ms: i64,
        device: u16,
        reading: &SensorReading,
        catalog: &mut FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) -> QualityFlag {
        self.reading_count += 1;
        let slot = self.find_or_add_slot(&reading.metric, rules);
        let run = report.boot.as_ref().zip(report.seq);
        let is_copy = is_stored_copy(report, reading)
            || run.is_some_and(|(boot, seq)| {
                !self.slots[slot].note_sequence(device, boot, seq, report.arrival_ms, reading)
            });
        if is_copy {
            return QualityFlag::Duplicate;
        }
        let reading = NumberedReading {
            slot,
            device,
            event_ms: reading.event_ms,
            value: reading.value,
            arrival_ms: report.arrival_ms,
            received_ms,
        };
        let quality = self.ingest_new_reading(&reading, catalog, rules, rows);
        if report.source == ReportSource::Live && report.arrival_ms != reading.event_ms {
            self.note_device_clock(&reading);
        }
        // Once a zone is live, a file that is ingested does not stop its time.
        self.progress.live |= quality.is_ok() && report.source == ReportSource::Live;
        quality
    }

    /// Flags and ingests a reading that no sequence number has identified as a copy.
    pub(super) fn ingest_new_reading(
        &mut self,
        reading: &NumberedReading,
        catalog: &mut FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) -> QualityFlag {
        let quality = self.assess_quality(reading, rules);
        if quality.is_ok() {
            let NumberedReading { slot, device, event_ms, value, arrival_ms, .. } = *reading;
            self.advance_to(arrival_ms, catalog, rules, rows);
            let newest_ms = self.progress.newest_ms.unwrap_or(i64::MIN);
            self.progress.newest_ms = Some(newest_ms.max(event_ms));
            let made = self.derive_values(slot, device, event_ms, value, catalog);
            if made.as_ref().is_none_or(|made| made.is_kept) {
                let derived = made.map(|made| made.derived);
                self.note_late(event_ms, rules);
                self.insert_reading(slot, reading.to_packed(), arrival_ms, derived, catalog, rules);
            }
            (self.activity.has_reading, self.activity.is_finished) = (true, false);
        }
        quality
    }

    /// Restores a reading that was flagged before this program started. `run` is its boot id and
    /// sequence number.
    #[allow(clippy::too_many_arguments)] // the parts of a reading, and what all zones share
    pub(super) fn restore_reading(
        &mut self,
        device: &SmolStr,
        run: Option<(&SmolStr, u64)>,
        reading: &SensorReading,
        arrival_ms: i64,
        quality: QualityFlag,
        catalog: &mut FeatureCatalog,
        rules: &EngineRules,
    ) {
        let device = self.device_number(device);
        let slot = self.find_or_add_slot(&reading.metric, rules);
        if let Some((boot, seq)) = run {
            self.slots[slot].note_sequence(device, boot, seq, arrival_ms, reading);
        }
        if quality.is_ok() {
            let SensorReading { event_ms, value, .. } = *reading;
            let made = self.derive_values(slot, device, event_ms, value, catalog);
            if made.as_ref().is_none_or(|made| made.is_kept) {
                let derived = made.map(|made| made.derived);
                let point = PackedReading::new(event_ms, value, device);
                self.insert_reading(slot, point, arrival_ms, derived, catalog, rules);
            }
        }
    }

    /// Returns the results of SQL for a reading, if any applies.
    fn derive_values(
        &self,
        slot: usize,
        device: u16,
        event_ms: i64,
        value: f64,
        catalog: &mut FeatureCatalog,
    ) -> Option<DerivedValues> {
        let ahead = catalog.sql_prefetch.as_mut()?;
        let device = self.devices.get(usize::from(device)).map_or("", SmolStr::as_str);
        let (metric, site, zone) = (&self.slots[slot].metric, &self.id.site, &self.id.zone);
        ahead.take_values(&SqlReading { value, metric, site, zone, device, event_ms })
    }

    /// Returns a device's number. The 65,536th and later devices share the last number, which
    /// only serves to distinguish copies.
    pub(super) fn device_number(&mut self, name: &SmolStr) -> u16 {
        if let Some(number) = self.device_numbers.get(name) {
            return *number;
        }
        let number = u16::try_from(self.devices.len()).unwrap_or(u16::MAX);
        self.device_numbers.insert(name.clone(), number);
        self.devices.push(name.clone());
        number
    }

    /// Returns a metric's number within the zone. Zones have few metrics, so the search is
    /// linear.
    pub(super) fn find_or_add_slot(&mut self, metric: &SmolStr, rules: &EngineRules) -> usize {
        let is_it = |slot: &usize| self.slots.get(*slot).is_some_and(|one| one.metric == *metric);
        let found = [self.slot_next, 0].into_iter().find(is_it);
        if let Some(slot) = found.or_else(|| (1..self.slots.len()).find(is_it)) {
            self.slot_next = slot + 1;
            return slot;
        }
        let plausible = rules.metrics.get(metric).map(|metric| (metric.min, metric.max));
        let feeds_soil = [MOISTURE, IRRIGATION].contains(&metric.as_str());
        let (metric, sequences) = (metric.clone(), Vec::new());
        self.slots.push(MetricSlot { metric, plausible, feeds_soil, sequences, state: None });
        self.slots.len() - 1
    }

    /// Returns the first flag that applies: a copy, then a problem with the value, then one with
    /// the time.
    fn assess_quality(&self, reading: &NumberedReading, rules: &EngineRules) -> QualityFlag {
        let NumberedReading { slot, event_ms, value, arrival_ms, received_ms, .. } = *reading;
        let point = reading.to_packed();
        let is_known = || {
            let state = self.slots[slot].state.as_ref();
            state.is_some_and(|state| state.series.readings().contains(&point))
                || self.pending.contains(slot, &point)
        };
        // No clock can know a time that is yet to come, whatever a recording states.
        let known_ms = arrival_ms.min(received_ms).saturating_add(rules.future_max_ms());
        let oldest_ms = self
            .progress
            .newest_ms
            .map(|newest_ms| newest_ms.saturating_sub(rules.lateness_ms() + rules.late_max_ms()));
        if event_ms.unsigned_abs() >= EVENT_MS_MAX.unsigned_abs() {
            QualityFlag::Future
        } else if is_known() {
            QualityFlag::Duplicate
        } else if !value.is_finite() {
            QualityFlag::NotANumber
        } else if self.slots[slot].plausible.is_some_and(|(min, max)| !(min..=max).contains(&value))
        {
            QualityFlag::OutOfRange
        } else if event_ms > known_ms
            || arrival_ms > received_ms.saturating_add(rules.future_max_ms())
        {
            QualityFlag::Future
        } else if oldest_ms.is_some_and(|oldest_ms| event_ms < oldest_ms) {
            QualityFlag::Late
        } else {
            QualityFlag::Ok
        }
    }

    /// Inserts a valid reading. Defers it if a row before its arrival is not final yet and must
    /// not include it.
    fn insert_reading(
        &mut self,
        slot: usize,
        point: PackedReading,
        arrival_ms: i64,
        derived: Option<Vec<Option<f64>>>,
        catalog: &mut FeatureCatalog,
        rules: &EngineRules,
    ) {
        let event_ms = point.event_ms();
        self.is_changed = true;
        self.forget_before(event_ms, catalog, rules);
        if self.slots[slot].state.is_none() {
            let block = catalog.add_metric(&self.slots[slot].metric);
            self.slots[slot].state = Some(MetricState::new(block, catalog, rules.hold));
        }
        if arrival_ms > event_ms {
            let grid_ms = rules.grid_ms();
            let row_ms = round_up_to_grid(event_ms, grid_ms);
            let next_ms = self.progress.final_ms.map_or(row_ms, |ms| row_ms.max(ms + grid_ms));
            if next_ms < arrival_ms {
                self.pending.push(PendingReading { slot, point, arrival_ms, derived });
                return;
            }
        }
        self.note_changed_hour(event_ms);
        let is_up = self.sun.is_up(event_ms, rules.place);
        let slot = &mut self.slots[slot];
        let state = slot.state.as_mut().expect("it was just made");
        state.insert(point, derived.as_deref(), is_up);
        if slot.feeds_soil {
            self.soil.invalidate_from(event_ms);
        }
    }

    /// Notes that the hour of an event time differs from the last incremental snapshot.
    pub(super) fn note_changed_hour(&mut self, event_ms: i64) {
        if !self.stored_hours.is_empty() {
            self.stored_hours.remove(&hour_of(event_ms));
        }
    }

    /// Marks the final rows that a reading changes or adds for recomputation.
    fn note_late(&mut self, event_ms: i64, rules: &EngineRules) {
        let final_ms = self.progress.final_ms.filter(|final_ms| event_ms <= *final_ms);
        let Some(final_ms) = final_ms else { return };
        let grid_ms = rules.grid_ms();
        self.progress.recompute.add_range(round_up_to_grid(event_ms, grid_ms), final_ms, grid_ms);
        self.activity.has_late_reading = true;
    }

    /// Removes readings that no window and no correction can need.
    fn forget_before(&mut self, event_ms: i64, catalog: &FeatureCatalog, rules: &EngineRules) {
        let mut until_ms = event_ms.saturating_sub(rules.engine.correctable_ms());
        if let Some(row_ms) = self.progress.recompute.first_ms() {
            until_ms = until_ms.min(row_ms - rules.grid_ms());
        }
        if until_ms <= self.forgotten_ms.saturating_add(HOUR_MS) {
            return;
        }
        self.forgotten_ms = until_ms;
        for slot in &mut self.slots {
            let feeds_soil = slot.feeds_soil && catalog.drying.is_wanted();
            let Some(state) = &mut slot.state else { continue };
            // At least a day: for the newest value and the first row after a silence.
            let least_ms = if feeds_soil { drying::SOIL_RETENTION_MS } else { DAY_MS };
            let own = std::iter::once((state.block, &mut state.series));
            let derived = state.derived.iter_mut().map(|(_, block, series)| (*block, series));
            for (block, series) in own.chain(derived) {
                let widest_ms = catalog.metric_columns(block).widest_ms().max(least_ms);
                let first_hour = series.readings().first_hour();
                series.forget_before(until_ms - widest_ms);
                if let Some(first_hour) = first_hour.filter(|_| !self.stored_hours.is_empty()) {
                    let kept_hour = (until_ms - widest_ms).div_euclid(HOUR_MS);
                    self.stored_hours.retain(|hour, _| !(first_hour..kept_hour).contains(hour));
                }
            }
        }
    }

    /// Records when the gateway received a live report. A clock that was far ahead for a while
    /// leaves readings in the future behind. Once it has reported an earlier time for ten
    /// minutes, and more readings have arrived since than lie ahead, returns the time after which
    /// readings lie in the future.
    pub(super) fn note_gateway_clock(
        &mut self,
        report: &SensorReport,
        rules: &EngineRules,
    ) -> Option<i64> {
        let ahead_ms = report.arrival_ms.saturating_add(rules.future_max_ms());
        // Readings with correct device timestamps moved the newest arrival only.
        let newest_ms = self.progress.newest_ms.max(self.progress.arrival_ms);
        let is_ahead = |newest_ms| newest_ms > ahead_ms.saturating_add(rules.future_max_ms());
        if report.source != ReportSource::Live || !newest_ms.is_some_and(is_ahead) {
            if report.source == ReportSource::Live {
                self.progress.set_back = None;
            }
            return None;
        }
        let since_ms = report.arrival_ms;
        let signs = self.progress.set_back.get_or_insert(SetBackSigns { since_ms, readings: 0 });
        signs.since_ms = signs.since_ms.min(since_ms);
        signs.readings += report.readings.len() as u64;
        let signs = *signs;
        let readings = self.slots.iter().filter_map(|slot| slot.state.as_ref());
        let count: usize = readings.map(|of| of.series.readings().count_after(ahead_ms)).sum();
        let pending = self.pending.iter().filter(|one| one.point.event_ms() > ahead_ms).count();
        let is_certain = since_ms - signs.since_ms >= SET_BACK_AFTER_MS
            && signs.readings >= (count + pending) as u64;
        is_certain.then_some(ahead_ms)
    }

    /// Records how far a device's timestamp lies behind the arrival of a reading.
    fn note_device_clock(&mut self, reading: &NumberedReading) {
        let device = usize::from(reading.device);
        if device >= self.clocks.len() {
            self.clocks.resize_with(device + 1, DeviceClock::default);
        }
        let found = self.clocks[device].note_message(reading.arrival_ms, reading.event_ms);
        if let (Some(offset_ms), Some(name)) = (found, self.devices.get(device)) {
            let (zone, offset_s) = (&self.id, offset_ms as f64 / 1000.0);
            let correction = format!("engine.clock_offsets_s.\"{zone}/{name}\" = {}", -offset_s);
            tracing::warn!(%zone, device = %name, offset_s, correction, "a device's clock is off");
        }
    }

    /// Returns the devices whose clocks are off by a constant, each with how far it is ahead, ms;
    /// negative means behind.
    pub(super) fn clock_offsets(&self) -> Vec<(SmolStr, i64)> {
        let clocks = self.devices.iter().zip(&self.clocks);
        let mut offsets: Vec<(SmolStr, i64)> = clocks
            .filter_map(|(device, clock)| Some((device.clone(), clock.offset_ms()?)))
            .collect();
        offsets.sort_unstable();
        offsets
    }

    /// Returns the valid readings of a metric that are not pending.
    pub(super) fn metric_readings(&self, metric: &str) -> Option<&SortedReadings> {
        let slot = self.slots.iter().find(|slot| slot.metric == metric)?;
        slot.state.as_ref().map(|state| state.series.readings())
    }

    /// Returns the first event time after `at_ms` of a reading that is not pending.
    pub(super) fn next_event_ms(&self, at_ms: i64) -> Option<i64> {
        let states = self.slots.iter().filter_map(|slot| slot.state.as_ref());
        states.filter_map(|state| state.series.readings().next_event_ms(at_ms)).min()
    }

    /// Returns the metrics that have readings, by name.
    pub(super) fn metrics(&self) -> Vec<SmolStr> {
        let known = self.slots.iter().filter(|slot| slot.state.is_some());
        let mut metrics: Vec<_> = known.map(|slot| slot.metric.clone()).collect();
        metrics.sort_unstable();
        metrics
    }
}

/// Metric whose drying trend is computed.
pub(super) const MOISTURE: &str = "soil_moisture";
/// Metric that reports when water flows.
pub(super) const IRRIGATION: &str = "irrigation";

impl MetricSlot {
    /// Records a device's sequence number, which distinguishes copies of a message from equal
    /// values. Returns false if the reading was there already.
    fn note_sequence(
        &mut self,
        device: u16,
        boot: &SmolStr,
        seq: u64,
        arrival_ms: i64,
        reading: &SensorReading,
    ) -> bool {
        let device = usize::from(device);
        if device >= self.sequences.len() {
            self.sequences.resize_with(device + 1, Default::default);
        }
        let SensorReading { event_ms, value, .. } = *reading;
        self.sequences[device].note_sequence(boot, seq, event_ms, arrival_ms, value)
    }
}
