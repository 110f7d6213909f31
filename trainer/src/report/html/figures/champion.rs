//! Figures about the champion.

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
    let point_values = points.iter().flat_map(|point| [point.truth, point.predicted]);
    let values: Vec<f64> =
        point_values.chain(band.iter().flat_map(|(_, low, high)| [*low, *high])).collect();
    let x =
        PlotAxis::new_time("time of the prediction, UTC", points.iter().map(|point| point.at_ms));
    let y = PlotAxis::new_linear(format!("{}, {}", task.title, task.unit), values);
    let mut plot = SvgPlot::new("predicted and actual values by time", x, y);
    plot.add_band(PlotColour::Model, &band);
    let line =
        |value: &dyn Fn(&crate::backtest::details::PredictionPoint) -> f64| -> Vec<(f64, f64)> {
            points.iter().map(|point| (point.at_ms as f64, value(point))).collect()
        };
    plot.add_line(PlotColour::Actual, line(&|point| point.truth));
    plot.add_line(PlotColour::Model, line(&|point| point.predicted));
    plot.add_legend(PlotColour::Actual, "actual");
    plot.add_legend(PlotColour::Model, details.model.clone());
    let zone = details.trace_zone.as_ref().map_or(String::new(), |zone| format!(" in {zone}"));
    Some(ReportFigure {
        title: format!("Predicted and actual{zone}"),
        svg: plot.to_svg(),
        caption: "The latest rows of the test set in the zone that varies most. At each time the figure shows \
                  the value predicted then for later, and the actual value. The shaded band is the \
                  prediction interval."
            .to_owned(),
    })
}

fn scatter_figure(task: &TaskResult, details: &ChampionDetails) -> Option<ReportFigure> {
    let points = &details.points;
    // The levels of a slow quantity would lie on the line whatever was predicted.
    let is_change = points.iter().any(|point| point.unchanged != 0.0);
    let what = if is_change { "change" } else { "value" };
    let pairs: Vec<(f64, f64)> =
        points.iter().map(|p| (p.truth - p.unchanged, p.predicted - p.unchanged)).collect();
    let values: Vec<f64> =
        pairs.iter().flat_map(|(actual, predicted)| [*actual, *predicted]).collect();
    let x = PlotAxis::new_linear(format!("actual {what}, {}", task.unit), values.clone());
    let y = PlotAxis::new_linear(format!("predicted {what}, {}", task.unit), values.clone());
    let (low, high) = value_range(&values);
    let mut plot = SvgPlot::new("predicted against actual", x, y);
    plot.add_cloud(PlotColour::Model, pairs);
    plot.add_guide((low, low), (high, high));
    plot.add_legend(PlotColour::Model, details.model.clone());
    (!points.is_empty()).then(|| ReportFigure {
        title: format!("Predicted against actual {what}"),
        svg: plot.to_svg(),
        caption: "Predictions on the dashed line are exact. A cloud flatter than the line means that the model \
                  avoids extremes."
            .to_owned(),
    })
}

