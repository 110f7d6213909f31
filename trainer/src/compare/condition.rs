//! `--fail-if`: conditions on which a build fails.

use std::{fmt, str::FromStr};

use super::{ModelComparison, TaskResult};
use crate::tasks;

/// A condition under which a comparison counts as failed, as in `temperature-10m: skill < 0.1` or
/// `watering, ridge: coverage < 0.8`. It applies to the task's champion, or to the model that is
/// named.
#[derive(Clone, Debug, PartialEq)]
pub struct FailCondition {
    task: String,
    model: Option<String>,
    quantity: FailQuantity,
    compare: Comparator,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailQuantity {
    /// Error, in the task's unit.
    Error,
    /// Share of the best baseline's error that is avoided.
    Skill,
    /// Lower end of the skill's confidence interval.
    SkillLow,
    /// p-value of the Diebold–Mariano test.
    P,
    /// Share of actuals within the prediction interval.
    Coverage,
    /// Latency of one prediction, 99th percentile, µs.
    PredictUsP99,
    /// Duration of the fit, seconds.
    FitS,
    /// Size of the artifact, thousands of bytes.
    SizeKb,
}

/// Names of the quantities in a condition.
const QUANTITIES: [(&str, FailQuantity); 8] = [
    ("error", FailQuantity::Error),
    ("skill", FailQuantity::Skill),
    ("skill_low", FailQuantity::SkillLow),
    ("p", FailQuantity::P),
    ("coverage", FailQuantity::Coverage),
    ("predict_us_p99", FailQuantity::PredictUsP99),
    ("fit_s", FailQuantity::FitS),
    ("size_kb", FailQuantity::SizeKb),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Names of the comparators, longer ones first: `<=` begins with `<`.
const COMPARATORS: [(&str, Comparator); 4] = [
    ("<=", Comparator::LessOrEqual),
    (">=", Comparator::GreaterOrEqual),
    ("<", Comparator::Less),
    (">", Comparator::Greater),
];

const EXAMPLE: &str = "expected <task>[, <model>]: <quantity> <, <=, > or >= <number>, as in `temperature-10m: skill < 0.1`";

impl FromStr for FailCondition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |what: String| format!("{what}; {EXAMPLE}");
        let (subject, rest) =
            text.split_once(':').ok_or_else(|| refuse(format!("`{text}` has no colon")))?;
        let (task, model) = match subject.split_once(',') {
            Some((task, model)) => (task.trim(), Some(model.trim().to_owned())),
            None => (subject.trim(), None),
        };
        if !tasks::NAMES.contains(&task) {
            return Err(format!("there is no task `{task}`: expected {}", tasks::NAMES.join(", ")));
        }
        let found = COMPARATORS.iter().find_map(|(sign, compare)| {
            rest.split_once(sign).map(|(left, right)| (left.trim(), *compare, right.trim()))
        });
        let (name, compare, limit) =
            found.ok_or_else(|| refuse(format!("`{}` compares nothing", rest.trim())))?;
        let quantity = QUANTITIES.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let known: Vec<&str> = QUANTITIES.iter().map(|(known, _)| *known).collect();
            format!("there is no quantity `{name}`: expected {}", known.join(", "))
        })?;
        let limit = limit
            .parse()
            .ok()
            .filter(|limit: &f64| limit.is_finite())
            .ok_or_else(|| refuse(format!("`{limit}` is no number")))?;
        Ok(Self { task: task.to_owned(), model, quantity: quantity.1, compare, limit })
    }
}

impl fmt::Display for FailCondition {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let quantity = QUANTITIES.iter().find(|(_, own)| *own == self.quantity);
        let compare = COMPARATORS.iter().find(|(_, own)| *own == self.compare);
        let (quantity, compare) = (quantity.map_or("", |q| q.0), compare.map_or("", |c| c.0));
        let model = self.model.as_ref().map_or(String::new(), |model| format!(", {model}"));
        write!(f, "{}{model}: {quantity} {compare} {}", self.task, self.limit)
    }
}

