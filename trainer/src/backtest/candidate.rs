use std::{collections::BTreeMap, time::Instant};

use models::{
    Dataset, Estimator, FittedRegressor, MissingPolicy, Predictor, fit_regressor,
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
    split::{DataSplit, SelectionOrigin},
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
    pub(super) known: Dataset,
    pub(super) test: Dataset,
    /// Actuals of the test set, in the task's unit.
    pub(super) actual: Array1<f64>,
}

/// Predictions of a model for rows that it was not fitted on.
#[derive(Clone, Debug)]
pub(super) struct OriginPredictions {
    /// Output of the model.
    pub(super) raw: Array1<f64>,
    /// In the task's unit.
    pub(super) levels: Array1<f64>,
}

/// Result of a model in one fold.
pub(super) struct FoldResult {
    /// Fitted model; kept for the last fold only.
    pub(super) predictor: Option<Predictor>,
    /// Output of the model on the test set.
    pub(super) raw: Array1<f64>,
    /// Predictions for the test set, in the task's unit.
    pub(super) predictions: Array1<f64>,
    /// Quantiles on the test set, in the task's unit: rows × [`LEVELS`], where the model has them.
    pub(super) quantiles: Option<Array2<f64>>,
    /// Probabilities on the test set: rows × classes, where the model has them.
    pub(super) probabilities: Option<Array2<f64>>,
    /// Losses of a baseline on all rows before the test set: it is trained on none of them.
    pub(super) known_losses: Vec<f64>,
    pub(super) fit_s: f64,
    pub(super) size_bytes: usize,
    pub(super) rows: usize,
    pub(super) rows_offered: usize,
}

/// How a candidate is fitted again.
#[derive(Clone, Debug, PartialEq)]
pub enum CandidateRecipe {
    /// A rule that needs no training.
    Baseline(TaskBaseline),
    /// The estimator of the candidate's name.
    Estimator,
    /// Other candidates with their weights.
    Blend(Vec<(f64, String, CandidateRecipe)>),
}

