use std::{collections::BTreeMap, time::Instant};

use models::{
    Dataset, Estimator, FittedRegressor, MissingPolicy, Predictor, fit_regressor, metrics,
    regressors::boosting::LEVELS,
    stats::{
        classes::{brier_score, calibration_error, calibration_table, log_loss},
        quantile::crps,
        survival::concordance_index,
    },
};
use ndarray::{Array1, Array2, ArrayView2};

use super::{
    error_intervals::ErrorMetric,
    latency::{self, RowLatency},
    statistic::{FoldStatistic, RowStatistic},
};
use crate::{
    settings::TrainerSettings,
    split::DataSplit,
    tasks::{PredictionTask, TaskBaseline},
    training_set::LabelledRows,
};

/// Number of groups of similar predicted probabilities.
pub(super) const RELIABILITY_BINS: usize = 10;

/// Data by which the candidates of one fold are evaluated.
pub(super) struct FoldEvaluator<'a> {
    pub(super) task: &'a dyn PredictionTask,
    pub(super) metric: ErrorMetric,
    pub(super) parts: &'a DataSplit,
    pub(super) settings: &'a TrainerSettings,
    pub(super) train: Dataset,
    pub(super) calibration: Dataset,
    pub(super) known: Dataset,
    pub(super) test: Dataset,
    /// Actuals of the test set, in the task's unit.
    pub(super) actual: Array1<f64>,
}

/// Result of a model in one fold.
pub(super) struct FoldResult {
    /// Fitted model; kept for the last fold only.
    pub(super) predictor: Option<Predictor>,
    /// Predictions of the test set, in the task's unit.
    pub(super) predictions: Array1<f64>,
    /// Absolute errors on the calibration set, in the task's unit.
    pub(super) calibration_errors: Vec<f64>,
    /// Absolute errors on all rows before the test set, in the task's unit, for a model that was
    /// trained on none of them.
    pub(super) known_errors: Vec<f64>,
    /// Scores of the predicted distributions of the test set.
    pub(super) distribution_scores: Vec<(&'static str, f64)>,
    /// Half the width of the prediction interval, in the task's unit.
    pub(super) half_width: Option<f64>,
    pub(super) fit_s: f64,
    pub(super) size_bytes: usize,
    pub(super) rows: usize,
    pub(super) rows_offered: usize,
}

/// A model with its results in all folds.
pub(super) struct ModelCandidate {
    pub(super) name: String,
    pub(super) baseline: Option<TaskBaseline>,
    pub(super) missing: Option<MissingPolicy>,
    pub(super) folds: Vec<FoldResult>,
    pub(super) latency: RowLatency,
}

impl<'a> FoldEvaluator<'a> {
    pub(super) fn new(
        task: &'a dyn PredictionTask,
        parts: &'a DataSplit,
        settings: &'a TrainerSettings,
    ) -> Result<Self, String> {
        let dataset = |rows: &LabelledRows| rows.to_dataset().map_err(|error| error.to_string());
        let test = dataset(&parts.test)?;
        Ok(Self {
            task,
            metric: ErrorMetric::from_name(task.spec().metric),
            parts,
            settings,
            train: dataset(&parts.train)?,
            calibration: dataset(&parts.calibration)?,
            known: dataset(&parts.known)?,
            actual: parts.test.actual_values(),
            test,
        })
    }

    /// Fits a model twice: on the training set, for the errors on the calibration set; then on
    /// both, because a served model must not leave out the latest rows.
    pub(super) fn fit_and_evaluate(&self, estimator: &dyn Estimator) -> Result<FoldResult, String> {
        let fit = |data: &Dataset| {
            fit_regressor(estimator, data, self.settings.seed).map_err(|error| error.to_string())
        };
        let (first, _) = fit(&self.train)?;
        let first = Predictor::Regressor(first);
        let residuals =
            self.calibration_residuals(&first, &self.parts.calibration, &self.calibration)?;
        let start = Instant::now();
        let (fitted, rows) = fit(&self.known)?;
        let fit_s = start.elapsed().as_secs_f64();
        self.evaluate_model(Predictor::Regressor(fitted), &residuals, rows, fit_s)
    }

    /// Evaluates a baseline, which needs no training.
    pub(super) fn evaluate_baseline(&self, fitted: FittedRegressor) -> Result<FoldResult, String> {
        let predictor = Predictor::Regressor(fitted);
        let residuals =
            self.calibration_residuals(&predictor, &self.parts.calibration, &self.calibration)?;
        let of_known = self.calibration_residuals(&predictor, &self.parts.known, &self.known)?;
        let judged = self.evaluate_model(predictor, &residuals, 0, 0.0)?;
        Ok(FoldResult { known_errors: absolute_errors(&of_known), ..judged })
    }

