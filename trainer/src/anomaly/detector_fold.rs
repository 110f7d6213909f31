use std::time::Instant;

use models::{
    Predictor,
    detect::{
        AnomalyDetector,
        sensor_faults::{FaultEvaluation, FaultedSeries},
    },
};
use ndarray::{ArrayView1, Axis, Slice};

use super::{BASELINE_DETECTOR, data_split::AnomalySplit};

/// Share of usual minutes below the score that raises an alarm.
const ALARM_QUANTILE: f64 = 0.995;
/// Usual minutes that it is found among, at most.
const NORMAL_MINUTES_MAX: usize = 10_000;

/// A detector that was fitted in one fold, and what it is worth there.
pub(super) struct DetectorFoldResult {
    pub(super) predictor: Predictor,
    /// Area under precision and recall on the part that it is chosen by.
    validation_pr_auc: f64,
    /// The score that raises an alarm.
    pub(super) alarm: f64,
    /// Between these lie 90 % of the scores of usual minutes.
    pub(super) normal_range: (f64, f64),
    /// Of the test part, series after series.
    pub(super) scores: Vec<f64>,
    verdict: FaultEvaluation,
    pub(super) fit_s: f64,
    pub(super) size_bytes: usize,
    /// Rows that it was fitted on, and how many there were.
    pub(super) rows: (usize, usize),
}

/// A detector in all folds.
pub(super) struct DetectorCandidate {
    pub(super) name: &'static str,
    pub(super) is_baseline: bool,
    pub(super) folds: Vec<DetectorFoldResult>,
    /// How many minutes of each are judged.
    minutes: Vec<usize>,
}

impl DetectorCandidate {
    /// Fits and judges a detector in every fold.
    ///
    /// # Errors
    /// Why it cannot be fitted.
    pub(super) fn fit_folds(
        detector: &dyn AnomalyDetector,
        folds: &[AnomalySplit],
        minutes: &[usize],
        seed: u64,
    ) -> Result<Self, String> {
        let of_folds = folds.iter().map(|parts| evaluate_fold(detector, parts, seed));
        let name = detector.name();
        Ok(Self {
            name,
            is_baseline: name == BASELINE_DETECTOR,
            folds: of_folds.collect::<Result<_, String>>()?,
            minutes: minutes.to_vec(),
        })
    }

    /// That of the last fold, which is kept.
    pub(super) fn last_fold(&self) -> &DetectorFoldResult {
        self.folds.last().expect("there is a fold")
    }

    /// Area under precision and recall on the part that it is selected by: the one before
    /// the first test set, so that no minute that is reported has selected anything.
    pub(super) fn validation_pr_auc(&self) -> f64 {
        self.folds.first().map_or(f64::NAN, |fold| fold.validation_pr_auc)
    }

    /// The mean over folds, each counting as its judged minutes, of those that have
    /// it.
    pub(super) fn mean_over_folds(
        &self,
        of: impl Fn(&FaultEvaluation) -> Option<f64>,
    ) -> Option<f64> {
        let folds = self.folds.iter().zip(&self.minutes);
        let known = folds.filter_map(|(fold, minutes)| Some((*minutes as f64, of(&fold.verdict)?)));
        let (minutes, sum) =
            known.fold((0.0, 0.0), |(all, sum), (own, value)| (all + own, sum + own * value));
        (minutes > 0.0).then(|| sum / minutes)
    }
}

pub(super) fn evaluate_fold(
    detector: &dyn AnomalyDetector,
    parts: &AnomalySplit,
    seed: u64,
) -> Result<DetectorFoldResult, String> {
    let start = Instant::now();
    let fitted = detector.fit(parts.train.view(), seed).map_err(|error| error.to_string())?;
    let fit_s = start.elapsed().as_secs_f64();
    let step = parts.usual.nrows().div_ceil(NORMAL_MINUTES_MAX).max(1);
    let mut of_usual = fitted
        .score_rows(parts.usual.slice_axis(Axis(0), Slice::new(0, None, step as isize)))
        .to_vec();
    of_usual.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| {
        let rank = (of_usual.len() as f64 * q) as usize;
        of_usual.get(rank.min(of_usual.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    let scores = |judged: &[FaultedSeries]| -> Vec<Vec<f64>> {
        judged.iter().map(|own| fitted.score_rows(own.rows.view()).to_vec()).collect()
    };
    let channels = |row: ArrayView1<f64>| {
        parts.kinds.input_scores(row).expect("it tells channels apart").to_vec()
    };
    let chosen_by =
        FaultEvaluation::from_scores(&parts.choice, &scores(&parts.choice), &channels).pr_auc;
    let said = scores(&parts.test);
    let verdict = FaultEvaluation::from_scores(&parts.test, &said, &channels);
    let size_bytes = serde_json::to_vec(&fitted).map_err(|error| error.to_string())?.len();
    Ok(DetectorFoldResult {
        validation_pr_auc: chosen_by,
        alarm: quantile(ALARM_QUANTILE).max(1e-9),
        normal_range: (quantile(0.05), quantile(0.95)),
        scores: said.concat(),
        verdict,
        fit_s,
        size_bytes,
        rows: (parts.train.nrows().min(detector.rows_max()), parts.train.nrows()),
        predictor: Predictor::Detector(fitted),
    })
}
