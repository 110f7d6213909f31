//! Mergeable summary of a set of readings, by moments.

use super::HOUR_MS;

/// Summary of a set of readings of one metric. Two summaries merge into the summary of both sets.
///
/// Moments are centred, so that a small spread around a large mean keeps its digits. Sources: B.
/// P. Welford, "Note on a method for calculating corrected sums of squares and products",
/// Technometrics 4(3), 1962, for one value; T. F. Chan, G. H. Golub, R. J. `LeVeque`, "Updating
/// formulae and a pairwise algorithm for computing sample variances", Stanford CS-79-773, 1979,
/// for two sets.
///
/// ```
/// use microclimate_feature_store::engine::window_summary::{HoldDuration, WindowSummary};
///
/// let mut all = WindowSummary::default();
/// for (event_ms, value) in [(0, 20.0), (1_800_000, 21.0), (3_600_000, 22.0)] {
///     all.add_reading(event_ms, value, HoldDuration::default());
/// }
/// assert_eq!((all.count(), all.mean(), all.std()), (3, Some(21.0), Some(1.0)));
/// assert!((all.slope_per_hour().unwrap() - 2.0).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WindowSummary {
    count: u32,
    /// Number of clock minutes that have a reading.
    minutes: u32,
    first_ms: i64,
    last_ms: i64,
    first: f64,
    last: f64,
    min: f64,
    max: f64,
    mean: f64,
    /// Σ (v − v̄)²
    m2: f64,
    /// Mean time, ms after `first_ms`.
    time_mean: f64,
    /// Σ (t − t̄)², ms²
    time_m2: f64,
    /// Σ (t − t̄)(v − v̄), ms × unit
    co_m2: f64,
    /// Σ v·Δt from the first to the last reading, unit × ms.
    held: f64,
    /// Σ Δt of `held`, ms; less than the time from first to last where a gap was capped.
    held_ms: u32,
    /// Longest time between two readings, ms.
    gap_ms: u32,
}

/// How long a value is taken to hold when no other follows, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldDuration(pub u32);

impl Default for HoldDuration {
    /// Returns ten minutes.
    fn default() -> Self {
        Self(600_000)
    }
}

impl WindowSummary {
    /// Adds one reading, which must not be earlier than those before.
    #[inline]
    pub fn add_reading(&mut self, event_ms: i64, value: f64, hold: HoldDuration) {
        if self.count == 0 {
            *self = Self {
                count: 1,
                minutes: 1,
                first_ms: event_ms,
                last_ms: event_ms,
                first: value,
                last: value,
                min: value,
                max: value,
                mean: value,
                ..Self::default()
            };
            return;
        }
        debug_assert!(event_ms >= self.last_ms, "readings come in the order of time");
        self.note_gap(event_ms, hold);
        self.count += 1;
        let share = 1.0 / f64::from(self.count);
        let time = (event_ms - self.first_ms) as f64;
        let (dt, dv) = (time - self.time_mean, value - self.mean);
        self.time_mean += dt * share;
        self.mean += dv * share;
        let dv_after = value - self.mean;
        self.time_m2 += dt * (time - self.time_mean);
        self.m2 += dv * dv_after;
        self.co_m2 += dt * dv_after;
        self.last_ms = event_ms;
        self.last = value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds a set of later readings.
    #[inline]
    pub fn merge(&mut self, later: &Self, hold: HoldDuration) {
        if later.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *later;
            return;
        }
        self.note_gap(later.first_ms, hold);
        let (a, b) = (f64::from(self.count), f64::from(later.count));
        let later_time_mean = later.time_mean + (later.first_ms - self.first_ms) as f64;
        let (dt, dv) = (later_time_mean - self.time_mean, later.mean - self.mean);
        let share = b / (a + b);
        let weight = a * share;
        self.count += later.count;
        self.minutes += later.minutes;
        self.mean += dv * share;
        self.time_mean += dt * share;
        self.m2 += later.m2 + dv * dv * weight;
        self.time_m2 += later.time_m2 + dt * dt * weight;
        self.co_m2 += later.co_m2 + dt * dv * weight;
        self.held += later.held;
        self.held_ms += later.held_ms;
        self.gap_ms = self.gap_ms.max(later.gap_ms);
        self.last_ms = later.last_ms;
        self.last = later.last;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
    }

    /// Accounts for the time between the newest reading and the next one.
    fn note_gap(&mut self, next_ms: i64, hold: HoldDuration) {
        let gap_ms = ms_between(self.last_ms, next_ms);
        let held_ms = gap_ms.min(hold.0);
        self.held += self.last * f64::from(held_ms);
        self.held_ms += held_ms;
        self.gap_ms = self.gap_ms.max(gap_ms);
    }

    /// Returns the number of readings.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the number of clock minutes that have a reading.
    #[must_use]
    pub const fn minutes(&self) -> u32 {
        self.minutes
    }

