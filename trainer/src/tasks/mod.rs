//! Prediction tasks: exact definitions, one file for each kind.
//!
//! Every regression task learns a target that is known at T + horizon from inputs that were known
//! at T, and reports a level in the task's unit.

mod applicability;
mod heating;
mod light;
mod temperature;
mod watering;

use std::{collections::BTreeSet, sync::Arc};

use models::{Estimator, classify, detect, regressors};
use ndarray::Array1;
use telemetry::SmolStr;

pub use applicability::{ConstantTarget, NotApplicable};
pub(crate) use applicability::{check_target_varies, without_rows};

use crate::{
    backtest::RowStatistic,
    duration_name,
    feature_frame::ZoneFrame,
    input::{InputExpression, PresentMetric},
    lag_columns,
    settings::ComfortSettings,
    target_transform::TargetTransform,
    training_set::LabelledRows,
};

/// Names of all tasks, in the order in which they are compared.
pub const NAMES: [&str; 13] = [
    "temperature-10m",
    "watering",
    "watering-6h",
    "watering-24h",
    "watering-start-2h",
    "light",
    "light-day",
    "light-night",
    "light-supplement",
    "heating",
    "cooling",
    "heating-class",
    crate::anomaly::TASK_NAME,
];

/// Fixed facts of a task, which determine its training, evaluation and service.
#[derive(Clone, Copy, Debug)]
pub struct TaskSpec {
    /// Name in commands, paths and reports.
    pub name: &'static str,
    /// Name of the first of the tasks that answer the same question; that name selects all of them.
    pub group: &'static str,
    /// Title of the predicted quantity, for people.
    pub title: &'static str,
    /// Unit of actual values and predictions.
    pub unit: &'static str,
    /// Error by which models are compared: `rmse` or `mae`.
    pub metric: &'static str,
    /// Time from a row until its actual value is known, s. Also the embargo between parts of the
    /// split.
    pub horizon_s: i64,
    /// Distance of the rows used, s; neighbouring rows carry the same information.
    pub step_s: i64,
    /// Metrics that the task requires.
    pub metrics: &'static [&'static str],
    /// Metric whose present value at T is required for a prediction.
    pub required_metric: Option<PresentMetric>,
    /// Columns from which actual values are computed.
    pub truth_columns: &'static [&'static str],
    /// Input from which a level is computed together with the model's output; 0 without one.
    pub reference: Option<&'static str>,
    /// Conversion between targets and levels.
    pub transform: TargetTransform,
    /// Bounds of predictions, in the task's unit.
    pub bounds: (f64, f64),
    /// Classes whose indices are predicted, if the task is a choice between classes. With two
    /// classes a prediction is the probability of the second, with more the mean class index.
    pub classes: &'static [&'static str],
    /// Metric whose own value at T + horizon is predicted, if it is that.
    pub forecast_metric: Option<&'static str>,
    /// Whether the task distinguishes day and night, and so needs the site's location.
    pub is_by_sun: bool,
}

impl TaskSpec {
    /// Facts of a task whose predictions may have any value.
    const ANY: Self = Self {
        name: "",
        group: "",
        title: "",
        unit: "",
        metric: "rmse",
        horizon_s: 0,
        step_s: 60,
        metrics: &[],
        required_metric: None,
        truth_columns: &[],
        reference: None,
        transform: TargetTransform::Change,
        bounds: (f64::NEG_INFINITY, f64::INFINITY),
        classes: &[],
        forecast_metric: None,
        is_by_sun: false,
    };

    /// Level, in the task's unit and within its bounds, that a model's output stands for.
    #[must_use]
    pub fn to_level(&self, output: f64, reference: f64) -> f64 {
        let (low, high) = self.bounds;
        self.transform.to_level(output, reference).clamp(low, high)
    }

    /// Levels of rows, with a reference value for each.
    pub(crate) fn transform_levels<'a>(
        &self,
        outputs: &Array1<f64>,
        references: impl IntoIterator<Item = &'a f64>,
    ) -> Array1<f64> {
        outputs
            .iter()
            .zip(references)
            .map(|(output, reference)| self.to_level(*output, *reference))
            .collect()
    }

    /// Class nearest to a prediction, if the task is a choice between classes.
    #[must_use]
    pub fn nearest_class(&self, value: f64) -> Option<&'static str> {
        let last = self.classes.len().checked_sub(1)?;
        Some(self.classes[(value.round().max(0.0) as usize).min(last)])
    }
}

