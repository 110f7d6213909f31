use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{
    ConstantTarget, HOUR_MS, PredictionTask, TaskBaseline, TaskSpec, available_inputs,
    over_and_under_prediction, time_and_climate_inputs,
};
use crate::{
    backtest::RowStatistic, feature_frame::ZoneFrame, settings::ComfortSettings,
    training_set::LabelledRows,
};

const COVERAGE_MIN: f64 = 50.0;

/// Facts that all light tasks share.
const NEXT_DAY: TaskSpec = TaskSpec {
    group: "light",
    horizon_s: 24 * 3600,
    step_s: 600,
    metrics: &["light"],
    ..TaskSpec::ANY
};
const MEAN: TaskSpec = TaskSpec { unit: "lux", bounds: (0.0, f64::INFINITY), ..NEXT_DAY };
const SUPPLEMENT: TaskSpec = TaskSpec {
    name: "light-supplement",
    title: "hours of lamps in the next 24 hours",
    unit: "h",
    metric: "mae",
    truth_columns: &["light_mean_24h", "light_coverage_24h"],
    bounds: (0.0, 24.0),
    ..NEXT_DAY
};

/// Mean light of the next 24 h, of its day, or of its night.
///
/// Target: mean light over (T, T + 24 h], lux, that is, `light_mean_24h` of the row at T + 24 h (or
/// `light_day_mean_24h` or `light_night_mean_24h`, the mean of the readings by day or by night).
/// Models learn its change from that of the last 24 h. A row counts if at least half of these 24 h
/// was measured.
pub(super) struct MeanLightTask {
    spec: TaskSpec,
    /// Prefix of the metric's columns.
    metric: &'static str,
    column: &'static str,
    /// Baselines: name, and input with the difference of a longer window to the last 24 h.
    baselines: &'static [(&'static str, &'static str)],
}

/// Hours for which lamps must shine to give plants the light that they need.
///
/// Target: hours of lamps in (T, T + 24 h]: (target of the daily light integral − integral of the
/// mean light) / what the lamps give in an hour, 0 to 24, from `comfort.crop` or
/// `comfort.dli_target`, `comfort.ppfd_per_lux` and `comfort.lamp_ppfd`. Light that the lamps gave
/// in that time counts as light. A row counts as in [`MeanLightTask`].
pub(super) struct LightSupplementTask;

/// Inputs of the light tasks: windows of the light, and of other metrics.
fn light_inputs(columns: &BTreeSet<SmolStr>, metric: &str) -> Vec<String> {
    let mut names = Vec::new();
    for window in ["10m", "1h", "24h", "48h", "7d"] {
        for aggregate in ["mean", "std", "max"] {
            names.push(format!("{metric}_{aggregate}_{window}"));
        }
    }
    for window in ["48h", "7d"] {
        names.push(format!("{metric}_mean_{window} - {metric}_mean_24h"));
    }
    if metric != "light" {
        names.extend(["light_mean_24h", "light_mean_48h", "light_mean_7d"].map(str::to_owned));
    }
    let around = ["light_last", "temperature_mean_24h", "humidity_mean_24h", "motion_mean_24h"];
    names.extend(around.map(str::to_owned));
    let mut inputs = available_inputs(columns, names);
    inputs.extend(time_and_climate_inputs(columns));
    inputs
}

/// Value of a column of 24 h, a day after a row.
fn value_in_a_day(frame: &ZoneFrame, row: usize, column: &str) -> Option<f64> {
    let then_ms = frame.at_ms[row] + 24 * HOUR_MS;
    let coverage = match frame.column("light_coverage_24h") {
        Some(_) => frame.value_at("light_coverage_24h", then_ms)?,
        None => 100.0,
    };
    frame.value_at(column, then_ms).filter(|_| coverage >= COVERAGE_MIN)
}

impl MeanLightTask {
    pub(super) const OF_DAY_AND_NIGHT: Self = Self {
        spec: TaskSpec {
            name: "light",
            title: "light of the next 24 hours",
            truth_columns: &["light_mean_24h", "light_coverage_24h"],
            reference: Some("light_mean_24h"),
            ..MEAN
        },
        metric: "light",
        column: "light_mean_24h",
        baselines: &[
            ("mean of two days", "light_mean_48h - light_mean_24h"),
            ("as the last 7 d", "light_mean_7d - light_mean_24h"),
        ],
    };
    pub(super) const OF_DAY: Self = Self {
        spec: TaskSpec {
            name: "light-day",
            title: "light by day of the next 24 hours",
            truth_columns: &["light_day_mean_24h", "light_coverage_24h"],
            reference: Some("light_day_mean_24h"),
            is_by_sun: true,
            ..MEAN
        },
        metric: "light_day",
        column: "light_day_mean_24h",
        baselines: &[("mean of two days", "light_day_mean_48h - light_day_mean_24h")],
    };
    pub(super) const OF_NIGHT: Self = Self {
        spec: TaskSpec {
            name: "light-night",
            title: "light by night of the next 24 hours",
            truth_columns: &["light_night_mean_24h", "light_coverage_24h"],
            reference: Some("light_night_mean_24h"),
            is_by_sun: true,
            ..MEAN
        },
        metric: "light_night",
        column: "light_night_mean_24h",
        baselines: &[("mean of two days", "light_night_mean_48h - light_night_mean_24h")],
    };
}

