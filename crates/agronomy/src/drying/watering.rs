use serde::{Deserialize, Serialize};

use super::MoisturePoint;

/// One watering, detected by its rise, announced by the irrigation signal, or both.
///
/// It is open while moisture can still rise: its peak and its minutes may grow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WateringEvent {
    /// Last reading before the rise. For an announced watering: the time at which irrigation began,
    /// with the lowest reading from then until the rise.
    pub onset: MoisturePoint,
    /// Event time, ms, at which the watering was first known; not before `onset`.
    pub seen_ms: i64,
    /// Highest reading so far.
    pub peak: MoisturePoint,
    /// Whether moisture rose by more than noise and drift can explain.
    pub risen: bool,
    /// Whether the irrigation signal was on.
    pub signalled: bool,
    /// Minutes for which the irrigation signal was on, ≥ 0.
    pub irrigation_min: f64,
}

impl WateringEvent {
    /// Rise from the onset to the peak, %, ≥ 0.
    #[must_use]
    pub fn rise_pct(&self) -> f64 {
        (self.peak.pct - self.onset.pct).max(0.0)
    }

    /// Rise in % per minute of irrigation. `None` with less than half a minute of irrigation.
    pub(super) fn irrigation_response(&self) -> Option<f64> {
        (self.irrigation_min >= 0.5).then(|| self.rise_pct() / self.irrigation_min)
    }

    /// Records that a rise from `trough` belongs to this watering. Moisture keeps falling until the
    /// water arrives, so the rise counts from the trough.
    pub(super) fn rise_from(&mut self, trough: MoisturePoint) {
        if !self.risen && trough.pct < self.onset.pct {
            self.onset.pct = trough.pct;
            self.peak = trough;
        }
        self.risen = true;
    }

    /// Whether a rise from `trough` belongs to this watering: after irrigation, water is on its
    /// way, and a shallow dip is not drying.
    pub(super) fn accepts_rise(&self, trough: MoisturePoint, rise_min_pct: f64) -> bool {
        let awaited = self.signalled && !self.risen;
        awaited || self.peak.pct - trough.pct <= rise_min_pct / 2.0
    }
}
