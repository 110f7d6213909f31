//! A weighted sum of standardised inputs: what ridge, the elastic net and
//! partial least squares come to.

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{Dataset, FitError, Fitted, fill::Scaler, gram::Gram, gram::Weights};

/// A weighted sum of standardised inputs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Linear {
    scaler: Scaler,
    weights: Array1<f64>,
    intercept: f64,
}

impl Linear {
    pub(super) fn of(scaler: Scaler, Weights { weights, intercept }: Weights) -> Fitted {
        Fitted::Linear(Self { scaler, weights, intercept })
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.scaler.apply(x).dot(&self.weights) + self.intercept
    }
}

/// Fits from sums of products: `solve` gives the weights, if there are any.
pub(super) fn from_sums(
    model: &'static str,
    data: &Dataset,
    solve: impl FnOnce(&[Gram]) -> Option<Weights>,
) -> Result<Fitted, FitError> {
    let scaler = Scaler::with_flags(data.x.view());
    // Sums of squares around the mean keep more digits.
    let mean = data.y.mean().unwrap_or_default();
    let stretches = Gram::stretches(&scaler, data.x.view(), (&data.y - mean).view());
    let Weights { weights, intercept } = solve(&stretches).ok_or_else(|| FitError::Library {
        model,
        what: "the normal equations have no solution".to_owned(),
    })?;
    Ok(Linear::of(scaler, Weights { weights, intercept: intercept + mean }))
}
