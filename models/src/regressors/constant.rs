//! The mean of the targets: the baseline that a model must beat to have learned anything.

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy};

/// Learns the mean of the targets.
#[derive(Clone, Copy, Debug)]
pub struct MeanRegressor;

/// Predicts the same value for every row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ConstantModel {
    /// Predicted value.
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
