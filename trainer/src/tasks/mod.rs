//! What is predicted, exactly: one file a task.
//!
//! Every regression task learns a target that is known at T + horizon from
//! inputs that were known at T, and reports a level in the task's unit.

mod applicable;
mod heating;
mod light;
mod temperature;
mod watering;

use std::{collections::BTreeSet, sync::Arc};

use models::{Estimator, classify, detect, zoo};
use ndarray::Array1;
use telemetry::SmolStr;

pub use applicable::{NotApplicable, Unchanging};
pub(crate) use applicable::{changes, without_rows};

use crate::{
    backtest::Statistic,
    earlier,
    frame::ZoneFrame,
    input::{Input, Metric},
    link::Link,
    rows::Rows,
    settings::Comfort,
    width,
};

/// The names of all tasks, in the order in which they are compared.
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
    crate::anomaly::NAME,
];

/// What is fixed of a task, by which all else goes.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name in commands, paths and reports.
    pub name: &'static str,
    /// The name of the first of the tasks that answer the same question; asked
    /// for by that name, all of them are compared.
    pub group: &'static str,
    /// What it says, for people.
    pub title: &'static str,
    /// The unit of truths and predictions.
    pub unit: &'static str,
    /// The error that models are compared by: `rmse` or `mae`.
    pub metric: &'static str,
    /// When the truth is known: seconds after the row's time. Also the embargo
    /// between parts of the split.
    pub horizon_s: i64,
    /// Rows are taken this far apart; neighbours tell the same.
    pub step_s: i64,
    /// Metrics without which the task has no meaning.
    pub metrics: &'static [&'static str],
    /// The metric without whose present value at T nothing is predicted.
    pub present: Option<Metric>,
    /// Columns that truths are made from.
    pub truth_columns: &'static [&'static str],
    /// The input that a level is made with, beside what models say; 0 where there is
    /// none.
    pub anchor: Option<&'static str>,
    /// How it is made.
    pub link: Link,
    /// The values that a prediction can have, in the task's unit.
    pub bounds: (f64, f64),
    /// The classes whose numbers are predicted, if it is a choice between some:
    /// with two, a prediction is the probability of the second; with more, the
    /// mean class number.
    pub classes: &'static [&'static str],
    /// Whether it tells day from night, and so needs the site's place.
    pub is_by_sun: bool,
}

impl About {
    /// Of a number that may have any value.
    const ANY: Self = Self {
        name: "",
        group: "",
        title: "",
        unit: "",
        metric: "rmse",
        horizon_s: 0,
        step_s: 60,
        metrics: &[],
        present: None,
        truth_columns: &[],
        anchor: None,
        link: Link::Change,
        bounds: (f64::NEG_INFINITY, f64::INFINITY),
        classes: &[],
        is_by_sun: false,
    };

    /// The level, in the task's unit and within its bounds, that it comes to when a
    /// model says `said`.
    #[must_use]
    pub fn level(&self, said: f64, anchor: f64) -> f64 {
        let (low, high) = self.bounds;
        self.link.level(said, anchor).clamp(low, high)
    }

    /// The same of rows, with an anchor for each.
    pub(crate) fn levels<'a>(
        &self,
        said: &Array1<f64>,
        anchors: impl IntoIterator<Item = &'a f64>,
    ) -> Array1<f64> {
        said.iter().zip(anchors).map(|(said, anchor)| self.level(*said, *anchor)).collect()
    }

    /// The class that a prediction is nearest to, if it is a choice between some.
    #[must_use]
    pub fn class(&self, value: f64) -> Option<&'static str> {
        let last = self.classes.len().checked_sub(1)?;
        Some(self.classes[(value.round().max(0.0) as usize).min(last)])
    }
}