fn residual_figure(task: &TaskResult, details: &ChampionDetails) -> Option<ReportFigure> {
    let bins = &details.residuals;
    let (first, last) = (bins.first()?, bins.last()?);
    let most = bins.iter().map(|bin| bin.share).fold(0.0, f64::max);
    let x =
        PlotAxis::new_fixed(format!("prediction minus actual, {}", task.unit), first.from, last.to);
    let y = PlotAxis::new_fixed("share of rows, %", 0.0, 105.0 * most);
    let mut plot = SvgPlot::new("distribution of errors", x, y);
    for bin in bins {
        plot.add_area(PlotColour::Model, (bin.from, bin.to), (0.0, 100.0 * bin.share));
    }
    plot.add_guide((0.0, 0.0), (0.0, 105.0 * most));
    plot.add_legend(PlotColour::Model, details.model.clone());
    Some(ReportFigure {
        title: "Errors".to_owned(),
        svg: plot.to_svg(),
        caption: format!(
            "Distribution of the champion's errors; left of 0 the prediction was too low. The mean error is {} {}; \
             the outermost bars hold everything beyond.",
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
    let errors = slices.iter().flat_map(|slice| [slice.error, slice.baseline_error]);
    let y =
        PlotAxis::new_linear(sentences::axis_label(task), errors.chain([0.0]).collect::<Vec<_>>());
    let mut plot = SvgPlot::new(title, x, y);
    // A baseline that is champion is not compared with itself.
    let has_rival = details.model != details.baseline;
    if has_rival {
        plot.add_line(
            PlotColour::Baseline,
            slices.iter().map(|slice| (slice.from, slice.baseline_error)),
        );
    }
    plot.add_line(PlotColour::Model, slices.iter().map(|slice| (slice.from, slice.error)));
    for slice in slices {
        let name = format!("{}: {} rows", format_number(slice.from), slice.rows);
        plot.add_point(PlotColour::Model, (slice.from, slice.error), &name, false);
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
        caption:
            "Error of the champion and of the best baseline; hours with fewer than ten rows are \
                  omitted."
                .to_owned(),
    })
}

fn actual_value_figure(task: &TaskResult, details: &ChampionDetails) -> Option<ReportFigure> {
    let slices = &details.by_truth;
    let x = PlotAxis::new_linear(
        format!("actual value, from … {}", task.unit),
        slices.iter().map(|slice| slice.from).collect::<Vec<_>>(),
    );
    let is_time = task.unit == "h";
    Some(ReportFigure {
        title: if is_time { "Error by horizon" } else { "Error by actual value" }.to_owned(),
        svg: plot_slices("error by actual value", x, task, details, slices)?,
        caption: if is_time {
            "Error by the actual time until the event, in eight equal steps."
        } else {
            "Error by the actual value, in eight equal steps. Extremes matter most and are the hardest to predict."
        }
        .to_owned(),
    })
}

fn coverage_figure(details: &ChampionDetails) -> Option<ReportFigure> {
    let levels = &details.coverage;
    levels.first()?;
    let axis = |label: &str| PlotAxis::new_fixed(label, 0.0, 100.0);
    let mut plot = SvgPlot::new(
        "stated and observed coverage of intervals",
        axis("stated, % of targets"),
        axis("covered, % of targets"),
    );
    plot.add_guide((0.0, 0.0), (100.0, 100.0));
    let points = || levels.iter().map(|c| (100.0 * c.level, 100.0 * c.covered));
    plot.add_line(PlotColour::Model, points());
    for (point, coverage) in points().zip(levels) {
        let name = format!("± {}", format_number(coverage.half_width));
        plot.add_point(PlotColour::Model, point, &name, false);
    }
    plot.add_legend(PlotColour::Model, details.model.clone());
    Some(ReportFigure {
        title: "Coverage of prediction intervals".to_owned(),
        svg: plot.to_svg(),
        caption: "Prediction intervals were calibrated on the calibration set and are evaluated on the test \
                  set: below the dashed line they are too narrow, above it wider than necessary."
            .to_owned(),
    })
}

fn reliability_figure(details: &ChampionDetails) -> Option<ReportFigure> {
    let groups = &details.reliability;
    groups.first()?;
    let axis = |label: &str| PlotAxis::new_fixed(label, 0.0, 100.0);
    let (x, y) = (axis("predicted probability, %"), axis("observed share, %"));
    let mut plot = SvgPlot::new("predicted probabilities and observed shares", x, y);
    plot.add_guide((0.0, 0.0), (100.0, 100.0));
    let points = || groups.iter().map(|c| (100.0 * c.predicted, 100.0 * c.observed));
    plot.add_line(PlotColour::Model, points());
    for (point, group) in points().zip(groups) {
        plot.add_point(PlotColour::Model, point, &format!("{} rows", group.rows), false);
    }
    plot.add_legend(PlotColour::Model, details.model.clone());
    Some(ReportFigure {
        title: "Calibration of probabilities".to_owned(),
        svg: plot.to_svg(),
        caption: "Rows are grouped by predicted probability. On the dashed line the event happened as often as \
                  predicted, below it less often. Point at a point for its number of rows."
            .to_owned(),
    })
}

/// Largest score that is drawn, in multiples of the alarm.
const SCORE_MAX: f64 = 4.0;

/// Figure for the anomaly task, which has only a sample: scores and faults by time.
fn sample_figure(task: &TaskResult) -> Option<ReportFigure> {
    let sample = &task.sample;
    sample.at_ms.first()?;
    let x = PlotAxis::new_time("time, UTC", sample.at_ms.iter().copied());
    // An extreme score would compress all others.
    let y = PlotAxis::new_fixed(
        format!("{}, {SCORE_MAX} and more at the top", task.unit),
        0.0,
        SCORE_MAX,
    );
    let mut plot = SvgPlot::new("scores and faults by time", x, y);
    let cloud = |values: &[f64]| -> Vec<(f64, f64)> {
        sample.at_ms.iter().map(|at| *at as f64).zip(values.iter().copied()).collect()
    };
    plot.add_cloud(PlotColour::Model, cloud(&sample.predicted));
    plot.add_cloud(PlotColour::Actual, cloud(&sample.truth));
    plot.add_legend(PlotColour::Actual, "fault");
    plot.add_legend(PlotColour::Model, "score");
    Some(ReportFigure {
        title: "Scores and faults".to_owned(),
        svg: plot.to_svg(),
        caption: "Some minutes of all series of the test set: the score, where 1 is an alarm, and the label, \
                  which is 1 where a fault was injected and 0 elsewhere."
            .to_owned(),
    })
}

fn value_range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(*value), high.max(*value))
    })
}
