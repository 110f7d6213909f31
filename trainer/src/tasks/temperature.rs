use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{
    PredictionTask, TaskBaseline, TaskSpec, other_metric_inputs, relative_inputs,
    time_and_climate_inputs,
};
use crate::{feature_frame::ZoneFrame, input::PresentMetric, settings::ComfortSettings};

/// Temperature of the zone ten minutes ahead.
///
/// Target: the present temperature (see [`PresentMetric::Temperature`]: mean of the last minute) at
/// T + 10 min, °C, learnt as the change since T. A row counts if both are measured. The baseline to
/// beat is linear extrapolation, not persistence.
pub(super) struct TemperatureTask;

const HORIZON_S: i64 = 600;
const TEMPERATURE_SPEC: TaskSpec = TaskSpec {
    name: "temperature-10m",
    group: "temperature-10m",
    title: "temperature in 10 minutes",
    unit: "°C",
    horizon_s: HORIZON_S,
    metrics: &["temperature"],
    required_metric: Some(PresentMetric::Temperature),
    forecast_metric: Some("temperature"),
    truth_columns: &PresentMetric::Temperature.source_columns(),
    reference: Some("temperature_now"),
    ..TaskSpec::ANY
};
/// Longest window of the temperature's inputs, min; longer windows hardly help with ten minutes.
const OWN_WINDOW_MIN: u64 = 24 * 60;
const OTHER_WINDOW_MIN: u64 = 60;

impl PredictionTask for TemperatureTask {
    fn spec(&self) -> &TaskSpec {
        &TEMPERATURE_SPEC
    }

    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        let mut inputs = vec!["temperature_now".to_owned()];
        inputs.extend(relative_inputs(columns, "temperature", "temperature_now", OWN_WINDOW_MIN));
        let others = ["humidity", "co2", "light", "motion", "heater", "outdoor_temperature"];
        inputs.extend(other_metric_inputs(columns, &others, OTHER_WINDOW_MIN));
        inputs.extend(time_and_climate_inputs(columns));
        inputs
    }

    fn actual_value(&self, corrected: &ZoneFrame, row: usize, _: &ComfortSettings) -> Option<f64> {
        corrected
            .present_value_at(PresentMetric::Temperature, corrected.at_ms[row] + HORIZON_S * 1000)
    }

    fn baselines(&self) -> Vec<TaskBaseline> {
        vec![
            TaskBaseline { name: "persistence", input: None, factor: 0.0 },
            // °C per hour, for a sixth of an hour
            TaskBaseline {
                name: "linear extrapolation",
                input: Some("temperature_slope_10m"),
                factor: 1.0 / 6.0,
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{actual_value_of, frame};
    use super::*;

    #[test]
    fn the_target_is_the_temperature_ten_minutes_later() {
        let rising = frame(30, &[("temperature_last", &|m| 20.0 + m)]);
        assert_eq!(actual_value_of(&TemperatureTask, &rising, 3), Some(33.0));
        assert_eq!(actual_value_of(&TemperatureTask, &rising, 20), None, "minute 30 is not known");
    }

    #[test]
    fn stale_values_are_no_targets() {
        let age = |m: f64| if m < 13.0 { 0.0 } else { 60.0 * (m - 12.0) };
        let stopped =
            frame(30, &[("temperature_last", &|m| m.min(12.0)), ("temperature_age_s", &age)]);
        assert!(
            actual_value_of(&TemperatureTask, &stopped, 4).is_some(),
            "two minutes old at minute 14"
        );
        assert_eq!(actual_value_of(&TemperatureTask, &stopped, 5), None);
    }
}
