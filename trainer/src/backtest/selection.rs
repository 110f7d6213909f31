//! Which candidate is kept, by rolling origins before the test set.

use models::regressors::blend::convex_weights;
use telemetry::ZoneId;

use super::{
    candidate::{CandidateRecipe, FoldEvaluator, ModelCandidate, OriginPredictions},
    error_intervals::{ErrorMetric, TimeGroups},
    interval_widths::CalibrationRow,
};
use crate::{split::DataSplit, tasks::PredictionTask};

/// The blend whose weights are stacked.
pub(crate) const STACKED_BLEND: &str = "stacked blend";
/// The blend whose members count alike.
pub(crate) const AVERAGE_BLEND: &str = "average of the best";
/// Candidates that are stacked, the best ones.
const STACKED_MAX: usize = 6;
/// Candidates that are averaged.
const AVERAGED: usize = 3;

/// The rows of all origins, one origin after another.
pub(super) struct SelectionRows {
    zone: Vec<ZoneId>,
    at_ms: Vec<i64>,
    /// In the task's unit.
    pub(super) actual: Vec<f64>,
    /// Targets that models are trained on.
    targets: Vec<f64>,
    /// Level without a change.
    unchanged: Vec<f64>,
    /// The origin of each row.
    pub(super) origin: Vec<usize>,
    clock: TimeGroups,
}

impl SelectionRows {
    pub(super) fn from_split(task: &dyn PredictionTask, parts: &DataSplit, seed: u64) -> Self {
        let (mut zone, mut at_ms, mut origin) = (Vec::new(), Vec::new(), Vec::new());
        let (mut actual, mut targets, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
        for (number, own) in parts.origins.iter().enumerate() {
            let rows = &own.validation;
            zone.extend(rows.zone.iter().cloned());
            at_ms.extend(&rows.at_ms);
            origin.resize(at_ms.len(), number);
            actual.extend(rows.actual_values());
            targets.extend(rows.training_targets());
            unchanged.extend(rows.reference.iter().map(|own| task.spec().to_level(0.0, *own)));
        }
        let clock = TimeGroups::from_times(&at_ms, task.spec().horizon_s, seed);
        Self { zone, at_ms, actual, targets, unchanged, origin, clock }
    }

    /// The losses of a candidate, row after row.
    pub(super) fn losses(&self, metric: ErrorMetric, own: &ModelCandidate) -> Vec<f64> {
        metric.row_losses(own.origin_levels(), &self.actual)
    }

    /// Its errors, actual less predicted, in order of size.
    pub(super) fn sorted_residuals(&self, own: &ModelCandidate) -> Vec<f64> {
        let pairs = self.actual.iter().zip(own.origin_levels());
        let mut residuals: Vec<f64> = pairs.map(|(actual, level)| actual - level).collect();
        residuals.sort_unstable_by(f64::total_cmp);
        residuals
    }

    /// Returns the rows on which its intervals are calibrated.
    pub(super) fn calibration_rows(&self, own: &ModelCandidate) -> Vec<CalibrationRow<'_>> {
        let row = |(row, level): (usize, &f64)| CalibrationRow {
            zone: &self.zone[row],
            at_ms: self.at_ms[row],
            change: level - self.unchanged[row],
            error: (level - self.actual[row]).abs(),
            part: self.origin[row],
        };
        own.origin_levels().enumerate().map(row).collect()
    }
}

