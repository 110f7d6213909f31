//! Models beside one another: error, latency, leakage, relevance, ablation.

use super::super::{
    super::{
        sentences,
        svg::{PlotAxis, PlotColour, RankChart, RankRow, SvgPlot},
    },
    ReportFigure,
};
use crate::{
    backtest::{LeaderboardEntry, leakage::LeakageReport},
    compare::TaskResult,
    relevance::{RelevanceReport, WindowAblation},
};

pub(super) fn model_figures(task: &TaskResult) -> Vec<ReportFigure> {
    let mut figures = vec![error_figure(task)];
    figures.extend(latency_figure(task));
    figures.extend(task.leakage.as_ref().map(leakage_figure));
    if let Some(found) = &task.relevance {
        figures.extend(relevance_figure(found));
        figures.extend(ablation_figure(found));
    }
    figures
}

fn is_higher_better(task: &TaskResult) -> bool {
    sentences::quantity_name(task) == "score"
}

fn entry_colour(task: &TaskResult, entry: &LeaderboardEntry) -> PlotColour {
    if entry.is_baseline {
        PlotColour::Baseline
    } else if task.champion.as_deref() == Some(entry.model.as_str()) {
        PlotColour::Model
    } else {
        PlotColour::Quiet
    }
}

fn model_legend() -> Vec<(PlotColour, String)> {
    vec![
        (PlotColour::Model, "champion".to_owned()),
        (PlotColour::Baseline, "baseline".to_owned()),
        (PlotColour::Quiet, "other models".to_owned()),
    ]
}

fn error_figure(task: &TaskResult) -> ReportFigure {
    let baseline = task.baseline_entry().map(|entry| entry.value);
    // A model that is far off would press all others to one side.
    let most = baseline.map_or(f64::INFINITY, |value| 3.0 * value);
    let values = task.leaderboard.iter().flat_map(|entry| {
        let [low, high] = entry.interval.unwrap_or([entry.value; 2]);
        [low, entry.value, high].map(|value| value.min(most))
    });
    let rows = task.leaderboard.iter().map(|entry| RankRow {
        name: entry.model.clone(),
        value: entry.value,
        interval: entry.interval,
        colour: entry_colour(task, entry),
        bars: Vec::new(),
    });
    let ranks = RankChart {
        title: "each model on the test part".to_owned(),
        axis: PlotAxis::new_linear(sentences::axis_label(task), values.collect::<Vec<_>>()),
        rows: rows.collect(),
        guide: baseline,
        legend: model_legend(),
    };
    ReportFigure {
        title: format!("{} of each model", sentences::capitalise_first(sentences::quantity_name(task))),
        svg: ranks.to_svg(),
        caption: "Points are of the test part, lines their 95 % intervals; the dashed line is the \
                  best baseline. Intervals overlap more than differences are unsure: the p of the table \
                  compares models hour by hour."
            .to_owned(),
    }
}

fn latency_figure(task: &TaskResult) -> Option<ReportFigure> {
    let most = 3.0 * task.baseline_entry()?.value;
    let shown: Vec<&LeaderboardEntry> =
        task.leaderboard.iter().filter(|e| e.predict_us > 0.0 && e.value <= most).collect();
    let x = PlotAxis::new_log(
        "time for one row, µs (median)",
        shown.iter().map(|entry| entry.predict_us),
    );
    let y =
        PlotAxis::new_linear(sentences::axis_label(task), shown.iter().map(|entry| entry.value));
    let mut plot = SvgPlot::new("time for one prediction against error", x, y);
    let is_higher_better = is_higher_better(task);
    let beats = |a: &LeaderboardEntry, b: &LeaderboardEntry| {
        let better = if is_higher_better { a.value > b.value } else { a.value < b.value };
        better && a.predict_us <= b.predict_us
    };
    for entry in &shown {
        let is_best = !shown.iter().any(|other| beats(other, entry));
        plot.add_point(
            entry_colour(task, entry),
            (entry.predict_us, entry.value),
            &entry.model,
            is_best,
        );
    }
    model_legend().into_iter().for_each(|(colour, text)| plot.add_legend(colour, text));
    Some(ReportFigure {
        title: "Latency against accuracy".to_owned(),
        svg: plot.to_svg(),
        caption: format!(
            "Left is faster, {} is better; named models are those that no other beats in both.",
            if is_higher_better { "up" } else { "down" }
        ),
    })
}

