//! Support vectors: a weighted sum of similarities to a few rows.

use linfa::{DatasetBase, traits::Fit};
use linfa_svm::Svm;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::map_rows;
use crate::{
    Dataset, Estimator, FitError, FittedRegressor, MissingPolicy, linalg,
    scaling::{FeatureScaler, standardise_targets},
};

/// Support vector regression with a Gaussian kernel of width √inputs in standardised inputs, C = 1,
/// and no loss for errors below 0.1 spreads: H. Drucker et al., "Support vector regression
/// machines", NIPS 9, 1996; fitted by linfa. At most 2,000 rows, because it needs a matrix of
/// rows².
#[derive(Clone, Copy, Debug)]
pub struct SupportVectors;

const COST: f64 = 1.0;
const FREE: f64 = 0.1;
/// Tolerance of the solver's optimality conditions.
const TOLERANCE: f64 = 1e-3;

/// Σ wᵢ exp(−|x − xᵢ|² / width²) + offset over the support vectors xᵢ.
#[derive(Debug, Serialize, Deserialize)]
pub struct KernelSum {
    scaler: FeatureScaler,
    rows: Array2<f64>,
    weights: Array1<f64>,
    offset: f64,
    width_squared: f64,
}

impl KernelSum {
    /// Creates the sum from the rows of standardised `rows` whose weight is not 0.
    pub(crate) fn from_weights(
        scaler: FeatureScaler,
        rows: ArrayView2<f64>,
        weights: &[f64],
        offset: f64,
        width_squared: f64,
    ) -> Self {
        let kept: Vec<usize> = (0..weights.len()).filter(|i| weights[*i].abs() > 1e-12).collect();
        let weights = kept.iter().map(|i| weights[*i]).collect();
        Self { scaler, rows: rows.select(Axis(0), &kept), weights, offset, width_squared }
    }

    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        if self.rows.nrows() != self.weights.len() {
            return Err(format!(
                "{} vectors with {} weights",
                self.rows.nrows(),
                self.weights.len()
            ));
        }
        self.scaler.check_shape(inputs, self.rows.ncols())
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let scaled = self.scaler.scale_rows(x);
        let weighted_sum = |row: ndarray::ArrayView1<f64>| {
            let each = self.rows.rows().into_iter().zip(&self.weights).map(|(known, weight)| {
                let squares = linalg::squared_distance(known, row);
                weight * (-squares / self.width_squared).exp()
            });
            each.sum::<f64>() + self.offset
        };
        map_rows(&scaled, weighted_sum)
    }
}

/// Squared width √inputs, counting only inputs that vary.
pub(crate) fn width_squared(scaled: ArrayView2<f64>) -> f64 {
    let moves = |column: &ndarray::ArrayView1<f64>| column.iter().any(|value| *value != 0.0);
    scaled.columns().into_iter().filter(moves).count().max(1) as f64
}

impl Estimator for SupportVectors {
    fn name(&self) -> &'static str {
        "support vectors"
    }

    fn rows_max(&self) -> usize {
        2000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<FittedRegressor, FitError> {
        let scaler = FeatureScaler::fit_with_flags(data.x.view());
        let x = scaler.scale_rows(data.x.view());
        let (y, mean, spread) = standardise_targets(&data.y);
        if y.iter().all(|target| target.abs() <= FREE) {
            // All rows are within the tolerance: there are no support vectors.
            return Ok(FittedRegressor::Constant(super::constant::ConstantModel { value: mean }));
        }
        let width = width_squared(x.view());
        let params = Svm::<f64, f64>::params().gaussian_kernel(width).eps(TOLERANCE);
        let model = params
            .c_svr(COST, Some(FREE))
            .fit(&DatasetBase::new(x.clone(), y))
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        let weights: Vec<f64> = model.alpha.iter().map(|weight| weight * spread).collect();
        let offset = mean - model.rho * spread;
        Ok(FittedRegressor::Kernel(KernelSum::from_weights(
            scaler,
            x.view(),
            &weights,
            offset,
            width,
        )))
    }
}
