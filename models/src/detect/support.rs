use linfa::{DatasetBase, dataset::Pr, traits::Fit};
use linfa_svm::Svm;
use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows, scale_subsample};
use crate::{
    FitError,
    regressors::support::{KernelSum, width_squared},
};

/// Dissimilarity to the support vectors that surround 95 % of the rows: −ln of the weighted mean
/// similarity to them, where 1 means equal. It orders rows as the decision function does, and still
/// distinguishes distant rows. B. Schölkopf et al., "Estimating the support of a high-dimensional
/// distribution", Neural Computation 13(7), 2001, with a Gaussian kernel of width √inputs; fitted
/// by linfa. At most 2,000 rows, because it needs a matrix of rows².
#[derive(Clone, Copy, Debug)]
pub struct OneClassSupport;

const OUTSIDE: f64 = 0.05;
const ROWS_MAX: usize = 2000;

/// Weighted similarity to the support vectors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FittedOneClassSupport(KernelSum);

impl AnomalyDetector for OneClassSupport {
    fn name(&self) -> &'static str {
        "one-class support vectors"
    }

    fn rows_max(&self) -> usize {
        ROWS_MAX
    }

    fn fit(&self, x: ArrayView2<f64>, _: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let (scaler, rows) = scale_subsample(x, ROWS_MAX);
        let width = width_squared(rows.view());
        let targets = Array1::from_elem(rows.nrows(), ());
        let model = Svm::<f64, Pr>::params()
            .gaussian_kernel(width)
            .nu_weight(OUTSIDE)
            .eps(1e-3)
            .fit(&DatasetBase::new(rows.clone(), targets))
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        let total: f64 = model.alpha.iter().sum();
        let weights: Vec<f64> = model.alpha.iter().map(|weight| weight / total).collect();
        let sum = KernelSum::from_weights(scaler, rows.view(), &weights, 0.0, width);
        Ok(FittedDetector::Support(FittedOneClassSupport(sum)))
    }
}

impl FittedOneClassSupport {
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.0.predict(x).mapv_into(|alike| -alike.clamp(f64::MIN_POSITIVE, 1.0).ln())
    }
}
