use std::{collections::BTreeMap, time::Instant};

use models::{
    Predictor,
    detect::{
        Detector,
        minutes::{Judged, Verdict},
    },
    stats::events::Recall,
};
use ndarray::{ArrayView1, Axis, Slice};

use super::{BASELINE, parts::Parts};
use crate::backtest::Entry;

/// Share of usual minutes below the score that raises an alarm.
const ALARM_QUANTILE: f64 = 0.995;
/// Usual minutes that it is found among, at most.
const USUAL_MAX: usize = 10_000;

/// A detector that was fitted, and what it is worth.
pub(super) struct Candidate {
    pub(super) predictor: Predictor,
    /// Area under precision and recall on the part that it is chosen by.
    pub(super) chosen_by: f64,
    /// The score that raises an alarm.
    pub(super) alarm: f64,
    /// Between these lie 90 % of the scores of usual minutes.
    pub(super) usual: (f64, f64),
    /// Of the test part, series after series.
    pub(super) scores: Vec<f64>,
    pub(super) verdict: Verdict,
    pub(super) entry: Entry,
}

pub(super) fn judge(
    detector: &dyn Detector,
    parts: &Parts,
    seed: u64,
) -> Result<Candidate, String> {
    let start = Instant::now();
    let fitted = detector.fit(parts.learn.view(), seed).map_err(|error| error.to_string())?;
    let fit_s = start.elapsed().as_secs_f64();
    let step = parts.usual.nrows().div_ceil(USUAL_MAX).max(1);
    let mut of_usual =
        fitted.score(parts.usual.slice_axis(Axis(0), Slice::new(0, None, step as isize))).to_vec();
    of_usual.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| {
        let rank = (of_usual.len() as f64 * q) as usize;
        of_usual.get(rank.min(of_usual.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    let scores = |judged: &[Judged]| -> Vec<Vec<f64>> {
        judged.iter().map(|own| fitted.score(own.rows.view()).to_vec()).collect()
    };
    let channels =
        |row: ArrayView1<f64>| parts.kinds.parts(row).expect("it tells channels apart").to_vec();
    let chosen_by = Verdict::of(&parts.choice, &scores(&parts.choice), &channels).pr_auc;
    let said = scores(&parts.test);
    let verdict = Verdict::of(&parts.test, &said, &channels);
    let size_bytes = serde_json::to_vec(&fitted).map_err(|error| error.to_string())?.len();
    Ok(Candidate {
        chosen_by,
        alarm: quantile(ALARM_QUANTILE).max(1e-9),
        usual: (quantile(0.05), quantile(0.95)),
        entry: Entry {
            model: detector.name().to_owned(),
            metric: "pr_auc",
            value: verdict.pr_auc,
            chosen_by,
            baseline_value: f64::NAN,
            is_baseline: detector.name() == BASELINE,
            fit_s,
            size_bytes,
            rows: parts.learn.nrows().min(detector.rows_max()),
            rows_offered: parts.learn.nrows(),
            scores: BTreeMap::from([
                ("vus_pr", verdict.vus_pr),
                ("found_at_1_false_alarm_a_day", found(verdict.daily)),
                ("found_at_1_false_alarm_a_week", found(verdict.weekly)),
            ]),
            ..Entry::default()
        },
        scores: said.concat(),
        verdict,
        predictor: Predictor::Detector(fitted),
    })
}

/// The share of faults.
fn found(recall: Option<Recall>) -> f64 {
    recall.map_or(0.0, |recall| recall.events)
}