/// What a regression task is.
pub trait Task: Send + Sync {
    /// What is fixed of it.
    fn about(&self) -> &About;
    /// The inputs, given the feature columns that there are.
    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String>;
    /// What came of a row, in the task's unit, by rows as they are known now.
    /// `None` where the future is not known.
    fn truth(&self, came: &ZoneFrame, row: usize, comfort: &Comfort) -> Option<f64>;
    /// What models learn of a row with that truth, so that [`About::link`] makes a
    /// level of it with the anchor.
    fn learnt(
        &self,
        _: &ZoneFrame,
        _: usize,
        _: &Comfort,
        (truth, anchor): (f64, f64),
    ) -> Option<f64> {
        Some(truth - anchor)
    }
    /// Whether the truth of a row is a lower bound of what came: models learn
    /// from such rows and are not judged by them.
    fn is_censored(&self, _: &ZoneFrame, _: usize, _: &Comfort) -> bool {
        false
    }
    /// The models that are compared.
    fn estimators(&self) -> Vec<Box<dyn Estimator>> {
        match self.about().classes {
            [] => zoo::regressors(),
            classes => numbered(classes),
        }
    }
    /// Scores beside the error, of levels that were said of rows.
    fn scores(&self, _: &[f64], _: &Rows) -> Vec<(&'static str, Statistic)> {
        Vec::new()
    }
    /// What any model must beat.
    fn baselines(&self) -> Vec<Baseline>;
    /// What it means that the truth of every row is `truth`, of zones with these
    /// settings.
    fn unchanging(&self, truth: f64, _: &[Comfort]) -> Unchanging {
        let About { title, unit, .. } = self.about();
        Unchanging {
            what: format!("{title}: {truth} {unit} in every row"),
            hint: "a longer recording may have more to say, if the sensor is not stuck",
        }
    }
}

/// Every classifier, as a regressor of the class's number.
fn numbered(classes: &[&str]) -> Vec<Box<dyn Estimator>> {
    let classes: Arc<[String]> = classes.iter().map(|class| (*class).to_owned()).collect();
    let numbered = |classifier| -> Box<dyn Estimator> {
        Box::new(classify::Numbered { classifier, classes: classes.clone() })
    };
    classify::classifiers().into_iter().map(numbered).collect()
}

/// The names of the tasks that are asked for, by their own or their group's
/// names; all, where none is.
#[must_use]
pub fn asked(names: &[String]) -> Vec<&'static str> {
    let tasks = all();
    let group = |name: &str| {
        tasks.iter().find(|task| task.about().name == name).map(|task| task.about().group)
    };
    let is_asked = |own: &&str| {
        names.iter().any(|name| name == own || group(own).is_some_and(|group| name == group))
    };
    NAMES.into_iter().filter(|own| names.is_empty() || is_asked(own)).collect()
}

/// The names of the models of all tasks, each once.
#[must_use]
pub fn models() -> Vec<&'static str> {
    let regressors = zoo::regressors().into_iter().chain(zoo::of_amounts());
    let mut names: Vec<&str> = regressors.map(|own| own.name()).collect();
    names.extend(classify::classifiers().iter().map(|own| own.name()));
    names.extend(detect::detectors().iter().map(|own| own.name()));
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names
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
        Box::new(watering::HoursToCritical),
        Box::new(watering::Moisture::IN_6H),
        Box::new(watering::Moisture::IN_24H),
        Box::new(watering::Start),
        Box::new(light::Mean::OF_DAY_AND_NIGHT),
        Box::new(light::Mean::OF_DAY),
        Box::new(light::Mean::OF_NIGHT),
        Box::new(light::Supplement),
        Box::new(heating::DegreeMinutes::HEATING),
        Box::new(heating::DegreeMinutes::COOLING),
        Box::new(heating::Class),
    ]
}

const HOUR_MS: i64 = 3_600_000;

/// Those of `names` that can be made.
fn made_of(columns: &BTreeSet<SmolStr>, names: impl IntoIterator<Item = String>) -> Vec<String> {
    let has = |column: &str| columns.contains(column);
    names.into_iter().filter(|name| Input::parse(name).is_made_of(&has)).collect()
}

/// The windows of a metric that there are, narrow ones first.
fn windows(columns: &BTreeSet<SmolStr>, metric: &str) -> Vec<String> {
    let prefix = format!("{metric}_mean_");
    let mut found: Vec<(u64, String)> = columns
        .iter()
        .filter_map(|column| column.strip_prefix(prefix.as_str()))
        .filter_map(|window| Some((width::seconds(window)?, window.to_owned())))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, window)| window).collect()
}

