use serde::{Deserialize, Serialize};

/// Time for which a state was on, out of the time that was observed. Every reading holds until the
/// next, but for no longer than a limit. Two durations merge if the second follows the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDuration {
    on_ms: i64,
    watched_ms: i64,
    first_ms: i64,
    last: Option<(i64, bool)>,
}

impl StateDuration {
    /// Adds a reading, not older than the previous ones.
    pub fn add_reading(&mut self, event_ms: i64, on: bool, hold_max_ms: i64) {
        match self.last {
            Some((since_ms, was_on)) => self.add_interval(event_ms - since_ms, was_on, hold_max_ms),
            None => self.first_ms = event_ms,
        }
        self.last = Some((event_ms, on));
    }

    /// Merges the duration of the time that follows.
    pub fn merge_later(&mut self, later: &Self, hold_max_ms: i64) {
        let Some(last) = later.last else { return };
        match self.last {
            Some((since_ms, was_on)) => {
                self.add_interval(later.first_ms - since_ms, was_on, hold_max_ms);
            }
            None => self.first_ms = later.first_ms,
        }
        self.on_ms += later.on_ms;
        self.watched_ms += later.watched_ms;
        self.last = Some(last);
    }

    /// Holds the last reading until the end, ms, of the period.
    #[must_use]
    pub fn hold_until(mut self, end_ms: i64, hold_max_ms: i64) -> Self {
        if let Some((since_ms, was_on)) = self.last {
            self.add_interval(end_ms - since_ms, was_on, hold_max_ms);
            self.last = None;
        }
        self
    }

    /// Hours for which the state was on, ≥ 0. `None` if it was never observed.
    #[must_use]
    pub fn on_h(&self) -> Option<f64> {
        (self.watched_ms > 0).then(|| self.on_ms as f64 / 3.6e6)
    }

    /// Share of the observed time for which the state was on, 0–1. `None` if it was never observed.
    #[must_use]
    pub fn on_share(&self) -> Option<f64> {
        (self.watched_ms > 0).then(|| self.on_ms as f64 / self.watched_ms as f64)
    }

    fn add_interval(&mut self, passed_ms: i64, was_on: bool, hold_max_ms: i64) {
        let held_ms = passed_ms.clamp(0, hold_max_ms.max(0));
        self.watched_ms += held_ms;
        if was_on {
            self.on_ms += held_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD_MS: i64 = 600_000;

    fn of(readings: &[(i64, bool)]) -> StateDuration {
        let mut held = StateDuration::default();
        readings.iter().for_each(|(minute, on)| held.add_reading(minute * 60_000, *on, HOLD_MS));
        held
    }

    fn check(readings: &[(i64, bool)], on_min: f64, watched_min: f64) {
        for cut in 0..=readings.len() {
            let mut held = of(&readings[..cut]);
            held.merge_later(&of(&readings[cut..]), HOLD_MS);
            let held = held.hold_until(60 * 60_000, HOLD_MS);
            let off_min = held.on_h().unwrap_or(0.0) * 60.0 - on_min;
            assert!(off_min.abs() < 1e-9, "{readings:?} cut at {cut}: {held:?}");
            let share = (watched_min > 0.0).then(|| on_min / watched_min);
            assert_eq!(held.on_share(), share, "{readings:?} cut at {cut}");
        }
    }

    #[test]
    fn a_reading_holds_until_the_next_but_not_for_ever() {
        check(&[], 0.0, 0.0);
        check(&[(0, true), (5, false), (10, true), (12, false), (20, false)], 7.0, 30.0);
        check(&[(0, true), (45, true)], 20.0, 20.0);
        check(&[(55, true)], 5.0, 5.0);
    }
}
