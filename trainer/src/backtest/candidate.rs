use std::{collections::BTreeMap, time::Instant};

use models::{
    Dataset, Estimator, Fitted, Missing, Predictor, fit, metrics,
    stats::{
        classes::{brier, calibration, calibration_error, log_loss},
        quantile::crps,
        survival::concordance,
    },
    zoo::boosting::LEVELS,
};
use ndarray::{Array1, Array2, ArrayView2};

use super::{
    latency::{self, Latency},
    score::Metric,
    statistic::{OfFolds, Statistic},
};
use crate::{
    rows::Rows,
    settings::Settings,
    split::Parts,
    tasks::{Baseline, Task},
};

/// Groups of probabilities that are said to be about the same.
pub(super) const RELIABILITY_BINS: usize = 10;

/// Everything that candidates of one fold are judged by.
pub(super) struct Judges<'a> {
    pub(super) task: &'a dyn Task,
    pub(super) metric: Metric,
    pub(super) parts: &'a Parts,
    pub(super) settings: &'a Settings,
    pub(super) train: Dataset,
    pub(super) calibration: Dataset,
    pub(super) known: Dataset,
    pub(super) test: Dataset,
    /// What really came in the test part, in the task's unit.
    pub(super) truth: Array1<f64>,
}

/// A model in one fold.
pub(super) struct Judged {
    /// Kept of the last fold alone.
    pub(super) predictor: Option<Predictor>,
    /// In the task's unit, on the test part.
    pub(super) said: Array1<f64>,
    /// Absolute errors on the calibration part, in the task's unit.
    pub(super) calibration_errors: Vec<f64>,
    /// The same on all rows before the test part, of what has learnt from none of them.
    pub(super) known_errors: Vec<f64>,
    /// Scores of the distributions that it said of the test part.
    pub(super) of_distributions: Vec<(&'static str, f64)>,
    /// Half the width of the interval, in the task's unit.
    pub(super) half_width: Option<f64>,
    pub(super) fit_s: f64,
    pub(super) size_bytes: usize,
    pub(super) rows: usize,
    pub(super) rows_offered: usize,
}

/// A model in all folds.
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) baseline: Option<Baseline>,
    pub(super) missing: Option<Missing>,
    pub(super) folds: Vec<Judged>,
    pub(super) latency: Latency,
}

impl<'a> Judges<'a> {
    pub(super) fn of(
        task: &'a dyn Task,
        parts: &'a Parts,
        settings: &'a Settings,
    ) -> Result<Self, String> {
        let dataset = |rows: &Rows| rows.dataset().map_err(|error| error.to_string());
        let test = dataset(&parts.test)?;
        Ok(Self {
            task,
            metric: Metric::named(task.about().metric),
            parts,
            settings,
            train: dataset(&parts.train)?,
            calibration: dataset(&parts.calibration)?,
            known: dataset(&parts.known)?,
            truth: parts.test.truth(),
            test,
        })
    }

    /// Fits twice: on the train part, for the errors on the calibration part; then on both,
    /// as whoever serves a model would not leave out what is newest.
    pub(super) fn fit(&self, estimator: &dyn Estimator) -> Result<Judged, String> {
        let fit = |data: &Dataset| {
            fit(estimator, data, self.settings.seed).map_err(|error| error.to_string())
        };
        let (first, _) = fit(&self.train)?;
        let first = Predictor::Regressor(first);
        let residuals = self.residuals(&first, &self.parts.calibration, &self.calibration)?;
        let start = Instant::now();
        let (fitted, rows) = fit(&self.known)?;
        let fit_s = start.elapsed().as_secs_f64();
        self.judge(Predictor::Regressor(fitted), &residuals, rows, fit_s)
    }

    /// A model that learns nothing.
    pub(super) fn judge_baseline(&self, fitted: Fitted) -> Result<Judged, String> {
        let predictor = Predictor::Regressor(fitted);
        let residuals = self.residuals(&predictor, &self.parts.calibration, &self.calibration)?;
        let of_known = self.residuals(&predictor, &self.parts.known, &self.known)?;
        let judged = self.judge(predictor, &residuals, 0, 0.0)?;
        Ok(Judged { known_errors: absolute(&of_known), ..judged })
    }

    /// Truth less what is said, in the task's unit, where the truth is no mere bound.
    fn residuals(
        &self,
        predictor: &Predictor,
        rows: &Rows,
        data: &Dataset,
    ) -> Result<Vec<f64>, String> {
        let errors = &rows.truth() - &self.levels(predictor, rows, data)?;
        let each = errors.iter().zip(rows.censored());
        Ok(each.filter_map(|(error, is_bound)| (!is_bound).then_some(*error)).collect())
    }

    /// What a model says, in the task's unit.
    fn levels(
        &self,
        predictor: &Predictor,
        rows: &Rows,
        data: &Dataset,
    ) -> Result<Array1<f64>, String> {
        let levels = rows.levels(&predictor.predict(data.x.view()), self.task.about());
        let is_finite = levels.iter().all(|level| level.is_finite());
        is_finite.then_some(levels).ok_or_else(|| "it says what is not a number".to_owned())
    }

    fn judge(
        &self,
        predictor: Predictor,
        residuals: &[f64],
        rows: usize,
        fit_s: f64,
    ) -> Result<Judged, String> {
        let calibration_errors = absolute(residuals);
        let said = self.levels(&predictor, &self.parts.test, &self.test)?;
        let level = self.settings.interval.level;
        Ok(Judged {
            of_distributions: self.of_distributions(&predictor, &said, residuals.to_vec()),
            said,
            // Of a probability or a class an interval says nothing.
            half_width: metrics::conformal_quantile(&calibration_errors, level)
                .filter(|_| self.task.about().classes.is_empty()),
            calibration_errors,
            known_errors: Vec::new(),
            fit_s,
            size_bytes: serde_json::to_vec(&predictor).map_err(|error| error.to_string())?.len(),
            rows,
            rows_offered: self.known.rows(),
            predictor: Some(predictor),
        })
    }
}