    /// Returns the residuals in the task's unit, without rows whose target is only a bound.
    fn calibration_residuals(
        &self,
        predictor: &Predictor,
        rows: &LabelledRows,
        data: &Dataset,
    ) -> Result<Vec<f64>, String> {
        let errors = &rows.actual_values() - &self.predict_levels(predictor, rows, data)?;
        let each = errors.iter().zip(rows.censored_flags());
        Ok(each.filter_map(|(error, is_bound)| (!is_bound).then_some(*error)).collect())
    }

    /// Predicts rows, in the task's unit.
    fn predict_levels(
        &self,
        predictor: &Predictor,
        rows: &LabelledRows,
        data: &Dataset,
    ) -> Result<Array1<f64>, String> {
        let levels = rows.to_levels(&predictor.predict(data.x.view()), self.task.spec());
        let is_finite = levels.iter().all(|level| level.is_finite());
        is_finite.then_some(levels).ok_or_else(|| "it says what is not a number".to_owned())
    }

    fn evaluate_model(
        &self,
        predictor: Predictor,
        residuals: &[f64],
        rows: usize,
        fit_s: f64,
    ) -> Result<FoldResult, String> {
        let calibration_errors = absolute_errors(residuals);
        let said = self.predict_levels(&predictor, &self.parts.test, &self.test)?;
        let level = self.settings.interval.level;
        Ok(FoldResult {
            distribution_scores: self.distribution_scores(&predictor, &said, residuals.to_vec()),
            predictions: said,
            // Of a probability or a class an interval says nothing.
            half_width: metrics::conformal_quantile(&calibration_errors, level)
                .filter(|_| self.task.spec().classes.is_empty()),
            calibration_errors,
            known_errors: Vec::new(),
            fit_s,
            size_bytes: serde_json::to_vec(&predictor).map_err(|error| error.to_string())?.len(),
            rows,
            rows_offered: self.known.row_count(),
            predictor: Some(predictor),
        })
    }
}

impl FoldEvaluator<'_> {
    /// Scores the predicted distributions. With classes these are their probabilities. Otherwise
    /// the score is the continuous ranked probability score of the model's quantiles, or of those
    /// that `residuals`, the errors on the calibration set, form around the predictions.
    fn distribution_scores(
        &self,
        predictor: &Predictor,
        said: &Array1<f64>,
        mut residuals: Vec<f64>,
    ) -> Vec<(&'static str, f64)> {
        let x = self.test.x.view();
        let truth = self.actual.to_vec();
        if !self.task.spec().classes.is_empty() {
            let Some(probabilities) = predictor.predict_probabilities(x) else { return Vec::new() };
            let came: Vec<usize> = truth.iter().map(|class| class.round() as usize).collect();
            let mut scores = vec![("log_loss", log_loss(probabilities.view(), &came))];
            if self.task.spec().classes.len() > 2 {
                scores.push(("brier", brier_score(probabilities.view(), &came)));
            }
            return scores;
        }
        let about = self.task.spec();
        let mut quantiles = match predictor.predict_quantiles(x) {
            Some((levels, mut said)) => {
                debug_assert_eq!(levels, LEVELS, "scores of other levels do not compare");
                for (mut row, anchor) in said.rows_mut().into_iter().zip(&self.parts.test.reference)
                {
                    row.mapv_inplace(|said| about.to_level(said, *anchor));
                }
                said
            }
            None => {
                residuals.sort_unstable_by(f64::total_cmp);
                let last = residuals.len() - 1;
                let at = LEVELS.map(|level| residuals[(level * last as f64).round() as usize]);
                let (low, high) = about.bounds;
                Array2::from_shape_fn((said.len(), LEVELS.len()), |(row, level)| {
                    (said[row] + at[level]).clamp(low, high)
                })
            }
        };
        // A level may fall where what is said rises: then the quantiles change places.
        for mut row in quantiles.rows_mut() {
            row.as_slice_mut().expect("rows lie together").sort_unstable_by(f64::total_cmp);
        }
        vec![("crps", crps(quantiles.view(), &LEVELS, &truth))]
    }