impl PredictionTask for MeanLightTask {
    fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        light_inputs(columns, self.metric)
    }

    fn actual_value(&self, corrected: &ZoneFrame, row: usize, _: &ComfortSettings) -> Option<f64> {
        value_in_a_day(corrected, row, self.column)
    }

    fn baselines(&self) -> Vec<TaskBaseline> {
        let mut all = vec![TaskBaseline { name: "as the last 24 h", input: None, factor: 0.0 }];
        let baseline = |(name, input): &(&'static str, &'static str)| TaskBaseline {
            name,
            input: Some(input),
            factor: 1.0,
        };
        all.extend(self.baselines.iter().map(baseline));
        all
    }
}

impl PredictionTask for LightSupplementTask {
    fn spec(&self) -> &TaskSpec {
        &SUPPLEMENT
    }

    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        let by_windows =
            ["24h", "48h", "7d"].map(|window| format!("supplement_hours_by_light_mean_{window}"));
        let mut all = available_inputs(columns, by_windows);
        all.extend(light_inputs(columns, "light"));
        all
    }

    fn actual_value(
        &self,
        corrected: &ZoneFrame,
        row: usize,
        comfort: &ComfortSettings,
    ) -> Option<f64> {
        value_in_a_day(corrected, row, "light_mean_24h").map(|lux| comfort.supplement_hours(lux))
    }

    /// Hours for which lamps that follow the prediction would shine in vain, and hours that they
    /// would leave lacking.
    fn extra_scores(
        &self,
        predictions: &[f64],
        rows: &LabelledRows,
    ) -> Vec<(&'static str, RowStatistic)> {
        let [in_vain, lacking] = over_and_under_prediction(predictions, rows);
        vec![("in_vain", in_vain), ("lacking", lacking)]
    }

    fn baselines(&self) -> Vec<TaskBaseline> {
        let by = |name, input| TaskBaseline { name, input: Some(input), factor: 1.0 };
        vec![
            by("as the last 24 h", "supplement_hours_by_light_mean_24h"),
            by("mean of two days", "supplement_hours_by_light_mean_48h"),
        ]
    }

    fn describe_constant(&self, constant: f64, _: &[ComfortSettings]) -> ConstantTarget {
        let what = if constant == 0.0 {
            "each day brought the light that is wanted, and no lamp was to be lit".to_owned()
        } else {
            format!("lamps were to be lit for {constant} h of each day")
        };
        let hint = "set comfort.dli_target or comfort.crop to the light that is wanted, and \
                    comfort.lamp_ppfd and comfort.ppfd_per_lux to what lamps and sun give";
        ConstantTarget { what, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{actual_value_of, frame};
    use super::*;

    #[test]
    fn the_target_is_the_mean_of_the_next_day() {
        let light =
            frame(2 * 1440, &[("light_mean_24h", &|m| m), ("light_coverage_24h", &|m| m / 28.80)]);
        let task = MeanLightTask::OF_DAY_AND_NIGHT;
        assert_eq!(actual_value_of(&task, &light, 100), Some(1540.0));
        assert_eq!(actual_value_of(&task, &light, 1500), None, "not known yet");
        let sparse =
            frame(2 * 1440, &[("light_mean_24h", &|m| m), ("light_coverage_24h", &|_| 40.0)]);
        assert_eq!(actual_value_of(&task, &sparse, 100), None, "hardly measured");
        let night = frame(2 * 1440, &[("light_night_mean_24h", &|m| 3.0 * m)]);
        assert_eq!(actual_value_of(&MeanLightTask::OF_NIGHT, &night, 100), Some(4620.0));
        assert_eq!(
            actual_value_of(&MeanLightTask::OF_DAY, &night, 100),
            None,
            "there is no such column"
        );
    }

    #[test]
    fn lamps_make_up_for_the_day_to_come() {
        let dim = frame(2 * 1440, &[("light_mean_24h", &|m| if m < 1440.0 { 5e4 } else { 5e3 })]);
        let hours = actual_value_of(&LightSupplementTask, &dim, 0).unwrap();
        assert!((hours - (17.0 - 7.992) / 0.54).abs() < 1e-9, "{hours}");
        let bright = frame(2 * 1440, &[("light_mean_24h", &|_| 5e4)]);
        assert_eq!(actual_value_of(&LightSupplementTask, &bright, 0), Some(0.0));
    }
}
