use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{Baseline, Task, anchored, circumstances, surroundings};
use crate::{frame::ZoneFrame, settings::Comfort};

/// The zone's temperature ten minutes ahead.
///
/// Target: newest temperature at T + 10 min, °C, learnt as the change since T.
/// A row counts where both values are at most two minutes old. The baseline to
/// beat is linear extrapolation, not persistence.
pub(super) struct Temperature;

const HORIZON_S: i64 = 600;
/// A value older than this is no measurement of its time.
const AGE_S_MAX: f64 = 120.0;

impl Task for Temperature {
    fn name(&self) -> &'static str {
        "temperature-10m"
    }

    fn title(&self) -> &'static str {
        "temperature in 10 minutes"
    }

    fn unit(&self) -> &'static str {
        "°C"
    }

    fn horizon_s(&self) -> i64 {
        HORIZON_S
    }

    fn step_s(&self) -> i64 {
        60
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["temperature"]
    }

    fn target_columns(&self) -> &'static [&'static str] {
        &["temperature_last", "temperature_age_s"]
    }

    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        let mut inputs = anchored(columns, "temperature", &["10m", "1h", "24h"]);
        let others = ["humidity", "co2", "light", "motion", "heater", "outdoor_temperature"];
        inputs.extend(surroundings(columns, &others, &["10m", "1h"]));
        inputs.extend(circumstances(columns));
        inputs
    }

    fn target(&self, frame: &ZoneFrame, row: usize, _: &Comfort) -> Option<f64> {
        let fresh = |at_ms: i64| {
            // Where the store gives no age, a row without its minute's reading
            // cannot be told from one with it.
            let age = frame
                .column("temperature_age_s")
                .map_or(Some(0.0), |_| frame.value_at("temperature_age_s", at_ms))?;
            frame.value_at("temperature_last", at_ms).filter(|_| age <= AGE_S_MAX)
        };
        let at_ms = frame.at_ms[row];
        Some(fresh(at_ms + HORIZON_S * 1000)? - fresh(at_ms)?)
    }

    fn anchor(&self) -> Option<&'static str> {
        Some("temperature_last")
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
    use super::super::tests::{frame, target};
    use super::*;

    #[test]
    fn the_target_is_the_change_over_ten_minutes() {
        let rising = frame(30, &[("temperature_last", &|m| 20.0 + 0.1 * m)]);
        let got = target(&Temperature, &rising, 3).unwrap();
        assert!((got - 1.0).abs() < 1e-9, "{got}");
        assert_eq!(target(&Temperature, &rising, 20), None, "minute 30 is not known");
    }

    #[test]
    fn stale_values_are_no_targets() {
        let age = |m: f64| if m < 13.0 { 0.0 } else { 60.0 * (m - 12.0) };
        let stopped =
            frame(30, &[("temperature_last", &|m| m.min(12.0)), ("temperature_age_s", &age)]);
        assert!(target(&Temperature, &stopped, 4).is_some(), "two minutes old at minute 14");
        assert_eq!(target(&Temperature, &stopped, 5), None);
    }
}