/// Regression task: its facts, inputs, targets and baselines.
pub trait PredictionTask: Send + Sync {
    /// Fixed facts of the task.
    fn spec(&self) -> &TaskSpec;
    /// Inputs, given the available feature columns.
    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String>;
    /// Actual value of a row, in the task's unit, from the rows as they are known now. `None` while
    /// it is not known.
    fn actual_value(
        &self,
        corrected: &ZoneFrame,
        row: usize,
        comfort: &ComfortSettings,
    ) -> Option<f64>;
    /// Target of a row with this actual value and reference, so that [`TaskSpec::transform`]
    /// computes the level from it and the reference.
    fn training_target(
        &self,
        _: &ZoneFrame,
        _: usize,
        _: &ComfortSettings,
        (actual, reference): (f64, f64),
    ) -> Option<f64> {
        Some(actual - reference)
    }
    /// Whether the actual value of a row is only a lower bound: models learn from such rows and are
    /// not evaluated on them.
    fn is_censored(&self, _: &ZoneFrame, _: usize, _: &ComfortSettings) -> bool {
        false
    }
    /// Estimators that are compared.
    fn estimators(&self) -> Vec<Box<dyn Estimator>> {
        match self.spec().classes {
            [] => regressors::all_regressors(),
            classes => ordinal_regressors(classes),
        }
    }
    /// Scores besides the error, of the predicted levels of rows.
    fn extra_scores(&self, _: &[f64], _: &LabelledRows) -> Vec<(&'static str, RowStatistic)> {
        Vec::new()
    }
    /// Baselines that any model must beat.
    fn baselines(&self) -> Vec<TaskBaseline>;
    /// Explanation of an actual value that is the same in every row, for zones with these settings.
    fn describe_constant(&self, constant: f64, _: &[ComfortSettings]) -> ConstantTarget {
        let TaskSpec { title, unit, .. } = self.spec();
        ConstantTarget {
            what: format!("{title}: {constant} {unit} in every row"),
            hint: "a longer recording may have more to say, if the sensor is not stuck",
        }
    }
}

/// All classifiers as regressors of the class index.
fn ordinal_regressors(classes: &[&str]) -> Vec<Box<dyn Estimator>> {
    let class_names: Arc<[String]> = classes.iter().map(|class| (*class).to_owned()).collect();
    let numbered = |classifier| -> Box<dyn Estimator> {
        Box::new(classify::OrdinalRegressor { classifier, classes: class_names.clone() })
    };
    classify::all_classifiers().into_iter().map(numbered).collect()
}

/// Names of the requested tasks, given by their own or their group's name; all tasks if `names` is
/// empty.
#[must_use]
pub fn select_tasks(names: &[String]) -> Vec<&'static str> {
    let tasks = all_tasks();
    let group_of = |name: &str| {
        tasks.iter().find(|task| task.spec().name == name).map(|task| task.spec().group)
    };
    let is_requested = |task: &&str| {
        names.iter().any(|name| name == task || group_of(task).is_some_and(|group| name == group))
    };
    NAMES.into_iter().filter(|task| names.is_empty() || is_requested(task)).collect()
}

/// Names of the models of all tasks, each once.
#[must_use]
pub fn model_names() -> Vec<&'static str> {
    let all_regressors =
        regressors::all_regressors().into_iter().chain(regressors::amount_regressors());
    let mut names: Vec<&str> = all_regressors.map(|regressor| regressor.name()).collect();
    names.extend(classify::all_classifiers().iter().map(|classifier| classifier.name()));
    names.extend(detect::all_detectors().iter().map(|detector| detector.name()));
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

/// Prediction without learning: `factor` × an input, or a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskBaseline {
    /// Name in leaderboards.
    pub name: &'static str,
    /// Input; without one the baseline predicts 0.
    pub input: Option<&'static str>,
    /// Factor of the input.
    pub factor: f64,
}

