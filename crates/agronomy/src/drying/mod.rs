//! Drying trend of one soil-moisture sensor: when it was watered, how fast it dries, when it will
//! be too dry, and how long to water.
//!
//! [`DryingTracker`] is fed reading by reading in the order of event time, with the zone's
//! irrigation signal where there is one. Its memory is bounded. Its results depend on nothing but
//! the readings. A state saved and restored by serde continues bit for bit.
//!
//! # Layout
//! In the order in which a reading meets them:
//! - `irrigation_signal`: the irrigation signal, held between its messages
//! - `spike_filter`: holds a jump until the next reading, so that spikes are dropped
//! - `noise`: how much the sensor varies while the soil does not
//! - `rise_detector`: cumulative sum of rises, which detects waterings
//! - `watering`: one [`WateringEvent`]
//! - `hourly_rates`: moisture lost in each of the last hours, waterings cut out
//! - `segment`: the readings since the last watering: `regression_line` and `decay_fit`
//! - `forecast`: hours to the critical moisture
//! - `trend`: the [`DryingTrend`] as of a time
//! - `settings`: the checked [`DryingSettings`]

mod decay_fit;
mod forecast;
mod hourly_rates;
mod irrigation_signal;
mod noise;
mod regression_line;
mod rise_detector;
mod segment;
mod settings;
mod spike_filter;
mod trend;
mod watering;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use self::{
    forecast::{DryingForecast, ForecastBasis},
    settings::{DryingSettings, DryingSettingsError},
    trend::DryingTrend,
    watering::WateringEvent,
};
use self::{
    hourly_rates::HourlyRates, irrigation_signal::IrrigationSignal, noise::NoiseEstimate,
    rise_detector::RiseDetector, segment::DryingSegment, spike_filter::SpikeFilter,
};

const HOUR_MS: i64 = 3_600_000;
/// Number of waterings that are remembered.
const WATERINGS_MAX: usize = 16;
/// Number of irrigation responses of which the median is taken.
const RESPONSES_MAX: usize = 15;
/// Largest plausible value of a soil probe, %. It keeps squares finite.
const PCT_MAX: f64 = 1e6;
/// Smallest value that a soil probe resolves, %. Smaller ones count as 0, so that no square of a
/// step is lost to underflow.
const PCT_MIN: f64 = 1e-9;
/// Largest distance of an event time from 1970, ms: the range of calendars.
const MS_MAX: i64 = 8_640_000_000_000_000;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoisturePoint {
    /// Event time, ms since 1970.
    pub ms: i64,
    /// Soil moisture, %.
    pub pct: f64,
}

/// Result of adding a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadingOutcome {
    /// The reading counts.
    Counted,
    /// The reading is a jump: the next reading will decide whether it is a spike.
    Held,
    /// The reading is older than a previous one, or not a plausible number.
    Refused,
}

/// State of one sensor. See the [module](self).
///
/// ```
/// use microclimate_agronomy::drying::{DryingSettings, DryingTracker};
///
/// let settings = DryingSettings { critical_pct: 30.0, ..DryingSettings::default() };
/// let mut drying = DryingTracker::default();
/// for hour in 0..=24_i64 {
///     drying.add_moisture(&settings, hour * 3_600_000, 54.0 - 0.5 * hour as f64);
/// }
/// let trend = drying.trend_at(&settings, 24 * 3_600_000).unwrap();
/// assert!((trend.slope_pct_h.unwrap() + 0.5).abs() < 1e-9);
/// assert!((trend.forecast.unwrap().hours - 24.0).abs() < 1e-6); // 42 % to 30 %
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DryingTracker {
    newest_ms: Option<i64>,
    /// The latest reading that counts.
    last: Option<MoisturePoint>,
    signal: IrrigationSignal,
    gate: SpikeFilter,
    noise: NoiseEstimate,
    rise: RiseDetector,
    waterings: VecDeque<WateringEvent>,
    /// Whether the latest watering may still rise.
    open: bool,
    rates: HourlyRates,
    segment: Option<DryingSegment>,
    responses: VecDeque<f64>,
    refused: u64,
}

