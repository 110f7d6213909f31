//! The mean of the truths: what a model must beat to have learnt anything.

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy};

/// Learns the mean.
#[derive(Clone, Copy, Debug)]
pub struct MeanRegressor;

/// Always the same.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ConstantModel {
    /// What it says.
    pub value: f64,
}

impl Estimator for MeanRegressor {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::Unused
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<FittedRegressor, FitError> {
        Ok(FittedRegressor::Constant(ConstantModel { value: data.y.mean().unwrap_or_default() }))
    }
}

impl ConstantModel {
    pub(crate) fn predict(self, x: ArrayView2<f64>) -> Array1<f64> {
        Array1::from_elem(x.nrows(), self.value)
    }
}
