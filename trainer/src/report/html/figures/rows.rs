//! Which rows were learnt from and which were judged.

use super::super::{
    super::svg::{Axis, Colour, Plot, Rank, Ranks},
    Figure,
};
use crate::{backtest::Facts, compare::TaskResult};

pub(super) fn of(task: &TaskResult) -> Vec<Figure> {
    [parts(&task.facts), zones(&task.facts)].into_iter().flatten().collect()
}

fn legend() -> Vec<(Colour, String)> {
    vec![
        (Colour::Quiet, "training".to_owned()),
        (Colour::Baseline, "calibration".to_owned()),
        (Colour::Model, "test".to_owned()),
    ]
}

fn parts(facts: &Facts) -> Option<Figure> {
    let count = facts.folds.len() as f64;
    let ends = facts.folds.iter().flat_map(|fold| [fold.spans.train.0, fold.spans.test.1]);
    let x = Axis::time("time, UTC", ends.collect::<Vec<_>>());
    let mut plot =
        Plot::new("how time was divided", x, Axis::fixed("fold", 0.5, count + 0.5).whole());
    for (i, fold) in facts.folds.iter().enumerate() {
        let spans = [fold.spans.train, fold.spans.calibration, fold.spans.test];
        for ((colour, _), (from, to)) in legend().into_iter().zip(spans) {
            let middle = i as f64 + 1.0;
            plot.area(colour, (from as f64, to as f64), (middle - 0.3, middle + 0.3));
        }
    }
    legend().into_iter().for_each(|(colour, text)| plot.legend(colour, text));
    (!facts.folds.is_empty()).then(|| Figure {
        title: "How time was divided".to_owned(),
        svg: plot.svg(),
        caption: "Models learn from the first part, are chosen on the second and judged on the third; the \
                  gaps are embargoes of the task's horizon."
            .to_owned(),
    })
}

const ZONES_MAX: usize = 40;

fn zones(facts: &Facts) -> Option<Figure> {
    let shown = facts.zones.iter().take(ZONES_MAX);
    let rows: Vec<Rank> = shown
        .map(|zone| {
            let parts = [zone.train, zone.calibration, zone.test].map(|rows| rows as f64);
            let bars = legend().into_iter().zip(parts).map(|((colour, _), rows)| (colour, rows));
            Rank {
                name: zone.zone.to_string(),
                value: parts.iter().sum(),
                interval: None,
                colour: Colour::Quiet,
                bars: bars.collect(),
            }
        })
        .collect();
    let most = rows.iter().map(|row| row.value).fold(1.0, f64::max);
    let ranks = Ranks {
        title: "rows by zone".to_owned(),
        axis: Axis::fixed("rows", 0.0, most),
        rows,
        guide: None,
        legend: legend(),
    };
    let more = facts.zones.len().saturating_sub(ZONES_MAX);
    (!facts.zones.is_empty()).then(|| Figure {
        title: "Rows by zone".to_owned(),
        svg: ranks.svg(),
        caption: format!(
            "How many rows each zone gave to each part{}; a zone without a bar of a colour was not in that part.",
            if more > 0 { format!(" ({more} more zones are not shown)") } else { String::new() }
        ),
    })
}
