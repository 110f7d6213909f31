use linfa_linalg::{
    Order,
    eigh::{EigSort, Eigh},
};
use ndarray::{Array1, Array2, ArrayView2, Axis, Slice};
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows};
use crate::{FitError, scaling::FeatureScaler};

/// Distance that remains beyond the principal components that explain 90 % of the variance, each
/// further component in units of its own spread. It is large for rows that break the usual
/// correlations of inputs. M.-L. Shyu et al., "A novel anomaly detection scheme based on principal
/// component classifier", ICDM workshops 2003 (its minor components).
#[derive(Clone, Copy, Debug)]
pub struct PrincipalComponents;

const EXPLAINED: f64 = 0.9;

/// Minor components of standardised inputs.
#[derive(Debug, Serialize, Deserialize)]
pub struct MinorComponents {
    scaler: FeatureScaler,
    /// Directions, inputs × minor components, each divided by its spread.
    minor: Array2<f64>,
}

impl AnomalyDetector for PrincipalComponents {
    fn name(&self) -> &'static str {
        "principal components"
    }

    fn fit(&self, x: ArrayView2<f64>, _: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let scaler = FeatureScaler::keep_constant_columns(x);
        let scaled = scaler.scale_rows(x);
        let covariance = scaled.t().dot(&scaled) / scaled.nrows() as f64;
        let found = covariance.eigh().map(|found| found.sort_eig(Order::Largest));
        let (variances, directions) = found
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        let total = variances.sum();
        let explained = variances.iter().scan(0.0, |sum, variance| {
            *sum += variance;
            Some(*sum)
        });
        // At least one component remains.
        let explaining = explained.take_while(|sum| *sum < EXPLAINED * total).count() + 1;
        let major = explaining.min(variances.len() - 1);
        let mut minor = directions.slice_axis(Axis(1), Slice::from(major..)).to_owned();
        for (mut direction, variance) in
            minor.columns_mut().into_iter().zip(variances.iter().skip(major))
        {
            // The floor keeps inputs that are always equal from scoring anything.
            direction /= variance.max(1e-6).sqrt();
        }
        Ok(FittedDetector::Components(MinorComponents { scaler, minor }))
    }
}

impl MinorComponents {
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let left = self.scaler.scale_rows(x).dot(&self.minor);
        left.rows().into_iter().map(|row| row.dot(&row).sqrt()).collect()
    }
}
