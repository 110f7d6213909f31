use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use crate::{
    backtest::Entry,
    compare::{Comparison, TaskResult},
};

const HEAD: [&str; 9] =
    ["model", "error", "of baseline", "covered", "fit s", "predict µs", "size kB", "rows", ""];

fn cells(task: &TaskResult, entry: &Entry) -> [String; 9] {
    let is_champion = task.champion.as_deref() == Some(entry.model.as_str());
    let note = match (is_champion, entry.is_baseline) {
        (true, true) => "champion, baseline",
        (true, false) => "champion",
        (false, true) => "baseline",
        (false, false) => "",
    };
    [
        entry.model.clone(),
        format!("{:.4}", entry.value),
        format!("{:.3}", entry.value / entry.baseline_value),
        entry.coverage.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
        format!("{:.2}", entry.fit_s),
        format!("{:.1}", entry.predict_us),
        format!("{:.1}", entry.size_bytes as f64 / 1000.0),
        entry.rows.to_string(),
        note.to_owned(),
    ]
}

/// What the error is, and in which direction it is good.
fn metric(task: &TaskResult) -> String {
    match task.leaderboard.first().map(|entry| entry.metric) {
        Some("pr_auc") => "area under precision–recall, higher is better".to_owned(),
        Some("mae") => format!("mean absolute error, {}, lower is better", task.unit),
        _ => format!("root mean squared error, {}, lower is better", task.unit),
    }
}

/// A task's leaderboard for the terminal.
#[must_use]
pub fn terminal(task: &TaskResult) -> String {
    if let Some(why) = &task.not_applicable {
        return format!("{}: not applicable: {why}", task.task);
    }
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(HEAD);
    for entry in &task.leaderboard {
        table.add_row(cells(task, entry));
    }
    for column in 1..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{}: {} ({})\n{table}", task.task, task.title, metric(task));
    for (model, why) in &task.failed {
        let _ = write!(text, "\n{model} could not be fitted: {why}");
    }
    text
}

pub(super) fn markdown(comparison: &Comparison) -> String {
    let mut text = format!("# Models compared, run {}\n", comparison.run_id);
    text.push_str(
        "\nEach model was fitted on the first part of the time, chosen on the second, and judged \
         on the third; between them lies an embargo of the task's horizon.\n",
    );
    for task in &comparison.tasks {
        let _ = write!(text, "\n## {}: {}\n\n", task.task, task.title);
        if let Some(why) = &task.not_applicable {
            let _ = writeln!(text, "Not applicable: {why}.");
            continue;
        }
        let _ = writeln!(text, "Error: {}.\n", metric(task));
        let _ = writeln!(text, "| {} |", HEAD.join(" | "));
        let _ = writeln!(text, "|---|{}---|", "---:|".repeat(7));
        for entry in &task.leaderboard {
            let _ = writeln!(text, "| {} |", cells(task, entry).join(" | "));
        }
        for (model, why) in &task.failed {
            let _ = writeln!(text, "\n{model} could not be fitted: {why}");
        }
    }
    text
}

pub(super) fn csv(comparison: &Comparison) -> String {
    let mut text = String::from(
        "task,model,metric,value,baseline_value,skill,is_baseline,is_champion,coverage,fit_s,predict_us,size_bytes,rows\n",
    );
    for task in &comparison.tasks {
        for entry in &task.leaderboard {
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{},{},{},{},{},{},{}",
                task.task,
                entry.model,
                entry.metric,
                entry.value,
                entry.baseline_value,
                entry.skill,
                entry.is_baseline,
                task.champion.as_deref() == Some(entry.model.as_str()),
                entry.coverage.map_or(String::new(), |share| share.to_string()),
                entry.fit_s,
                entry.predict_us,
                entry.size_bytes,
                entry.rows
            );
        }
    }
    text
}
