//! Models beside one another: error, latency, leakage, relevance, ablation.

use super::super::{
    super::{
        svg::{Axis, Colour, Plot, Rank, Ranks},
        words,
    },
    Figure,
};
use crate::{
    backtest::{Entry, leakage::Leakage},
    compare::TaskResult,
    relevance::{Ablated, Relevance},
};

pub(super) fn of(task: &TaskResult) -> Vec<Figure> {
    let mut figures = vec![errors(task)];
    figures.extend(latency(task));
    figures.extend(task.leakage.as_ref().map(leakage));
    if let Some(found) = &task.relevance {
        figures.extend(relevance(found));
        figures.extend(ablation(found));
    }
    figures
}

fn is_higher_better(task: &TaskResult) -> bool {
    words::quantity(task) == "score"
}

fn colour(task: &TaskResult, entry: &Entry) -> Colour {
    if entry.is_baseline {
        Colour::Baseline
    } else if task.champion.as_deref() == Some(entry.model.as_str()) {
        Colour::Model
    } else {
        Colour::Quiet
    }
}

fn legend() -> Vec<(Colour, String)> {
    vec![
        (Colour::Model, "champion".to_owned()),
        (Colour::Baseline, "baseline".to_owned()),
        (Colour::Quiet, "other models".to_owned()),
    ]
}

fn errors(task: &TaskResult) -> Figure {
    let baseline = task.baseline_entry().map(|entry| entry.value);
    // A model that is far off would press all others to one side.
    let most = baseline.map_or(f64::INFINITY, |value| 3.0 * value);
    let values = task.leaderboard.iter().flat_map(|entry| {
        let [low, high] = entry.interval.unwrap_or([entry.value; 2]);
        [low, entry.value, high].map(|value| value.min(most))
    });
    let rows = task.leaderboard.iter().map(|entry| Rank {
        name: entry.model.clone(),
        value: entry.value,
        interval: entry.interval,
        colour: colour(task, entry),
        bars: Vec::new(),
    });
    let ranks = Ranks {
        title: "each model on the test part".to_owned(),
        axis: Axis::linear(words::axis(task), values.collect::<Vec<_>>()),
        rows: rows.collect(),
        guide: baseline,
        legend: legend(),
    };
    Figure {
        title: format!("{} of each model", words::capital(words::quantity(task))),
        svg: ranks.svg(),
        caption: "Points are of the test part, lines their 95 % intervals; the dashed line is the \
                  best baseline. Intervals overlap more than differences are unsure: the p of the table \
                  compares models hour by hour."
            .to_owned(),
    }
}

fn latency(task: &TaskResult) -> Option<Figure> {
    let most = 3.0 * task.baseline_entry()?.value;
    let shown: Vec<&Entry> =
        task.leaderboard.iter().filter(|e| e.predict_us > 0.0 && e.value <= most).collect();
    let x = Axis::log("time for one row, µs (median)", shown.iter().map(|entry| entry.predict_us));
    let y = Axis::linear(words::axis(task), shown.iter().map(|entry| entry.value));
    let mut plot = Plot::new("time for one prediction against error", x, y);
    let is_higher_better = is_higher_better(task);
    let beats = |a: &Entry, b: &Entry| {
        let better = if is_higher_better { a.value > b.value } else { a.value < b.value };
        better && a.predict_us <= b.predict_us
    };
    for entry in &shown {
        let is_best = !shown.iter().any(|other| beats(other, entry));
        plot.point(colour(task, entry), (entry.predict_us, entry.value), &entry.model, is_best);
    }
    legend().into_iter().for_each(|(colour, text)| plot.legend(colour, text));
    Some(Figure {
        title: "Latency against accuracy".to_owned(),
        svg: plot.svg(),
        caption: format!(
            "Left is faster, {} is better; named models are those that no other beats in both.",
            if is_higher_better { "up" } else { "down" }
        ),
    })
}

fn leakage(leakage: &Leakage) -> Figure {
    let rows: Vec<Rank> = words::leakage(leakage)
        .into_iter()
        .enumerate()
        .map(|(i, (what, skill))| Rank {
            name: what.to_owned(),
            value: skill.value,
            interval: skill.interval,
            colour: if i == 0 { Colour::Model } else { Colour::Warning },
            bars: Vec::new(),
        })
        .collect();
    // A skill far below nothing would press all others to one side.
    let svg = about_nothing("skill of the same model, honest and not", "skill", rows, -1.0);
    Figure {
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
fn about_nothing(title: &str, axis: &str, rows: Vec<Rank>, least: f64) -> String {
    let ends = rows.iter().flat_map(|row| row.interval.unwrap_or([row.value; 2]));
    let ends: Vec<f64> = ends.chain([0.0]).map(|end| end.max(least)).collect();
    let axis = Axis::linear(axis, ends);
    let guide = Some(0.0);
    Ranks { title: title.to_owned(), axis, rows, guide, legend: Vec::new() }.svg()
}

/// A change of the error, which is a share of it, in percent.
fn change(name: String, share: f64, interval: Option<[f64; 2]>) -> Rank {
    let percent = |share: f64| 100.0 * share;
    Rank {
        name,
        value: percent(share),
        interval: interval.map(|ends| ends.map(percent)),
        colour: Colour::Model,
        bars: Vec::new(),
    }
}

const GROUPS_MAX: usize = 14;

fn relevance(found: &Relevance) -> Option<Figure> {
    found.groups.first()?;
    let groups = found.groups.iter().take(GROUPS_MAX);
    let rows = groups.map(|own| change(name(&own.inputs), own.rise, own.interval)).collect();
    let title = "rise of the error without an input";
    Some(Figure {
        title: format!("What {} rests on", found.model),
        svg: about_nothing(title, "rise of the error, %", rows, f64::NEG_INFINITY),
        caption: "How much the error on the test part rises when an input is shuffled; inputs that say the \
                  same are shuffled together (“+ n” more); Δ is the difference from the newest value. Left of 0 it was of no use."
            .to_owned(),
    })
}

/// The first of inputs that say the same, and how many more there are. What is
/// set against a metric's newest value is so in many names.
fn name(inputs: &[String]) -> String {
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

fn ablation(found: &Relevance) -> Option<Figure> {
    found.ablation.first()?;
    let without =
        |own: &Ablated| change(format!("without {}", own.without), own.change, own.interval);
    let rows = found.ablation.iter().map(without).collect();
    let title = "change of the error without some windows";
    Some(Figure {
        title: "What windows are worth".to_owned(),
        svg: about_nothing(title, "change of the error, %", rows, f64::NEG_INFINITY),
        caption: format!(
            "{} fitted again without the inputs of some windows: right of the dashed line they are missed. {}",
            words::capital(&found.model),
            found.answer
        ),
    })
}
