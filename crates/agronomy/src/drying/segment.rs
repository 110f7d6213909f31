use serde::{Deserialize, Serialize};

use super::{
    MoisturePoint,
    decay_fit::{DecayCurve, DecayFitter},
    hours_between,
    regression_line::RegressionLine,
};

/// Readings since the last watering, as a line and as a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DryingSegment {
    start_ms: i64,
    last_ms: i64,
    line: RegressionLine,
    decay: DecayFitter,
}

impl DryingSegment {
    /// Creates a segment of one reading.
    pub(super) fn new(point: MoisturePoint) -> Self {
        let mut segment = Self {
            start_ms: point.ms,
            last_ms: point.ms,
            line: RegressionLine::default(),
            decay: DecayFitter::default(),
        };
        segment.add_reading(point);
        segment
    }

    /// Adds the next reading.
    pub(super) fn add_reading(&mut self, point: MoisturePoint) {
        let hour = hours_between(self.start_ms, point.ms);
        self.line.add_reading(hour, point.pct);
        self.decay.add_reading(hour, point.pct, &self.line);
        self.last_ms = point.ms;
    }

    /// Hours from the first reading to the last.
    pub(super) fn duration_h(&self) -> f64 {
        hours_between(self.start_ms, self.last_ms)
    }

    pub(super) const fn line(&self) -> &RegressionLine {
        &self.line
    }

    /// Exponential dry-down, once its time constant has passed. Before that, no bend can be seen.
    pub(super) fn dry_down_curve(&self) -> Option<DecayCurve> {
        self.decay.best_curve(&self.line).filter(|curve| self.duration_h() >= curve.tau_h)
    }
}
