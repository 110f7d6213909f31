//! The champion from near.

use super::super::{
    super::{
        sentences,
        svg::{PlotAxis, PlotColour, SvgPlot, format_number},
    },
    ReportFigure,
};
use crate::{
    backtest::details::{ChampionDetails, ErrorSlice},
    compare::TaskResult,
};

pub(super) fn champion_figures(task: &TaskResult) -> Vec<ReportFigure> {
    let Some(details) = &task.details else { return sample_figure(task).into_iter().collect() };
    let mut figures = Vec::new();
    figures.extend(trace_figure(task, details));
    figures.extend(scatter_figure(task, details));
    figures.extend(residual_figure(task, details));
    figures.extend(hour_figure(task, details));
    figures.extend(actual_value_figure(task, details));
    figures.extend(coverage_figure(details));
    figures.extend(reliability_figure(details));
    figures
}

fn trace_figure(task: &TaskResult, details: &ChampionDetails) -> Option<ReportFigure> {
    let points = &details.trace;
    points.first()?;
    let band: Vec<(f64, f64, f64)> = points
        .iter()
        .filter(|point| point.half_width.is_finite())
        .map(|p| (p.at_ms as f64, p.predicted - p.half_width, p.predicted + p.half_width))
        .collect();
    let values = points.iter().flat_map(|point| [point.truth, point.predicted]);
    let values: Vec<f64> =
        values.chain(band.iter().flat_map(|(_, low, high)| [*low, *high])).collect();
    let x =
        PlotAxis::new_time("time of the prediction, UTC", points.iter().map(|point| point.at_ms));
    let y = PlotAxis::new_linear(format!("{}, {}", task.title, task.unit), values);
    let mut plot = SvgPlot::new("predicted and true by time", x, y);
    plot.add_band(PlotColour::Model, &band);
    let line =
        |value: &dyn Fn(&crate::backtest::details::PredictionPoint) -> f64| -> Vec<(f64, f64)> {
            points.iter().map(|point| (point.at_ms as f64, value(point))).collect()
        };
    plot.add_line(PlotColour::Actual, line(&|point| point.truth));
    plot.add_line(PlotColour::Model, line(&|point| point.predicted));
    plot.add_legend(PlotColour::Actual, "what came");
    plot.add_legend(PlotColour::Model, details.model.clone());
    let zone = details.trace_zone.as_ref().map_or(String::new(), |zone| format!(" in {zone}"));
    Some(ReportFigure {
        title: format!("Predicted and true{zone}"),
        svg: plot.to_svg(),
        caption: "The newest rows of the test part in the zone that moves most; each point of time shows \
                  what was predicted then for later, beside what came. The shade is the prediction interval."
            .to_owned(),
    })
}

fn scatter_figure(task: &TaskResult, details: &ChampionDetails) -> Option<ReportFigure> {
    let points = &details.points;
    // Levels of a slow quantity would lie on the line whatever was said.
    let is_change = points.iter().any(|point| point.unchanged != 0.0);
    let what = if is_change { "change" } else { "value" };
    let pairs: Vec<(f64, f64)> =
        points.iter().map(|p| (p.truth - p.unchanged, p.predicted - p.unchanged)).collect();
    let values: Vec<f64> = pairs.iter().flat_map(|(truth, said)| [*truth, *said]).collect();
    let x = PlotAxis::new_linear(format!("{what} that came, {}", task.unit), values.clone());
    let y = PlotAxis::new_linear(format!("{what} that was said, {}", task.unit), values.clone());
    let (low, high) = value_range(&values);
    let mut plot = SvgPlot::new("predicted against true", x, y);
    plot.add_cloud(PlotColour::Model, pairs);
    plot.add_guide((low, low), (high, high));
    plot.add_legend(PlotColour::Model, details.model.clone());
    (!points.is_empty()).then(|| ReportFigure {
        title: format!("Predicted against true {what}"),
        svg: plot.to_svg(),
        caption: "On the dashed line a prediction was exact; a cloud flatter than the line shies away from \
                  extremes."
            .to_owned(),
    })
}

fn residual_figure(task: &TaskResult, details: &ChampionDetails) -> Option<ReportFigure> {
    let bins = &details.residuals;
    let (first, last) = (bins.first()?, bins.last()?);
    let most = bins.iter().map(|bin| bin.share).fold(0.0, f64::max);
    let x = PlotAxis::new_fixed(format!("said less came, {}", task.unit), first.from, last.to);
    let y = PlotAxis::new_fixed("share of rows, %", 0.0, 105.0 * most);
    let mut plot = SvgPlot::new("how often errors are of which size", x, y);
    for bin in bins {
        plot.add_area(PlotColour::Model, (bin.from, bin.to), (0.0, 100.0 * bin.share));
    }
    plot.add_guide((0.0, 0.0), (0.0, 105.0 * most));
    plot.add_legend(PlotColour::Model, details.model.clone());
    Some(ReportFigure {
        title: "Errors".to_owned(),
        svg: plot.to_svg(),
        caption: format!(
            "How often the champion was how far off; left of 0 it said too little. On average it is {} {} off; \
             the outermost bars hold all that is beyond.",
            format_number(details.bias),
            task.unit
        ),
    })
}

