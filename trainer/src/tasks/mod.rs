//! What is predicted, exactly: one file a task.
//!
//! Every regression task learns a target that is known at T + horizon from
//! inputs that were known at T, and reports a level in the task's unit.

mod heating;
mod light;
mod temperature;
mod watering;

use std::collections::BTreeSet;

use telemetry::SmolStr;

use crate::{frame::ZoneFrame, settings::Comfort};

/// The names of all tasks, in the order in which they are compared.
pub const NAMES: [&str; 5] =
    ["temperature-10m", "watering", "light", "heating", crate::anomaly::NAME];

/// What a regression task is.
pub trait Task: Send + Sync {
    /// Its name in commands, paths and reports.
    fn name(&self) -> &'static str;
    /// What it says, for people.
    fn title(&self) -> &'static str;
    /// The unit of targets and predictions.
    fn unit(&self) -> &'static str;
    /// The error that models are compared by: `rmse` or `mae`.
    fn metric(&self) -> &'static str {
        "rmse"
    }
    /// When the target is known: seconds after the row's time. Also the
    /// embargo between parts of the split.
    fn horizon_s(&self) -> i64;
    /// Rows are taken this far apart; neighbours tell the same.
    fn step_s(&self) -> i64;
    /// Metrics without which the task has no meaning.
    fn metrics(&self) -> &'static [&'static str];
    /// Columns that targets are made from.
    fn target_columns(&self) -> &'static [&'static str];
    /// The inputs, given the feature columns that there are.
    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String>;
    /// What models learn for a row: the target, less the anchor where the
    /// task predicts a change. `None` where the future is not known.
    fn target(&self, frame: &ZoneFrame, row: usize, comfort: &Comfort) -> Option<f64>;
    /// The input whose value is added to what models say, if the task
    /// predicts a change.
    fn anchor(&self) -> Option<&'static str> {
        None
    }
    /// The values that a prediction can have, in the task's unit.
    fn bounds(&self) -> (f64, f64) {
        (f64::NEG_INFINITY, f64::INFINITY)
    }
    /// What any model must beat.
    fn baselines(&self) -> Vec<Baseline>;
}

/// A prediction without learning: `factor` × an input, or a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Its name in leaderboards.
    pub name: &'static str,
    /// The input; without one the baseline says 0.
    pub input: Option<&'static str>,
    /// What the input is multiplied with.
    pub factor: f64,
}

/// All regression tasks, in the order of [`NAMES`].
#[must_use]
pub fn all() -> Vec<Box<dyn Task>> {
    vec![
        Box::new(temperature::Temperature),
        Box::new(watering::Watering),
        Box::new(light::Light),
        Box::new(heating::Heating),
    ]
}

const HOUR_MS: i64 = 3_600_000;

/// Those of `names` that there are.
fn present(columns: &BTreeSet<SmolStr>, names: impl IntoIterator<Item = String>) -> Vec<String> {
    names.into_iter().filter(|name| columns.contains(name.as_str())).collect()
}

/// How a metric's windows differ from its newest value: trees learn changes
/// from these, where levels would only tell them the season.
fn anchored(columns: &BTreeSet<SmolStr>, metric: &str, windows: &[&str]) -> Vec<String> {
    let last = format!("{metric}_last");
    if !columns.contains(last.as_str()) {
        return Vec::new();
    }
    let mut inputs = Vec::new();
    for window in windows {
        for aggregate in ["mean", "min", "max", "first"] {
            let name = format!("{metric}_{aggregate}_{window}");
            if columns.contains(name.as_str()) {
                inputs.push(format!("{name} - {last}"));
            }
        }
        let own = ["slope", "std"].map(|aggregate| format!("{metric}_{aggregate}_{window}"));
        inputs.extend(present(columns, own));
    }
    inputs
}

/// The level and the trend of other metrics.
fn surroundings(columns: &BTreeSet<SmolStr>, metrics: &[&str], windows: &[&str]) -> Vec<String> {
    metrics
        .iter()
        .flat_map(|metric| {
            let mut names = vec![format!("{metric}_last")];
            for window in windows {
                names.push(format!("{metric}_mean_{window}"));
                names.push(format!("{metric}_slope_{window}"));
            }
            present(columns, names)
        })
        .collect()
}

/// The time of the day and the zone's climate.
fn circumstances(columns: &BTreeSet<SmolStr>) -> Vec<String> {
    present(columns, ["hour_sin", "hour_cos", "vpd_kpa"].map(str::to_owned))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Settings;

    /// Minute rows from 0 on with these columns.
    pub(crate) fn frame(rows: i64, columns: &[(&str, &dyn Fn(f64) -> f64)]) -> ZoneFrame {
        let at_ms: Vec<i64> = (0..rows).map(|minute| minute * 60_000).collect();
        let column = |of: &dyn Fn(f64) -> f64| (0..rows).map(|m| of(m as f64)).collect();
        let columns = columns.iter().map(|(name, of)| ((*name).into(), column(of))).collect();
        ZoneFrame::new("s/z".parse().unwrap(), at_ms, columns)
    }

    /// The target of a row, in the task's unit.
    pub(crate) fn target(task: &dyn Task, frame: &ZoneFrame, row: usize) -> Option<f64> {
        task.target(frame, row, &Settings::default().comfort)
    }

    #[test]
    fn no_input_looks_into_the_future_and_each_is_of_a_known_column() {
        let columns: BTreeSet<SmolStr> =
            ["temperature", "humidity", "co2", "light", "soil_moisture", "heater"]
                .iter()
                .flat_map(|metric| {
                    ["10m", "30m", "1h", "24h", "7d"]
                        .iter()
                        .flat_map(move |window| {
                            [
                                "count", "mean", "std", "min", "max", "first", "last", "delta",
                                "slope",
                            ]
                            .iter()
                            .map(move |aggregate| {
                                SmolStr::from(format!("{metric}_{aggregate}_{window}"))
                            })
                        })
                        .chain([SmolStr::from(format!("{metric}_last"))])
                })
                .collect();
        for task in all() {
            let inputs = task.inputs(&columns);
            assert!(inputs.len() > 5, "{}: {inputs:?}", task.name());
            let mut unique = inputs.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), inputs.len(), "{}: an input twice", task.name());
            for input in &inputs {
                for column in crate::input::Input::parse(input).columns() {
                    assert!(columns.contains(column), "{}: {column} of {input}", task.name());
                }
            }
            for baseline in task.baselines() {
                assert!(
                    baseline.input.is_none_or(|input| inputs.iter().any(|i| i == input)),
                    "{baseline:?}"
                );
            }
        }
    }
}
