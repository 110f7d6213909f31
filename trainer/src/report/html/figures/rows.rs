//! Figures of the rows that were used for fitting and for evaluation.

use super::super::{
    super::svg::{PlotAxis, PlotColour, RankChart, RankRow, SvgPlot},
    ReportFigure,
};
use crate::{backtest::ComparisonFacts, compare::TaskResult};

pub(super) fn row_figures(task: &TaskResult) -> Vec<ReportFigure> {
    [time_split_figure(&task.facts), zone_rows_figure(&task.facts)].into_iter().flatten().collect()
}

fn part_legend() -> Vec<(PlotColour, String)> {
    vec![
        (PlotColour::Quiet, "training".to_owned()),
        (PlotColour::Baseline, "calibration".to_owned()),
        (PlotColour::Model, "test".to_owned()),
    ]
}

fn time_split_figure(facts: &ComparisonFacts) -> Option<ReportFigure> {
    let count = facts.folds.len() as f64;
    let ends = facts.folds.iter().flat_map(|fold| [fold.spans.train.0, fold.spans.test.1]);
    let x = PlotAxis::new_time("time, UTC", ends.collect::<Vec<_>>());
    let mut plot = SvgPlot::new(
        "how time was divided",
        x,
        PlotAxis::new_fixed("fold", 0.5, count + 0.5).with_whole_ticks(),
    );
    for (i, fold) in facts.folds.iter().enumerate() {
        let spans = [fold.spans.train, fold.spans.calibration, fold.spans.test];
        for ((colour, _), (from, to)) in part_legend().into_iter().zip(spans) {
            let middle = i as f64 + 1.0;
            plot.add_area(colour, (from as f64, to as f64), (middle - 0.3, middle + 0.3));
        }
    }
    part_legend().into_iter().for_each(|(colour, text)| plot.add_legend(colour, text));
    (!facts.folds.is_empty()).then(|| ReportFigure {
        title: "How time was divided".to_owned(),
        svg: plot.to_svg(),
        caption: "Models are fitted on the first set, selected on the second and evaluated on the third; the \
                  gaps are embargoes of the task's horizon."
            .to_owned(),
    })
}

const ZONES_MAX: usize = 40;

fn zone_rows_figure(facts: &ComparisonFacts) -> Option<ReportFigure> {
    let shown = facts.zones.iter().take(ZONES_MAX);
    let rows: Vec<RankRow> = shown
        .map(|zone| {
            let parts = [zone.train, zone.calibration, zone.test].map(|rows| rows as f64);
            let bars =
                part_legend().into_iter().zip(parts).map(|((colour, _), rows)| (colour, rows));
            RankRow {
                name: zone.zone.to_string(),
                value: parts.iter().sum(),
                interval: None,
                colour: PlotColour::Quiet,
                bars: bars.collect(),
            }
        })
        .collect();
    let most = rows.iter().map(|row| row.value).fold(1.0, f64::max);
    let ranks = RankChart {
        title: "rows by zone".to_owned(),
        axis: PlotAxis::new_fixed("rows", 0.0, most),
        rows,
        guide: None,
        legend: part_legend(),
    };
    let more = facts.zones.len().saturating_sub(ZONES_MAX);
    (!facts.zones.is_empty()).then(|| ReportFigure {
        title: "Rows by zone".to_owned(),
        svg: ranks.to_svg(),
        caption: format!(
            "Number of rows of each zone in each set{}; a zone without a bar of a colour was not in that set.",
            if more > 0 { format!(" ({more} more zones are not shown)") } else { String::new() }
        ),
    })
}