/// A model at all origins of the selection and in all folds.
pub(super) struct ModelCandidate {
    pub(super) name: String,
    pub(super) recipe: CandidateRecipe,
    pub(super) missing: Option<MissingPolicy>,
    pub(super) origins: Vec<OriginPredictions>,
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
        Ok(Self {
            task,
            metric: ErrorMetric::from_name(task.spec().metric),
            parts,
            settings,
            known: dataset(&parts.known)?,
            actual: parts.test.actual_values(),
            test: dataset(&parts.test)?,
        })
    }

    /// Fits on what lies before an origin, and predicts what follows it.
    pub(super) fn fit_origin(
        &self,
        estimator: &dyn Estimator,
        origin: &SelectionOrigin,
    ) -> Result<OriginPredictions, String> {
        let train = origin.train.to_dataset().map_err(|error| error.to_string())?;
        let (fitted, _) = fit_regressor(estimator, &train, self.settings.seed)
            .map_err(|error| error.to_string())?;
        self.predict_origin(&Predictor::Regressor(fitted), origin)
    }

    /// The same of a model that is fitted on nothing.
    pub(super) fn predict_origin(
        &self,
        predictor: &Predictor,
        origin: &SelectionOrigin,
    ) -> Result<OriginPredictions, String> {
        let data = origin.validation.to_dataset().map_err(|error| error.to_string())?;
        let raw = predictor.predict(data.x.view());
        let levels = self.checked_levels(&raw, &origin.validation)?;
        Ok(OriginPredictions { raw, levels })
    }

    /// Fits on all rows before the test set.
    pub(super) fn fit_and_evaluate(&self, estimator: &dyn Estimator) -> Result<FoldResult, String> {
        let start = Instant::now();
        let (fitted, rows) = fit_regressor(estimator, &self.known, self.settings.seed)
            .map_err(|error| error.to_string())?;
        let fit_s = start.elapsed().as_secs_f64();
        self.evaluate_model(Predictor::Regressor(fitted), rows, fit_s)
    }

    /// Evaluates a baseline, which needs no training.
    pub(super) fn evaluate_baseline(&self, fitted: FittedRegressor) -> Result<FoldResult, String> {
        let predictor = Predictor::Regressor(fitted);
        let known = &self.parts.known;
        let levels = self.checked_levels(&predictor.predict(self.known.x.view()), known)?;
        let actual = known.actual_values();
        let losses = self.metric.row_losses(&levels, &actual);
        let uncensored = losses.into_iter().zip(known.censored_flags());
        let known_losses =
            uncensored.filter_map(|(loss, is_bound)| (!is_bound).then_some(loss)).collect();
        Ok(FoldResult { known_losses, ..self.evaluate_model(predictor, 0, 0.0)? })
    }

    /// In the task's unit.
    fn checked_levels(
        &self,
        raw: &Array1<f64>,
        rows: &LabelledRows,
    ) -> Result<Array1<f64>, String> {
        let levels = rows.to_levels(raw, self.task.spec());
        let is_finite = levels.iter().all(|level| level.is_finite());
        is_finite.then_some(levels).ok_or_else(|| "it says what is not a number".to_owned())
    }

    fn evaluate_model(
        &self,
        predictor: Predictor,
        rows: usize,
        fit_s: f64,
    ) -> Result<FoldResult, String> {
        let x = self.test.x.view();
        let about = self.task.spec();
        let raw = predictor.predict(x);
        let quantiles = predictor.predict_quantiles(x).filter(|_| about.classes.is_empty());
        let quantiles = quantiles.map(|(levels, mut said)| {
            debug_assert_eq!(levels, LEVELS, "scores of other levels do not compare");
            for (mut row, anchor) in said.rows_mut().into_iter().zip(&self.parts.test.reference) {
                row.mapv_inplace(|said| about.to_level(said, *anchor));
            }
            said
        });
        Ok(FoldResult {
            predictions: self.checked_levels(&raw, &self.parts.test)?,
            raw,
            quantiles,
            probabilities: predictor.predict_probabilities(x).filter(|_| !about.classes.is_empty()),
            known_losses: Vec::new(),
            fit_s,
            size_bytes: serde_json::to_vec(&predictor).map_err(|error| error.to_string())?.len(),
            rows,
            rows_offered: self.known.row_count(),
            predictor: Some(predictor),
        })
    }

    /// A blend of models that were fitted in this fold.
    pub(super) fn blend_results(
        &self,
        members: &[(f64, &FoldResult)],
    ) -> Result<FoldResult, String> {
        let raw = weighted_sum(members.iter().map(|(weight, own)| (*weight, &own.raw)));
        let probabilities =
            members.iter().map(|(weight, own)| Some((*weight, own.probabilities.as_ref()?)));
        let probabilities: Option<Vec<(f64, &Array2<f64>)>> = probabilities.collect();
        let sum = |of: fn(&FoldResult) -> f64| members.iter().map(|(_, own)| of(own)).sum::<f64>();
        Ok(FoldResult {
            predictor: None,
            predictions: self.checked_levels(&raw, &self.parts.test)?,
            raw,
            quantiles: None,
            probabilities: probabilities.map(|all| {
                let mut sum = Array2::zeros(all[0].1.dim());
                all.iter().for_each(|(weight, own)| sum.scaled_add(*weight, own));
                sum
            }),
            known_losses: Vec::new(),
            fit_s: sum(|own| own.fit_s),
            size_bytes: members.iter().map(|(_, own)| own.size_bytes).sum(),
            rows: members.iter().map(|(_, own)| own.rows).max().unwrap_or_default(),
            rows_offered: self.known.row_count(),
        })
    }

    /// A blend of what models predicted at an origin.
    pub(super) fn blend_predictions(
        &self,
        members: &[(f64, &OriginPredictions)],
        origin: &SelectionOrigin,
    ) -> Result<OriginPredictions, String> {
        let raw = weighted_sum(members.iter().map(|(weight, own)| (*weight, &own.raw)));
        let levels = self.checked_levels(&raw, &origin.validation)?;
        Ok(OriginPredictions { raw, levels })
    }
}

