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

/// Share of normal minutes below the score that raises an alarm.
const ALARM_QUANTILE: f64 = 0.995;
/// Largest number of normal minutes from which the alarm score is computed.
const NORMAL_MINUTES_MAX: usize = 10_000;

/// A detector fitted in one fold, with its evaluation.
pub(super) struct DetectorFoldResult {
    pub(super) predictor: Predictor,
    /// Area under the precision-recall curve on the validation set.
    validation_pr_auc: f64,
    /// Score that raises an alarm.
    pub(super) alarm: f64,
    /// Range of 90 % of the scores of normal minutes.
    pub(super) normal_range: (f64, f64),
    /// Scores of the test set, series after series.
    pub(super) scores: Vec<f64>,
    verdict: FaultEvaluation,
    pub(super) fit_s: f64,
    pub(super) size_bytes: usize,
    /// Number of rows used for fitting, and number of rows offered.
    pub(super) rows: (usize, usize),
}

/// A detector in all folds.
pub(super) struct DetectorCandidate {
    pub(super) name: &'static str,
    pub(super) is_baseline: bool,
    pub(super) folds: Vec<DetectorFoldResult>,
    /// Number of evaluated minutes in each fold.
    minutes: Vec<usize>,
}

impl DetectorCandidate {
    /// Fits and evaluates a detector in every fold.
    ///
    /// # Errors
    /// States why the detector cannot be fitted.
    pub(super) fn fit_folds(
        detector: &dyn AnomalyDetector,
        folds: &[AnomalySplit],
        minutes: &[usize],
        seed: u64,
    ) -> Result<Self, String> {
        let results = folds.iter().map(|parts| evaluate_fold(detector, parts, seed));
        let name = detector.name();
        Ok(Self {
            name,
            is_baseline: name == BASELINE_DETECTOR,
            folds: results.collect::<Result<_, String>>()?,
            minutes: minutes.to_vec(),
        })
    }

    /// Result of the last fold, which is used.
    pub(super) fn last_fold(&self) -> &DetectorFoldResult {
        self.folds.last().expect("there is a fold")
    }

    /// Area under precision and recall on the part that it is selected by: the one before
    /// the first test set, so that no minute that is reported has selected anything.
    pub(super) fn validation_pr_auc(&self) -> f64 {
        self.folds.first().map_or(f64::NAN, |fold| fold.validation_pr_auc)
    }

    /// Mean over the folds that have the value, weighted by their evaluated minutes.
    pub(super) fn mean_over_folds(
        &self,
        value: impl Fn(&FaultEvaluation) -> Option<f64>,
    ) -> Option<f64> {
        let folds = self.folds.iter().zip(&self.minutes);
        let known =
            folds.filter_map(|(fold, minutes)| Some((*minutes as f64, value(&fold.verdict)?)));
        let (minutes, sum) = known
            .fold((0.0, 0.0), |(all, sum), (weight, value)| (all + weight, sum + weight * value));
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
    let mut normal_scores = fitted
        .score_rows(parts.usual.slice_axis(Axis(0), Slice::new(0, None, step as isize)))
        .to_vec();
    normal_scores.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| {
        let rank = (normal_scores.len() as f64 * q) as usize;
        normal_scores
            .get(rank.min(normal_scores.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    };
    let scores = |judged: &[FaultedSeries]| -> Vec<Vec<f64>> {
        judged.iter().map(|part| fitted.score_rows(part.rows.view()).to_vec()).collect()
    };
    let channels = |row: ArrayView1<f64>| {
        parts.kinds.input_scores(row).expect("it scores channels separately").to_vec()
    };
    let validation_pr_auc =
        FaultEvaluation::from_scores(&parts.choice, &scores(&parts.choice), &channels).pr_auc;
    let test_scores = scores(&parts.test);
    let verdict = FaultEvaluation::from_scores(&parts.test, &test_scores, &channels);
    let size_bytes = serde_json::to_vec(&fitted).map_err(|error| error.to_string())?.len();
    Ok(DetectorFoldResult {
        validation_pr_auc,
        alarm: quantile(ALARM_QUANTILE).max(1e-9),
        normal_range: (quantile(0.05), quantile(0.95)),
        scores: test_scores.concat(),
        verdict,
        fit_s,
        size_bytes,
        rows: (parts.train.nrows().min(detector.rows_max()), parts.train.nrows()),
        predictor: Predictor::Detector(fitted),
    })
}
