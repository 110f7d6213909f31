//! Weighted sums whose softmax are probabilities.

use linfa::{DatasetBase, traits::Fit};
use linfa_logistic::MultiLogisticRegression;
use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{Classifier, FittedClassifier, Labelled};
use crate::{FitError, Missing, fill::Scaler};

/// Multinomial logistic regression on standardised inputs, with the penalty
/// ‖w‖²/2 on the weights: D. R. Cox, JRSS B 20(2), 1958; fitted by linfa. At
/// most 20,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct LogisticRegression;

/// Weights of standardised inputs, inputs × classes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Logistic {
    scaler: Scaler,
    weights: Array2<f64>,
    intercepts: Array1<f64>,
    /// The class of each column of the weights: those that came at all.
    came: Vec<usize>,
    shares: Vec<f64>,
}

impl Classifier for LogisticRegression {
    fn name(&self) -> &'static str {
        "logistic regression"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn missing(&self) -> Missing {
        Missing::MedianAndFlag
    }

    fn fit(&self, data: &Labelled, _: u64) -> Result<FittedClassifier, FitError> {
        data.several_classes()?;
        let scaler = Scaler::with_flags(data.x.view());
        let rows = DatasetBase::new(scaler.apply(data.x.view()), Array1::from_vec(data.y.clone()));
        let model = MultiLogisticRegression::default()
            .alpha(1.0)
            .max_iterations(200)
            .gradient_tolerance(1e-3)
            .fit(&rows)
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        Ok(FittedClassifier::Logistic(Logistic {
            scaler,
            weights: model.params().clone(),
            intercepts: model.intercept().clone(),
            came: model.classes().to_vec(),
            shares: data.shares(),
        }))
    }
}

impl Logistic {
    pub(super) fn probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let mut sums = self.scaler.apply(x).dot(&self.weights) + &self.intercepts;
        let mut all = Array2::zeros((x.nrows(), self.shares.len()));
        for (mut row, mut to) in sums.rows_mut().into_iter().zip(all.rows_mut()) {
            // Less the largest, so that none overflows.
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.mapv_inplace(|sum| (sum - largest).exp());
            let total = row.sum();
            for (class, p) in self.came.iter().zip(&row) {
                to[*class] = p / total;
            }
        }
        super::normalised(all, &self.shares)
    }
}
