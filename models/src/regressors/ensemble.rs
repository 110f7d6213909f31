//! Median of several models.

use ndarray::{Array1, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{boosting::GradientBoostingRegressor, ridge::RidgeRegression, trees::ExtraTrees};
use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy, scaling::finite_median};

/// Median of ridge, extra trees and gradient boosting, three models with different errors. R. T.
/// Clemen, "Combining forecasts", Int. J. Forecasting 5(4), 1989; V. R. R. Jose, R. L. Winkler,
/// "Simple robust averages of forecasts", Int. J. Forecasting 24(1), 2008. Each member thins the
/// rows as it does alone.
#[derive(Clone, Copy, Debug)]
pub struct MedianEnsemble;

/// Fitted members.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnsembleMembers(Vec<FittedRegressor>);

impl Estimator for MedianEnsemble {
    fn name(&self) -> &'static str {
        "median ensemble"
    }

    /// Treatment by the members: ridge and extra trees see medians, boosting has its branch.
    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let members: [&dyn Estimator; 3] =
            [&RidgeRegression, &ExtraTrees, &GradientBoostingRegressor];
        let fit =
            |member: &&dyn Estimator| member.fit(&data.subsample_rows(member.rows_max()), seed);
        let fitted: Result<Vec<FittedRegressor>, FitError> = members.par_iter().map(fit).collect();
        Ok(FittedRegressor::Ensemble(EnsembleMembers(fitted?)))
    }
}

impl EnsembleMembers {
    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        if self.0.is_empty() {
            return Err("an ensemble without members".to_owned());
        }
        self.0.iter().try_for_each(|member| member.check_shape(inputs))
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let predictions: Vec<Array1<f64>> = self.0.iter().map(|member| member.predict(x)).collect();
        (0..x.nrows())
            .map(|row| finite_median(predictions.iter().map(|prediction| prediction[row])))
            .collect()
    }
}