fn leakage_figure(leakage: &LeakageReport) -> ReportFigure {
    let rows: Vec<RankRow> = sentences::leakage_skills(leakage)
        .into_iter()
        .enumerate()
        .map(|(i, (what, skill))| RankRow {
            name: what.to_owned(),
            value: skill.value,
            interval: skill.interval,
            colour: if i == 0 { PlotColour::Model } else { PlotColour::Warning },
            bars: Vec::new(),
        })
        .collect();
    // A skill far below nothing would press all others to one side.
    let svg = plot_around_zero("skill of the same model, honest and not", "skill", rows, -1.0);
    ReportFigure {
        title: "Leakage self-test".to_owned(),
        svg,
        caption: format!(
            "The skill of {} in the order of time beside what a random split would have claimed; with targets \
             dealt out anew nothing can be learnt, so anything right of 0 would mean that judged rows were learnt from.",
            leakage.model
        ),
    }
}

/// Rows to both sides of a dashed line at 0, where nothing changes; the axis does
/// not go below `least`.
fn plot_around_zero(title: &str, axis: &str, rows: Vec<RankRow>, least: f64) -> String {
    let ends = rows.iter().flat_map(|row| row.interval.unwrap_or([row.value; 2]));
    let ends: Vec<f64> = ends.chain([0.0]).map(|end| end.max(least)).collect();
    let axis = PlotAxis::new_linear(axis, ends);
    let guide = Some(0.0);
    RankChart { title: title.to_owned(), axis, rows, guide, legend: Vec::new() }.to_svg()
}

/// A change of the error, which is a share of it, in percent.
fn change_rank(name: String, share: f64, interval: Option<[f64; 2]>) -> RankRow {
    let percent = |share: f64| 100.0 * share;
    RankRow {
        name,
        value: percent(share),
        interval: interval.map(|ends| ends.map(percent)),
        colour: PlotColour::Model,
        bars: Vec::new(),
    }
}

const GROUPS_MAX: usize = 14;

fn relevance_figure(found: &RelevanceReport) -> Option<ReportFigure> {
    found.groups.first()?;
    let groups = found.groups.iter().take(GROUPS_MAX);
    let rows =
        groups.map(|own| change_rank(group_name(&own.inputs), own.rise, own.interval)).collect();
    let title = "rise of the error without an input";
    Some(ReportFigure {
        title: format!("What {} rests on", found.model),
        svg: plot_around_zero(title, "rise of the error, %", rows, f64::NEG_INFINITY),
        caption: "How much the error on the test part rises when an input is shuffled; inputs that say the \
                  same are shuffled together (“+ n” more); Δ is the difference from the newest value. Left of 0 it was of no use."
            .to_owned(),
    })
}

/// The first of inputs that say the same, and how many more there are. What is
/// set against a metric's newest value is so in many names.
fn group_name(inputs: &[String]) -> String {
    let Some(first) = inputs.first() else { return String::new() };
    let first = match first.split_once(" - ") {
        Some((left, right)) if right.ends_with("_last") || right.ends_with("_now") => {
            format!("{left} Δ")
        }
        _ => first.clone(),
    };
    let first = first.replace("temperature", "temp").replace("soil_moisture", "soil");
    if inputs.len() > 1 { format!("{first} + {}", inputs.len() - 1) } else { first }
}

fn ablation_figure(found: &RelevanceReport) -> Option<ReportFigure> {
    found.ablation.first()?;
    let without = |own: &WindowAblation| {
        change_rank(format!("without {}", own.without), own.change, own.interval)
    };
    let rows = found.ablation.iter().map(without).collect();
    let title = "change of the error without some windows";
    Some(ReportFigure {
        title: "What windows are worth".to_owned(),
        svg: plot_around_zero(title, "change of the error, %", rows, f64::NEG_INFINITY),
        caption: format!(
            "{} fitted again without the inputs of some windows: right of the dashed line they are missed. {}",
            sentences::capitalise_first(&found.model),
            found.answer
        ),
    })
}
