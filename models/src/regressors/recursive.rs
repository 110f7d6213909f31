//! Least squares that keeps learning, row by row.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy, scaling::FeatureScaler};

/// Recursive least squares, in which older rows count less. It is an online model:
/// [`FittedRegressor::learn_row`] adds one row at a time while it is served. S. Haykin, "Adaptive
/// Filter Theory", 4th ed., 2002, table 9.1. Forgetting pauses while the inputs carry too little
/// information (K. J. Åström, B. Wittenmark, "Adaptive Control", 2nd ed., 1995, section 11.5:
/// estimator windup). Inputs are standardised by the first rows. Fits at most 20,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct RecursiveLeastSquares;

/// Weight of a row relative to the next one. An hour at one row a minute leaves 0.9999⁶⁰ = 0.994.
const FORGETTING: f64 = 0.9999;
/// Mean variance of the weights, in variances of the error, that is assumed before the first row.
/// No row is forgotten while the variance is larger.
const VARIANCE_MAX: f64 = 1e4;

/// Weights and their uncertainty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FittedRecursive {
    scaler: FeatureScaler,
    /// Intercept, then one weight per input.
    weights: Array1<f64>,
    /// Inverse of the inputs' weighted sums of products.
    inverse: Array2<f64>,
}

impl Estimator for RecursiveLeastSquares {
    fn name(&self) -> &'static str {
        "recursive least squares"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<FittedRegressor, FitError> {
        let scaler = FeatureScaler::fit_with_flags(data.x.view());
        let width = scaler.output_width() + 1;
        let (weights, inverse) = (Array1::zeros(width), Array2::eye(width) * VARIANCE_MAX);
        let mut model = FittedRecursive { scaler, weights, inverse };
        for (row, target) in data.x.rows().into_iter().zip(&data.y) {
            model.learn_row(row, *target);
        }
        if model.weights.iter().any(|weight| !weight.is_finite()) {
            let what = "the weights grew beyond all bounds".to_owned();
            return Err(FitError::Library { model: self.name(), what });
        }
        Ok(FittedRegressor::Recursive(model))
    }
}

impl FittedRecursive {
    /// Learns one more row, in O(inputs²) steps.
    pub(crate) fn learn_row(&mut self, x: ArrayView1<f64>, target: f64) {
        let scaled = self.scaler.scale_rows(x.insert_axis(Axis(0)));
        let mut row = Array1::ones(self.weights.len());
        row.slice_axis_mut(Axis(0), Slice::from(1..)).assign(&scaled.row(0));
        let seen = self.inverse.dot(&row);
        let sure = self.inverse.diag().sum() > VARIANCE_MAX * self.weights.len() as f64;
        let forgetting = if sure { 1.0 } else { FORGETTING };
        let gain = &seen / (forgetting + row.dot(&seen));
        let error = target - self.weights.dot(&row);
        self.weights.scaled_add(error, &gain);
        for (mut line, gain) in self.inverse.rows_mut().into_iter().zip(&gain) {
            line.zip_mut_with(&seen, |entry, seen| *entry = (*entry - gain * seen) / forgetting);
        }
    }

    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        let weights = self.weights.len();
        if weights == 0 || self.inverse.dim() != (weights, weights) {
            return Err(format!("{weights} weights beside {:?} products", self.inverse.dim()));
        }
        self.scaler.check_shape(inputs, weights - 1)
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let weights = self.weights.slice_axis(Axis(0), Slice::from(1..));
        self.scaler.scale_rows(x).dot(&weights) + self.weights[0]
    }
}
