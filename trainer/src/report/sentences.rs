//! Results of a task in sentences, and the meaning of its numbers.

use models::stats::diebold_mariano::{p_value_cell, p_value_text};

use super::svg::format_number;
use crate::{
    backtest::{
        LeaderboardEntry, SignificanceTest, leakage::LeakageReport, leakage::SkillEstimate,
    },
    compare::TaskResult,
    gate::GateDecision,
    relevance::conclusion::SIGNIFICANCE_LEVEL,
    tasks::NotApplicable,
};

/// Quantity of the leaderboard: an error or a score.
pub(super) fn quantity_name(task: &TaskResult) -> &'static str {
    let first = task.leaderboard.first();
    if first.is_some_and(|entry| entry.metric == "pr_auc") { "score" } else { "error" }
}

/// Description of the error or score, and the direction in which it is better.
pub(super) fn describe_metric(task: &TaskResult) -> String {
    match task.leaderboard.first().map(|entry| entry.metric) {
        Some("pr_auc") => "area under precision–recall, higher is better".to_owned(),
        Some("mae") => format!("mean absolute error, {}, lower is better", task.unit),
        _ => format!("root mean squared error, {}, lower is better", task.unit),
    }
}

/// Label of an axis with the error or score.
pub(super) fn axis_label(task: &TaskResult) -> String {
    match task.leaderboard.first().map(|entry| entry.metric) {
        Some("pr_auc") => "area under precision–recall".to_owned(),
        Some("mae") => format!("mean absolute error, {}", task.unit),
        _ => format!("root mean squared error, {}", task.unit),
    }
}

pub(super) fn format_percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share).replace('-', "−")
}

/// Other scores of the champion, with 95 % where there is an interval.
pub(super) fn describe_scores(task: &TaskResult) -> Option<String> {
    let entry = task.champion_entry().filter(|entry| !entry.scores.is_empty())?;
    let each =
        |name: &&'static str| format!("{} {}", name.replace('_', " "), format_score(entry, name));
    let each: Vec<String> = entry.scores.keys().map(each).collect();
    let level = if entry.score_intervals.is_empty() { "" } else { " (95 %)" };
    Some(format!("More scores of {}{level}: {}.", entry.model, each.join(", ")))
}

/// Formats a score as `0.74 (0.70 to 0.78)`; empty where there is no such score.
pub(super) fn format_score(entry: &LeaderboardEntry, name: &str) -> String {
    let Some(value) = entry.scores.get(name) else { return String::new() };
    let found = entry.score_intervals.get(name);
    let interval = found.map_or(String::new(), |[low, high]| {
        format!(" ({} to {})", format_number(*low), format_number(*high))
    });
    format!("{}{interval}", format_number(*value))
}

/// Sentence with the reason why there are no intervals, if there are none.
pub(super) fn describe_missing_intervals(task: &TaskResult) -> Option<String> {
    let why = task.no_intervals.as_ref()?;
    Some(format!("No intervals and no tests: {why}."))
}

/// Formats a skill as `0.40 (0.31 to 0.48)`.
pub(super) fn format_skill(value: f64, interval: Option<[f64; 2]>) -> String {
    let range = interval.map(|[low, high]| format!(" ({low:.2} to {high:.2})"));
    let text = format!("{value:.2}{}", range.unwrap_or_default());
    text.replace("-0.00", "0.00").replace('-', "−")
}

/// Formats the p-value of a Diebold–Mariano test; empty without a test.
pub(super) fn format_p_value(test: Option<SignificanceTest>) -> String {
    test.map_or(String::new(), |test| p_value_cell(test.p_value))
}