    /// Returns the arithmetic mean.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Returns the sample standard deviation (n − 1); needs two readings.
    #[must_use]
    pub fn std(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.m2 / f64::from(self.count - 1)).sqrt())
    }

    /// Returns the smallest value.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        (self.count > 0).then_some(self.min)
    }

    /// Returns the largest value.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }

    /// Returns value and event time, ms, of the newest reading.
    #[must_use]
    pub fn last(&self) -> Option<(f64, i64)> {
        (self.count > 0).then_some((self.last, self.last_ms))
    }

    /// Returns the newest value less the oldest value; needs two readings.
    #[must_use]
    pub fn delta(&self) -> Option<f64> {
        (self.count > 1).then_some(self.last - self.first)
    }

    /// Returns the oldest value.
    #[must_use]
    pub fn first(&self) -> Option<f64> {
        (self.count > 0).then_some(self.first)
    }

    /// Returns the slope of the least-squares line, units per hour; needs readings at two
    /// different times.
    #[must_use]
    pub fn slope_per_hour(&self) -> Option<f64> {
        let has_slope = self.count > 1 && self.time_m2 > 0.0;
        has_slope.then(|| self.co_m2 / self.time_m2 * HOUR_MS as f64)
    }

    /// Returns the integral over time up to `until_ms`, unit × ms, and the time that it covers,
    /// ms. Each value holds until the next one, at most for `hold`. Returns `None` without a
    /// reading.
    #[must_use]
    pub fn held_until(&self, until_ms: i64, hold: HoldDuration) -> Option<(f64, f64)> {
        let tail_ms = f64::from(ms_between(self.last_ms, until_ms).min(hold.0));
        (self.count > 0)
            .then(|| (self.held + self.last * tail_ms, f64::from(self.held_ms) + tail_ms))
    }

    /// Returns the longest time without a reading in (`after_ms`, `until_ms`], ms, including the
    /// times before the first and after the last reading. Returns `None` without a reading.
    #[must_use]
    pub fn gap_ms_max(&self, after_ms: i64, until_ms: i64) -> Option<u32> {
        let (before, behind) =
            (ms_between(after_ms, self.first_ms), ms_between(self.last_ms, until_ms));
        (self.count > 0).then(|| self.gap_ms.max(before).max(behind))
    }
}

/// Time from `from_ms` to `to_ms`, ms; never below 0, and capped at 49 days, which is more than
/// the widest window.
fn ms_between(from_ms: i64, to_ms: i64) -> u32 {
    u32::try_from((to_ms - from_ms).max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn summarize(readings: &[(i64, f64)]) -> WindowSummary {
        let mut summary = WindowSummary::default();
        readings
            .iter()
            .for_each(|(at, value)| summary.add_reading(*at, *value, HoldDuration::default()));
        summary
    }

    fn close(a: Option<f64>, b: Option<f64>, scale: f64) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * scale.max(1e-300),
            (a, b) => a == b,
        }
    }

    #[test]
    fn nothing_is_none_never_zero() {
        let empty = WindowSummary::default();
        assert_eq!(
            (empty.mean(), empty.std(), empty.min(), empty.delta()),
            (None, None, None, None)
        );
        let one = summarize(&[(5, 3.0)]);
        assert_eq!((one.mean(), one.std(), one.slope_per_hour()), (Some(3.0), None, None));
        assert_eq!(
            summarize(&[(5, 3.0), (5, 4.0)]).slope_per_hour(),
            None,
            "two values at one time"
        );
    }

    #[test]
    fn a_flat_line_far_from_zero_has_no_spread_and_no_slope() {
        let flat: Vec<(i64, f64)> = (0..10_000).map(|i| (i * 5_000, 1e6 + 0.1)).collect();
        assert_eq!(summarize(&flat).std(), Some(0.0));
        assert_eq!(summarize(&flat).slope_per_hour(), Some(0.0));
    }

    #[test]
    fn a_value_holds_until_the_next_but_not_forever() {
        let hold = HoldDuration(600_000);
        let hour = summarize(&[(0, 10.0), (300_000, 20.0), (3_000_000, 40.0)]);
        // 10 for five minutes, 20 for ten of forty-five, 40 for ten
        let (integral, ms) = hour.held_until(3_600_000, hold).unwrap();
        assert_eq!((integral, ms), (10.0 * 3e5 + 20.0 * 6e5 + 40.0 * 6e5, 15e5));
        assert_eq!(hour.gap_ms_max(-1000, 3_600_000), Some(2_700_000));
        assert_eq!(summarize(&[(5_000, 1.0)]).gap_ms_max(0, 60_000), Some(55_000));
        assert_eq!(WindowSummary::default().held_until(5, hold), None);
    }

    proptest! {
        #[test]
        fn merged_parts_equal_the_whole(
            mut readings in prop::collection::vec((0..600_000_i64, -50.0..60.0_f64), 2..200),
            at in 0.0..1.0_f64,
        ) {
            readings.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let cut = (readings.len() as f64 * at) as usize;
            let mut parts = summarize(&readings[..cut]);
            parts.merge(&summarize(&readings[cut..]), HoldDuration::default());
            let whole = summarize(&readings);
            prop_assert_eq!((parts.count(), parts.min(), parts.max()), (whole.count(), whole.min(), whole.max()));
            prop_assert_eq!((parts.last(), parts.delta()), (whole.last(), whole.delta()));
            prop_assert!(close(parts.mean(), whole.mean(), 100.0));
            let held = |of: &WindowSummary| of.held_until(700_000, HoldDuration::default()).unwrap();
            prop_assert!(close(Some(held(&parts).0), Some(held(&whole).0), 1e8));
            prop_assert_eq!(held(&parts).1, held(&whole).1);
            prop_assert_eq!(parts.gap_ms_max(-1, 700_000), whole.gap_ms_max(-1, 700_000));
            prop_assert!(close(parts.std(), whole.std(), 100.0));
            let scale = 1e5 * whole.slope_per_hour().unwrap_or(1.0).abs().max(1.0);
            prop_assert!(close(parts.slope_per_hour(), whole.slope_per_hour(), scale));
        }
    }
}
