//! A generalised linear model of amounts: often 0, never less.

use linfa::{DatasetBase, traits::Fit};
use linfa_linear::{Link, TweedieRegressor};
use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{Dataset, Estimator, FitError, Fitted, Missing, fill::Scaler};

/// Tweedie regression of power 1.5 with a logarithmic link: hours, litres,
/// degree-minutes. B. Jørgensen, "Exponential dispersion models", JRSS B 49(2),
/// 1987; fitted by linfa. Truths below 0 are refused; predictions stay below
/// twice the largest truth, as a logarithmic link would run away beyond what
/// was learnt. At most 20,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct Tweedie;

/// The logarithm of the expected truth, as a weighted sum.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogLinear {
    scaler: Scaler,
    weights: Array1<f64>,
    intercept: f64,
    most: f64,
}

impl Estimator for Tweedie {
    fn name(&self) -> &'static str {
        "tweedie"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn missing(&self) -> Missing {
        Missing::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<Fitted, FitError> {
        super::not_negative(self.name(), data)?;
        let mean = data.y.mean().unwrap_or_default();
        let largest = data.y.iter().copied().fold(0.0, f64::max);
        let scaler = Scaler::with_flags(data.x.view());
        if mean <= 0.0 {
            return Ok(Fitted::Constant(super::constant::Constant { value: 0.0 }));
        }
        // In multiples of the mean, so that the search begins where it should.
        // linfa adds up deviances over rows, and its first step is as long as
        // the gradient: small inputs keep it from leaping out of all bounds,
        // and make the penalty one per row, as scikit-learn's.
        let small = (data.rows() as f64).sqrt().recip();
        let rows = DatasetBase::new(scaler.apply(data.x.view()) * small, &data.y / mean);
        let params = TweedieRegressor::params().power(1.5).link(Link::Log).alpha(1e-3);
        let model = params
            .max_iter(100)
            .tol(1e-2)
            .fit(&rows)
            .map_err(|error| FitError::Library { model: "tweedie", what: error.to_string() })?;
        let (weights, intercept) = (model.coef * small, model.intercept + mean.ln());
        Ok(Fitted::LogLinear(LogLinear { scaler, weights, intercept, most: 2.0 * largest }))
    }
}

impl LogLinear {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let sums = self.scaler.apply(x).dot(&self.weights) + self.intercept;
        sums.mapv(|sum| sum.exp().min(self.most))
    }
}
