//! The drying trend of one soil-moisture sensor: when it was watered, how fast
//! it dries, when it will be too dry, and how long to water.
//!
//! [`Drying`] is fed reading by reading in the order of event time, with the
//! zone's irrigation signal where there is one. Its memory is bounded, its
//! answers depend on nothing but what was fed, and saved and restored by serde
//! it goes on bit for bit.
//!
//! # Layout
//! In the order in which a reading meets them:
//! - `signal`: the irrigation signal, held between its messages
//! - `gate`: jumps wait for the next reading, so that spikes go
//! - `noise`: how much the sensor moves when the soil does not
//! - `rise`: cumulative sum of rises: the watering detector
//! - `watering`: one [`Watering`]
//! - `rates`: what was lost in each of the last hours, waterings cut out
//! - `segment`: the readings since the last watering: `line` and `decay`
//! - `forecast`: hours to the critical moisture
//! - `trend`: all of it as of a time, the [`Trend`]

mod decay;
mod forecast;
mod gate;
mod line;
mod noise;
mod rates;
mod rise;
mod segment;
mod settings;
mod signal;
mod trend;
mod watering;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use self::{
    forecast::{Basis, Forecast},
    settings::{Settings, SettingsError},
    trend::Trend,
    watering::Watering,
};
use self::{gate::Gate, noise::Noise, rates::Rates, rise::Rise, segment::Segment, signal::Signal};

const HOUR_MS: i64 = 3_600_000;
/// Waterings that are remembered.
const WATERINGS_MAX: usize = 16;
/// Responses of which the median is taken.
const RESPONSES_MAX: usize = 15;
/// What a soil probe can say, %, by far; keeps squares of it finite.
const PCT_MAX: f64 = 1e6;
/// What no soil probe resolves, %: it is 0, so that no square of a step is lost
/// to underflow.
const PCT_MIN: f64 = 1e-9;
/// Event times are within this of 1970, ms: what calendars can say.
const MS_MAX: i64 = 8_640_000_000_000_000;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Event time, ms since 1970.
    pub ms: i64,
    /// Soil moisture, %.
    pub pct: f64,
}

/// What became of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counted,
    /// It jumps: the next reading will tell whether it was a spike.
    Held,
    /// It is older than one before, or no number that a probe can say.
    Refused,
}

/// The state of one sensor. See the [module](self).
///
/// ```
/// use agronomy::drying::{Drying, Settings};
///
/// let settings = Settings { critical_pct: 30.0, ..Settings::default() };
/// let mut drying = Drying::default();
/// for hour in 0..=24_i64 {
///     drying.moisture(&settings, hour * 3_600_000, 54.0 - 0.5 * hour as f64);
/// }
/// let trend = drying.trend(&settings, 24 * 3_600_000).unwrap();
/// assert!((trend.slope_pct_h.unwrap() + 0.5).abs() < 1e-9);
/// assert!((trend.forecast.unwrap().hours - 24.0).abs() < 1e-6); // 42 % to 30 %
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drying {
    newest_ms: Option<i64>,
    /// The newest reading that counts.
    last: Option<Point>,
    signal: Signal,
    gate: Gate,
    noise: Noise,
    rise: Rise,
    waterings: VecDeque<Watering>,
    /// Whether the newest watering may still rise.
    open: bool,
    rates: Rates,
    segment: Option<Segment>,
    responses: VecDeque<f64>,
    refused: u64,
}

impl Drying {
    /// Takes a reading of soil moisture, %, not older than what came before.
    pub fn moisture(&mut self, settings: &Settings, event_ms: i64, pct: f64) -> Taken {
        let plausible = pct.abs() <= PCT_MAX; // not of NaN
        if !plausible || !self.is_in_order(event_ms) {
            self.refused += 1;
            return Taken::Refused;
        }
        self.pass_to(event_ms, settings);
        let pct = if pct.abs() < PCT_MIN { 0.0 } else { pct };
        let point = Point { ms: event_ms, pct };
        let step_pct = self.last.map_or(0.0, |last| (pct - last.pct).abs());
        // Noise is only asked for where it matters: it never lowers the limit.
        let jumps = step_pct > settings.rise_min_pct || self.gate.holds();
        let jump_pct = if jumps { self.rise_min_pct(settings) } else { settings.rise_min_pct };
        let confirm_ms = settings::ms(settings.confirm_max_s);
        let believed = self.gate.take(self.last, point, jump_pct, confirm_ms);
        believed.into_iter().flatten().for_each(|point| self.count(point, settings));
        if believed[1].is_some() { Taken::Counted } else { Taken::Held }
    }

    /// Takes the zone's irrigation signal: on or off from this time on.
    pub fn irrigation(&mut self, settings: &Settings, event_ms: i64, on: bool) -> Taken {
        if !self.is_in_order(event_ms) {
            self.refused += 1;
            return Taken::Refused;
        }
        self.pass_to(event_ms, settings);
        self.signal.take(event_ms, on);
        Taken::Counted
    }

