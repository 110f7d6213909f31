//! Class frequencies as a classifier: the baseline that a classifier must beat to have learned
//! anything.

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{Classifier, FittedClassifier, LabelledDataset};
use crate::{FitError, MissingPolicy};

/// Classifier that learns the frequencies of the classes.
#[derive(Clone, Copy, Debug)]
pub struct PriorClassifier;

/// Predicts the same probabilities for every row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassPriors(Vec<f64>);

impl Classifier for PriorClassifier {
    fn name(&self) -> &'static str {
        "class shares"
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::Unused
    }

    fn fit(&self, data: &LabelledDataset, _: u64) -> Result<FittedClassifier, FitError> {
        Ok(FittedClassifier::Shares(ClassPriors(data.class_shares())))
    }
}

impl ClassPriors {
    pub(super) fn predict_probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        Array2::from_shape_fn((x.nrows(), self.0.len()), |(_, class)| self.0[class])
    }
}
