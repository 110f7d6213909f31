//! Rows that a model predicts again whenever its file is read.

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::Predictor;

/// Number of rows that are predicted again when the file is read.
const ROWS: usize = 8;

/// Inputs (`null` if missing) and predictions of some rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GoldenRows {
    x: Vec<Vec<Option<f64>>>,
    y: Vec<f64>,
}

impl GoldenRows {
    /// Records the predictions of `predictor` for the first rows of `x`.
    #[must_use]
    pub fn from_predictor(predictor: &Predictor, x: ArrayView2<f64>) -> Self {
        let (x, _) = x.split_at(Axis(0), x.nrows().min(ROWS));
        let some = |value: &f64| Some(*value).filter(|value| value.is_finite());
        let rows = x.rows().into_iter().map(|row| row.iter().map(some).collect()).collect();
        Self { x: rows, y: predictor.predict(x.view()).to_vec() }
    }

    /// Describes the first row for which `predictor` now predicts another value.
    pub(super) fn find_difference(&self, predictor: &Predictor, width: usize) -> Option<String> {
        if self.x.iter().any(|row| row.len() != width) || self.x.len() != self.y.len() {
            return Some("its golden rows are of another shape than its schema".to_owned());
        }
        let values = self.x.iter().flatten().map(|value| value.unwrap_or(f64::NAN)).collect();
        let x = Array2::from_shape_vec((self.x.len(), width), values).ok()?;
        let said = predictor.predict(x.view());
        let differ = said.iter().zip(&self.y).position(|(said, then)| {
            // The same code on another processor may differ in the last bits.
            (said - then).abs() > 1e-9 * then.abs().max(1.0) || said.is_nan()
        })?;
        Some(format!(
            "to golden row {differ} it says {}, and said {} when it was made",
            said[differ], self.y[differ]
        ))
    }
}
