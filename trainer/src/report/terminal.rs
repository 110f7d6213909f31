use std::{fmt::Write, ops::Range};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};

use super::sentences;
use crate::{backtest::LeaderboardEntry, compare::TaskResult};

pub(super) const HEADINGS: [&str; 10] = [
    "model",
    "error",
    "skill (95 %)",
    "p",
    "covered",
    "fit s",
    "µs p50 / p99",
    "size kB",
    "rows",
    "",
];

/// Cells of a leaderboard row in the columns of [`HEADINGS`].
pub(super) fn leaderboard_cells(task: &TaskResult, entry: &LeaderboardEntry) -> [String; 10] {
    let is_champion = task.champion.as_deref() == Some(entry.model.as_str());
    let note = match (is_champion, entry.is_baseline) {
        (true, true) => "champion, baseline",
        (true, false) => "champion",
        (false, true) => "baseline",
        (false, false) => "",
    };
    let latency = if entry.predict_us_p99 > 0.0 {
        format!("{:.1} / {:.1}", entry.predict_us, entry.predict_us_p99)
    } else {
        format!("{:.1}", entry.predict_us)
    };
    [
        entry.model.clone(),
        format!("{:.4}", entry.value),
        sentences::format_skill(entry.skill, entry.skill_interval),
        sentences::format_p_value(entry.test),
        entry.coverage.map_or(String::new(), sentences::format_percent),
        format!("{:.2}", entry.fit_s),
        latency,
        format!("{:.1}", entry.size_bytes as f64 / 1000.0),
        entry.rows.to_string(),
        note.to_owned(),
    ]
}

/// Columns of a terminal. Times, sizes and coverage are in the written report.
const WIDTH: usize = 80;
const TERMINAL_HEADINGS: [&str; 5] = ["", "model", "error", "skill (95 %)", "p"];
const CHAMPION_MARK: &str = "▸";
const BASELINE_MARK: &str = "○";
const LEGEND: &str = "▸ champion   ○ baseline, which needs no training";

/// Renders a task's leaderboard for a terminal of 80 columns.
#[must_use]
pub fn terminal_report(task: &TaskResult) -> String {
    if let Some(why) = &task.not_applicable {
        return wrap_lines(&format!("{}: not applicable: {why}", task.task));
    }
    let mut table = new_table();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH as u16);
    table.set_header(TERMINAL_HEADINGS);
    for entry in &task.leaderboard {
        let [model, error, skill, p, ..] = leaderboard_cells(task, entry);
        let is_champion = task.champion.as_deref() == Some(entry.model.as_str());
        let mark = match (is_champion, entry.is_baseline) {
            (true, _) => CHAMPION_MARK,
            (false, true) => BASELINE_MARK,
            (false, false) => "",
        };
        table.add_row([mark.to_owned(), model, error, skill, p]);
    }
    align_right(&mut table, 2..TERMINAL_HEADINGS.len());
    let heading = format!("{}: {} ({})", task.task, task.title, sentences::describe_metric(task));
    let sentences = wrap_lines(&terminal_sentences(task));
    format!("{}\n{table}\n{LEGEND}\n{sentences}", wrap_lines(&heading))
}

/// Explains the leaderboard, one statement per line.
fn terminal_sentences(task: &TaskResult) -> String {
    let mut text = sentences::task_verdict(task);
    for line in [sentences::describe_missing_intervals(task), sentences::describe_scores(task)]
        .into_iter()
        .flatten()
    {
        let _ = write!(text, "\n{line}");
    }
    if let Some(leakage) = &task.leakage {
        let _ = write!(text, "\n{}", sentences::leakage_verdict(leakage));
    }
    if let Some(relevance) = &task.relevance {
        let _ = write!(text, "\nLong-term data, {}: {}", relevance.model, relevance.answer);
    }
    for (model, why) in &task.failed {
        let _ = write!(text, "\n{model} could not be fitted: {why}");
    }
    if let Some(decision) = &task.offered {
        let _ = write!(text, "\n{}", sentences::describe_decision(decision));
    }
    text
}

/// Breaks lines between words, so that none is wider than a terminal.
fn wrap_lines(text: &str) -> String {
    textwrap::fill(text, WIDTH)
}

/// Number of groups of inputs that are listed; the others matter less.
const GROUPS_MAX: usize = 15;

/// Renders the importance of the inputs of a task's model for the terminal.
#[must_use]
pub fn relevance_report(task: &TaskResult) -> String {
    if let Some(why) = &task.not_applicable {
        return format!("{}: not applicable: {why}", task.task);
    }
    let Some(found) = &task.relevance else {
        return format!("{}: no model other than the baselines could be fitted", task.task);
    };
    let percent = |share: f64| format!("{:+.1} %", 100.0 * share).replace('-', "−");
    let range = |interval: Option<[f64; 2]>| {
        interval.map_or(String::new(), |[a, b]| format!("{} to {}", percent(a), percent(b)))
    };
    let mut groups = new_table();
    groups.set_header(["error without", "95 %", "correlated inputs"]);
    for group in found.groups.iter().take(GROUPS_MAX) {
        groups.add_row([percent(group.rise), range(group.interval), group.inputs.join("\n")]);
    }
    let mut windows = new_table();
    windows.set_header(["fitted without", "inputs", "error", "change", "95 %", "p"]);
    for ablation in &found.ablation {
        windows.add_row([
            ablation.without.clone(),
            format!("−{}", ablation.inputs_removed),
            format!("{:.4}", ablation.error),
            percent(ablation.change),
            range(ablation.interval),
            sentences::format_p_value(ablation.test),
        ]);
    }
    align_right(&mut windows, 1..6);
    format!(
        "{}: importance of the inputs of {} ({} test rows, shuffled)\n{groups}\nwindows, refitted without\n{windows}\n{}",
        task.task, found.model, found.rows, found.answer
    )
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY);
    table
}

/// Aligns columns of numbers to the right.
fn align_right(table: &mut Table, columns: Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
