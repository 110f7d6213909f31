//! Gradient boosted trees, for the mean and for quantiles.

use hessboost::{
    config::LeafEstimation,
    objective::{Objective, Quantiles, RegLoss},
};
use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::booster::{Booster, narrow, params};
use crate::{Dataset, Estimator, FitError, Fitted, Missing};

/// Histogram gradient boosting (T. Chen, C. Guestrin, "XGBoost", KDD 2016) by
/// hessboost: 200 trees of depth 6, learning rate 0.05, at least 20 rows a
/// leaf, 8 of 10 rows a tree. Missing inputs take a branch of their own.
#[derive(Clone, Copy, Debug)]
pub struct GradientBoosting;

/// The same for the quantiles 5, 25, 50, 75 and 95 %: [`Fitted::predict`] says
/// the median, [`Fitted::quantiles`] all five. R. Koenker, G. Bassett,
/// "Regression quantiles", Econometrica 46(1), 1978; leaves hold the quantiles
/// of their rows' residuals. 100 trees a quantile, of depth 5, learning rate
/// 0.1, on 64 bins an input: five quantiles cost five times as much. At most
/// 50,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct QuantileBoosting;

/// The quantiles that are learnt; the median is among them.
pub const LEVELS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
const MEDIAN: usize = 2;
/// Trees a quantile.
const ROUNDS: usize = 100;

/// Boosted trees.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boosting(Booster);

/// Boosted trees with one output a quantile.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BoostedQuantiles(Booster);

fn labels(data: &Dataset) -> Vec<f32> {
    data.y.iter().map(|value| narrow(*value)).collect()
}

impl Estimator for GradientBoosting {
    fn name(&self) -> &'static str {
        "gradient boosting"
    }

    fn missing(&self) -> Missing {
        Missing::Branch
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<Fitted, FitError> {
        let params = params(Objective::SquaredError(RegLoss::default()), seed, data.rows());
        let y = labels(data);
        let booster = Booster::fit(self.name(), data.x.view(), params, |m| m.with_labels(&y))?;
        Ok(Fitted::Boosting(Boosting(booster)))
    }
}

impl Boosting {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.0.predict(x).column(0).to_owned()
    }
}

impl Estimator for QuantileBoosting {
    fn name(&self) -> &'static str {
        "quantile boosting"
    }

    fn rows_max(&self) -> usize {
        50_000
    }

    fn missing(&self) -> Missing {
        Missing::Branch
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<Fitted, FitError> {
        let levels = Quantiles::new(LEVELS)
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        let (params, _) = params(Objective::Quantile(levels), seed, data.rows());
        let params = params
            .leaf_estimation(LeafEstimation::Exact)
            .min_child_weight(1.0)
            .max_depth(5)
            .max_bin(64)
            .eta(0.1);
        let y = labels(data);
        let booster =
            Booster::fit(self.name(), data.x.view(), (params, ROUNDS), |m| m.with_labels(&y))?;
        Ok(Fitted::Quantiles(BoostedQuantiles(booster)))
    }
}

impl BoostedQuantiles {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.quantiles(x).column(MEDIAN).to_owned()
    }

    /// rows × [`LEVELS`], never falling: V. Chernozhukov, I. Fernández-Val, A.
    /// Galichon, "Quantile and probability curves without crossing",
    /// Econometrica 78(3), 2010.
    pub(crate) fn quantiles(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let mut said = self.0.predict(x);
        for mut row in said.rows_mut() {
            if let Some(row) = row.as_slice_mut() {
                row.sort_unstable_by(f64::total_cmp);
            }
        }
        said
    }
}
