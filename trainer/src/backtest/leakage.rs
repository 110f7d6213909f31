//! Self-test for leakage: whether the comparison uses information that it must not have.
//!
//! Leaks are the commonest flaw of published results of this kind (S. Kapoor,
//! A. Narayanan, "Leakage and the reproducibility crisis in machine-learning-
//! based science", Patterns 4(9), 2023). Four checks, each for another kind:
//!
//! - no row is in two sets, and none is evaluated before its embargo ends;
//! - targets permuted over the rows teach nothing: any skill against their mean
//!   shows that models were trained on evaluated rows;
//! - no input alone has nearly all of the skill: such an input is often computed
//!   from the target;
//! - the same comparison with a random split stands beside the real one and shows
//!   the skill that ignoring the order of time would have claimed.

use std::collections::{HashMap, HashSet};

use models::{Estimator, fit_regressor, regressors};
use ndarray::Array1;
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;
use serde::Serialize;

use super::{
    build_baseline_model,
    details::pick_evenly,
    error_intervals::{ErrorMetric, TimeGroups, skill_against},
    table::DatasetTable,
};
use crate::{split::DataSplit, tasks::PredictionTask};

/// Result of the self-test.
#[derive(Clone, Debug, Serialize)]
pub struct LeakageReport {
    /// Model that was fitted again.
    pub model: String,
    /// Skill of the model in the order of time, as in the leaderboard.
    pub honest: SkillEstimate,
    /// Skill with rows divided at random.
    pub random_split: Option<SkillEstimate>,
    /// Skill with permuted targets, against their mean: must be about 0.
    pub dealt_targets: Option<SkillEstimate>,
    /// Number of rows that are both in the test set and in the training or calibration set.
    pub rows_in_both: usize,
    /// Inputs that alone have nearly all of the skill.
    pub suspects: Vec<SuspiciousFeature>,
    /// Findings to look at, for people; empty if there are none.
    pub warnings: Vec<String>,
}

/// A skill with its confidence interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SkillEstimate {
    /// Share of the best baseline's error that is avoided.
    pub value: f64,
    /// 95 % confidence interval, if the test set is long enough.
    pub interval: Option<[f64; 2]>,
}

/// An input whose skill is suspiciously high.
#[derive(Clone, Debug, Serialize)]
pub struct SuspiciousFeature {
    /// Name of the input.
    pub input: String,
    /// Skill of a straight line through the input alone.
    pub skill: f64,
}

/// Skill against the best baseline beyond which the result is implausible, if a baseline is any
/// good.
const IMPLAUSIBLE_SKILL: f64 = 0.9;
/// Skill of an input alone beyond which it was most likely computed from the target.
const SUSPICIOUS_SKILL: f64 = 0.8;
/// Largest number of test rows that are predicted with permuted targets.
const PERMUTED_ROWS_MAX: usize = 1000;
/// Highest skill with permuted targets that chance explains.
const CHANCE_SKILL: f64 = 0.05;

/// Checks a comparison for leakage: `parts` are those of its last fold, with the best model that is
/// trained and its `honest` skill.
///
/// # Errors
/// Fails if a model cannot be fitted.
pub(crate) fn check_leakage(
    task: &dyn PredictionTask,
    parts: &DataSplit,
    estimator: &dyn Estimator,
    honest: SkillEstimate,
    seed: u64,
) -> Result<LeakageReport, String> {
    let text = |error: models::FitError| error.to_string();
    let metric = ErrorMetric::from_name(task.spec().metric);
    let train = DatasetTable::from_parts(task, &[&parts.train]).map_err(text)?;
    let test = DatasetTable::from_parts(task, &[&parts.test]).map_err(text)?;
    let all = DatasetTable::from_parts(task, &[&parts.train, &parts.calibration, &parts.test])
        .map_err(text)?;
    // As many rows as the model had that it is compared with.
    let shares = (parts.known.len().min(all.y.len() - test.y.len()), test.y.len());
    let mut leakage = LeakageReport {
        model: estimator.name().to_owned(),
        honest,
        random_split: random_split_skill(task, &all, shares, estimator, seed)?,
        dealt_targets: permuted_targets_skill(task, &train, &test, seed)?,
        rows_in_both: count_shared_rows(parts),
        suspects: find_suspicious_features(task, metric, &train, &test),
        warnings: Vec::new(),
    };
    leakage.warnings = leakage.collect_warnings(parts, task.spec().horizon_s);
    Ok(leakage)
}

