//! Gradient boosted trees, for the mean and for quantiles.

use hessboost::{
    config::LeafEstimation,
    objective::{Objective, PseudoHuber, Quantiles, RegLoss},
};
use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::booster::{TreeBooster, default_params, to_finite_f32};
use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy, scaling::finite_median};

/// Histogram gradient boosting (T. Chen, C. Guestrin, "XGBoost", KDD 2016) by
/// hessboost: 200 trees of depth 6, learning rate 0.05, at least 20 rows a
/// leaf, 8 of 10 rows a tree. From 20,000 rows on 500 trees of depth 7 on three of ten
/// inputs each: many rows bear larger trees, and trees that differ. Missing inputs take
/// a branch of their own.
#[derive(Clone, Copy, Debug)]
pub struct GradientBoostingRegressor;

/// Gradient boosting with more and larger trees, for many rows and occasional large errors. The
/// loss is pseudo-Huber (P. J. Huber, "Robust estimation of a location parameter", Ann. Math.
/// Statist. 35(1), 1964), with its bend at the 90 % quantile of the targets' distance from their
/// median. It has 400 trees of depth 7, learning rate 0.08, and four of ten inputs per tree, so
/// that no input hides the others.
#[derive(Clone, Copy, Debug)]
pub struct RobustBoosting;

/// Gradient boosting for the quantiles 5, 25, 50, 75 and 95 %. [`FittedRegressor::predict`] returns
/// the median, [`FittedRegressor::predict_quantiles`] all five. R. Koenker, G. Bassett, "Regression
/// quantiles", Econometrica 46(1), 1978. Leaves hold the quantiles of their rows' residuals. It has
/// 100 trees per quantile, of depth 5, learning rate 0.1, with 64 bins per input, because five
/// quantiles cost five times as much. Fits at most 50,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct QuantileBoosting;

/// Levels of the quantiles that are learned; the median is among them.
pub const LEVELS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
const MEDIAN: usize = 2;
/// Rows from which on [`GradientBoostingRegressor`] has more and larger trees.
const MANY_ROWS: usize = 20_000;
/// As many then.
const MANY_ROUNDS: usize = 500;
/// Trees of [`RobustBoosting`].
const ROBUST_ROUNDS: usize = 400;
/// Share of targets that are no further from their median than the bend.
const BEND_LEVEL: f64 = 0.9;
/// Number of trees per quantile.
const ROUNDS: usize = 100;

/// Boosted trees.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FittedBoosting(TreeBooster);

/// Boosted trees with one output per quantile.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BoostedQuantiles(TreeBooster);

fn target_labels(data: &Dataset) -> Vec<f32> {
    data.y.iter().map(|value| to_finite_f32(*value)).collect()
}

impl Estimator for GradientBoostingRegressor {
    fn name(&self) -> &'static str {
        "gradient boosting"
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::Branch
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let rows = data.row_count();
        let mut params = default_params(Objective::SquaredError(RegLoss::default()), seed, rows);
        if rows >= MANY_ROWS {
            params = (params.0.max_depth(7).colsample_bytree(0.3), MANY_ROUNDS);
        }
        let y = target_labels(data);
        let booster = TreeBooster::fit(self.name(), data.x.view(), params, |m| m.with_labels(&y))?;
        Ok(FittedRegressor::Boosting(FittedBoosting(booster)))
    }
}

impl FittedBoosting {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.0.predict(x).column(0).to_owned()
    }
}

impl Estimator for RobustBoosting {
    fn name(&self) -> &'static str {
        "robust boosting"
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::Branch
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let middle = finite_median(data.y.iter().copied());
        let mut distance: Vec<f64> = data.y.iter().map(|target| (target - middle).abs()).collect();
        let bend = (BEND_LEVEL * (distance.len() - 1) as f64) as usize;
        let (_, bend, _) = distance.select_nth_unstable_by(bend, f64::total_cmp);
        let loss = PseudoHuber::new(if *bend > 0.0 { *bend } else { 1.0 })
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        let (defaults, _) = default_params(Objective::PseudoHuber(loss), seed, data.row_count());
        // Steps are long beyond the bend: from a distant start they would overshoot.
        let params = defaults.base_score(middle).max_depth(7).eta(0.08).colsample_bytree(0.4);
        let y = target_labels(data);
        let params = (params, ROBUST_ROUNDS);
        let booster = TreeBooster::fit(self.name(), data.x.view(), params, |m| m.with_labels(&y))?;
        Ok(FittedRegressor::Boosting(FittedBoosting(booster)))
    }
}

impl Estimator for QuantileBoosting {
    fn name(&self) -> &'static str {
        "quantile boosting"
    }

    fn rows_max(&self) -> usize {
        50_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::Branch
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let levels = Quantiles::new(LEVELS)
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        let (defaults, _) = default_params(Objective::Quantile(levels), seed, data.row_count());
        let params = defaults
            .leaf_estimation(LeafEstimation::Exact)
            .min_child_weight(1.0)
            .max_depth(5)
            .max_bin(64)
            .eta(0.1);
        let y = target_labels(data);
        let booster =
            TreeBooster::fit(self.name(), data.x.view(), (params, ROUNDS), |m| m.with_labels(&y))?;
        Ok(FittedRegressor::Quantiles(BoostedQuantiles(booster)))
    }
}

impl BoostedQuantiles {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.predict_quantiles(x).column(MEDIAN).to_owned()
    }

    /// Quantiles, rows × [`LEVELS`], never falling: V. Chernozhukov, I. Fernández-Val, A. Galichon,
    /// "Quantile and probability curves without crossing", Econometrica 78(3), 2010.
    pub(crate) fn predict_quantiles(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let mut quantiles = self.0.predict(x);
        for mut row in quantiles.rows_mut() {
            if let Some(row) = row.as_slice_mut() {
                row.sort_unstable_by(f64::total_cmp);
            }
        }
        quantiles
    }
}
