//! Transforms a model's output to a level in the task's unit.

use serde::{Deserialize, Serialize};

use crate::input::{ComfortSide, degree_minutes};

/// Time at which a straight line reaches its mean over the minutes 1 to 60, hours.
pub const MEAN_AFTER_H: f64 = 30.5 / 60.0;

/// Transform from a model's output and the reference value, which is an input, to a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetTransform {
    /// The output is a change that is added to the reference value.
    #[default]
    Change,
    /// The output is the difference of the mean temperature of the next hour from the present one,
    /// °C. The level is the degree-minutes outside the comfort band on the straight line with that
    /// mean, °C·min. The reference value is the distance of the present temperature above this
    /// side's edge of the band, °C.
    ///
    /// Temperatures vary smoothly across the edge of a band, where degree-minutes have a bend. So a
    /// model of temperatures needs to learn less.
    HourOf(ComfortSide),
}

impl TargetTransform {
    /// The level, before bounds are applied.
    ///
    /// ```
    /// use microclimate_trainer::{input::ComfortSide, target_transform::TargetTransform};
    /// assert_eq!(TargetTransform::Change.to_level(0.5, 20.0), 20.5);
    /// // One degree too cold, without a change, for sixty minutes.
    /// assert_eq!(TargetTransform::HourOf(ComfortSide::Heating).to_level(0.0, -1.0), 60.0);
    /// ```
    #[must_use]
    pub fn to_level(self, output: f64, reference: f64) -> f64 {
        match self {
            Self::Change => reference + output,
            Self::HourOf(side) => degree_minutes(
                |above| side.degrees_beyond_edge(above),
                reference,
                output / MEAN_AFTER_H,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degree_minutes_of_a_line() {
        let check = |side, output, reference, expect: f64| {
            let level = TargetTransform::HourOf(side).to_level(output, reference);
            assert!((level - expect).abs() < 1e-9, "{level}, expected {expect}");
        };
        // From the edge, one degree down within the hour: 1/60 + … + 60/60 degrees.
        check(ComfortSide::Heating, -MEAN_AFTER_H, 0.0, 30.5);
        check(ComfortSide::Heating, MEAN_AFTER_H, 0.0, 0.0);
        check(ComfortSide::Cooling, MEAN_AFTER_H, 0.0, 30.5);
        check(ComfortSide::Cooling, 0.0, -0.1, 0.0);
        // One degree up, with the first half of the hour below the edge.
        check(ComfortSide::Heating, MEAN_AFTER_H, -0.5, (1..30).map(|m| f64::from(m) / 60.0).sum());
        assert!(TargetTransform::HourOf(ComfortSide::Heating).to_level(f64::NAN, 0.0).is_nan());
        assert!(TargetTransform::HourOf(ComfortSide::Heating).to_level(0.0, f64::NAN).is_nan());
    }
}
