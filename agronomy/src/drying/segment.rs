use serde::{Deserialize, Serialize};

use super::{
    Point,
    decay::{Curve, Decay},
    hours,
    line::Line,
};

/// The readings since the last watering, as a line and as a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Segment {
    start_ms: i64,
    last_ms: i64,
    line: Line,
    decay: Decay,
}

impl Segment {
    /// A segment of one reading.
    pub(super) fn new(point: Point) -> Self {
        let mut segment = Self {
            start_ms: point.ms,
            last_ms: point.ms,
            line: Line::default(),
            decay: Decay::default(),
        };
        segment.take(point);
        segment
    }

    /// Takes the next reading.
    pub(super) fn take(&mut self, point: Point) {
        let hour = hours(self.start_ms, point.ms);
        self.line.take(hour, point.pct);
        self.decay.take(hour, point.pct, &self.line);
        self.last_ms = point.ms;
    }

    /// Hours from the first reading to the last.
    pub(super) fn hours(&self) -> f64 {
        hours(self.start_ms, self.last_ms)
    }

    pub(super) const fn line(&self) -> &Line {
        &self.line
    }

    /// The exponential dry-down, once its time constant has passed: what has
    /// not been seen to bend is not known to.
    pub(super) fn curve(&self) -> Option<Curve> {
        self.decay.curve(&self.line).filter(|curve| self.hours() >= curve.tau_h)
    }
}