impl DryingTracker {
    /// Adds a reading of soil moisture, %, not older than the previous reading or signal.
    pub fn add_moisture(
        &mut self,
        settings: &DryingSettings,
        event_ms: i64,
        pct: f64,
    ) -> ReadingOutcome {
        let plausible = pct.abs() <= PCT_MAX; // false for NaN
        if !plausible || !self.is_in_order(event_ms) {
            self.refused += 1;
            return ReadingOutcome::Refused;
        }
        self.advance_to(event_ms, settings);
        let pct = if pct.abs() < PCT_MIN { 0.0 } else { pct };
        let point = MoisturePoint { ms: event_ms, pct };
        let step_pct = self.last.map_or(0.0, |last| (pct - last.pct).abs());
        // The noise is computed only where it matters: it never lowers the limit.
        let jumps = step_pct > settings.rise_min_pct || self.gate.is_holding();
        let jump_pct = if jumps { self.rise_min_pct(settings) } else { settings.rise_min_pct };
        let confirm_ms = settings::seconds_to_ms(settings.confirm_max_s);
        let believed = self.gate.filter_reading(self.last, point, jump_pct, confirm_ms);
        believed.into_iter().flatten().for_each(|point| self.count_reading(point, settings));
        if believed[1].is_some() { ReadingOutcome::Counted } else { ReadingOutcome::Held }
    }

    /// Adds a message of the zone's irrigation signal: on or off from this time on.
    pub fn add_irrigation(
        &mut self,
        settings: &DryingSettings,
        event_ms: i64,
        on: bool,
    ) -> ReadingOutcome {
        if !self.is_in_order(event_ms) {
            self.refused += 1;
            return ReadingOutcome::Refused;
        }
        self.advance_to(event_ms, settings);
        self.signal.set_pending(event_ms, on);
        ReadingOutcome::Counted
    }

    /// Trend as of a time, which is not before the latest reading. `None` before the first reading.
    #[must_use]
    pub fn trend_at(&self, settings: &DryingSettings, at_ms: i64) -> Option<DryingTrend> {
        DryingTrend::as_of(self, settings, at_ms.clamp(-MS_MAX, MS_MAX))
    }

    /// The latest waterings, oldest first; at most 16.
    #[must_use]
    pub const fn waterings(&self) -> &VecDeque<WateringEvent> {
        &self.waterings
    }

    /// Number of readings that were dropped as spikes.
    #[must_use]
    pub const fn spike_count(&self) -> u64 {
        self.gate.spikes
    }

    /// Number of readings and signals that were refused.
    #[must_use]
    pub const fn refused_count(&self) -> u64 {
        self.refused
    }

    fn is_in_order(&self, event_ms: i64) -> bool {
        (-MS_MAX..=MS_MAX).contains(&event_ms) && self.newest_ms.is_none_or(|ms| ms <= event_ms)
    }

    /// Applies the signal's messages before a time.
    fn advance_to(&mut self, event_ms: i64, settings: &DryingSettings) {
        self.newest_ms = Some(event_ms);
        let hold_ms = settings::seconds_to_ms(settings.signal_hold_max_s);
        let Some(change) = self.signal.take_due_change(event_ms, hold_ms) else { return };
        if let Some(watering) = self.waterings.back_mut() {
            watering.irrigation_min += change.on_min;
        }
        let Some(last) = self.last.filter(|_| change.begins) else { return };
        let onset = MoisturePoint { ms: change.at_ms, pct: last.pct };
        self.close_if_soaked(change.at_ms, settings);
        let rise_min_pct = self.rise_min_pct(settings);
        let open = self.waterings.back_mut().filter(|_| self.open);
        match open.filter(|watering| watering.accepts_rise(onset, rise_min_pct)) {
            Some(watering) => watering.signalled = true,
            None => self.begin_watering(onset, change.at_ms, true),
        }
    }

