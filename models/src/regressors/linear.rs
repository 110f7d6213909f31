//! A weighted sum of standardised inputs, the result of ridge, the elastic net and partial least
//! squares.

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{
    Dataset, FitError, FittedRegressor, gram::GramMatrix, gram::LinearWeights,
    scaling::FeatureScaler,
};

/// A weighted sum of standardised inputs.
#[derive(Debug, Serialize, Deserialize)]
pub struct LinearModel {
    scaler: FeatureScaler,
    weights: Array1<f64>,
    intercept: f64,
}

impl LinearModel {
    pub(super) fn from_weights(
        scaler: FeatureScaler,
        LinearWeights { weights, intercept }: LinearWeights,
    ) -> FittedRegressor {
        FittedRegressor::Linear(Self { scaler, weights, intercept })
    }

    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        self.scaler.check_shape(inputs, self.weights.len())
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.scaler.scale_rows(x).dot(&self.weights) + self.intercept
    }
}

/// Fits from sums of products. `solve` returns the weights, or `None` where there is no solution.
pub(super) fn fit_from_sums(
    model: &'static str,
    data: &Dataset,
    solve: impl FnOnce(&[GramMatrix]) -> Option<LinearWeights>,
) -> Result<FittedRegressor, FitError> {
    let scaler = FeatureScaler::fit_with_flags(data.x.view());
    // Sums of squares around the mean keep more digits.
    let mean = data.y.mean().unwrap_or_default();
    let stretches = GramMatrix::split_stretches(&scaler, data.x.view(), (&data.y - mean).view());
    let LinearWeights { weights, intercept } = solve(&stretches).ok_or_else(|| {
        FitError::Library { model, what: "the normal equations have no solution".to_owned() }
    })?;
    Ok(LinearModel::from_weights(scaler, LinearWeights { weights, intercept: intercept + mean }))
}