impl Judges<'_> {
    /// Of probabilities, where there are classes; else the continuous ranked
    /// probability score, of the model's quantiles, or of those that its errors on
    /// the calibration part, `residuals`, make around what it said.
    fn of_distributions(
        &self,
        predictor: &Predictor,
        said: &Array1<f64>,
        mut residuals: Vec<f64>,
    ) -> Vec<(&'static str, f64)> {
        let x = self.test.x.view();
        let truth = self.truth.to_vec();
        if !self.task.about().classes.is_empty() {
            let Some(probabilities) = predictor.probabilities(x) else { return Vec::new() };
            let came: Vec<usize> = truth.iter().map(|class| class.round() as usize).collect();
            let mut scores = vec![("log_loss", log_loss(probabilities.view(), &came))];
            if self.task.about().classes.len() > 2 {
                scores.push(("brier", brier(probabilities.view(), &came)));
            }
            return scores;
        }
        let about = self.task.about();
        let mut quantiles = match predictor.quantiles(x) {
            Some((levels, mut said)) => {
                debug_assert_eq!(levels, LEVELS, "scores of other levels do not compare");
                for (mut row, anchor) in said.rows_mut().into_iter().zip(&self.parts.test.anchor) {
                    row.mapv_inplace(|said| about.level(said, *anchor));
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

    fn scores(&self, said: &Array1<f64>) -> Vec<(&'static str, Statistic)> {
        let errors = said - &self.truth;
        let each = |of: fn(f64) -> f64| errors.iter().map(|error| of(*error)).collect();
        let mut scores = vec![
            ("bias", Statistic::Mean(errors.to_vec())),
            ("mae", Statistic::Mean(each(f64::abs))),
            ("rmse", Statistic::RootMean(each(|error| error * error))),
        ];
        let (said, truth) = (said.to_vec(), self.truth.to_vec());
        // Test rows are those whose truth is known.
        if self.train.censored.is_some() {
            let found = concordance(&said, &truth, &vec![false; said.len()]);
            scores.push(("concordance", Statistic::Fixed(found)));
        }
        if self.task.about().classes.len() == 2 {
            let labels: Vec<bool> = truth.iter().map(|class| *class > 0.5).collect();
            scores.push(("brier", Statistic::Mean(each(|error| error * error))));
            let table = calibration(&said, &labels, RELIABILITY_BINS);
            scores.push(("calibration_error", Statistic::Fixed(calibration_error(&table))));
        }
        scores.extend(self.task.scores(&said, &self.parts.test));
        scores
    }
}

fn absolute(errors: &[f64]) -> Vec<f64> {
    errors.iter().map(|error| error.abs()).collect()
}

impl Candidate {
    pub(super) fn of(
        name: &str,
        baseline: Option<Baseline>,
        missing: Option<Missing>,
        folds: Vec<Judged>,
    ) -> Self {
        let latency = Latency::default();
        Self { name: name.to_owned(), baseline, missing, folds, latency }
    }

    /// Of the last fold.
    pub(super) fn predictor(&self) -> &Predictor {
        let last = self.folds.last().expect("there is a fold");
        last.predictor.as_ref().expect("the last fold's is kept")
    }

    /// Measures how long a row takes.
    pub(super) fn time(&mut self, x: ArrayView2<f64>) {
        self.latency = latency::of(self.predictor(), x);
    }

    /// What it said on the test parts of all folds, one after another.
    pub(super) fn said(&self) -> impl Iterator<Item = &f64> {
        self.folds.iter().flat_map(|judged| judged.said.iter())
    }

    /// The error on the calibration parts of all folds.
    pub(super) fn chosen_by(&self, metric: Metric) -> f64 {
        self.error(metric, |judged| &judged.calibration_errors)
    }

    /// A baseline's error on all rows before the test parts.
    pub(super) fn known_by(&self, metric: Metric) -> f64 {
        self.error(metric, |judged| &judged.known_errors)
    }

    fn error(&self, metric: Metric, errors: impl Fn(&Judged) -> &Vec<f64>) -> f64 {
        let all = self.folds.iter().flat_map(errors);
        metric.error(&all.map(|error| metric.loss(*error, 0.0)).collect::<Vec<_>>())
    }

    /// The share of truths within the intervals, where every fold has them.
    pub(super) fn coverage(&self, judges: &[Judges]) -> Option<f64> {
        let (mut within, mut rows) = (0.0, 0.0);
        for (judged, judges) in self.folds.iter().zip(judges) {
            let count = judges.truth.len() as f64;
            let truth = judges.truth.view();
            within += count * metrics::coverage(judged.said.view(), truth, judged.half_width?);
            rows += count;
        }
        Some(within / rows)
    }

    /// Other scores of the test part, by name.
    pub(super) fn scores(&self, judges: &[Judges]) -> BTreeMap<&'static str, OfFolds> {
        let mut scores: BTreeMap<&'static str, OfFolds> = BTreeMap::new();
        let mut first = 0;
        for (judged, judges) in self.folds.iter().zip(judges) {
            let rows = first..first + judges.truth.len();
            let of_distributions = judged.of_distributions.iter();
            let of_distributions =
                of_distributions.map(|(name, score)| (*name, Statistic::Fixed(*score)));
            for (name, own) in judges.scores(&judged.said).into_iter().chain(of_distributions) {
                scores.entry(name).or_default().push(rows.clone(), own);
            }
            first = rows.end;
        }
        scores.retain(|_, own| own.value().is_finite());
        scores
    }
}