/// All regression tasks, in the order of [`NAMES`].
#[must_use]
pub fn all_tasks() -> Vec<Box<dyn PredictionTask>> {
    vec![
        Box::new(temperature::TemperatureTask),
        Box::new(watering::HoursToCriticalTask),
        Box::new(watering::SoilMoistureTask::IN_6H),
        Box::new(watering::SoilMoistureTask::IN_24H),
        Box::new(watering::WateringStartTask),
        Box::new(light::MeanLightTask::OF_DAY_AND_NIGHT),
        Box::new(light::MeanLightTask::OF_DAY),
        Box::new(light::MeanLightTask::OF_NIGHT),
        Box::new(light::LightSupplementTask),
        Box::new(heating::DegreeMinutesTask::HEATING),
        Box::new(heating::DegreeMinutesTask::COOLING),
        Box::new(heating::HeatingClassTask),
    ]
}

const HOUR_MS: i64 = 3_600_000;

/// Those of `names` that can be computed from the columns.
fn available_inputs(
    columns: &BTreeSet<SmolStr>,
    names: impl IntoIterator<Item = String>,
) -> Vec<String> {
    let has = |column: &str| columns.contains(column);
    names.into_iter().filter(|name| InputExpression::parse(name).can_be_made_of(&has)).collect()
}

/// Available windows of a metric, in ascending order.
fn metric_windows(columns: &BTreeSet<SmolStr>, metric: &str) -> Vec<String> {
    let prefix = format!("{metric}_mean_");
    let mut found: Vec<(u64, String)> = columns
        .iter()
        .filter_map(|column| column.strip_prefix(prefix.as_str()))
        .filter_map(|window| Some((duration_name::parse_seconds(window)?, window.to_owned())))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, window)| window).collect()
}

/// Cost of acting on predictions: mean over all rows of the amount by which they exceed the actual
/// value, and of that by which they fall below it.
fn over_and_under_prediction(predictions: &[f64], rows: &LabelledRows) -> [RowStatistic; 2] {
    let actual_values = rows.actual_values();
    let errors =
        predictions.iter().zip(&actual_values).map(|(predicted, actual)| predicted - actual);
    let (above, below) = errors.map(|error| (error.max(0.0), (-error).max(0.0))).unzip();
    [RowStatistic::Mean(above), RowStatistic::Mean(below)]
}

/// Differences of a metric's windows up to `minutes_max` to its present value `now`: trees learn
/// changes from these, whereas levels would only tell them the season. Slopes and spreads are
/// changes in themselves.
fn relative_inputs(
    columns: &BTreeSet<SmolStr>,
    metric: &str,
    now: &str,
    minutes_max: u64,
) -> Vec<String> {
    let mut names = vec![format!("{metric}_last - {now}")];
    for window in metric_windows(columns, metric) {
        if duration_name::parse_seconds(&window).is_some_and(|seconds| seconds / 60 > minutes_max) {
            continue;
        }
        for aggregate in ["mean", "min", "max", "first"] {
            names.push(format!("{metric}_{aggregate}_{window} - {now}"));
        }
        names.extend(["slope", "std"].map(|aggregate| format!("{metric}_{aggregate}_{window}")));
    }
    names.retain(|name| *name != format!("{now} - {now}"));
    available_inputs(columns, names)
}

/// Course of the same hour yesterday, relative to its beginning and to `now`, because people and
/// machines keep regular hours.
fn yesterday_inputs(columns: &BTreeSet<SmolStr>, metric: &str, now: &str) -> Vec<String> {
    let hour = lag_columns::lag_column_name(&format!("{metric}_mean_1h"), "23h");
    let began = lag_columns::lag_column_name(&format!("{metric}_last"), "24h");
    available_inputs(columns, [format!("{hour} - {began}"), format!("{hour} - {now}")])
}

/// Levels, trends and spreads of other metrics over windows up to `minutes_max`.
fn other_metric_inputs(
    columns: &BTreeSet<SmolStr>,
    metrics: &[&str],
    minutes_max: u64,
) -> Vec<String> {
    metrics
        .iter()
        .flat_map(|metric| {
            let last = format!("{metric}_last");
            let mut names = relative_inputs(columns, metric, &last, minutes_max);
            names.retain(|name| !name.contains("_min_") && !name.contains("_max_"));
            names.extend(available_inputs(columns, [last]));
            names
        })
        .collect()
}