/// Adds the blends of what was fitted: the average of the best, and a stack of the best
/// with the best baseline. The predictions of the stack at an origin have weights from the
/// other origins, so that no row is predicted by weights that know it.
pub(super) fn add_blends(
    judges: &[FoldEvaluator],
    rows: &SelectionRows,
    candidates: &mut Vec<ModelCandidate>,
) -> Result<(), String> {
    let metric = judges[0].metric;
    let mean = |own: usize| {
        let losses = rows.losses(metric, &candidates[own]);
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    let mut best: Vec<(usize, f64)> = (0..candidates.len()).map(|own| (own, mean(own))).collect();
    best.sort_by(|a, b| a.1.total_cmp(&b.1));
    let of = |is_wanted: &dyn Fn(&ModelCandidate) -> bool, most: usize| -> Vec<usize> {
        let wanted = best.iter().map(|(own, _)| *own).filter(|own| is_wanted(&candidates[*own]));
        wanted.take(most).collect()
    };
    let averaged = of(&ModelCandidate::is_estimator, AVERAGED);
    if averaged.len() < 2 {
        return Ok(());
    }
    let mut blends = Vec::new();
    let equal = vec![1.0 / averaged.len() as f64; averaged.len()];
    blends.push(blend(judges, candidates, AVERAGE_BLEND, &averaged, &equal, |_| equal.clone())?);
    let origins = candidates[0].origins.len();
    if origins > 1 {
        let mut members = of(&ModelCandidate::is_estimator, STACKED_MAX - 1);
        members.extend(of(&|own| own.baseline().is_some(), 1));
        let weights_without = |origin: Option<usize>| -> Vec<f64> {
            let errors_of = |own: &usize| -> Vec<f64> {
                let raw = candidates[*own].origins.iter().flat_map(|own| own.raw.iter());
                let each = raw.zip(&rows.targets).zip(&rows.origin);
                each.filter(|(_, part)| Some(**part) != origin)
                    .map(|((raw, target), _)| raw - target)
                    .collect()
            };
            let errors: Vec<Vec<f64>> = members.iter().map(errors_of).collect();
            convex_weights(&errors.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        let weights = weights_without(None);
        let at = |origin| weights_without(Some(origin));
        blends.push(blend(judges, candidates, STACKED_BLEND, &members, &weights, at)?);
    }
    candidates.extend(blends);
    Ok(())
}

fn blend(
    judges: &[FoldEvaluator],
    candidates: &[ModelCandidate],
    name: &str,
    members: &[usize],
    weights: &[f64],
    weights_at: impl Fn(usize) -> Vec<f64>,
) -> Result<ModelCandidate, String> {
    let origin = |(number, origin)| {
        let weights = weights_at(number);
        let own: Vec<(f64, &OriginPredictions)> = members
            .iter()
            .zip(weights)
            .map(|(own, weight)| (weight, &candidates[*own].origins[number]))
            .collect();
        judges[0].blend_predictions(&own, origin)
    };
    let origins = judges[0].parts.origins.iter().enumerate().map(origin);
    let used: Vec<(f64, &ModelCandidate)> = members
        .iter()
        .zip(weights)
        .filter(|(_, weight)| **weight > 0.0)
        .map(|(own, weight)| (*weight, &candidates[*own]))
        .collect();
    let fold = |(fold, evaluator): (usize, &FoldEvaluator)| {
        let own: Vec<_> = used.iter().map(|(weight, own)| (*weight, &own.folds[fold])).collect();
        evaluator.blend_results(&own)
    };
    let folds = judges.iter().enumerate().map(fold).collect::<Result<Vec<_>, String>>()?;
    let recipe = used.iter().map(|(weight, own)| (*weight, own.name.clone(), own.recipe.clone()));
    let recipe = CandidateRecipe::Blend(recipe.collect());
    let origins = origins.collect::<Result<Vec<_>, String>>()?;
    let mut blended = ModelCandidate::new(name, recipe, None, origins, folds);
    for (_, own) in &used {
        blended.latency.p50_us += own.latency.p50_us;
        blended.latency.p99_us += own.latency.p99_us;
    }
    Ok(blended)
}

/// Result of the selection.
pub(super) struct Selection {
    /// Candidates in the order in which they are to be kept.
    pub(super) order: Vec<usize>,
    /// The baseline that answers where the model cannot.
    pub(super) fallback: usize,
    /// The error of each candidate over all origins, and its standard error.
    pub(super) errors: Vec<(f64, f64)>,
}

impl Selection {
    /// Selects by the mean loss over all origins. Among the candidates that are no further
    /// from the best than one standard error of the difference, the simplest is first (L.
    /// Breiman, J. Friedman, R. Olshen, C. Stone, "Classification and regression trees",
    /// 1984, section 3.4.3); the others follow by their loss. The best baseline is one of
    /// the candidates: it is found by all rows before the test set, since it is fitted
    /// on none of them. Standard errors are of times, and know that neighbours are alike.
    pub(super) fn select(
        rows: &SelectionRows,
        metric: ErrorMetric,
        candidates: &[ModelCandidate],
    ) -> Self {
        let losses: Vec<Vec<f64>> = candidates.iter().map(|own| rows.losses(metric, own)).collect();
        let none = vec![0.0; rows.actual.len()];
        let error = |own: &Vec<f64>| {
            let (mean, of_mean) = rows.clock.mean_difference(own, &none);
            let value = metric.error_from_mean_loss(mean);
            let slope = if metric == ErrorMetric::Rmse { 2.0 * value } else { 1.0 };
            (value, if slope > 0.0 { of_mean.unwrap_or(0.0) / slope } else { 0.0 })
        };
        let errors: Vec<(f64, f64)> = losses.iter().map(error).collect();
        let before_test =
            |own: &usize| metric.error_from_losses(&candidates[*own].folds[0].known_losses);
        let fallback = (0..candidates.len())
            .filter(|own| candidates[*own].baseline().is_some())
            .min_by(|a, b| before_test(a).total_cmp(&before_test(b)))
            .expect("there is a baseline");
        let mut order: Vec<usize> = (0..candidates.len())
            .filter(|own| candidates[*own].baseline().is_none() || *own == fallback)
            .collect();
        order.sort_by(|a, b| errors[*a].0.total_cmp(&errors[*b].0));
        let best = order[0];
        let is_close = |own: &usize| {
            let (mean, error) = rows.clock.mean_difference(&losses[*own], &losses[best]);
            mean <= error.unwrap_or(0.0)
        };
        // Candidates stand in the order of their simplicity: baselines, then estimators,
        // simple ones first, then blends.
        let simplest = order.iter().copied().filter(is_close).min().unwrap_or(best);
        order.retain(|own| *own != simplest);
        order.insert(0, simplest);
        Self { order, fallback, errors }
    }
}
