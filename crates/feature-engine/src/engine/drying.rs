use std::{collections::BTreeMap, ops::Range};

use agronomy::drying::{DryingSettings, DryingTracker, DryingTrend};
use telemetry::SmolStr;

use super::{calendar_columns::find_positions, sorted_readings::SortedReadings};

const DAY_MS: i64 = 86_400_000;
/// Days of history that a trend uses, counted from midnight UTC.
const HISTORY_DAYS: i64 = 7;
/// Age up to which a trend may need readings, ms.
pub(crate) const SOIL_RETENTION_MS: i64 = (HISTORY_DAYS + 1) * DAY_MS;

/// Columns of the drying features of the zone's driest soil, a selection of
/// [`DryingTrend::NAMES`].
#[derive(Debug)]
pub(super) struct DryingFeatures {
    columns: Range<usize>,
    /// Indices into [`DryingTrend::feature_values`].
    chosen: Vec<usize>,
}

impl DryingFeatures {
    pub(super) fn new(wanted: &[SmolStr], names: &mut Vec<SmolStr>) -> Self {
        let chosen = find_positions(wanted, &DryingTrend::NAMES);
        let start = names.len();
        names.extend(
            chosen.iter().map(|at| SmolStr::from(format!("drying_{}", DryingTrend::NAMES[*at]))),
        );
        Self { columns: start..names.len(), chosen }
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.chosen.is_empty()
    }

    /// Writes a drying trend into a row.
    pub(super) fn fill_row(&self, trend: &DryingTrend, row: &mut [f64]) {
        let values = trend.feature_values();
        for (column, at) in row[self.columns.clone()].iter_mut().zip(&self.chosen) {
            *column = values[*at].unwrap_or(f64::NAN);
        }
    }
}

/// Drying trends of a zone's soil probes as of a time. They are a function of the readings since
/// midnight UTC seven days before, so they depend neither on the order of arrival nor on
/// restarts.
#[derive(Clone, Debug, Default)]
pub(super) struct SoilTrends {
    current: SoilState,
    /// Earlier states of the same day, oldest first, spaced further apart the older they are.
    /// They save a late reading the recomputation of seven days.
    checkpoints: Vec<SoilState>,
}

/// State of every probe of a zone, fed up to a time.
#[derive(Clone, Debug)]
struct SoilState {
    /// Trackers by device number.
    probes: BTreeMap<u16, DryingTracker>,
    since_ms: i64,
    fed_ms: i64,
}

impl Default for SoilState {
    fn default() -> Self {
        Self { probes: BTreeMap::new(), since_ms: i64::MIN, fed_ms: i64::MIN }
    }
}

/// Shortest time between two checkpoints, ms.
const CHECKPOINT_MS: i64 = 600_000;

impl SoilTrends {
    /// Rewinds to before a reading that was inserted or removed.
    pub(super) fn invalidate_from(&mut self, event_ms: i64) {
        if event_ms <= self.current.fed_ms {
            self.rewind_before(event_ms);
        }
    }

    /// Rewinds to the latest state that has no reading at or after `event_ms`.
    fn rewind_before(&mut self, event_ms: i64) {
        while let Some(state) = self.checkpoints.pop() {
            if state.fed_ms < event_ms {
                self.current = state.clone();
                self.checkpoints.push(state);
                return;
            }
        }
        self.current = SoilState::default();
    }

    /// Returns a copy without readings at or after `before_ms`, which advances independently.
    pub(super) fn fork_before(&self, before_ms: i64) -> Self {
        let states = self.checkpoints.iter().chain([&self.current]);
        let state = states.rev().find(|state| state.fed_ms < before_ms);
        Self { current: state.cloned().unwrap_or_default(), checkpoints: Vec::new() }
    }

    /// Feeds the readings up to a time.
    pub(super) fn advance_to(
        &mut self,
        at_ms: i64,
        moisture: &SortedReadings,
        irrigation: Option<&SortedReadings>,
        settings: &DryingSettings,
    ) {
        let since_ms = at_ms.div_euclid(DAY_MS) * DAY_MS - HISTORY_DAYS * DAY_MS;
        if since_ms != self.current.since_ms {
            self.current = SoilState { probes: BTreeMap::new(), since_ms, fed_ms: since_ms };
            self.checkpoints.clear();
        } else if at_ms < self.current.fed_ms {
            self.rewind_before(at_ms + 1);
            if self.current.since_ms != since_ms {
                self.current = SoilState { probes: BTreeMap::new(), since_ms, fed_ms: since_ms };
            }
        }
        loop {
            let next_ms = (self.current.fed_ms.div_euclid(CHECKPOINT_MS) + 1) * CHECKPOINT_MS;
            if next_ms >= at_ms {
                break;
            }
            self.current.feed_readings(next_ms, moisture, irrigation, settings);
            self.keep_checkpoint();
        }
        self.current.feed_readings(at_ms, moisture, irrigation, settings);
    }

    /// Saves the present state as a checkpoint. Thins earlier checkpoints so that rewinding to a
    /// time costs at most about twice the readings since that time.
    fn keep_checkpoint(&mut self) {
        let now_ms = self.current.fed_ms;
        let kept = &mut self.checkpoints;
        let mut at = kept.len();
        while at >= 2 {
            at -= 1;
            let after_ms = kept.get(at + 1).map_or(now_ms, |next| next.fed_ms);
            if after_ms - kept[at - 1].fed_ms <= (now_ms - kept[at].fed_ms) / 2 {
                kept.remove(at);
            }
        }
        kept.push(self.current.clone());
    }

