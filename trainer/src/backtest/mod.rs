//! Fits a task's models on its first part, chooses on the second, judges on
//! the third; once for every fold.
//!
//! # Layout
//! - `entry`: a leaderboard's line, and what comes of a task
//! - `outcome`: all candidates beside one another
//! - `facts`: what was compared
//! - `candidate`: one model, fitted and judged in every fold
//! - `score`: errors by time, intervals and tests of them
//! - `statistic`: other scores, with intervals where they can have some
//! - `latency`: how long one row takes
//! - `champion`: the model that is kept
//! - `details`: the champion from near
//! - `leakage`: whether the comparison knows what it should not
//! - `table`: parts as arrays, for what fits models again

mod candidate;
mod candidate_comparison;
mod champion;
pub mod details;
pub(crate) mod error_intervals;
mod facts;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod latency;
mod leaderboard;
pub mod leakage;
mod statistic;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};

use models::{Estimator, FeatureSchema, FittedRegressor, MissingPolicy, regressors};
use rayon::ThreadPool;

use crate::{
    fit_pool::{self, FitLimits},
    folds::FOLDS_MAX,
    settings::TrainerSettings,
    split::DataSplit,
    tasks::{PredictionTask, TaskBaseline},
};
use candidate::{FoldEvaluator, FoldResult, ModelCandidate};
use candidate_comparison::CandidateComparison;
pub use leaderboard::{
    Backtest, ComparisonFacts, FoldFacts, LeaderboardEntry, PredictionSample, RegressionServing,
    SignificanceTest, ZoneRowCounts,
};
pub(crate) use statistic::FoldStatistic;
pub use statistic::RowStatistic;

/// How much is asked of a comparison beside the leaderboard.
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

/// How a comparison is run, beside what is compared.
pub struct BacktestSetup<'a> {
    /// The settings.
    pub settings: &'a TrainerSettings,
    /// Of the machine.
    pub limits: FitLimits,
    /// The threads that models are fitted on.
    pub pool: &'a ThreadPool,
    /// How much is asked.
    pub depth: ComparisonDepth,
    /// Hears of each step that is done, with its number and how many there are.
    pub observe: &'a (dyn Fn(&str, usize, usize) + Sync),
}

/// Beside the fits: leakage, relevance, ablation.
const STEPS_AFTER: usize = 3;

/// Fits and compares over `folds`, the oldest first.
///
/// # Errors
/// Says why not even a baseline could be computed.
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
    let jobs: Vec<(usize, usize)> = (0..estimators.len())
        .flat_map(|model| (0..folds.len()).map(move |fold| (model, fold)))
        .collect();
    let steps = jobs.len() + if setup.depth == ComparisonDepth::Quick { 0 } else { STEPS_AFTER };
    let done = AtomicUsize::new(0);
    let step = |what: &str| {
        let step = 1 + done.fetch_add(1, Ordering::Relaxed);
        (setup.observe)(what, step, steps);
    };
    let bytes = |(model, fold): &(usize, usize)| {
        let known = &judges[*fold].known;
        fit_pool::bytes_to_fit(known.row_count(), known.x.ncols(), estimators[*model].rows_max())
    };
    let results = fit_pool::run_jobs(setup.limits, &jobs, bytes, |(model, fold)| {
        let estimator = estimators[*model].as_ref();
        let mut judged = setup.pool.install(|| judges[*fold].fit_and_evaluate(estimator));
        if let (Ok(judged), true) = (&mut judged, fold + 1 < folds.len()) {
            judged.predictor = None;
        }
        step(estimator.name());
        judged
    });
    let mut results = results.into_iter();
    for estimator in estimators {
        let of_folds: Result<Vec<FoldResult>, String> =
            results.by_ref().take(folds.len()).collect();
        match of_folds {
            Ok(of_folds) => {
                let (name, missing) = (estimator.name(), Some(estimator.missing_policy()));
                candidates.push(ModelCandidate::new(name, None, missing, of_folds));
            }
            Err(why) => failed.push((estimator.name().to_owned(), why)),
        }
    }
    // When nothing else is running.
    let x = judges[folds.len() - 1].train.x.view();
    candidates.iter_mut().for_each(|candidate| candidate.measure_latency(x));
    let outcome = CandidateComparison::new(task, folds, &judges, candidates, setup.settings);
    outcome.into_backtest(failed, estimators, setup, &step)
}

fn evaluate_baseline(
    judges: &[FoldEvaluator],
    baseline: &TaskBaseline,
) -> Result<ModelCandidate, String> {
    let of_folds = judges
        .iter()
        .map(|judges| {
            judges.evaluate_baseline(build_baseline_model(&judges.train.schema, baseline)?)
        })
        .collect::<Result<Vec<FoldResult>, String>>()?;
    Ok(ModelCandidate::new(baseline.name, Some(baseline.clone()), None::<MissingPolicy>, of_folds))
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