    fn point_scores(&self, said: &Array1<f64>) -> Vec<(&'static str, RowStatistic)> {
        let errors = said - &self.actual;
        let each = |of: fn(f64) -> f64| errors.iter().map(|error| of(*error)).collect();
        let mut scores = vec![
            ("bias", RowStatistic::Mean(errors.to_vec())),
            ("mae", RowStatistic::Mean(each(f64::abs))),
            ("rmse", RowStatistic::RootMean(each(|error| error * error))),
        ];
        let (said, truth) = (said.to_vec(), self.actual.to_vec());
        // Test rows are those whose truth is known.
        if self.train.censored.is_some() {
            let found = concordance_index(&said, &truth, &vec![false; said.len()]);
            scores.push(("concordance", RowStatistic::Fixed(found)));
        }
        if self.task.spec().classes.len() == 2 {
            let labels: Vec<bool> = truth.iter().map(|class| *class > 0.5).collect();
            scores.push(("brier", RowStatistic::Mean(each(|error| error * error))));
            let table = calibration_table(&said, &labels, RELIABILITY_BINS);
            scores.push(("calibration_error", RowStatistic::Fixed(calibration_error(&table))));
        }
        scores.extend(self.task.extra_scores(&said, &self.parts.test));
        scores
    }
}

fn absolute_errors(errors: &[f64]) -> Vec<f64> {
    errors.iter().map(|error| error.abs()).collect()
}

impl ModelCandidate {
    pub(super) fn new(
        name: &str,
        baseline: Option<TaskBaseline>,
        missing: Option<MissingPolicy>,
        folds: Vec<FoldResult>,
    ) -> Self {
        let latency = RowLatency::default();
        Self { name: name.to_owned(), baseline, missing, folds, latency }
    }

    /// Returns the fitted model of the last fold.
    pub(super) fn last_predictor(&self) -> &Predictor {
        let last = self.folds.last().expect("there is a fold");
        last.predictor.as_ref().expect("the last fold's is kept")
    }

    /// Measures the latency of one row.
    pub(super) fn measure_latency(&mut self, x: ArrayView2<f64>) {
        self.latency = latency::measure_latency(self.last_predictor(), x);
    }

    /// Iterates over the predictions of the test sets of all folds, one after another.
    pub(super) fn predictions(&self) -> impl Iterator<Item = &f64> {
        self.folds.iter().flat_map(|judged| judged.predictions.iter())
    }

    /// Returns the error on the calibration sets of all folds.
    pub(super) fn validation_error(&self, metric: ErrorMetric) -> f64 {
        self.pooled_error(metric, |judged| &judged.calibration_errors)
    }

    /// Returns a baseline's error on all rows before the test sets.
    pub(super) fn pre_test_error(&self, metric: ErrorMetric) -> f64 {
        self.pooled_error(metric, |judged| &judged.known_errors)
    }

    fn pooled_error(&self, metric: ErrorMetric, errors: impl Fn(&FoldResult) -> &Vec<f64>) -> f64 {
        let all = self.folds.iter().flat_map(errors);
        metric.error_from_losses(&all.map(|error| metric.loss(*error, 0.0)).collect::<Vec<_>>())
    }

    /// Returns the share of actuals within the prediction intervals, if every fold has intervals.
    pub(super) fn interval_coverage(&self, judges: &[FoldEvaluator]) -> Option<f64> {
        let (mut within, mut rows) = (0.0, 0.0);
        for (judged, judges) in self.folds.iter().zip(judges) {
            let count = judges.actual.len() as f64;
            let truth = judges.actual.view();
            within += count
                * metrics::interval_coverage(judged.predictions.view(), truth, judged.half_width?);
            rows += count;
        }
        Some(within / rows)
    }

    /// Returns other scores of the test set, by name.
    pub(super) fn test_scores(
        &self,
        judges: &[FoldEvaluator],
    ) -> BTreeMap<&'static str, FoldStatistic> {
        let mut scores: BTreeMap<&'static str, FoldStatistic> = BTreeMap::new();
        let mut first = 0;
        for (judged, judges) in self.folds.iter().zip(judges) {
            let rows = first..first + judges.actual.len();
            let of_distributions = judged.distribution_scores.iter();
            let of_distributions =
                of_distributions.map(|(name, score)| (*name, RowStatistic::Fixed(*score)));
            for (name, own) in
                judges.point_scores(&judged.predictions).into_iter().chain(of_distributions)
            {
                scores.entry(name).or_default().push(rows.clone(), own);
            }
            first = rows.end;
        }
        scores.retain(|_, own| own.value().is_finite());
        scores
    }
}
