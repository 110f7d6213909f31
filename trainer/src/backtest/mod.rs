//! Fits a task's models on the training set, selects one on the calibration set, and evaluates all
//! on the test set; once for every fold.
//!
//! # Layout
//! - `leaderboard`: a leaderboard's line, and the result of a task
//! - `candidate_comparison`: all candidates beside one another
//! - `facts`: the compared rows
//! - `candidate`: one model, fitted and evaluated in every fold
//! - `error_intervals`: errors by time, their intervals and tests
//! - `statistic`: other scores, with intervals if they can have some
//! - `latency`: latency of one row
//! - `champion`: the model that becomes champion
//! - `details`: details of the champion
//! - `leakage`: self-test for leakage
//! - `table`: sets as arrays, for fitting models again

mod candidate;
mod candidate_comparison;
mod champion;
pub mod details;
pub(crate) mod error_intervals;
mod facts;
#[cfg(test)]
pub(crate) mod fixture;
pub mod interval_widths;
pub(crate) mod latency;
mod leaderboard;
pub mod leakage;
pub(crate) mod selection;
mod statistic;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};

use models::{Estimator, FeatureSchema, FittedRegressor, Predictor, regressors};
use rayon::ThreadPool;

use crate::{
    fit_pool::{self, FitLimits},
    folds::FOLDS_MAX,
    settings::TrainerSettings,
    split::DataSplit,
    tasks::{PredictionTask, TaskBaseline},
};
pub use candidate::CandidateRecipe;
use candidate::{FoldEvaluator, FoldResult, ModelCandidate, OriginPredictions};
use candidate_comparison::CandidateComparison;
pub use champion::refit_on_all_rows;
pub use leaderboard::{
    Backtest, ComparisonFacts, FoldFacts, LeaderboardEntry, PredictionSample, RegressionServing,
    SelectedCandidate, SignificanceTest, ZoneRowCounts,
};
pub(crate) use statistic::FoldStatistic;
pub use statistic::RowStatistic;

/// Extent of a comparison beside the leaderboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComparisonDepth {
    /// The leaderboard alone.
    Quick,
    /// The leakage self-test, relevance and the ablation of windows too.
    #[default]
    Usual,
    /// Relevance with more rows and repeats.
    Thorough,
}

/// Settings and resources of a backtest.
pub struct BacktestSetup<'a> {
    /// Settings of the trainer.
    pub settings: &'a TrainerSettings,
    /// Limits of the machine's threads and memory.
    pub limits: FitLimits,
    /// Threads that models are fitted on.
    pub pool: &'a ThreadPool,
    /// Extent of the comparison.
    pub depth: ComparisonDepth,
    /// Called after each step with its name, its number and the number of steps.
    pub observe: &'a (dyn Fn(&str, usize, usize) + Sync),
    /// Says which of the candidates is kept, given in the order of the selection:
    /// the first, unless a gate refuses it.
    pub choose: &'a dyn Fn(&[SelectedCandidate]) -> Result<usize, String>,
}

/// Number of steps after the fits: leakage, relevance, ablation.
const STEPS_AFTER: usize = 3;