impl LeakageReport {
    fn collect_warnings(&self, parts: &DataSplit, horizon_s: i64) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.rows_in_both > 0 {
            warnings
                .push(format!("{} rows are judged that were also learnt from", self.rows_in_both));
        }
        let learnt = [&parts.train, &parts.calibration, &parts.known];
        let last = learnt.into_iter().filter_map(|rows| rows.at_ms.last()).max();
        if let (Some(last), Some(first)) = (last, parts.test.at_ms.first()) {
            let between_s = (first - last) / 1000;
            if between_s < horizon_s {
                warnings.push(format!(
                    "the test part begins {between_s} s after what was learnt from, less than the horizon of {horizon_s} s"
                ));
            }
        }
        if let Some(dealt) = self.dealt_targets {
            // Without an interval the value must speak for itself.
            let sure = dealt.interval.map_or(dealt.value - CHANCE_SKILL, |[low, _]| low);
            if sure > 0.0 && dealt.value > CHANCE_SKILL {
                warnings.push(format!(
                    "targets that were dealt out anew are still predicted with a skill of {:.2}: judged rows were learnt from",
                    dealt.value
                ));
            }
        }
        for SuspiciousFeature { input, skill } in &self.suspects {
            warnings.push(format!(
                "`{input}` alone has a skill of {skill:.2}: is it made from the target, or known only later?"
            ));
        }
        if self.honest.value > IMPLAUSIBLE_SKILL {
            warnings.push(format!(
                "a skill of {:.2} in the order of time is rarely honest: look for an input that is known only later, \
                 or for a baseline that is no rival",
                self.honest.value
            ));
        }
        warnings
    }
}

fn count_shared_rows(parts: &DataSplit) -> usize {
    let keys = |rows: &crate::training_set::LabelledRows| -> Vec<_> {
        rows.zone.iter().cloned().zip(rows.at_ms.iter().copied()).collect()
    };
    let learnt: HashSet<_> =
        [&parts.train, &parts.calibration, &parts.known].into_iter().flat_map(keys).collect();
    keys(&parts.test).iter().filter(|key| learnt.contains(*key)).count()
}

/// Returns the skill with rows divided at random into sets of the same sizes.
fn random_split_skill(
    task: &dyn PredictionTask,
    all: &DatasetTable,
    (train_rows, test_rows): (usize, usize),
    estimator: &dyn Estimator,
    seed: u64,
) -> Result<Option<SkillEstimate>, String> {
    let metric = ErrorMetric::from_name(task.spec().metric);
    let mut order: Vec<usize> = (0..all.y.len()).collect();
    order.shuffle(&mut Pcg64::seed_from_u64(seed));
    let sorted = |rows: &[usize]| {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows
    };
    let train = all.select_rows(&sorted(&order[..train_rows]));
    let test = all.select_rows(&sorted(&order[order.len() - test_rows..]));
    let fitted = train.to_dataset().and_then(|data| fit_regressor(estimator, &data, seed));
    let (fitted, _) = fitted.map_err(|error| error.to_string())?;
    let own = test.model_losses(metric, &fitted);
    let baselines = task.baselines().into_iter().filter_map(|baseline| {
        let model = build_baseline_model(&test.schema, &baseline).ok()?;
        Some(test.model_losses(metric, &model))
    });
    let best = baselines
        .min_by(|a, b| metric.error_from_losses(a).total_cmp(&metric.error_from_losses(b)));
    Ok(best.map(|best| estimate_skill(task, &test, metric, seed, &own, &best)))
}

fn estimate_skill(
    task: &dyn PredictionTask,
    test: &DatasetTable,
    metric: ErrorMetric,
    seed: u64,
    own: &[f64],
    other: &[f64],
) -> SkillEstimate {
    let clock = TimeGroups::from_times(&test.at_ms, task.spec().horizon_s, seed);
    SkillEstimate {
        value: skill_against(metric.error_from_losses(own), metric.error_from_losses(other)),
        interval: clock.skill_interval(metric, own, other),
    }
}

