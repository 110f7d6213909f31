use serde::{Deserialize, Serialize};

use super::{MoisturePoint, hours_between};

/// Measures how far moisture has risen since it last turned, beyond what drift can explain: a
/// one-sided cumulative sum of the steps minus the drift. Sources: E. S. Page, "Continuous
/// inspection schemes", Biometrika 41, 1954; M. Basseville, I. V. Nikiforov, "Detection of Abrupt
/// Changes", 1993, section 2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RiseDetector {
    /// The reading from which moisture rises.
    trough: Option<MoisturePoint>,
    pct: f64,
}

impl RiseDetector {
    /// Adds the next reading and returns the rise, %, and where it began.
    pub(super) fn add_reading(
        &mut self,
        last: MoisturePoint,
        point: MoisturePoint,
        drift_pct_h: f64,
    ) -> (f64, MoisturePoint) {
        let drift = drift_pct_h * hours_between(last.ms, point.ms);
        self.pct += point.pct - last.pct - drift;
        if self.pct <= 0.0 || self.trough.is_none() {
            self.restart_at(point);
        }
        (self.pct, self.trough.unwrap_or(point))
    }

    /// Restarts the sum at this reading.
    pub(super) fn restart_at(&mut self, point: MoisturePoint) {
        *self = Self { trough: Some(point), pct: 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes values an hour apart and expects the rise after the last one and the hour of the
    /// trough. Drift is 1 %/h.
    fn check(values: &[f64], rise_pct: f64, trough_h: i64) {
        let points: Vec<MoisturePoint> = (0..)
            .zip(values)
            .map(|(hour, pct)| MoisturePoint { ms: hour * 3_600_000, pct: *pct })
            .collect();
        let mut rise = RiseDetector::default();
        rise.restart_at(points[0]);
        let mut found = (0.0, points[0]);
        points.windows(2).for_each(|pair| found = rise.add_reading(pair[0], pair[1], 1.0));
        assert!((found.0 - rise_pct).abs() < 1e-9, "{values:?}: {found:?}");
        assert_eq!(found.1.ms, trough_h * 3_600_000, "{values:?}");
    }

    #[test]
    fn a_fast_rise_counts_and_drift_does_not() {
        check(&[20.0, 19.0, 18.0], 0.0, 2);
        check(&[20.0, 19.0, 30.0, 40.0], 19.0, 1);
        check(&[20.0, 20.9, 21.8, 22.7], 0.0, 3);
        check(&[20.0, 25.0, 21.0], 0.0, 2);
        check(&[20.0, 25.0, 24.0], 2.0, 0);
    }
}
