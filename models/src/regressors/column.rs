//! One input times a factor, as in persistence and linear extrapolation.

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{FeatureSchema, FitError, FittedRegressor};

/// Predicts `factor` × an input, or `missing` where the input is missing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ScaledColumn {
    index: usize,
    factor: f64,
    missing: f64,
}

impl ScaledColumn {
    /// Creates the model for the input of that name.
    ///
    /// # Errors
    /// [`FitError::NoColumn`] where there is no such input.
    pub fn from_schema(
        schema: &FeatureSchema,
        name: &str,
        factor: f64,
        missing: f64,
    ) -> Result<FittedRegressor, FitError> {
        let position = schema.features.iter().position(|feature| feature == name);
        let index = position.ok_or_else(|| FitError::NoColumn(name.to_owned()))?;
        Ok(FittedRegressor::Column(Self { index, factor, missing }))
    }

    pub(crate) fn check_shape(self, inputs: usize) -> Result<(), String> {
        let fits = self.index < inputs;
        fits.then_some(())
            .ok_or_else(|| format!("input {}, expected less than {inputs}", self.index))
    }

    pub(crate) fn predict(self, x: ArrayView2<f64>) -> Array1<f64> {
        let known = |value: f64| if value.is_finite() { value * self.factor } else { self.missing };
        x.column(self.index).mapv(known)
    }
}
