use serde::{Deserialize, Serialize};

use super::MoisturePoint;

/// One watering, found by its rise, announced by the irrigation signal, or
/// both.
///
/// It is open while moisture can still rise: its peak and minutes may grow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WateringEvent {
    /// The last reading before the rise; or when irrigation began, with the
    /// lowest reading from then on to the rise.
    pub onset: MoisturePoint,
    /// When it was first known of, event time in ms: not before `onset`.
    pub seen_ms: i64,
    /// The highest reading so far.
    pub peak: MoisturePoint,
    /// Whether moisture rose by more than noise and drift can.
    pub risen: bool,
    /// Whether the irrigation signal was on.
    pub signalled: bool,
    /// Minutes for which the irrigation signal was on, ≥ 0.
    pub irrigation_min: f64,
}

impl WateringEvent {
    /// Rise from onset to peak, %, ≥ 0.
    #[must_use]
    pub fn rise_pct(&self) -> f64 {
        (self.peak.pct - self.onset.pct).max(0.0)
    }

    /// % per minute of irrigation; none where it was not irrigated for long
    /// enough to tell.
    pub(super) fn irrigation_response(&self) -> Option<f64> {
        (self.irrigation_min >= 0.5).then(|| self.rise_pct() / self.irrigation_min)
    }

    /// Notes that a rise from `trough` is its own. Until the water arrives
    /// moisture goes on falling: the rise counts from there.
    pub(super) fn rise_from(&mut self, trough: MoisturePoint) {
        if !self.risen && trough.pct < self.onset.pct {
            self.onset.pct = trough.pct;
            self.peak = trough;
        }
        self.risen = true;
    }

    /// Whether a rise from `trough` belongs to it: water is on its way after
    /// irrigation, and a dip that shallow is no drying.
    pub(super) fn accepts_rise(&self, trough: MoisturePoint, rise_min_pct: f64) -> bool {
        let awaited = self.signalled && !self.risen;
        awaited || self.peak.pct - trough.pct <= rise_min_pct / 2.0
    }
}
