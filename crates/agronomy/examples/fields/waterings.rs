use microclimate_agronomy::drying::{DryingSettings, DryingTracker};

use crate::{
    field::{MoistureField, STEP_MS},
    interpolation::FieldKnots,
};

/// Detected onsets compared with runs of irrigation flags.
pub(crate) struct WateringScores {
    /// For each run: whether it was detected, and its rise in %.
    runs: Vec<(bool, f64)>,
    /// For each detected onset: whether it is near a run.
    onsets: Vec<bool>,
}

impl WateringScores {
    pub(crate) fn from_field(field: &MoistureField, knots: &FieldKnots) -> Self {
        let settings = DryingSettings::default();
        let mut drying = DryingTracker::default();
        let mut onsets_ms = Vec::new();
        for (_, at_ms, pct) in &knots.points {
            drying.add_moisture(&settings, *at_ms, *pct);
            if let Some(watering) = drying.waterings().back()
                && onsets_ms.last() != Some(&watering.onset.ms)
            {
                onsets_ms.push(watering.onset.ms);
            }
        }
        let tolerance_ms = (knots.interval_rows * STEP_MS as f64) as i64;
        let end = knots.points.last().map_or(0, |point| point.0);
        let near = |from_ms: i64, to_ms: i64, at_ms: i64| {
            (from_ms - tolerance_ms..=to_ms + tolerance_ms).contains(&at_ms)
        };
        let mut spans = Vec::new();
        let mut row = 0;
        while row <= end {
            let run = field.flag[row..=end].iter().take_while(|flag| **flag).count();
            if run > 0 {
                spans.push((row.saturating_sub(1), row + run - 1));
            }
            row += run + 1;
        }
        // The first knots do not show a rise that had begun before them.
        let first = knots.points.first().map_or(0, |point| point.0);
        let is_known = |row: usize| field.moisture[row].is_some();
        spans.retain(|(from, to)| *from >= first && is_known(*from) && is_known(*to));
        let ms = |(from, to): (usize, usize)| (field.at_ms(from), field.at_ms(to));
        let runs = spans
            .iter()
            .map(|span| {
                let (from_ms, to_ms) = ms(*span);
                let found = onsets_ms.iter().any(|at_ms| near(from_ms, to_ms, *at_ms));
                let pct = |row: usize| field.moisture[row].unwrap_or_default();
                (found, (pct(span.1) - pct(span.0)).round())
            })
            .collect();
        let onsets = onsets_ms
            .iter()
            .map(|at_ms| spans.iter().any(|span| near(ms(*span).0, ms(*span).1, *at_ms)))
            .collect();
        Self { runs, onsets }
    }

    pub(crate) const HEAD: [&str; 8] = [
        "field",
        "knots",
        "interval",
        "runs",
        "onsets",
        "precision",
        "recall",
        "recall of rises ≥ 4 %",
    ];

    pub(crate) fn table_row(
        &self,
        number: usize,
        knots: &FieldKnots,
    ) -> [String; Self::HEAD.len()] {
        let share =
            |part: usize, all: usize| format!("{:.2} ({part}/{all})", part as f64 / all as f64);
        let recall = |least_pct: f64| {
            let runs: Vec<_> = self.runs.iter().filter(|run| run.1 >= least_pct).collect();
            share(runs.iter().filter(|run| run.0).count(), runs.len())
        };
        [
            number.to_string(),
            knots.points.len().to_string(),
            format!("{:.2} h", knots.interval_rows * STEP_MS as f64 / 3.6e6),
            self.runs.len().to_string(),
            self.onsets.len().to_string(),
            share(self.onsets.iter().filter(|near| **near).count(), self.onsets.len()),
            recall(f64::MIN),
            recall(4.0),
        ]
    }
}
