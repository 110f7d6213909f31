//! Figures that compare models: error, latency, leakage, relevance, ablation.

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
    // A model with a very large error would compress all others.
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
        title: "each model on the test set".to_owned(),
        axis: PlotAxis::new_linear(sentences::axis_label(task), values.collect::<Vec<_>>()),
        rows: rows.collect(),
        guide: baseline,
        legend: model_legend(),
    };
    ReportFigure {
        title: format!("{} of each model", sentences::capitalise_first(sentences::quantity_name(task))),
        svg: ranks.to_svg(),
        caption: "Points are values on the test set, lines their 95 % intervals; the dashed line is the best \
                  baseline. Overlapping intervals do not mean that two models are equal: the p-value in the \
                  table compares models at the same times."
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
    let higher_is_better = is_higher_better(task);
    let beats = |a: &LeaderboardEntry, b: &LeaderboardEntry| {
        let better = if higher_is_better { a.value > b.value } else { a.value < b.value };
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
            if higher_is_better { "up" } else { "down" }
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
    // A skill far below 0 would compress all others.
    let svg = plot_around_zero("skill of the same model by split", "skill", rows, -1.0);
    ReportFigure {
        title: "Leakage self-test".to_owned(),
        svg,
        caption: format!(
            "Skill of {} with a split in the order of time, and the skill that a random split would have claimed. \
             With permuted targets nothing can be learned, so a value right of 0 would mean that test rows were \
             used for fitting.",
            leakage.model
        ),
    }
}

/// Draws rows to both sides of a dashed line at 0, where nothing changes. The axis does not go
/// below `least`.
fn plot_around_zero(title: &str, axis: &str, rows: Vec<RankRow>, least: f64) -> String {
    let interval_ends = rows.iter().flat_map(|row| row.interval.unwrap_or([row.value; 2]));
    let ends: Vec<f64> = interval_ends.chain([0.0]).map(|end| end.max(least)).collect();
    let axis = PlotAxis::new_linear(axis, ends);
    let guide = Some(0.0);
    RankChart { title: title.to_owned(), axis, rows, guide, legend: Vec::new() }.to_svg()
}

/// Row of a relative change of the error, in percent.
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
    let rows = groups
        .map(|group| change_rank(group_name(&group.inputs), group.rise, group.interval))
        .collect();
    let title = "increase of the error without an input";
    Some(ReportFigure {
        title: format!("Importance of the inputs of {}", found.model),
        svg: plot_around_zero(title, "increase of the error, %", rows, f64::NEG_INFINITY),
        caption: "Increase of the error on the test set when an input is shuffled. Correlated inputs are \
                  shuffled together (“+ n” more); Δ is the difference from the latest value. An input left \
                  of 0 is of no use."
            .to_owned(),
    })
}

/// First of a group of correlated inputs, and the number of others. Many names contain the
/// difference from a metric's latest value, which is shortened to Δ.
fn group_name(inputs: &[String]) -> String {
    let Some(first) = inputs.first() else { return String::new() };
    let shortened = match first.split_once(" - ") {
        Some((left, right)) if right.ends_with("_last") || right.ends_with("_now") => {
            format!("{left} Δ")
        }
        _ => first.clone(),
    };
    let name = shortened.replace("temperature", "temp").replace("soil_moisture", "soil");
    if inputs.len() > 1 { format!("{name} + {}", inputs.len() - 1) } else { name }
}

fn ablation_figure(found: &RelevanceReport) -> Option<ReportFigure> {
    found.ablation.first()?;
    let without = |ablation: &WindowAblation| {
        change_rank(format!("without {}", ablation.without), ablation.change, ablation.interval)
    };
    let rows = found.ablation.iter().map(without).collect();
    let title = "change of the error without some windows";
    Some(ReportFigure {
        title: "Value of windows".to_owned(),
        svg: plot_around_zero(title, "change of the error, %", rows, f64::NEG_INFINITY),
        caption: format!(
            "{} fitted again without the inputs of some windows: right of the dashed line the error is larger without them. {}",
            sentences::capitalise_first(&found.model),
            found.answer
        ),
    })
}
