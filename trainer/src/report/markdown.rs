use std::fmt::Write;

use super::{
    sentences,
    terminal::{HEADINGS, leaderboard_cells},
};
use crate::{
    compare::{ModelComparison, TaskResult},
    folds::format_time,
};

/// Renders the report as Markdown.
pub(super) fn markdown_page(comparison: &ModelComparison) -> String {
    let mut text = format!("# Models compared, run {}\n", comparison.run_id);
    text.push_str(
        "\nModels were selected by rolling origins before the test set: each was fitted on what lies \
         before an origin and evaluated on what follows. Then each was fitted on all that lies before \
         the test set and evaluated there; between two parts lies an embargo of the task's horizon. \
         *Skill* is the share of \
         the best baseline's error that is avoided; *p* is the probability of such a difference \
         where both are equally good (Diebold–Mariano, with as many lags as the errors are alike); *covered* is the share of truths within \
         the 90 % interval unless the settings say another level.\n",
    );
    for task in &comparison.tasks {
        let _ = write!(
            text,
            "\n## {}: {}\n\n{}\n",
            task.task,
            task.title,
            sentences::task_verdict(task)
        );
        if task.not_applicable.is_none() {
            write_task(&mut text, task);
        }
    }
    text
}

fn write_task(text: &mut String, task: &TaskResult) {
    let quantity = sentences::quantity_name(task);
    let _ = writeln!(
        text,
        "\n{}: {}.\n",
        sentences::capitalise_first(quantity),
        sentences::describe_metric(task)
    );
    let _ = writeln!(text, "| {} |", HEADINGS.join(" | ").replace("error", quantity));
    let _ = writeln!(text, "|---|{}---|", "---:|".repeat(HEADINGS.len() - 2));
    for entry in &task.leaderboard {
        let _ = writeln!(text, "| {} |", leaderboard_cells(task, entry).join(" | "));
    }
    for line in [sentences::describe_missing_intervals(task), sentences::describe_scores(task)]
        .into_iter()
        .flatten()
    {
        let _ = writeln!(text, "\n{line}");
    }
    for (model, why) in &task.failed {
        let _ = writeln!(text, "\n{model} could not be fitted: {why}");
    }
    if let Some(decision) = &task.offered {
        let _ = writeln!(text, "\n{}", sentences::describe_decision(decision));
    }
    if let Some(thinned) = sentences::describe_thinning(task) {
        let _ = writeln!(text, "\n{thinned}");
    }
    for (number, fold) in task.facts.folds.iter().enumerate() {
        let span = |(from, to): (i64, i64)| format!("{} – {}", format_time(from), format_time(to));
        let _ = writeln!(
            text,
            "\nFold {}: train {} ({} rows), calibration {} ({}), test {} ({}).",
            number + 1,
            span(fold.spans.train),
            fold.train,
            span(fold.spans.calibration),
            fold.calibration,
            span(fold.spans.test),
            fold.test
        );
    }
    if let Some(leakage) = &task.leakage {
        let _ =
            writeln!(text, "\n### Leakage self-test\n\n{}\n", sentences::leakage_verdict(leakage));
        let _ = writeln!(text, "| {} | skill (95 %) |\n|---|---:|", leakage.model);
        for (what, skill) in sentences::leakage_skills(leakage) {
            let _ = writeln!(
                text,
                "| {what} | {} |",
                sentences::format_skill(skill.value, skill.interval)
            );
        }
    }
    if let Some(relevance) = &task.relevance {
        let _ = writeln!(
            text,
            "\n### Importance of the inputs of {}\n\n{}",
            relevance.model, relevance.answer
        );
        let percent = |share: f64| format!("{:+.1} %", 100.0 * share).replace('-', "−");
        if !relevance.ablation.is_empty() {
            let _ =
                writeln!(text, "\n| fitted without | error | change | p |\n|---|---:|---:|---:|");
        }
        for ablation in &relevance.ablation {
            let p = sentences::format_p_value(ablation.test);
            let change = percent(ablation.change);
            let _ =
                writeln!(text, "| {} | {:.4} | {change} | {p} |", ablation.without, ablation.error);
        }
        let _ = writeln!(text, "\n| inputs, shuffled together | error |\n|---|---:|");
        for group in relevance.groups.iter().take(10) {
            let _ = writeln!(text, "| {} | {} |", group.inputs.join(", "), percent(group.rise));
        }
    }
}