/// Fits and compares models over `folds`, oldest first.
///
/// # Errors
/// Fails with the reason why not even a baseline could be computed.
pub fn run_backtest(
    task: &dyn PredictionTask,
    folds: &[DataSplit],
    estimators: &[Box<dyn Estimator>],
    setup: &BacktestSetup,
) -> Result<Backtest, String> {
    assert!((1..=FOLDS_MAX).contains(&folds.len()), "{} folds", folds.len());
    let judges = folds
        .iter()
        .map(|parts| FoldEvaluator::new(task, parts, setup.settings))
        .collect::<Result<Vec<_>, String>>()?;
    let (mut candidates, mut failed) = (Vec::new(), Vec::new());
    for baseline in task.baselines() {
        match evaluate_baseline(&judges, &baseline) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => failed.push((baseline.name.to_owned(), why)),
        }
    }
    if candidates.is_empty() {
        return Err(format!("no baseline: {failed:?}"));
    }
    let origins = &folds[0].origins;
    let of_model = |model| {
        let fits = (0..origins.len()).map(Fit::Origin).chain((0..folds.len()).map(Fit::Fold));
        fits.map(move |fit| (model, fit))
    };
    let jobs: Vec<(usize, Fit)> = (0..estimators.len()).flat_map(of_model).collect();
    let steps = jobs.len() + if setup.depth == ComparisonDepth::Quick { 0 } else { STEPS_AFTER };
    let done = AtomicUsize::new(0);
    let step = |what: &str| {
        let step = 1 + done.fetch_add(1, Ordering::Relaxed);
        (setup.observe)(what, step, steps);
    };
    let bytes = |(model, fit): &(usize, Fit)| {
        let inputs = judges[0].known.x.ncols();
        let rows = match fit {
            Fit::Origin(origin) => origins[*origin].train.len(),
            Fit::Fold(fold) => judges[*fold].known.row_count(),
        };
        fit_pool::bytes_to_fit(rows, inputs, estimators[*model].rows_max())
    };
    let results = fit_pool::run_jobs(setup.limits, &jobs, bytes, |(model, fit)| {
        let estimator = estimators[*model].as_ref();
        let fitted = setup.pool.install(|| match fit {
            Fit::Origin(origin) => {
                judges[0].fit_origin(estimator, &origins[*origin]).map(Fitted::Origin)
            }
            Fit::Fold(fold) => {
                let mut judged = judges[*fold].fit_and_evaluate(estimator)?;
                if fold + 1 < folds.len() {
                    judged.predictor = None;
                }
                Ok(Fitted::Fold(Box::new(judged)))
            }
        });
        step(estimator.name());
        fitted
    });
    let mut results = results.into_iter();
    for estimator in estimators {
        let fits: Result<Vec<Fitted>, String> =
            results.by_ref().take(origins.len() + folds.len()).collect();
        match fits {
            Ok(fits) => {
                let (mut of_origins, mut of_folds) = (Vec::new(), Vec::new());
                for fitted in fits {
                    match fitted {
                        Fitted::Origin(own) => of_origins.push(own),
                        Fitted::Fold(own) => of_folds.push(*own),
                    }
                }
                let (name, missing) = (estimator.name(), Some(estimator.missing_policy()));
                let recipe = CandidateRecipe::Estimator;
                candidates.push(ModelCandidate::new(name, recipe, missing, of_origins, of_folds));
            }
            Err(why) => failed.push((estimator.name().to_owned(), why)),
        }
    }
    // When nothing else is running.
    let x = judges[folds.len() - 1].known.x.view();
    candidates.iter_mut().for_each(|candidate| candidate.measure_latency(x));
    let rows = selection::SelectionRows::from_split(task, &folds[0], setup.settings.seed);
    selection::add_blends(&judges, &rows, &mut candidates)?;
    let comparison =
        CandidateComparison::new(task, folds, &judges, rows, candidates, setup.settings);
    comparison.into_backtest(failed, estimators, setup, &step)
}

/// One fit of a model.
#[derive(Clone, Copy)]
enum Fit {
    /// On what lies before an origin of the selection.
    Origin(usize),
    /// On what lies before the test set of a fold.
    Fold(usize),
}

enum Fitted {
    Origin(OriginPredictions),
    Fold(Box<FoldResult>),
}

fn evaluate_baseline(
    judges: &[FoldEvaluator],
    baseline: &TaskBaseline,
) -> Result<ModelCandidate, String> {
    let first = &judges[0];
    let predictor = Predictor::Regressor(build_baseline_model(&first.known.schema, baseline)?);
    let origins = first.parts.origins.iter();
    let of_origins = origins
        .map(|origin| first.predict_origin(&predictor, origin))
        .collect::<Result<Vec<OriginPredictions>, String>>()?;
    let of_folds = judges
        .iter()
        .map(|judges| {
            judges.evaluate_baseline(build_baseline_model(&judges.known.schema, baseline)?)
        })
        .collect::<Result<Vec<FoldResult>, String>>()?;
    let recipe = CandidateRecipe::Baseline(baseline.clone());
    Ok(ModelCandidate::new(baseline.name, recipe, None, of_origins, of_folds))
}

pub(crate) fn build_baseline_model(
    schema: &FeatureSchema,
    baseline: &TaskBaseline,
) -> Result<FittedRegressor, String> {
    match baseline.input {
        Some(input) => {
            regressors::column::ScaledColumn::from_schema(schema, input, baseline.factor, 0.0)
                .map_err(|error| error.to_string())
        }
        None => Ok(FittedRegressor::Constant(regressors::constant::ConstantModel { value: 0.0 })),
    }
}
