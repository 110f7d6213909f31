//! What a model rests on, and what long-term data are worth to it.
//!
//! # Layout
//! - `windows`: how far back an input looks
//! - `ablation`: the same model fitted without some windows
//! - `answer`: what came of it, in a sentence

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

/// What a model rests on, on time that it was not fitted on.
#[derive(Clone, Debug, Serialize)]
pub struct RelevanceReport {
    /// The model.
    pub model: String,
    /// Rows of the test part that inputs were shuffled in.
    pub rows: usize,
    /// How long a time it was fitted on, days.
    pub train_days: f64,
    /// Inputs that say the same are together; what matters most comes first.
    pub groups: Vec<InputGroup>,
    /// The model fitted again without some windows.
    pub ablation: Vec<WindowAblation>,
    /// What long-term data are worth, in a sentence.
    pub answer: String,
}

/// Inputs that were shuffled together.
#[derive(Clone, Debug, Serialize)]
pub struct InputGroup {
    /// Their names.
    pub inputs: Vec<String>,
    /// By which share the root of the mean squared error rises without what
    /// they tell.
    pub rise: f64,
    /// Of the rise: 95 %, where the test part is long enough.
    pub interval: Option<[f64; 2]>,
}

/// Inputs whose rank correlation is at least this say the same.
const SAME_CORRELATION: f64 = 0.95;
/// Rows that correlations are computed from.
const CORRELATION_ROWS: usize = 1000;
/// Rows that are shuffled.
const SHUFFLED_ROWS_MAX: usize = 2000;
/// What shuffling may take, seconds on one thread.
const BUDGET_S: f64 = 10.0;

/// A model and what it is asked about.
pub(crate) struct RelevanceStudy<'a> {
    pub(crate) task: &'a dyn PredictionTask,
    /// Of the last fold.
    pub(crate) parts: &'a DataSplit,
    pub(crate) estimator: &'a dyn Estimator,
    pub(crate) seed: u64,
    /// Ten times the rows' budget and twice the repeats.
    pub(crate) is_thorough: bool,
}

impl RelevanceStudy<'_> {
    /// Asks `predictor`, which `estimator` was fitted to and which takes
    /// `predict_us` a row; `step` hears what is done.
    ///
    /// # Errors
    /// Where a model cannot be fitted without some inputs.
    pub(crate) fn run_study(
        &self,
        predictor: &Predictor,
        predict_us: f64,
        step: &(dyn Fn(&str) + Sync),
    ) -> Result<RelevanceReport, String> {
        let table =
            |rows| DatasetTable::from_parts(self.task, &[rows]).map_err(|error| error.to_string());
        // As many rows as the model itself was fitted to: fewer would count as a loss of windows.
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
        let test = test.select_rows(&picked);
        let clock = TimeGroups::from_times(&test.at_ms, self.task.spec().horizon_s, self.seed);
        let shuffling = PermutationSettings {
            repeats,
            seed: self.seed,
            horizon: clock.horizon_rows(),
            level: 0.95,
        };
        // In the task's unit: what is learnt may be another quantity than what is said.
        let predict = |x: ndarray::ArrayView2<f64>| test.to_levels(&predictor.predict(x));
        let found = importance::permutation_importance(
            predict,
            test.x.view(),
            test.actual.view(),
            &groups,
            shuffling,
        );
        let squares = test.prediction_losses(ErrorMetric::Rmse, &predictor.predict(test.x.view()));
        let mean_square = squares.iter().sum::<f64>() / squares.len() as f64;
        // From squares to the error itself, as a share of it.
        let share = |rise: f64| (1.0 + rise / mean_square).max(0.0).sqrt() - 1.0;
        let mut groups: Vec<InputGroup> = found
            .into_iter()
            .map(|own| InputGroup {
                inputs: own.inputs.iter().map(|i| test.schema.features[*i].clone()).collect(),
                rise: share(own.rise),
                interval: clock
                    .has_blocks()
                    .then_some([share(own.interval.0), share(own.interval.1)]),
            })
            .filter(|group| group.rise.is_finite())
            .collect();
        groups.sort_by(|a, b| b.rise.total_cmp(&a.rise));
        (groups, picked.len())
    }
}
