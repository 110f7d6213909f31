//! How often each class came: what a classifier must beat to have learnt
//! anything.

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{Classifier, FittedClassifier, Labelled};
use crate::{FitError, Missing};

/// Learns the shares of classes.
#[derive(Clone, Copy, Debug)]
pub struct ClassShares;

/// Always the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shares(Vec<f64>);

impl Classifier for ClassShares {
    fn name(&self) -> &'static str {
        "class shares"
    }

    fn missing(&self) -> Missing {
        Missing::Unused
    }

    fn fit(&self, data: &Labelled, _: u64) -> Result<FittedClassifier, FitError> {
        Ok(FittedClassifier::Shares(Shares(data.shares())))
    }
}

impl Shares {
    pub(super) fn probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        Array2::from_shape_fn((x.nrows(), self.0.len()), |(_, class)| self.0[class])
    }
}