    /// Everything known as of a time, not before the newest reading; none
    /// before the first.
    #[must_use]
    pub fn trend(&self, settings: &Settings, at_ms: i64) -> Option<Trend> {
        Trend::of(self, settings, at_ms.clamp(-MS_MAX, MS_MAX))
    }

    /// The newest waterings, oldest first; at most 16.
    #[must_use]
    pub const fn waterings(&self) -> &VecDeque<Watering> {
        &self.waterings
    }

    /// Readings that were taken for spikes.
    #[must_use]
    pub const fn spikes(&self) -> u64 {
        self.gate.spikes
    }

    /// Readings and signals that were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn is_in_order(&self, event_ms: i64) -> bool {
        (-MS_MAX..=MS_MAX).contains(&event_ms) && self.newest_ms.is_none_or(|ms| ms <= event_ms)
    }

    /// Lets what the signal said before a time take effect.
    fn pass_to(&mut self, event_ms: i64, settings: &Settings) {
        self.newest_ms = Some(event_ms);
        let hold_ms = settings::ms(settings.signal_hold_max_s);
        let Some(change) = self.signal.due(event_ms, hold_ms) else { return };
        if let Some(watering) = self.waterings.back_mut() {
            watering.irrigation_min += change.on_min;
        }
        let Some(last) = self.last.filter(|_| change.begins) else { return };
        let onset = Point { ms: change.at_ms, pct: last.pct };
        self.close_if_soaked(change.at_ms, settings);
        let rise_min_pct = self.rise_min_pct(settings);
        let open = self.waterings.back_mut().filter(|_| self.open);
        match open.filter(|watering| watering.takes(onset, rise_min_pct)) {
            Some(watering) => watering.signalled = true,
            None => self.begin(onset, change.at_ms, true),
        }
    }

    /// Counts a believed reading.
    fn count(&mut self, point: Point, settings: &Settings) {
        self.noise.take(point);
        let Some(last) = self.last.replace(point) else {
            self.rise.restart(point);
            self.segment = Some(Segment::new(point));
            return;
        };
        if point.ms - last.ms <= settings::ms(settings.gap_max_s) {
            self.rates.add(last, point);
        }
        let (rise_pct, trough) = self.rise.take(last, point, settings.drift_max_pct_h);
        self.close_if_soaked(point.ms, settings);
        let rises = rise_pct > settings.rise_min_pct && rise_pct > self.rise_min_pct(settings);
        if rises {
            let rise_min_pct = self.rise_min_pct(settings);
            let open = self.waterings.back_mut().filter(|_| self.open);
            match open.filter(|watering| watering.takes(trough, rise_min_pct)) {
                Some(watering) => watering.rise_from(trough),
                None => self.begin(trough, point.ms, false),
            }
        }
        let peaks = self.open && self.waterings.back().is_some_and(|w| point.pct > w.peak.pct);
        if peaks {
            let rise_min_pct = self.rise_min_pct(settings);
            let watering = self.waterings.back_mut().expect("one peaks");
            self.rates.cut(watering.peak.ms, point.ms);
            watering.peak = point;
            // Slowly, step by step, is as good as at once.
            watering.risen |= watering.rise_pct() > rise_min_pct;
            self.rise.restart(point);
            self.segment = Some(Segment::new(point));
        } else if let Some(segment) = &mut self.segment {
            segment.take(point);
        }
    }

    fn begin(&mut self, onset: Point, seen_ms: i64, signalled: bool) {
        self.close();
        if self.waterings.len() == WATERINGS_MAX {
            self.waterings.pop_front();
        }
        self.waterings.push_back(Watering {
            onset,
            seen_ms,
            peak: onset,
            risen: false,
            signalled,
            irrigation_min: 0.0,
        });
        self.open = true;
        self.segment = Some(Segment::new(onset));
    }

    /// A watering ends when it has not peaked for long, and irrigation is over
    /// for as long.
    fn close_if_soaked(&mut self, at_ms: i64, settings: &Settings) {
        let Some(watering) = self.waterings.back().filter(|_| self.open) else { return };
        let hold_ms = settings::ms(settings.signal_hold_max_s);
        let on_ms = self.signal.last_on_ms(at_ms, hold_ms).unwrap_or(i64::MIN);
        if at_ms - watering.peak.ms.max(on_ms) > settings::ms(settings.soak_s) {
            self.close();
        }
    }

    fn close(&mut self) {
        let closing = self.open && self.waterings.back().is_some();
        self.open = false;
        let watering = self.waterings.back().filter(|_| closing);
        if let Some(response) = watering.and_then(Watering::response) {
            if self.responses.len() == RESPONSES_MAX {
                self.responses.pop_front();
            }
            self.responses.push_back(response);
        }
    }

    /// The smallest rise that is a watering: as set, or what noise and the
    /// converter's step cannot do. Over many readings white noise spans about
    /// eight standard deviations.
    fn rise_min_pct(&self, settings: &Settings) -> f64 {
        let noise_pct = 8.0 * self.noise.sigma_pct();
        settings.rise_min_pct.max(noise_pct).max(1.5 * self.noise.quantum_pct())
    }
}

/// Hours from one time to another.
fn hours(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / HOUR_MS as f64
}

#[cfg(test)]
mod tests;