/// Sentence that states whether the champion beats the best baseline.
pub(super) fn task_verdict(task: &TaskResult) -> String {
    if let Some(NotApplicable { why, hint }) = &task.not_applicable {
        let advice = hint.as_ref().map_or(String::new(), |hint| format!(" Hint: {hint}."));
        return format!("Not applicable: {why}.{advice}");
    }
    let (Some(champion), Some(baseline)) = (task.champion_entry(), task.baseline_entry()) else {
        return "No model could be fitted.".to_owned();
    };
    if task.is_trivial() {
        return format!(
            "No model can be better: {} makes no error on the test set. A longer recording, or \
             other comfort settings, may show a difference.",
            baseline.model
        );
    }
    if champion.is_baseline {
        let better = task.leaderboard.iter().find(|entry| {
            !entry.is_baseline
                && entry.test.is_some_and(|t| t.p_value < SIGNIFICANCE_LEVEL)
                && entry.skill > 0.0
        });
        let then = better.map_or(
            "on the test set no model is significantly better either".to_owned(),
            |entry| format!("on the test set {} would have been better", entry.model),
        );
        return format!(
            "No model was better than {} beyond doubt, so it is the champion; {then}.",
            champion.model
        );
    }
    if champion.metric == "pr_auc" {
        return format!(
            "{} finds injected faults with an {} of {}; {} has {}.",
            capitalise_first(&champion.model),
            axis_label(task),
            format_number(champion.value),
            baseline.model,
            format_number(baseline.value)
        );
    }
    let range = champion.skill_interval.map_or(String::new(), |[low, high]| {
        format!(" ({} to {})", format_percent(low), format_percent(high))
    });
    let beginning = if champion.skill >= 0.0 {
        format!(
            "{} avoids {}{range} of the error of {}, the best baseline",
            capitalise_first(&champion.model),
            format_percent(champion.skill),
            baseline.model
        )
    } else {
        format!(
            "{}, which was selected before the test set, has {} more error than {} on it",
            capitalise_first(&champion.model),
            format_percent(-champion.skill),
            baseline.model
        )
    };
    let doubt = match champion.test {
        None => "; the test set is too short to tell whether that is more than chance".to_owned(),
        Some(test) if test.p_value < SIGNIFICANCE_LEVEL => {
            format!(
                "; chance alone would rarely make such a difference ({})",
                p_value_text(test.p_value)
            )
        }
        Some(test) => format!(
            "; chance alone could have made this difference ({}), so it is not shown to be real",
            p_value_text(test.p_value)
        ),
    };
    format!("{beginning}{doubt}.")
}

/// Sentence about the registry's decision on the champion.
pub(super) fn describe_decision(decision: &GateDecision) -> String {
    let role = if decision.promoted { "champion" } else { "challenger" };
    let refused = decision.refused.iter().map(|own| format!("{}, because {}", own.model, own.why));
    let refused: Vec<String> = refused.collect();
    let before = if refused.is_empty() {
        String::new()
    } else {
        format!(" Refused before it: {}.", refused.join("; "))
    };
    let why = decision.why.trim_end_matches('.');
    format!(
        "Version {} is {role}: {why}. It is fitted on all rows up to now; the errors are those of \
         the fit before the test set.{before}",
        decision.version
    )
}

/// Sentence about models that were fitted on fewer rows than there were.
pub(super) fn describe_thinning(task: &TaskResult) -> Option<String> {
    let fewer = task.leaderboard.iter().filter(|entry| entry.rows < entry.rows_offered);
    let models: Vec<String> = fewer
        .map(|entry| format!("{} ({} of {})", entry.model, entry.rows, entry.rows_offered))
        .collect();
    (!models.is_empty()).then(|| {
        format!(
            "To save time, these models were fitted on fewer rows, thinned evenly over time: {}.",
            models.join(", ")
        )
    })
}

/// Skills that the leakage self-test compares, row after row.
pub(super) fn leakage_skills(leakage: &LeakageReport) -> Vec<(&'static str, SkillEstimate)> {
    let honest = Some(("in the order of time", leakage.honest));
    let random = leakage.random_split.map(|skill| ("rows split at random", skill));
    let dealt = leakage.dealt_targets.map(|skill| ("permuted targets", skill));
    [honest, random, dealt].into_iter().flatten().collect()
}

/// Sentence about the result of the leakage self-test.
pub(super) fn leakage_verdict(leakage: &LeakageReport) -> String {
    if leakage.warnings.is_empty() {
        let random = leakage.random_split.map_or(String::new(), |random| {
            format!(
                " A random split would have claimed a skill of {:.2} instead of {:.2} for {}.",
                random.value, leakage.honest.value, leakage.model
            )
        });
        return format!("No leak found.{random}").replace('-', "−");
    }
    format!("Warning: {}.", leakage.warnings.join("; "))
}

pub(super) fn capitalise_first(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}
