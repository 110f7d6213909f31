use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{Baseline, Task, anchored, circumstances, surroundings};
use crate::{frame::ZoneFrame, settings::Comfort};

/// How much heating the next hour lacks: degree-minutes below the comfort band.
///
/// Target: Σ max(0, `comfort.heat_below` − temperature) over the minutes of
/// (T, T + 1 h], °C·min, from the newest temperature of each minute; minutes
/// without a row are taken as the mean of the others. A row counts where 50 of
/// the 60 minutes are known.
pub(super) struct Heating;

const MINUTES: i64 = 60;
const MINUTES_KNOWN_MIN: usize = 50;

impl Task for Heating {
    fn name(&self) -> &'static str {
        "heating"
    }

    fn title(&self) -> &'static str {
        "heating needs of the next hour"
    }

    fn unit(&self) -> &'static str {
        "°C·min"
    }

    fn horizon_s(&self) -> i64 {
        3600
    }

    fn step_s(&self) -> i64 {
        300
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["temperature"]
    }

    fn target_columns(&self) -> &'static [&'static str] {
        &["temperature_last"]
    }

    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        let mut inputs = vec!["degree_minutes_as_now".to_owned(), "temperature_last".to_owned()];
        inputs.extend(anchored(columns, "temperature", &["10m", "1h", "24h", "7d"]));
        let others = [
            "humidity",
            "co2",
            "light",
            "motion",
            "heater",
            "outdoor_temperature",
            "soil_moisture",
        ];
        inputs.extend(surroundings(columns, &others, &["1h", "24h"]));
        inputs.extend(circumstances(columns));
        inputs
    }

    fn target(&self, frame: &ZoneFrame, row: usize, comfort: &Comfort) -> Option<f64> {
        let at_ms = frame.at_ms[row];
        let missing: Vec<f64> = (1..=MINUTES)
            .filter_map(|minute| frame.value_at("temperature_last", at_ms + minute * 60_000))
            .map(|temperature| (comfort.heat_below - temperature).max(0.0))
            .collect();
        let known = missing.len();
        (known >= MINUTES_KNOWN_MIN)
            .then(|| missing.iter().sum::<f64>() * MINUTES as f64 / known as f64)
    }

    fn bounds(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }

    fn baselines(&self) -> Vec<Baseline> {
        vec![Baseline { name: "as now", input: Some("degree_minutes_as_now"), factor: 1.0 }]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{frame, target};
    use super::*;

    #[test]
    fn degree_minutes_of_the_hour_to_come() {
        let cold = frame(200, &[("temperature_last", &|m| if m <= 30.0 { 19.0 } else { 22.0 })]);
        assert_eq!(target(&Heating, &cold, 0), Some(30.0), "minutes 1 to 30, one degree each");
        assert_eq!(target(&Heating, &cold, 30), Some(0.0));
        assert_eq!(target(&Heating, &cold, 150), None, "49 minutes are known");
        assert_eq!(target(&Heating, &cold, 149), Some(0.0), "50 minutes are known");
    }
}
