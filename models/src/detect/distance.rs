use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows, scale_subsample};
use crate::{FitError, linalg, scaling::FeatureScaler};

/// Distance from the mean in the metric of the data's covariance: P. C. Mahalanobis, "On the
/// generalised distance in statistics", 1936.
#[derive(Clone, Copy, Debug)]
pub struct Mahalanobis;

/// Distance from the 10th nearest of at most 1,000 rows: S. Ramaswamy, R.
/// Rastogi, K. Shim, "Efficient algorithms for mining outliers", SIGMOD 2000.
#[derive(Clone, Copy, Debug)]
pub struct NeighbourDistance;

const NEIGHBOUR: usize = 10;
const ROWS_MAX: usize = 1000;

/// Covariance of standardised features, as its Cholesky factor.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedMahalanobis {
    scaler: FeatureScaler,
    factor: Array2<f64>,
}

/// Rows of the training set, standardised.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedNeighbourDistance {
    scaler: FeatureScaler,
    rows: Array2<f64>,
}

impl AnomalyDetector for Mahalanobis {
    fn name(&self) -> &'static str {
        "mahalanobis"
    }

    fn fit(&self, x: ArrayView2<f64>, _: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let scaler = FeatureScaler::keep_constant_columns(x);
        let scaled = scaler.scale_rows(x);
        let mut covariance = scaled.t().dot(&scaled) / scaled.nrows() as f64;
        // Linearly dependent features would make the matrix singular.
        covariance.diag_mut().mapv_inplace(|variance| variance + 1e-6);
        let factor = linalg::cholesky(covariance).ok_or_else(|| FitError::Library {
            model: "mahalanobis",
            what: "the covariance is not positive definite".to_owned(),
        })?;
        Ok(FittedDetector::Mahalanobis(FittedMahalanobis { scaler, factor }))
    }
}

impl FittedMahalanobis {
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let scaled = self.scaler.scale_rows(x);
        let distance = |row: ndarray::ArrayView1<f64>| {
            let whitened = linalg::forward_substitute(&self.factor, row.to_owned());
            whitened.dot(&whitened).sqrt()
        };
        scaled.rows().into_iter().map(distance).collect()
    }
}

impl AnomalyDetector for NeighbourDistance {
    fn name(&self) -> &'static str {
        "nearest neighbours"
    }

    fn rows_max(&self) -> usize {
        ROWS_MAX
    }

    fn fit(&self, x: ArrayView2<f64>, _: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let (scaler, rows) = scale_subsample(x, ROWS_MAX);
        Ok(FittedDetector::Neighbours(FittedNeighbourDistance { scaler, rows }))
    }
}

impl FittedNeighbourDistance {
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let scaled = self.scaler.scale_rows(x);
        let mut distances = Vec::with_capacity(self.rows.nrows());
        let mut score = |row: ndarray::ArrayView1<f64>| {
            distances.clear();
            let known = self.rows.rows().into_iter();
            distances.extend(known.map(|known| linalg::squared_distance(known, row)));
            let (_, tenth, _) = distances.select_nth_unstable_by(NEIGHBOUR - 1, f64::total_cmp);
            tenth.sqrt()
        };
        scaled.rows().into_iter().map(&mut score).collect()
    }
}
