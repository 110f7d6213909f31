//! HTML report: one page that loads nothing else.
//!
//! # Layout
//! - `style.css`: light and dark, paper and phone
//! - `figures`: a task's figures, each with a caption that explains it
//! - `leaderboard`: tables

mod figures;
mod leaderboard;

use std::fmt::Write;

use super::{
    sentences,
    svg::{PlotAxis, PlotColour, RankChart, RankRow, escape_markup},
};
use crate::{
    compare::{ModelComparison, TaskResult},
    folds::format_time,
};

const STYLE: &str = include_str!("style.css");

/// Figure with a caption that explains it.
pub(super) struct ReportFigure {
    pub(super) title: String,
    pub(super) svg: String,
    pub(super) caption: String,
}

impl ReportFigure {
    pub(super) fn write_html(&self, html: &mut String) {
        let (title, caption) = (escape_markup(&self.title), escape_markup(&self.caption));
        let _ = writeln!(
            html,
            "<figure><h3>{title}</h3>{}<figcaption>{caption}</figcaption></figure>",
            self.svg
        );
    }
}

/// Renders the whole page.
pub(super) fn html_page(comparison: &ModelComparison) -> String {
    let run = escape_markup(&comparison.run_id);
    let mut html = format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width, initial-scale=1'>\
         <title>Models compared, run {run}</title><style>\n{STYLE}</style></head><body>\n\
         <p class='soft'>Microclimate · run {run} · {} · seed {} · {:.0} s</p>\
         <h1>Comparison of models</h1>\
         <p>Each model was fitted on the first part of the time, selected on the second and evaluated on \
         the third. Between two parts lies an embargo of the task's horizon, so that no model was fitted on \
         data that became known only later. <b>Skill</b> is the share of the best baseline's error that a \
         model avoids: 0 is no better, 1 is perfect.</p>",
        format_time(comparison.run.started_ms),
        comparison.run.seed,
        comparison.run.took_s,
    );
    write_summary(&mut html, comparison);
    for task in &comparison.tasks {
        write_task(&mut html, task);
    }
    html.push_str("</body></html>\n");
    html
}

/// Writes one line per task, and their skills in one figure.
fn write_summary(html: &mut String, comparison: &ModelComparison) {
    if comparison.tasks.len() > 1 {
        html.push_str("<nav>");
        for task in &comparison.tasks {
            let name = escape_markup(&task.task);
            let _ = write!(html, "<a href='#{name}'>{name}</a>");
        }
        html.push_str("</nav>");
    }
    let rows: Vec<RankRow> = comparison
        .tasks
        .iter()
        .filter_map(|task| {
            let entry = task.champion_entry()?;
            Some(RankRow {
                name: task.task.clone(),
                value: entry.skill,
                interval: entry.skill_interval,
                colour: if entry.is_baseline { PlotColour::Baseline } else { PlotColour::Model },
                bars: Vec::new(),
            })
        })
        .collect();
    if rows.len() > 1 {
        let interval_ends = rows.iter().flat_map(|row| row.interval.unwrap_or([row.value; 2]));
        let ends: Vec<f64> = interval_ends.chain([0.0, 1.0]).map(|end| end.max(-1.0)).collect();
        let ranks = RankChart {
            title: "skill of each task's champion".to_owned(),
            axis: PlotAxis::new_linear("skill against the best baseline", ends),
            rows,
            guide: Some(0.0),
            legend: vec![
                (PlotColour::Model, "model".into()),
                (PlotColour::Baseline, "baseline".into()),
            ],
        };
        html.push_str("<div class='figures'>");
        ReportFigure {
            title: "Skill of each task's champion".to_owned(),
            svg: ranks.to_svg(),
            caption:
                "Right of the dashed line the champion beats the best baseline; where its interval \
                 (95 %) crosses the line, that is not certain."
                    .to_owned(),
        }
        .write_html(html);
        html.push_str("</div>");
    }
    html.push_str("<ul>");
    for task in &comparison.tasks {
        let (name, verdict) =
            (escape_markup(&task.task), escape_markup(&sentences::task_verdict(task)));
        let _ = write!(html, "<li><b>{name}</b>: {verdict}</li>");
    }
    html.push_str("</ul>");
}

fn write_task(html: &mut String, task: &TaskResult) {
    let (name, title) = (escape_markup(&task.task), escape_markup(&task.title));
    let _ = write!(html, "\n<h2 id='{name}'>{name}: {title}</h2>");
    let _ =
        write!(html, "<p class='verdict'>{}</p>", escape_markup(&sentences::task_verdict(task)));
    if task.not_applicable.is_some() {
        return;
    }
    if let Some(leakage) = &task.leakage {
        let class = if leakage.warnings.is_empty() { "soft" } else { "warn" };
        let text = escape_markup(&sentences::leakage_verdict(leakage));
        let _ = write!(html, "<p class='{class}'>Leakage self-test: {text}</p>");
    }
    if let Some(relevance) = &task.relevance {
        let answer = escape_markup(&relevance.answer);
        let _ = write!(html, "<p>Value of long-term data: {answer}</p>");
    }
    if let Some(decision) = &task.offered {
        let _ = write!(
            html,
            "<p class='soft'>{}</p>",
            escape_markup(&sentences::describe_decision(decision))
        );
    }
    leaderboard::write_leaderboard(html, task);
    html.push_str("<div class='figures'>\n");
    figures::task_figures(task).iter().for_each(|figure| figure.write_html(html));
    html.push_str("</div>");
    write_facts(html, task);
}

/// Writes the facts of the comparison, for those who want to repeat it.
fn write_facts(html: &mut String, task: &TaskResult) {
    let facts = &task.facts;
    if facts.folds.is_empty() {
        return;
    }
    html.push_str("<details><summary>What was compared</summary><dl>");
    let mut line = |what: &str, value: String| {
        let _ = write!(html, "<dt>{what}</dt><dd>{}</dd>", escape_markup(&value));
    };
    for (number, fold) in facts.folds.iter().enumerate() {
        let span = |(from, to): (i64, i64)| format!("{} – {}", format_time(from), format_time(to));
        let which =
            if facts.folds.len() > 1 { format!(", fold {}", number + 1) } else { String::new() };
        line(
            &format!("training{which}"),
            format!("{}, {} rows", span(fold.spans.train), fold.train),
        );
        line(
            &format!("calibration{which}"),
            format!("{}, {} rows", span(fold.spans.calibration), fold.calibration),
        );
        line(&format!("test{which}"), format!("{}, {} rows", span(fold.spans.test), fold.test));
    }
    line("embargo", format!("{:.2} h", facts.embargo_s as f64 / 3600.0));
    line("inputs", facts.inputs.to_string());
    line("schema, SHA-256", facts.schema_hash.clone());
    line("rows, SHA-256", facts.data_hash.clone());
    line("took", format!("{:.1} s", task.took_s));
    html.push_str("</dl></details>");
}
