use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{About, Baseline, Task, anchored, circumstances, surroundings};
use crate::{frame::ZoneFrame, input::Metric, settings::Comfort};

/// The zone's temperature ten minutes ahead.
///
/// Target: the present temperature (see [`Metric::Temperature`]: mean of the
/// last minute) at T + 10 min, °C, learnt as the change since T. A row counts
/// where both are measured. The baseline to beat is linear extrapolation, not
/// persistence.
pub(super) struct Temperature;

const HORIZON_S: i64 = 600;
const ABOUT: About = About {
    name: "temperature-10m",
    group: "temperature-10m",
    title: "temperature in 10 minutes",
    unit: "°C",
    horizon_s: HORIZON_S,
    metrics: &["temperature"],
    present: Some(Metric::Temperature),
    truth_columns: &Metric::Temperature.columns(),
    anchor: Some("temperature_now"),
    ..About::ANY
};
/// Windows longer than a day hardly tell of ten minutes.
const WINDOW_MIN: u64 = 24 * 60;
const AROUND_MIN: u64 = 60;

impl Task for Temperature {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        let mut inputs = vec!["temperature_now".to_owned()];
        inputs.extend(anchored(columns, "temperature", "temperature_now", WINDOW_MIN));
        let others = ["humidity", "co2", "light", "motion", "heater", "outdoor_temperature"];
        inputs.extend(surroundings(columns, &others, AROUND_MIN));
        inputs.extend(circumstances(columns));
        inputs
    }

    fn truth(&self, came: &ZoneFrame, row: usize, _: &Comfort) -> Option<f64> {
        came.now(Metric::Temperature, came.at_ms[row] + HORIZON_S * 1000)
    }

    fn baselines(&self) -> Vec<Baseline> {
        vec![
            Baseline { name: "persistence", input: None, factor: 0.0 },
            // °C an hour, for a sixth of an hour
            Baseline {
                name: "linear extrapolation",
                input: Some("temperature_slope_10m"),
                factor: 1.0 / 6.0,
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{frame, truth};
    use super::*;

    #[test]
    fn the_truth_is_the_temperature_ten_minutes_later() {
        let rising = frame(30, &[("temperature_last", &|m| 20.0 + m)]);
        assert_eq!(truth(&Temperature, &rising, 3), Some(33.0));
        assert_eq!(truth(&Temperature, &rising, 20), None, "minute 30 is not known");
    }

    #[test]
    fn stale_values_are_no_truths() {
        let age = |m: f64| if m < 13.0 { 0.0 } else { 60.0 * (m - 12.0) };
        let stopped =
            frame(30, &[("temperature_last", &|m| m.min(12.0)), ("temperature_age_s", &age)]);
        assert!(truth(&Temperature, &stopped, 4).is_some(), "two minutes old at minute 14");
        assert_eq!(truth(&Temperature, &stopped, 5), None);
    }
}
