//! From what a model says to a level in the task's unit.

use serde::{Deserialize, Serialize};

use crate::input::{ComfortSide, degree_minutes};

/// When a straight line is at its mean over the minutes 1 to 60, hours.
pub const MEAN_AFTER_H: f64 = 30.5 / 60.0;

/// How a level is made of what a model says and of the anchor, which is an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetTransform {
    /// What is said is added to the anchor: a change.
    #[default]
    Change,
    /// What is said is how much the mean temperature of the next hour is above
    /// that of now, °C; the level is the degree-minutes outside of the comfort
    /// band on the straight line with that mean, °C·min. The anchor is how far the
    /// temperature of now is above this side's edge of the band, °C.
    ///
    /// Temperatures move smoothly across the edge of a band, degree-minutes have
    /// a bend there: a model of the former needs to learn less.
    HourOf(ComfortSide),
}

impl TargetTransform {
    /// The level, not yet within any bounds.
    ///
    /// ```
    /// use microclimate_trainer::{input::ComfortSide, link::TargetTransform};
    /// assert_eq!(Link::Change.level(0.5, 20.0), 20.5);
    /// // One degree too cold, and no change of it, for sixty minutes.
    /// assert_eq!(Link::HourOf(Side::Heating).level(0.0, -1.0), 60.0);
    /// ```
    #[must_use]
    pub fn to_level(self, said: f64, anchor: f64) -> f64 {
        match self {
            Self::Change => anchor + said,
            Self::HourOf(side) => {
                degree_minutes(|above| side.degrees_beyond_edge(above), anchor, said / MEAN_AFTER_H)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degree_minutes_of_a_line() {
        let check = |side, said, anchor, expect: f64| {
            let level = TargetTransform::HourOf(side).to_level(said, anchor);
            assert!((level - expect).abs() < 1e-9, "{level}, expected {expect}");
        };
        // From the edge one degree down within the hour: 1/60 + … + 60/60 degrees.
        check(ComfortSide::Heating, -MEAN_AFTER_H, 0.0, 30.5);
        check(ComfortSide::Heating, MEAN_AFTER_H, 0.0, 0.0);
        check(ComfortSide::Cooling, MEAN_AFTER_H, 0.0, 30.5);
        check(ComfortSide::Cooling, 0.0, -0.1, 0.0);
        // One degree up, the first half of the hour below the edge.
        check(ComfortSide::Heating, MEAN_AFTER_H, -0.5, (1..30).map(|m| f64::from(m) / 60.0).sum());
        assert!(TargetTransform::HourOf(ComfortSide::Heating).to_level(f64::NAN, 0.0).is_nan());
        assert!(TargetTransform::HourOf(ComfortSide::Heating).to_level(0.0, f64::NAN).is_nan());
    }
}
