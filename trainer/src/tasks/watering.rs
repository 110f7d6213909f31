use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{Baseline, HOUR_MS, Task, anchored, circumstances, present, surroundings};
use crate::{frame::ZoneFrame, input::HOURS_MAX, settings::Comfort};

/// Hours until soil moisture falls to the zone's critical value.
///
/// Target: hours from T to the first row at which the driest reading of the
/// last 30 minutes (a zone may have several probes, and its driest plants wait
/// for no other) is at or below `comfort.soil_moisture_critical`, censored at
/// 48 h. Watering in
/// between counts: it is the time until it is really dry, whatever was done.
/// A row counts where the crossing, or else all of the next 48 h, is known.
pub(super) struct Watering;

/// The column that must not fall to the critical value.
const DRIEST: &str = "soil_moisture_min_30m";

impl Task for Watering {
    fn name(&self) -> &'static str {
        "watering"
    }

    fn title(&self) -> &'static str {
        "hours until it must be watered"
    }

    fn unit(&self) -> &'static str {
        "h"
    }

    fn metric(&self) -> &'static str {
        "mae"
    }

    fn horizon_s(&self) -> i64 {
        48 * 3600
    }

    fn step_s(&self) -> i64 {
        600
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["soil_moisture"]
    }

    fn target_columns(&self) -> &'static [&'static str] {
        &[DRIEST]
    }

    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        let mut inputs = vec!["linear_hours_to_critical".to_owned()];
        inputs.extend(present(columns, [DRIEST, "soil_moisture_last"].map(str::to_owned)));
        inputs.extend(anchored(columns, "soil_moisture", &["30m", "1h", "24h", "7d"]));
        let others = ["temperature", "humidity", "light", "irrigation", "soil_temperature"];
        inputs.extend(surroundings(columns, &others, &["1h", "24h"]));
        inputs.extend(circumstances(columns));
        inputs
    }

    fn target(&self, frame: &ZoneFrame, row: usize, comfort: &Comfort) -> Option<f64> {
        let moisture = frame.column(DRIEST)?;
        let start_ms = frame.at_ms[row];
        let hours = |at_ms: i64| (at_ms - start_ms) as f64 / HOUR_MS as f64;
        let end_ms = start_ms + self.horizon_s() * 1000;
        let crossing = (row..moisture.len())
            .take_while(|i| frame.at_ms[*i] <= end_ms)
            .find(|i| moisture[*i] <= comfort.soil_moisture_critical);
        match crossing {
            Some(i) => Some(hours(frame.at_ms[i])),
            None => frame.at_ms.last().is_some_and(|last| *last >= end_ms).then_some(HOURS_MAX),
        }
    }

    fn bounds(&self) -> (f64, f64) {
        (0.0, HOURS_MAX)
    }

    fn baselines(&self) -> Vec<Baseline> {
        vec![Baseline {
            name: "linear drying",
            input: Some("linear_hours_to_critical"),
            factor: 1.0,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{frame, target};
    use super::*;

    #[test]
    fn hours_to_the_crossing_censored_at_48() {
        // one percent an hour from 90 %: critical (30 %) after 60 h
        let drying = frame(70 * 60, &[("soil_moisture_min_30m", &|m| 90.0 - m / 60.0)]);
        assert_eq!(target(&Watering, &drying, 50 * 60), Some(10.0));
        assert_eq!(target(&Watering, &drying, 0), Some(48.0));
        assert_eq!(target(&Watering, &drying, 65 * 60), Some(0.0));
        let unknown = frame(20 * 60, &[("soil_moisture_min_30m", &|_| 50.0)]);
        assert_eq!(target(&Watering, &unknown, 0), None, "the next 48 h are not known");
    }
}