    /// Counts a reading that passed the spike filter.
    fn count_reading(&mut self, point: MoisturePoint, settings: &DryingSettings) {
        self.noise.add_reading(point);
        let Some(last) = self.last.replace(point) else {
            self.rise.restart_at(point);
            self.segment = Some(DryingSegment::new(point));
            return;
        };
        if point.ms - last.ms <= settings::seconds_to_ms(settings.gap_max_s) {
            self.rates.add_interval(last, point);
        }
        let (rise_pct, trough) = self.rise.add_reading(last, point, settings.drift_max_pct_h);
        self.close_if_soaked(point.ms, settings);
        let rises = rise_pct > settings.rise_min_pct && rise_pct > self.rise_min_pct(settings);
        if rises {
            let rise_min_pct = self.rise_min_pct(settings);
            let open = self.waterings.back_mut().filter(|_| self.open);
            match open.filter(|watering| watering.accepts_rise(trough, rise_min_pct)) {
                Some(watering) => watering.rise_from(trough),
                None => self.begin_watering(trough, point.ms, false),
            }
        }
        let peaks = self.open && self.waterings.back().is_some_and(|w| point.pct > w.peak.pct);
        if peaks {
            let rise_min_pct = self.rise_min_pct(settings);
            let watering = self.waterings.back_mut().expect("one peaks");
            self.rates.forget_hours(watering.peak.ms, point.ms);
            watering.peak = point;
            // A slow rise, step by step, counts like a sudden one.
            watering.risen |= watering.rise_pct() > rise_min_pct;
            self.rise.restart_at(point);
            self.segment = Some(DryingSegment::new(point));
        } else if let Some(segment) = &mut self.segment {
            segment.add_reading(point);
        }
    }

    fn begin_watering(&mut self, onset: MoisturePoint, seen_ms: i64, signalled: bool) {
        self.close_watering();
        if self.waterings.len() == WATERINGS_MAX {
            self.waterings.pop_front();
        }
        self.waterings.push_back(WateringEvent {
            onset,
            seen_ms,
            peak: onset,
            risen: false,
            signalled,
            irrigation_min: 0.0,
        });
        self.open = true;
        self.segment = Some(DryingSegment::new(onset));
    }

    /// Closes a watering that has had no new peak for the soak time, when irrigation has also been
    /// over for as long.
    fn close_if_soaked(&mut self, at_ms: i64, settings: &DryingSettings) {
        let Some(watering) = self.waterings.back().filter(|_| self.open) else { return };
        let hold_ms = settings::seconds_to_ms(settings.signal_hold_max_s);
        let on_ms = self.signal.last_on_ms(at_ms, hold_ms).unwrap_or(i64::MIN);
        if at_ms - watering.peak.ms.max(on_ms) > settings::seconds_to_ms(settings.soak_s) {
            self.close_watering();
        }
    }

    fn close_watering(&mut self) {
        let closing = self.open && self.waterings.back().is_some();
        self.open = false;
        let watering = self.waterings.back().filter(|_| closing);
        if let Some(response) = watering.and_then(WateringEvent::irrigation_response) {
            if self.responses.len() == RESPONSES_MAX {
                self.responses.pop_front();
            }
            self.responses.push_back(response);
        }
    }

    /// Smallest rise that is a watering, %: the setting, or more where noise and the converter's
    /// step could reach it. Over many readings white noise spans about eight standard deviations.
    fn rise_min_pct(&self, settings: &DryingSettings) -> f64 {
        let noise_pct = 8.0 * self.noise.sigma_pct();
        settings.rise_min_pct.max(noise_pct).max(1.5 * self.noise.quantum_pct())
    }
}

/// Hours from one time to another.
fn hours_between(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / HOUR_MS as f64
}

#[cfg(test)]
mod tests;
