use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{Baseline, HOUR_MS, Task, circumstances, present};
use crate::{frame::ZoneFrame, settings::Comfort};

/// The light of the next 24 h.
///
/// Target: mean light over (T, T + 24 h], lux, that is, `light_mean_24h` of
/// the row at T + 24 h. A row counts where at least half of these 24 h was
/// measured.
pub(super) struct Light;

const COVERAGE_MIN: f64 = 50.0;

impl Task for Light {
    fn name(&self) -> &'static str {
        "light"
    }

    fn title(&self) -> &'static str {
        "light of the next 24 hours"
    }

    fn unit(&self) -> &'static str {
        "lux"
    }

    fn horizon_s(&self) -> i64 {
        24 * 3600
    }

    fn step_s(&self) -> i64 {
        600
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["light"]
    }

    fn target_columns(&self) -> &'static [&'static str] {
        &["light_mean_24h", "light_coverage_24h"]
    }

    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        let mut names = vec!["light_last".to_owned()];
        for window in ["10m", "1h", "24h", "7d"] {
            for aggregate in ["mean", "std", "max"] {
                names.push(format!("light_{aggregate}_{window}"));
            }
        }
        names.extend(
            ["temperature_mean_24h", "humidity_mean_24h", "motion_mean_24h"].map(str::to_owned),
        );
        let mut inputs = present(columns, names);
        inputs.extend(circumstances(columns));
        inputs
    }

    fn target(&self, frame: &ZoneFrame, row: usize, _: &Comfort) -> Option<f64> {
        let then_ms = frame.at_ms[row] + 24 * HOUR_MS;
        let coverage = match frame.column("light_coverage_24h") {
            Some(_) => frame.value_at("light_coverage_24h", then_ms)?,
            None => 100.0,
        };
        frame.value_at("light_mean_24h", then_ms).filter(|_| coverage >= COVERAGE_MIN)
    }

    fn bounds(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }

    fn baselines(&self) -> Vec<Baseline> {
        vec![
            Baseline { name: "as the last 24 h", input: Some("light_mean_24h"), factor: 1.0 },
            Baseline { name: "as the last 7 d", input: Some("light_mean_7d"), factor: 1.0 },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{frame, target};
    use super::*;

    #[test]
    fn the_target_is_the_mean_of_the_day_to_come() {
        let light =
            frame(2 * 1440, &[("light_mean_24h", &|m| m), ("light_coverage_24h", &|m| m / 28.80)]);
        assert_eq!(target(&Light, &light, 100), Some(1540.0));
        assert_eq!(target(&Light, &light, 1500), None, "not known yet");
        let sparse =
            frame(2 * 1440, &[("light_mean_24h", &|m| m), ("light_coverage_24h", &|_| 40.0)]);
        assert_eq!(target(&Light, &sparse, 100), None, "hardly measured");
    }
}