/// What it costs to act on what was said: by how much it is above what came, and
/// below, in the mean over all rows.
fn above_and_below(said: &[f64], rows: &Rows) -> [Statistic; 2] {
    let truth = rows.truth();
    let errors = said.iter().zip(&truth).map(|(said, truth)| said - truth);
    let (above, below) = errors.map(|error| (error.max(0.0), (-error).max(0.0))).unzip();
    [Statistic::Mean(above), Statistic::Mean(below)]
}

/// How a metric's windows up to `minutes_max` differ from its present value
/// `now`: trees learn changes from these, where levels would only tell them the
/// season. Slopes and spreads are changes by themselves.
fn anchored(columns: &BTreeSet<SmolStr>, metric: &str, now: &str, minutes_max: u64) -> Vec<String> {
    let mut names = vec![format!("{metric}_last - {now}")];
    for window in windows(columns, metric) {
        if width::seconds(&window).is_some_and(|seconds| seconds / 60 > minutes_max) {
            continue;
        }
        for aggregate in ["mean", "min", "max", "first"] {
            names.push(format!("{metric}_{aggregate}_{window} - {now}"));
        }
        names.extend(["slope", "std"].map(|aggregate| format!("{metric}_{aggregate}_{window}")));
    }
    names.retain(|name| *name != format!("{now} - {now}"));
    made_of(columns, names)
}

/// How the same hour went yesterday, from where it began and from `now`: people
/// and machines keep hours.
fn yesterday(columns: &BTreeSet<SmolStr>, metric: &str, now: &str) -> Vec<String> {
    let hour = earlier::named(&format!("{metric}_mean_1h"), "23h");
    let began = earlier::named(&format!("{metric}_last"), "24h");
    made_of(columns, [format!("{hour} - {began}"), format!("{hour} - {now}")])
}

/// Level, trend and spread of other metrics over windows up to `minutes_max`.
fn surroundings(columns: &BTreeSet<SmolStr>, metrics: &[&str], minutes_max: u64) -> Vec<String> {
    metrics
        .iter()
        .flat_map(|metric| {
            let last = format!("{metric}_last");
            let mut names = anchored(columns, metric, &last, minutes_max);
            names.retain(|name| !name.contains("_min_") && !name.contains("_max_"));
            names.extend(made_of(columns, [last]));
            names
        })
        .collect()
}

/// The time of the day and the zone's climate.
fn circumstances(columns: &BTreeSet<SmolStr>) -> Vec<String> {
    let names = ["hour_sin", "hour_cos", "is_day", "since_sunrise_min", "vpd_kpa"];
    made_of(columns, names.map(str::to_owned))
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

    /// What came of a row, in the task's unit.
    pub(crate) fn truth(task: &dyn Task, frame: &ZoneFrame, row: usize) -> Option<f64> {
        task.truth(frame, row, &Settings::default().comfort)
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
        for task in all() {
            let inputs = task.inputs(&columns);
            assert!(inputs.len() > 5, "{}: {inputs:?}", task.about().name);
            let mut unique = inputs.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), inputs.len(), "{}: an input twice", task.about().name);
            for input in &inputs {
                let is_made = Input::parse(input).is_made_of(&|column| columns.contains(column));
                assert!(is_made, "{}: {input}", task.about().name);
            }
            for baseline in task.baselines() {
                assert!(
                    baseline.input.is_none_or(|input| inputs.iter().any(|i| i == input)),
                    "{}: {baseline:?}",
                    task.about().name
                );
            }
        }
    }

    #[test]
    fn a_prediction_is_of_the_nearest_class() {
        let check = |name: &str, value: f64, expect: Option<&str>| {
            let task = all().into_iter().find(|task| task.about().name == name).unwrap();
            assert_eq!(task.about().class(value), expect, "{name} {value}");
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
            assert_eq!(asked(&names), expect);
        };
        check(&["temperature-10m"], &["temperature-10m"]);
        check(&["watering"], &["watering", "watering-6h", "watering-24h", "watering-start-2h"]);
        check(&["anomaly", "cooling"], &["cooling", "anomaly"]);
        check(&[], &NAMES);
        for (task, name) in all().iter().zip(NAMES) {
            assert_eq!(task.about().name, name);
            assert!(NAMES.contains(&task.about().group), "{name}");
        }
    }
}
