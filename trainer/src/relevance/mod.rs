//! Importance of a model's inputs, and the value of long-term data to it.
//!
//! # Layout
//! - `windows`: how far back an input looks
//! - `ablation`: the same model fitted without some windows
//! - `conclusion`: the result in a sentence

mod ablation;
pub(crate) mod conclusion;
mod windows;

use models::{
    Estimator, Predictor,
    stats::importance::{self, PermutationSettings},
};
use ndarray::Axis;
use serde::Serialize;

use crate::{
    backtest::{
        details::pick_evenly,
        error_intervals::{ErrorMetric, TimeGroups},
        table::DatasetTable,
    },
    split::DataSplit,
    tasks::PredictionTask,
};
pub use ablation::WindowAblation;

/// Importance of a model's inputs, on data that it was not fitted on.
#[derive(Clone, Debug, Serialize)]
pub struct RelevanceReport {
    /// Name of the model.
    pub model: String,
    /// Number of rows of the test set in which inputs were shuffled.
    pub rows: usize,
    /// Length of the time that the model was fitted on, days.
    pub train_days: f64,
    /// Groups of correlated inputs, the most important first.
    pub groups: Vec<InputGroup>,
    /// Results of fitting the model again without some windows.
    pub ablation: Vec<WindowAblation>,
    /// Value of long-term data, in a sentence.
    pub answer: String,
}

/// Inputs that were shuffled together.
#[derive(Clone, Debug, Serialize)]
pub struct InputGroup {
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Relative increase of the root mean squared error without their information.
    pub rise: f64,
    /// 95 % interval of the increase, where the test set is long enough.
    pub interval: Option<[f64; 2]>,
}

/// Rank correlation from which inputs are grouped.
const SAME_CORRELATION: f64 = 0.95;
/// Number of rows from which correlations are computed.
const CORRELATION_ROWS: usize = 1000;
/// Largest number of rows that are shuffled.
const SHUFFLED_ROWS_MAX: usize = 2000;
/// Time for shuffling, seconds on one thread.
const BUDGET_S: f64 = 10.0;

/// A model and the data of its study.
pub(crate) struct RelevanceStudy<'a> {
    pub(crate) task: &'a dyn PredictionTask,
    /// Data of the last fold.
    pub(crate) parts: &'a DataSplit,
    pub(crate) estimator: &'a dyn Estimator,
    pub(crate) seed: u64,
    /// Whether to use ten times the time and twice the repeats.
    pub(crate) is_thorough: bool,
}

impl RelevanceStudy<'_> {
    /// Studies `predictor`, which `estimator` was fitted to and which takes `predict_us` per row;
    /// `step` is called after each step.
    ///
    /// # Errors
    /// A model cannot be fitted without some inputs.
    pub(crate) fn run_study(
        &self,
        predictor: &Predictor,
        predict_us: f64,
        step: &(dyn Fn(&str) + Sync),
    ) -> Result<RelevanceReport, String> {
        let table =
            |rows| DatasetTable::from_parts(self.task, &[rows]).map_err(|error| error.to_string());
        // As many rows as the model was fitted on: fewer rows would look like a loss of windows.
        let (known, test) = (table(&self.parts.known)?, table(&self.parts.test)?);
        let (groups, rows) = self.rank_groups(predictor, &test, predict_us);
        step("relevance");
        let ablation = self.ablate_windows(predictor, &known, &test)?;
        step("ablation of windows");
        let (from_ms, to_ms) = self.parts.known_ms;
        let train_days = (to_ms - from_ms) as f64 / 86_400_000.0;
        Ok(RelevanceReport {
            model: self.estimator.name().to_owned(),
            rows,
            train_days,
            groups,
            answer: conclusion::write_conclusion(&ablation, &known.schema.features, train_days),
            ablation,
        })
    }

    fn rank_groups(
        &self,
        predictor: &Predictor,
        test: &DatasetTable,
        predict_us: f64,
    ) -> (Vec<InputGroup>, usize) {
        let all: Vec<usize> = (0..test.y.len()).collect();
        let some = test.x.select(Axis(0), &pick_evenly(&all, CORRELATION_ROWS));
        let groups = importance::correlated_groups(some.view(), SAME_CORRELATION);
        let (repeats, budget_s) =
            if self.is_thorough { (10, 10.0 * BUDGET_S) } else { (5, BUDGET_S) };
        let passes = (groups.len() * repeats).max(1) as f64;
        let affordable = (budget_s * 1e6 / (passes * predict_us.max(0.1))) as usize;
        let picked = pick_evenly(
            &all,
            affordable.clamp(200, if self.is_thorough { usize::MAX } else { SHUFFLED_ROWS_MAX }),
        );
        let sample = test.select_rows(&picked);
        let clock = TimeGroups::from_times(&sample.at_ms, self.task.spec().horizon_s, self.seed);
        let shuffling = PermutationSettings {
            repeats,
            seed: self.seed,
            horizon: clock.horizon_rows(),
            level: 0.95,
        };
        // In the task's unit: the training target may be another quantity than the prediction.
        let predict = |x: ndarray::ArrayView2<f64>| sample.to_levels(&predictor.predict(x));
        let found = importance::permutation_importance(
            predict,
            sample.x.view(),
            sample.actual.view(),
            &groups,
            shuffling,
        );
        let squares =
            sample.prediction_losses(ErrorMetric::Rmse, &predictor.predict(sample.x.view()));
        let mean_square = squares.iter().sum::<f64>() / squares.len() as f64;
        // From squared errors to the relative increase of the error itself.
        let share = |rise: f64| (1.0 + rise / mean_square).max(0.0).sqrt() - 1.0;
        let mut groups: Vec<InputGroup> = found
            .into_iter()
            .map(|importance| InputGroup {
                inputs: importance
                    .inputs
                    .iter()
                    .map(|i| sample.schema.features[*i].clone())
                    .collect(),
                rise: share(importance.rise),
                interval: clock
                    .has_blocks()
                    .then_some([share(importance.interval.0), share(importance.interval.1)]),
            })
            .filter(|group| group.rise.is_finite())
            .collect();
        groups.sort_by(|a, b| b.rise.total_cmp(&a.rise));
        (groups, picked.len())
    }
}