/// Time of the day and climate of the zone.
fn time_and_climate_inputs(columns: &BTreeSet<SmolStr>) -> Vec<String> {
    let names = ["hour_sin", "hour_cos", "is_day", "since_sunrise_min", "vpd_kpa"];
    available_inputs(columns, names.map(str::to_owned))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::TrainerSettings;

    /// Minute rows from 0 on with these columns.
    pub(crate) fn frame(rows: i64, columns: &[(&str, &dyn Fn(f64) -> f64)]) -> ZoneFrame {
        let at_ms: Vec<i64> = (0..rows).map(|minute| minute * 60_000).collect();
        let column = |of: &dyn Fn(f64) -> f64| (0..rows).map(|m| of(m as f64)).collect();
        let columns = columns.iter().map(|(name, of)| ((*name).into(), column(of))).collect();
        ZoneFrame::new("s/z".parse().unwrap(), at_ms, columns)
    }

    /// Actual value of a row, in the task's unit.
    pub(crate) fn actual_value_of(
        task: &dyn PredictionTask,
        frame: &ZoneFrame,
        row: usize,
    ) -> Option<f64> {
        task.actual_value(frame, row, &TrainerSettings::default().comfort)
    }

    #[test]
    fn inputs_are_of_known_columns_and_baselines_among_them() {
        let metrics = ["temperature", "humidity", "co2", "light", "light_day", "light_night"];
        let drying = ["since_watering_h", "slope_pct_h", "rate_pct_h"];
        let columns: BTreeSet<SmolStr> = metrics
            .iter()
            .chain(&["soil_moisture", "heater"])
            .flat_map(|metric| {
                ["1m", "10m", "30m", "1h", "6h", "24h", "48h", "7d"]
                    .iter()
                    .flat_map(move |window| {
                        ["count", "mean", "std", "min", "max", "first", "last", "delta", "slope"]
                            .iter()
                            .map(move |aggregate| {
                                SmolStr::from(format!("{metric}_{aggregate}_{window}"))
                            })
                    })
                    .chain([SmolStr::from(format!("{metric}_last"))])
                    .chain([SmolStr::from(format!("{metric}_age_s"))])
            })
            .chain(drying.map(|name| SmolStr::from(format!("drying_{name}"))))
            .collect();
        for task in all_tasks() {
            let inputs = task.input_names(&columns);
            assert!(inputs.len() > 5, "{}: {inputs:?}", task.spec().name);
            let mut unique = inputs.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), inputs.len(), "{}: an input occurs twice", task.spec().name);
            for input in &inputs {
                let is_made = InputExpression::parse(input)
                    .can_be_made_of(&|column| columns.contains(column));
                assert!(is_made, "{}: {input}", task.spec().name);
            }
            for baseline in task.baselines() {
                assert!(
                    baseline.input.is_none_or(|input| inputs.iter().any(|i| i == input)),
                    "{}: {baseline:?}",
                    task.spec().name
                );
            }
        }
    }

    #[test]
    fn a_prediction_is_of_the_nearest_class() {
        let check = |name: &str, value: f64, expect: Option<&str>| {
            let task = all_tasks().into_iter().find(|task| task.spec().name == name).unwrap();
            assert_eq!(task.spec().nearest_class(value), expect, "{name} {value}");
        };
        check("heating-class", 0.4, Some("heat"));
        check("heating-class", 0.6, Some("hold"));
        check("heating-class", 2.0, Some("cool"));
        check("watering-start-2h", 0.49, Some("no watering"));
        check("watering-start-2h", 0.51, Some("watering"));
        check("heating", 1.0, None);
    }

    #[test]
    fn a_group_is_asked_for_by_the_name_of_its_first_task() {
        let check = |names: &[&str], expect: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(select_tasks(&names), expect);
        };
        check(&["temperature-10m"], &["temperature-10m"]);
        check(&["watering"], &["watering", "watering-6h", "watering-24h", "watering-start-2h"]);
        check(&["anomaly", "cooling"], &["cooling", "anomaly"]);
        check(&[], &NAMES);
        for (task, name) in all_tasks().iter().zip(NAMES) {
            assert_eq!(task.spec().name, name);
            assert!(NAMES.contains(&task.spec().group), "{name}");
        }
    }
}
