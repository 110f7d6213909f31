//! One regressor per class.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Classifier, FittedClassifier, LabelledDataset};
use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy};

/// Fits for each class a regression of its indicator (0 or 1), whose mean is the probability of the
/// class: J. D. Malley et al., "Probability machines", Methods Inf. Med. 51(1), 2012. With two
/// classes, one regression is enough.
pub struct OneVsRest {
    /// Name of the classifier.
    pub name: &'static str,
    /// Estimator of the regressions.
    pub estimator: Box<dyn Estimator>,
}

/// One regressor per class; with two classes, only that of the second.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedOneVsRest {
    regressors: Vec<FittedRegressor>,
    shares: Vec<f64>,
}

impl Classifier for OneVsRest {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rows_max(&self) -> usize {
        self.estimator.rows_max()
    }

    fn missing_policy(&self) -> MissingPolicy {
        self.estimator.missing_policy()
    }

    fn fit(&self, data: &LabelledDataset, seed: u64) -> Result<FittedClassifier, FitError> {
        data.require_several_classes()?;
        let first = usize::from(data.classes.len() == 2);
        let fit = |class: usize| {
            let (schema, x) = (Arc::clone(&data.schema), data.x.clone());
            let rows = Dataset::new(schema, x, data.class_indicator(class))?;
            self.estimator.fit(&rows, seed)
        };
        let regressors: Result<Vec<FittedRegressor>, FitError> =
            (first..data.classes.len()).into_par_iter().map(fit).collect();
        let model = FittedOneVsRest { regressors: regressors?, shares: data.class_shares() };
        Ok(FittedClassifier::OneVsRest(model))
    }
}

impl FittedOneVsRest {
    pub(super) fn predict_probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let mut rows = Array2::zeros((x.nrows(), self.shares.len()));
        let first = self.shares.len() - self.regressors.len();
        for (class, regressor) in self.regressors.iter().enumerate() {
            rows.column_mut(first + class).assign(&regressor.predict(x));
        }
        if first == 1 {
            let second = rows.column(1).mapv(|p| 1.0 - p.clamp(0.0, 1.0));
            rows.column_mut(0).assign(&second);
        }
        super::normalise_rows(rows, &self.shares)
    }
}
