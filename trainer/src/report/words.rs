//! What came of a task in sentences, and what its numbers mean.

use models::stats::dm::{p_cell, p_text};

use super::svg::number;
use crate::{
    backtest::{Entry, Test, leakage::Leakage, leakage::Skill},
    compare::TaskResult,
    gate::Decision,
    relevance::answer::SURE,
    tasks::NotApplicable,
};

/// What the leaderboard is by: an error, or a score.
pub(super) fn quantity(task: &TaskResult) -> &'static str {
    let first = task.leaderboard.first();
    if first.is_some_and(|entry| entry.metric == "pr_auc") { "score" } else { "error" }
}

/// What the error is, and in which direction it is good.
pub(super) fn metric(task: &TaskResult) -> String {
    match task.leaderboard.first().map(|entry| entry.metric) {
        Some("pr_auc") => "area under precision–recall, higher is better".to_owned(),
        Some("mae") => format!("mean absolute error, {}, lower is better", task.unit),
        _ => format!("root mean squared error, {}, lower is better", task.unit),
    }
}

/// The same, as an axis has it.
pub(super) fn axis(task: &TaskResult) -> String {
    match task.leaderboard.first().map(|entry| entry.metric) {
        Some("pr_auc") => "area under precision–recall".to_owned(),
        Some("mae") => format!("mean absolute error, {}", task.unit),
        _ => format!("root mean squared error, {}", task.unit),
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share).replace('-', "−")
}

/// Other scores of the champion, with 95 % where there is an interval.
pub(super) fn scores(task: &TaskResult) -> Option<String> {
    let entry = task.champion_entry().filter(|entry| !entry.scores.is_empty())?;
    let each = |name: &&'static str| format!("{} {}", name.replace('_', " "), score(entry, name));
    let each: Vec<String> = entry.scores.keys().map(each).collect();
    let level = if entry.score_intervals.is_empty() { "" } else { " (95 %)" };
    Some(format!("More scores of {}{level}: {}.", entry.model, each.join(", ")))
}

/// `0.74 (0.70 to 0.78)`, or nothing where there is no such score.
pub(super) fn score(entry: &Entry, name: &str) -> String {
    let Some(value) = entry.scores.get(name) else { return String::new() };
    let interval = entry.score_intervals.get(name);
    let interval = interval
        .map_or(String::new(), |[low, high]| format!(" ({} to {})", number(*low), number(*high)));
    format!("{}{interval}", number(*value))
}

/// Why there are no intervals, if there are none.
pub(super) fn no_intervals(task: &TaskResult) -> Option<String> {
    let why = task.no_intervals.as_ref()?;
    Some(format!("No intervals and no tests: {why}."))
}

/// `0.40 (0.31 to 0.48)`
pub(super) fn skill(value: f64, interval: Option<[f64; 2]>) -> String {
    let interval = interval.map(|[low, high]| format!(" ({low:.2} to {high:.2})"));
    let text = format!("{value:.2}{}", interval.unwrap_or_default());
    text.replace("-0.00", "0.00").replace('-', "−")
}

/// Of a Diebold–Mariano test, or nothing.
pub(super) fn p(test: Option<Test>) -> String {
    test.map_or(String::new(), |test| p_cell(test.p_value))
}

/// Whether the champion beats the best baseline.
pub(super) fn verdict(task: &TaskResult) -> String {
    if let Some(NotApplicable { why, hint }) = &task.not_applicable {
        let hint = hint.as_ref().map_or(String::new(), |hint| format!(" Hint: {hint}."));
        return format!("Not applicable: {why}.{hint}");
    }
    let (Some(champion), Some(baseline)) = (task.champion_entry(), task.baseline_entry()) else {
        return "No model could be fitted.".to_owned();
    };
    if task.is_trivial() {
        return format!(
            "Nothing to tell models apart by: {} makes no error on the test part. A longer recording, or \
             other settings of comfort, may have more to say.",
            baseline.model
        );
    }
    if champion.is_baseline {
        let better = task.leaderboard.iter().find(|entry| {
            !entry.is_baseline && entry.test.is_some_and(|t| t.p_value < SURE) && entry.skill > 0.0
        });
        let then = better
            .map_or("on the test part nothing beats it beyond doubt either".to_owned(), |entry| {
                format!("on the test part {} would have been better", entry.model)
            });
        return format!(
            "Nothing did better than {} where models were chosen, so it is the champion; {then}.",
            champion.model
        );
    }
    if champion.metric == "pr_auc" {
        return format!(
            "{} finds injected faults with an {} of {}; {} has {}.",
            capital(&champion.model),
            axis(task),
            number(champion.value),
            baseline.model,
            number(baseline.value)
        );
    }
    let range = champion
        .skill_interval
        .map_or(String::new(), |[low, high]| format!(" ({} to {})", percent(low), percent(high)));
    let beginning = if champion.skill >= 0.0 {
        format!(
            "{} avoids {}{range} of the error of {}, the best baseline",
            capital(&champion.model),
            percent(champion.skill),
            baseline.model
        )
    } else {
        format!(
            "{}, which was best where models were chosen, has {} more error than {} on the test part",
            capital(&champion.model),
            percent(-champion.skill),
            baseline.model
        )
    };
    let doubt = match champion.test {
        None => "; the test part is too short to tell whether that is more than chance".to_owned(),
        Some(test) if test.p_value < SURE => {
            format!("; chance alone would rarely make such a difference ({})", p_text(test.p_value))
        }
        Some(test) => format!(
            "; chance alone could have made this difference ({}), so it is not shown to be real",
            p_text(test.p_value)
        ),
    };
    format!("{beginning}{doubt}.")
}

/// What the registry made of the champion.
pub(super) fn decision(decision: &Decision) -> String {
    let role = if decision.promoted { "champion" } else { "challenger" };
    format!("Version {} is {role}: {}.", decision.version, decision.why.trim_end_matches('.'))
}

/// Models that saw fewer rows than there were.
pub(super) fn thinned(task: &TaskResult) -> Option<String> {
    let fewer = task.leaderboard.iter().filter(|entry| entry.rows < entry.rows_offered);
    let models: Vec<String> = fewer
        .map(|entry| format!("{} ({} of {})", entry.model, entry.rows, entry.rows_offered))
        .collect();
    (!models.is_empty()).then(|| {
        format!(
            "Fitted on rows thinned evenly over time, for want of speed: {}.",
            models.join(", ")
        )
    })
}

/// What the leakage self-test compares, row after row.
pub(super) fn leakage(leakage: &Leakage) -> Vec<(&'static str, Skill)> {
    let honest = Some(("in the order of time", leakage.honest));
    let random = leakage.random_split.map(|skill| ("rows split at random", skill));
    let dealt = leakage.dealt_targets.map(|skill| ("targets dealt out anew", skill));
    [honest, random, dealt].into_iter().flatten().collect()
}

/// What it comes to.
pub(super) fn leakage_verdict(leakage: &Leakage) -> String {
    if leakage.warnings.is_empty() {
        let random = leakage.random_split.map_or(String::new(), |random| {
            format!(
                " A random split would have claimed a skill of {:.2} instead of {:.2} for {}.",
                random.value, leakage.honest.value, leakage.model
            )
        });
        return format!("No leak found.{random}").replace('-', "−");
    }
    format!("Look here: {}.", leakage.warnings.join("; "))
}

pub(super) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}
