//! Rows of named numbers, and what they should predict.

use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::FitError;

/// The names of a row's numbers, in order. A model refuses any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// In the order of columns.
    pub features: Vec<String>,
}

impl Schema {
    /// SHA-256 over the names, hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for name in &self.features {
            hasher.update(name.as_bytes());
            hasher.update([0]);
        }
        hex(&hasher.finalize())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows in the order of time, with their truths.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Names of the columns of `x`.
    pub schema: Arc<Schema>,
    /// rows × features; NaN where a value is missing.
    pub x: Array2<f64>,
    /// One truth a row; always finite.
    pub y: Array1<f64>,
}

impl Dataset {
    /// Puts a data set together.
    ///
    /// # Errors
    /// Where the shapes do not fit, or a truth is not finite.
    pub fn new(schema: Arc<Schema>, x: Array2<f64>, y: Array1<f64>) -> Result<Self, FitError> {
        if x.ncols() != schema.features.len() || x.nrows() != y.len() {
            return Err(FitError::Shape {
                found: format!("{} × {} inputs and {} truths", x.nrows(), x.ncols(), y.len()),
                expected: format!("n × {} inputs and n truths", schema.features.len()),
            });
        }
        if let Some(row) = y.iter().position(|truth| !truth.is_finite()) {
            return Err(FitError::Truth { row, found: y[row] });
        }
        Ok(Self { schema, x, y })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.y.len()
    }

    /// At most `rows_max` rows, evenly spread over time.
    #[must_use]
    pub fn thinned(&self, rows_max: usize) -> Self {
        let rows = self.rows();
        if rows <= rows_max {
            return self.clone();
        }
        let kept: Vec<usize> = (0..rows_max).map(|i| i * rows / rows_max).collect();
        self.select(&kept)
    }

    /// These rows.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let (x, y) = (self.x.select(Axis(0), rows), self.y.select(Axis(0), rows));
        Self { schema: self.schema.clone(), x, y }
    }
}

/// The median of a column's finite values, 0 where there are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// Fills what is missing with the medians of the training part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Imputer(Vec<f64>);

impl Imputer {
    pub(crate) fn fit(x: ArrayView2<f64>) -> Self {
        Self(x.columns().into_iter().map(|column| median(column.iter().copied())).collect())
    }

    pub(crate) fn apply(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let mut filled = x.to_owned();
        for (mut column, median) in filled.columns_mut().into_iter().zip(&self.0) {
            column.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = *median);
        }
        filled
    }
}

/// Brings columns to mean 0 and spread 1, after filling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scaler {
    imputer: Imputer,
    mean: Array1<f64>,
    scale: Array1<f64>,
}

impl Scaler {
    pub(crate) fn fit(x: ArrayView2<f64>) -> Self {
        let imputer = Imputer::fit(x);
        let filled = imputer.apply(x);
        let mean = filled.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(x.ncols()));
        // A constant column tells nothing; 1 keeps it at 0.
        let spread = filled.std_axis(Axis(0), 0.0);
        let scale = spread.mapv(|s| if s > 1e-12 { s } else { 1.0 });
        Self { imputer, mean, scale }
    }

    pub(crate) fn apply(&self, x: ArrayView2<f64>) -> Array2<f64> {
        (self.imputer.apply(x) - &self.mean) / &self.scale
    }
}