impl FailCondition {
    /// Returns the name of the task that the condition applies to.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Returns the reason why a comparison counts as failed, if it does. An unknown quantity is a
    /// failure too: a build must not pass because nothing was compared.
    #[must_use]
    pub fn failure_reason(&self, comparison: &ModelComparison) -> Option<String> {
        let unknown = |why: &str| Some(format!("{self}: not known, {why}"));
        let Some(task) = comparison.tasks.iter().find(|own| own.task == self.task) else {
            return unknown("the task was not compared");
        };
        if let Some(own) = &task.not_applicable {
            return unknown(&own.why);
        }
        let Some(model) = self.model.as_ref().or(task.champion.as_ref()) else {
            return unknown("there is no champion");
        };
        match self.find_value(task, model) {
            Some(found) if self.is_met_by(found) => {
                Some(format!("{self}: {model} has {}", crate::report::format_number(found)))
            }
            Some(_) => None,
            None => unknown(&format!("{model} has no such number")),
        }
    }

    fn find_value(&self, task: &TaskResult, model: &str) -> Option<f64> {
        let entry = task.leaderboard.iter().find(|entry| entry.model == model)?;
        match self.quantity {
            FailQuantity::Error => Some(entry.value),
            FailQuantity::Skill => Some(entry.skill),
            FailQuantity::SkillLow => entry.skill_interval.map(|[low, _]| low),
            FailQuantity::P => entry.test.map(|test| test.p_value),
            FailQuantity::Coverage => entry.coverage,
            FailQuantity::PredictUsP99 => Some(entry.predict_us_p99),
            FailQuantity::FitS => Some(entry.fit_s),
            FailQuantity::SizeKb => Some(entry.size_bytes as f64 / 1000.0),
        }
    }

    fn is_met_by(&self, found: f64) -> bool {
        match self.compare {
            Comparator::Less => found < self.limit,
            Comparator::LessOrEqual => found <= self.limit,
            Comparator::Greater => found > self.limit,
            Comparator::GreaterOrEqual => found >= self.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::LeaderboardEntry;

    #[test]
    fn conditions_are_read_and_written() {
        let check = |text: &str, expect: &str| {
            assert_eq!(text.parse::<FailCondition>().unwrap().to_string(), expect);
        };
        check("temperature-10m: skill < 0.1", "temperature-10m: skill < 0.1");
        check(" heating :error>=2", "heating: error >= 2");
        check("watering, ridge: coverage<=0.8", "watering, ridge: coverage <= 0.8");
        check("light: p > 5e-2", "light: p > 0.05");
    }

    #[test]
    fn what_is_no_condition_is_refused_with_an_example() {
        let check = |text: &str, expect: &str| {
            let why = text.parse::<FailCondition>().unwrap_err();
            assert!(why.contains(expect), "{text}: {why}");
        };
        check("skill < 0.1", "has no colon");
        check("weather: skill < 0.1", "no task `weather`");
        check("heating: luck < 0.1", "no quantity `luck`: expected error, skill");
        check("heating: skill = 0.1", "as in `temperature-10m: skill < 0.1`");
        check("heating: skill < much", "`much` is no number");
        check("heating: skill < NaN", "is no number");
    }

    #[test]
    fn a_comparison_fails_on_what_holds_and_on_what_is_not_known() {
        let entry = LeaderboardEntry {
            model: "ridge".to_owned(),
            skill: 0.2,
            coverage: Some(0.9),
            ..LeaderboardEntry::default()
        };
        let heating = TaskResult {
            leaderboard: vec![entry],
            champion: Some("ridge".to_owned()),
            ..TaskResult::empty_for_task("heating")
        };
        let light = TaskResult {
            not_applicable: Some("too dark".to_owned().into()),
            ..TaskResult::empty_for_task("light")
        };
        let comparison =
            ModelComparison { tasks: vec![heating, light], ..ModelComparison::default() };
        let check = |text: &str, expect: Option<&str>| {
            let failure = text.parse::<FailCondition>().unwrap().failure_reason(&comparison);
            match (failure, expect) {
                (Some(failure), Some(expect)) => assert!(failure.contains(expect), "{failure}"),
                (failure, expect) => assert_eq!(failure.as_deref(), expect, "{text}"),
            }
        };
        check("heating: skill < 0.1", None);
        check("heating: skill < 0.3", Some("ridge has 0.2"));
        check("heating, ridge: skill >= 0.2", Some("ridge has 0.2"));
        check("heating: skill > 0.2", None);
        check("heating: p > 0.05", Some("no such number"));
        check("heating, extra trees: skill < 0", Some("no such number"));
        check("light: skill < 0.1", Some("too dark"));
        check("watering: skill < 0.1", Some("was not compared"));
    }
}
