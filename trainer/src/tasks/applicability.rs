//! Checks whether a task has anything to learn and to evaluate.

use std::fmt;

use serde::Serialize;

use super::PredictionTask;
use crate::{
    feature_frame::ZoneViews,
    folds::format_time,
    settings::{ComfortSettings, TrainerSettings},
    split::DataSplit,
    training_set::LabelledRows,
};

/// Reason why a task has no leaderboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotApplicable {
    /// Reason: what is missing.
    #[serde(rename = "not_applicable")]
    pub why: String,
    /// Hint on how to change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<String> for NotApplicable {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

impl fmt::Display for NotApplicable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.why)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

/// Checks that targets vary, at least in the test sets. Where they do not, any model that always
/// predicts the same is perfect, and models cannot be compared.
///
/// # Errors
/// States the constant target, in the task's own words.
pub(crate) fn check_target_varies(
    task: &dyn PredictionTask,
    folds: &[DataSplit],
    settings: &TrainerSettings,
) -> Result<(), NotApplicable> {
    let tests = || folds.iter().map(|parts| &parts.test);
    let Some(constant) = constant_target(tests()) else { return Ok(()) };
    let all = || folds.iter().flat_map(|parts| [&parts.known, &parts.test]);
    let is_always = constant_target(all()).is_some();
    let comforts: Vec<ComfortSettings> = {
        let mut zones: Vec<_> = tests().flat_map(|rows| &rows.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones.into_iter().map(|zone| settings.comfort_in(zone)).collect()
    };
    let ConstantTarget { what, hint } = task.describe_constant(constant, &comforts);
    let (first, last) = (&folds[0].spans, &folds[folds.len() - 1].spans);
    let why = if is_always {
        let (from, to) = (format_time(first.train.0), format_time(last.test.1));
        format!("{what} from {from} to {to}, so there is nothing to learn")
    } else {
        let (from, to) = (format_time(first.test.0), format_time(last.test.1));
        format!("{what} in the test part, from {from} to {to}, so there is nothing to judge by")
    };
    Err(NotApplicable { why, hint: Some(hint.to_owned()) })
}

/// Target of all rows, if it is constant.
fn constant_target<'a>(parts: impl Iterator<Item = &'a LabelledRows>) -> Option<f64> {
    let mut targets = parts.flat_map(|rows| rows.actual_values().to_vec());
    let first = targets.next()?;
    // Subtracting and adding the reference value may change the last bits of a target.
    let within = 1e-9 * first.abs().max(1.0);
    targets.all(|target| (target - first).abs() <= within).then_some(first)
}

/// Description of a constant target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstantTarget {
    /// Observation, as in `no zone was below 20 °C`.
    pub what: String,
    /// Change that may help.
    pub hint: &'static str,
}

/// Reason why no row of these zones has a known target, if the reason is not a lack of time.
pub(crate) fn without_rows(
    task: &dyn PredictionTask,
    zones: &[&ZoneViews],
    why: String,
) -> NotApplicable {
    let is_null = |column: &str| {
        zones.iter().all(|zone| {
            let is_null_in = |frame: &crate::feature_frame::ZoneFrame| {
                frame.column(column).is_none_or(|values| values.iter().all(|value| value.is_nan()))
            };
            is_null_in(&zone.as_known) && is_null_in(&zone.as_corrected)
        })
    };
    let lacks_place = task.spec().is_by_sun
        && is_null("is_day")
        && task.spec().truth_columns.first().is_some_and(|column| is_null(column));
    if lacks_place {
        return NotApplicable {
            why:
                "no row has a known target: where the site is, and so when it is day, is not known"
                    .to_owned(),
            hint: Some("set engine.place of the feature store, degrees north and east".to_owned()),
        };
    }
    why.into()
}

/// Formats a range as `20 °C`, or `16 to 20 °C` where zones differ.
pub(super) fn format_range(
    comforts: &[ComfortSettings],
    setting: impl Fn(&ComfortSettings) -> f64,
    unit: &str,
) -> String {
    let values = || comforts.iter().map(&setting);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    if low < high { format!("{low} to {high} {unit}") } else { format!("{low} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::frame, *};
    use crate::{
        folds::{FoldPlan, split_folds},
        tasks,
    };

    fn task_by_name(name: &str) -> Box<dyn PredictionTask> {
        tasks::all_tasks().into_iter().find(|task| task.spec().name == name).unwrap()
    }

    /// Result of the check for four days of a zone with these columns.
    fn applicability_of_days(
        name: &str,
        columns: &[(&str, &dyn Fn(f64) -> f64)],
    ) -> Result<(), NotApplicable> {
        let (task, mut settings) = (task_by_name(name), TrainerSettings::default());
        settings.split.warm_up_s = 0;
        let zone = ZoneViews::without_late_readings(frame(4 * 1440, columns));
        let rows = LabelledRows::from_zones(task.as_ref(), [&zone], &[], &settings);
        let parts =
            split_folds(&rows, &rows, task.spec().horizon_s, &settings.split, &FoldPlan::default())
                .map_err(|why| without_rows(task.as_ref(), &[&zone], why))?;
        check_target_varies(task.as_ref(), &parts, &settings)
    }

    #[test]
    fn targets_that_never_change_make_a_task_not_applicable() {
        let check = |name: &str, temperature: &dyn Fn(f64) -> f64, expect: &[&str]| {
            let outcome = applicability_of_days(name, &[("temperature_last", temperature)]);
            let message =
                outcome.map_or_else(|reason| reason.to_string(), |()| "applies".to_owned());
            assert!(expect.iter().all(|part| message.contains(part)), "{name}: {message}");
        };
        let always = [
            "no zone was below 20 °C from 1970-01-01",
            "nothing to learn\nhint: set comfort.heat_below",
        ];
        check("heating", &|_| 22.0, &always);
        check("heating", &|m| 22.0 + (m / 300.0).sin(), &always);
        let cold_at_first = |m: f64| if m < 1440.0 { 18.0 } else { 22.0 };
        check(
            "heating",
            &cold_at_first,
            &["below 20 °C in the test part", "nothing to judge by\nhint"],
        );
        check("heating", &|m| 20.0 + (m / 300.0).sin(), &["applies"]);
        check(
            "heating-class",
            &|_| 22.0,
            &["no hour was below 20 °C or above 25 °C", "comfort.cool_above"],
        );
        check("temperature-10m", &|_| 22.1, &["temperature in 10 minutes: 22.1 °C in every row"]);
        check("temperature-10m", &|m| m, &["applies"]);
    }

    #[test]
    fn day_and_night_need_a_place() {
        let nan = |_: f64| f64::NAN;
        let why = applicability_of_days("light-day", &[("light_last", &|m| m), ("is_day", &nan)])
            .unwrap_err();
        assert!(why.why.contains("where the site is"), "{why}");
        assert!(why.hint.unwrap().contains("engine.place"));
        // With a location, or where day and night are known, only time is missing.
        for name in ["light-day", "light"] {
            let is_day: &dyn Fn(f64) -> f64 = if name == "light" { &nan } else { &|_| 1.0 };
            let why = applicability_of_days(name, &[("light_last", &|m| m), ("is_day", is_day)])
                .unwrap_err();
            assert!(why.why.contains("too short") && why.hint.is_none(), "{name}: {why}");
        }
    }
}