fn plot_slices(
    title: &str,
    x: PlotAxis,
    task: &TaskResult,
    details: &ChampionDetails,
    slices: &[ErrorSlice],
) -> Option<String> {
    if slices.len() < 2 {
        return None;
    }
    let errors = slices.iter().flat_map(|own| [own.error, own.baseline_error]);
    let y =
        PlotAxis::new_linear(sentences::axis_label(task), errors.chain([0.0]).collect::<Vec<_>>());
    let mut plot = SvgPlot::new(title, x, y);
    // A baseline that is champion is not its own rival.
    let has_rival = details.model != details.baseline;
    if has_rival {
        plot.add_line(
            PlotColour::Baseline,
            slices.iter().map(|own| (own.from, own.baseline_error)),
        );
    }
    plot.add_line(PlotColour::Model, slices.iter().map(|own| (own.from, own.error)));
    for own in slices {
        let name = format!("{}: {} rows", format_number(own.from), own.rows);
        plot.add_point(PlotColour::Model, (own.from, own.error), &name, false);
    }
    plot.add_legend(PlotColour::Model, details.model.clone());
    if has_rival {
        plot.add_legend(PlotColour::Baseline, details.baseline.clone());
    }
    Some(plot.to_svg())
}

fn hour_figure(task: &TaskResult, details: &ChampionDetails) -> Option<ReportFigure> {
    let x = PlotAxis::new_fixed("hour of the day, UTC", 0.0, 23.0);
    Some(ReportFigure {
        title: "Error by hour of the day".to_owned(),
        svg: plot_slices("error by hour of the day", x, task, details, &details.by_hour)?,
        caption: "When the champion errs, beside the best baseline; hours with fewer than ten rows are left \
                  out."
            .to_owned(),
    })
}

fn actual_value_figure(task: &TaskResult, details: &ChampionDetails) -> Option<ReportFigure> {
    let own = &details.by_truth;
    let x = PlotAxis::new_linear(
        format!("what came, from … {}", task.unit),
        own.iter().map(|slice| slice.from).collect::<Vec<_>>(),
    );
    let is_time = task.unit == "h";
    Some(ReportFigure {
        title: if is_time { "Error by horizon" } else { "Error by what came" }.to_owned(),
        svg: plot_slices("error by what came", x, task, details, own)?,
        caption: if is_time {
            "The error by how far ahead the event really was, in eight equal steps."
        } else {
            "The error by the true value, in eight equal steps: extremes are what counts, and what is hardest."
        }
        .to_owned(),
    })
}

fn coverage_figure(details: &ChampionDetails) -> Option<ReportFigure> {
    let own = &details.coverage;
    own.first()?;
    let axis = |label: &str| PlotAxis::new_fixed(label, 0.0, 100.0);
    let mut plot = SvgPlot::new(
        "what intervals promise and cover",
        axis("promised, % of truths"),
        axis("covered, % of truths"),
    );
    plot.add_guide((0.0, 0.0), (100.0, 100.0));
    let points = || own.iter().map(|c| (100.0 * c.level, 100.0 * c.covered));
    plot.add_line(PlotColour::Model, points());
    for (point, coverage) in points().zip(own) {
        let name = format!("± {}", format_number(coverage.half_width));
        plot.add_point(PlotColour::Model, point, &name, false);
    }
    plot.add_legend(PlotColour::Model, details.model.clone());
    Some(ReportFigure {
        title: "Do intervals keep their promise?".to_owned(),
        svg: plot.to_svg(),
        caption: "Prediction intervals were made on the calibration part and are judged on the test part: \
                  below the dashed line they are too narrow, above it wider than need be."
            .to_owned(),
    })
}

fn reliability_figure(details: &ChampionDetails) -> Option<ReportFigure> {
    let own = &details.reliability;
    own.first()?;
    let axis = |label: &str| PlotAxis::new_fixed(label, 0.0, 100.0);
    let (x, y) = (axis("probability that was said, %"), axis("share that came, %"));
    let mut plot = SvgPlot::new("what probabilities promise and how often it came", x, y);
    plot.add_guide((0.0, 0.0), (100.0, 100.0));
    let points = || own.iter().map(|c| (100.0 * c.predicted, 100.0 * c.observed));
    plot.add_line(PlotColour::Model, points());
    for (point, group) in points().zip(own) {
        plot.add_point(PlotColour::Model, point, &format!("{} rows", group.rows), false);
    }
    plot.add_legend(PlotColour::Model, details.model.clone());
    Some(ReportFigure {
        title: "Do probabilities come true?".to_owned(),
        svg: plot.to_svg(),
        caption: "Rows with about the same probability together: on the dashed line it came as often as was \
                  said, below it less often. Point at a point for its number of rows."
            .to_owned(),
    })
}

/// Scores are drawn up to here, in multiples of the alarm.
const SCORE_MAX: f64 = 4.0;

/// Of anomalies, which have no more than a sample: said and came, by time.
fn sample_figure(task: &TaskResult) -> Option<ReportFigure> {
    let sample = &task.sample;
    sample.at_ms.first()?;
    let x = PlotAxis::new_time("time, UTC", sample.at_ms.iter().copied());
    // A wild score would press all others to the ground.
    let y = PlotAxis::new_fixed(
        format!("{}, {SCORE_MAX} and more at the top", task.unit),
        0.0,
        SCORE_MAX,
    );
    let mut plot = SvgPlot::new("said and came by time", x, y);
    let cloud = |values: &[f64]| -> Vec<(f64, f64)> {
        sample.at_ms.iter().map(|at| *at as f64).zip(values.iter().copied()).collect()
    };
    plot.add_cloud(PlotColour::Model, cloud(&sample.predicted));
    plot.add_cloud(PlotColour::Actual, cloud(&sample.truth));
    plot.add_legend(PlotColour::Actual, "what came");
    plot.add_legend(PlotColour::Model, "what was said");
    Some(ReportFigure {
        title: "Said and came".to_owned(),
        svg: plot.to_svg(),
        caption: "Some minutes of all series of the test part: the score, where 1 is an alarm, and what came, \
                  which is 1 where a fault was put in and 0 elsewhere."
            .to_owned(),
    })
}

fn value_range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(*value), high.max(*value))
    })
}