    /// Returns every probe's trend, by device number.
    pub(super) fn probe_trends(
        &self,
        at_ms: i64,
        settings: &DryingSettings,
    ) -> impl Iterator<Item = (u16, DryingTrend)> {
        self.current
            .probes
            .iter()
            .filter_map(move |(device, probe)| Some((*device, probe.trend_at(settings, at_ms)?)))
    }

    /// Returns the trend of the probe that will reach the critical threshold first. Among probes
    /// that will not reach it, takes the one with the lowest moisture.
    pub(super) fn find_driest(
        &self,
        at_ms: i64,
        settings: &DryingSettings,
        names: &[SmolStr],
    ) -> Option<DryingTrend> {
        let urgency = |trend: &DryingTrend| trend.forecast.map_or(f64::INFINITY, |f| f.hours);
        let all = self.probe_trends(at_ms, settings);
        let first = all.min_by(|(a, left), (b, right)| {
            let sooner = urgency(left).total_cmp(&urgency(right));
            let drier = sooner.then(left.last.pct.total_cmp(&right.last.pct));
            drier.then_with(|| names.get(usize::from(*a)).cmp(&names.get(usize::from(*b))))
        });
        first.map(|(_, trend)| trend)
    }
}

impl SoilState {
    /// Feeds the readings after the last fed time, up to `at_ms`.
    fn feed_readings(
        &mut self,
        at_ms: i64,
        moisture: &SortedReadings,
        irrigation: Option<&SortedReadings>,
        settings: &DryingSettings,
    ) {
        let from_ms = self.fed_ms;
        let mut signals = irrigation
            .into_iter()
            .flat_map(|signals| signals.iter_between(from_ms, at_ms))
            .map(|point| (point.event_ms(), point.value > 0.0))
            .peekable();
        for point in moisture.iter_between(from_ms, at_ms) {
            let event_ms = point.event_ms();
            while let Some((ms, on)) = signals.next_if(|(ms, _)| *ms <= event_ms) {
                self.probes.values_mut().for_each(|probe| {
                    probe.add_irrigation(settings, ms, on);
                });
            }
            // A probe begins with its first reading, so earlier irrigation signals do not belong
            // to it.
            let probe = self.probes.entry(point.device()).or_default();
            probe.add_moisture(settings, event_ms, point.value);
        }
        for (ms, on) in signals {
            self.probes.values_mut().for_each(|probe| {
                probe.add_irrigation(settings, ms, on);
            });
        }
        self.fed_ms = at_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{sorted_readings::PackedReading, window_summary::HoldDuration};
    use proptest::prelude::*;

    fn bits(
        soil: &SoilTrends,
        at_ms: i64,
        settings: &DryingSettings,
    ) -> Vec<(u16, Vec<Option<u64>>)> {
        let values = |trend: DryingTrend| {
            trend.feature_values().iter().map(|v| v.map(f64::to_bits)).collect()
        };
        soil.probe_trends(at_ms, settings).map(|(device, trend)| (device, values(trend))).collect()
    }

    proptest! {
        /// Late readings and rows at any time: the result equals that of feeding everything at
        /// once.
        #[test]
        fn going_back_leaves_no_trace(
            late in prop::collection::vec((0..4000_i64, 10..60_i32, 0..4_u8), 1..30),
            asked in prop::collection::vec(0..4320_i64, 30),
        ) {
            const MINUTE_MS: i64 = 60_000;
            let settings = DryingSettings::default();
            let mut moisture = SortedReadings::new(HoldDuration::default());
            let mut irrigation = SortedReadings::new(HoldDuration::default());
            for minute in (0..4320).step_by(7) {
                let pct = 45.0 - (minute % 900) as f64 / 60.0;
                moisture.insert(PackedReading::new(minute * MINUTE_MS, pct, (minute % 2) as u16));
            }
            let mut soil = SoilTrends::default();
            for ((minute, pct, kind), asked) in late.iter().zip(&asked) {
                let event_ms = minute * MINUTE_MS + 1;
                let at_ms = asked * MINUTE_MS;
                soil.advance_to(at_ms, &moisture, Some(&irrigation), &settings);
                if *kind == 0 {
                    irrigation.insert(PackedReading::new(event_ms, f64::from(pct % 2), 0));
                } else {
                    moisture.insert(PackedReading::new(event_ms, f64::from(*pct), u16::from(kind % 2)));
                }
                let mut fork = soil.fork_before(event_ms);
                soil.invalidate_from(event_ms);
                let until_ms = 4320 * MINUTE_MS;
                let mut whole = SoilTrends::default();
                whole.advance_to(until_ms, &moisture, Some(&irrigation), &settings);
                fork.advance_to(until_ms, &moisture, Some(&irrigation), &settings);
                soil.advance_to(until_ms, &moisture, Some(&irrigation), &settings);
                let expect = bits(&whole, until_ms, &settings);
                prop_assert_eq!(bits(&soil, until_ms, &settings), expect.clone());
                prop_assert_eq!(bits(&fork, until_ms, &settings), expect);
                prop_assert!(soil.checkpoints.len() < 40, "{}", soil.checkpoints.len());
            }
        }
    }
}