/// Returns the skill against the mean when each zone and time is given the target of another one.
/// The model is nearest neighbours, which recognise a row again, so that rows in both sets show. If
/// the task predicts a change, the change is permuted.
fn permuted_targets_skill(
    task: &dyn PredictionTask,
    train: &DatasetTable,
    test: &DatasetTable,
    seed: u64,
) -> Result<Option<SkillEstimate>, String> {
    let mut dealt = HashMap::new();
    let mut targets: Vec<f64> = Vec::new();
    for table in [train, test] {
        for ((zone, at_ms), y) in table.zone.iter().zip(&table.at_ms).zip(&table.y) {
            let next = dealt.len();
            if *dealt.entry((zone.clone(), *at_ms)).or_insert(next) == next {
                targets.push(*y);
            }
        }
    }
    targets.shuffle(&mut Pcg64::seed_from_u64(seed ^ 0x5eed));
    // Bounds and anchors are of the true targets.
    let deal = |table: &DatasetTable| DatasetTable {
        y: table
            .zone
            .iter()
            .zip(&table.at_ms)
            .map(|(zone, at_ms)| targets[dealt[&(zone.clone(), *at_ms)]])
            .collect(),
        ..table.clone()
    };
    let all: Vec<usize> = (0..test.y.len()).collect();
    let (train, test) =
        (deal(train), deal(test).select_rows(&pick_evenly(&all, PERMUTED_ROWS_MAX)));
    let data = train.to_dataset().map_err(|error| error.to_string())?;
    let remembering = regressors::by_name("nearest neighbours").expect("it is in the zoo");
    let (fitted, _) =
        fit_regressor(remembering.as_ref(), &data, seed).map_err(|error| error.to_string())?;
    let squares = |said: &Array1<f64>| -> Vec<f64> {
        said.iter().zip(&test.y).map(|(said, y)| (said - y).powi(2)).collect()
    };
    let own = squares(&fitted.predict(test.x.view()));
    let mean = squares(&Array1::from_elem(test.y.len(), data.y.mean().unwrap_or_default()));
    let has_spread = mean.iter().any(|square| *square > 0.0);
    Ok(has_spread.then(|| estimate_skill(task, &test, ErrorMetric::Rmse, seed, &own, &mean)))
}

/// Finds inputs with which a straight line alone has nearly all of the skill.
fn find_suspicious_features(
    task: &dyn PredictionTask,
    metric: ErrorMetric,
    train: &DatasetTable,
    test: &DatasetTable,
) -> Vec<SuspiciousFeature> {
    let of_baselines: Vec<&str> = task.baselines().iter().filter_map(|own| own.input).collect();
    let baselines = task.baselines().into_iter().filter_map(|baseline| {
        let model = build_baseline_model(&test.schema, &baseline).ok()?;
        Some(metric.error_from_losses(&test.model_losses(metric, &model)))
    });
    let Some(best) = baselines.min_by(f64::total_cmp) else { return Vec::new() };
    let mut found: Vec<SuspiciousFeature> = (0..train.x.ncols())
        .filter(|input| !of_baselines.contains(&train.schema.features[*input].as_str()))
        .filter_map(|input| {
            let (slope, level, usual) = fit_line(train.x.column(input).iter(), &train.y)?;
            let said = test
                .x
                .column(input)
                .mapv(|x| level + slope * if x.is_finite() { x - usual } else { 0.0 });
            let skill = skill_against(
                metric.error_from_losses(&test.prediction_losses(metric, &said)),
                best,
            );
            let name = &train.schema.features[input];
            (skill > SUSPICIOUS_SKILL).then(|| SuspiciousFeature { input: name.clone(), skill })
        })
        .collect();
    found.sort_by(|a, b| b.skill.total_cmp(&a.skill));
    found
}

/// Fits a straight line by least squares: slope, mean of y, mean of x.
fn fit_line<'a>(x: impl Iterator<Item = &'a f64>, y: &Array1<f64>) -> Option<(f64, f64, f64)> {
    let pairs: Vec<(f64, f64)> =
        x.copied().zip(y.iter().copied()).filter(|(x, _)| x.is_finite()).collect();
    let n = pairs.len() as f64;
    let (sum_x, sum_y) = pairs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (xx, xy) = pairs.iter().fold((0.0, 0.0), |(xx, xy), (x, y)| {
        (xx + (x - mean_x).powi(2), xy + (x - mean_x) * (y - mean_y))
    });
    (xx > 0.0).then_some((xy / xx, mean_y, mean_x))
}