fn weighted_sum<'a>(members: impl Iterator<Item = (f64, &'a Array1<f64>)>) -> Array1<f64> {
    let mut sum: Option<Array1<f64>> = None;
    for (weight, own) in members {
        let own = own * weight;
        sum = Some(match sum {
            Some(sum) => sum + own,
            None => own,
        });
    }
    sum.unwrap_or_default()
}

impl FoldEvaluator<'_> {
    /// Scores the predicted distributions. With classes these are their probabilities. Otherwise
    /// the score is the continuous ranked probability score of the model's quantiles, or of those
    /// that `residuals`, the errors on the calibration set, form around the predictions.
    fn distribution_scores(
        &self,
        result: &FoldResult,
        residuals: &[f64],
    ) -> Vec<(&'static str, f64)> {
        let said = &result.predictions;
        let truth = self.actual.to_vec();
        if !self.task.spec().classes.is_empty() {
            let Some(probabilities) = &result.probabilities else { return Vec::new() };
            let came: Vec<usize> = truth.iter().map(|class| class.round() as usize).collect();
            let mut scores = vec![("log_loss", log_loss(probabilities.view(), &came))];
            if self.task.spec().classes.len() > 2 {
                scores.push(("brier", brier_score(probabilities.view(), &came)));
            }
            return scores;
        }
        let about = self.task.spec();
        let mut quantiles = match &result.quantiles {
            Some(said) => said.clone(),
            None if residuals.is_empty() => return Vec::new(),
            None => {
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
        if self.known.censored.is_some() {
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

impl ModelCandidate {
    pub(super) fn new(
        name: &str,
        recipe: CandidateRecipe,
        missing: Option<MissingPolicy>,
        origins: Vec<OriginPredictions>,
        folds: Vec<FoldResult>,
    ) -> Self {
        let latency = RowLatency::default();
        Self { name: name.to_owned(), recipe, missing, origins, folds, latency }
    }

    /// The rule, of a baseline.
    pub(super) const fn baseline(&self) -> Option<&TaskBaseline> {
        match &self.recipe {
            CandidateRecipe::Baseline(baseline) => Some(baseline),
            _ => None,
        }
    }

    pub(super) const fn is_estimator(&self) -> bool {
        matches!(self.recipe, CandidateRecipe::Estimator)
    }

    pub(super) fn last_fold(&self) -> &FoldResult {
        self.folds.last().expect("there is a fold")
    }

    /// Returns the predictor of the last fold; that of a blend is made only when it is kept.
    pub(super) fn last_predictor(&self) -> Option<&Predictor> {
        self.last_fold().predictor.as_ref()
    }

    /// Measures how long a row takes.
    pub(super) fn measure_latency(&mut self, x: ArrayView2<f64>) {
        if let Some(predictor) = self.last_predictor() {
            self.latency = latency::measure_latency(predictor, x);
        }
    }

    /// Returns its predictions on the test sets of all folds, one after another.
    pub(super) fn predictions(&self) -> impl Iterator<Item = &f64> {
        self.folds.iter().flat_map(|own| own.predictions.iter())
    }

    /// Returns its predictions at all origins, one after another.
    pub(super) fn origin_levels(&self) -> impl Iterator<Item = &f64> {
        self.origins.iter().flat_map(|own| own.levels.iter())
    }

    /// Returns other scores of the test set, by name.
    pub(super) fn test_scores(
        &self,
        judges: &[FoldEvaluator],
        residuals: &[f64],
    ) -> BTreeMap<&'static str, FoldStatistic> {
        let mut scores: BTreeMap<&'static str, FoldStatistic> = BTreeMap::new();
        let mut first = 0;
        for (judged, judges) in self.folds.iter().zip(judges) {
            let rows = first..first + judges.actual.len();
            let of_distributions = judges.distribution_scores(judged, residuals).into_iter();
            let of_distributions =
                of_distributions.map(|(name, score)| (name, RowStatistic::Fixed(score)));
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
