//! The mean of the truths: what a model must beat to have learnt anything.

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{Dataset, Estimator, FitError, Fitted, Missing};

/// Learns the mean.
#[derive(Clone, Copy, Debug)]
pub struct Mean;

/// Always the same.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Constant {
    /// What it says.
    pub value: f64,
}

impl Estimator for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn missing(&self) -> Missing {
        Missing::Unused
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<Fitted, FitError> {
        Ok(Fitted::Constant(Constant { value: data.y.mean().unwrap_or_default() }))
    }
}

impl Constant {
    pub(crate) fn predict(self, x: ArrayView2<f64>) -> Array1<f64> {
        Array1::from_elem(x.nrows(), self.value)
    }
}
