//! Rows with class labels.

use std::sync::Arc;

use ndarray::{Array1, Array2, Axis};

use crate::{FeatureSchema, FitError, dataset::evenly_spaced_rows};

/// Rows in the order of time, each with its class.
#[derive(Clone, Debug)]
pub struct LabelledDataset {
    /// Names of the columns of `x`.
    pub schema: Arc<FeatureSchema>,
    /// Inputs, rows × features; NaN where a value is missing.
    pub x: Array2<f64>,
    /// Class of each row, as an index into `classes`.
    pub y: Vec<usize>,
    /// Names of the classes.
    pub classes: Arc<[String]>,
}

impl LabelledDataset {
    /// Creates a data set.
    ///
    /// # Errors
    /// The shapes do not match, or a class has no name.
    pub fn new(
        schema: Arc<FeatureSchema>,
        x: Array2<f64>,
        y: Vec<usize>,
        classes: Vec<String>,
    ) -> Result<Self, FitError> {
        if x.ncols() != schema.features.len() || x.nrows() != y.len() {
            return Err(FitError::ShapeMismatch {
                found: format!("{} × {} inputs and {} classes", x.nrows(), x.ncols(), y.len()),
                expected: format!("n × {} inputs and n classes", schema.features.len()),
            });
        }
        if let Some(row) = y.iter().position(|class| *class >= classes.len()) {
            return Err(FitError::ShapeMismatch {
                found: format!("class {} in row {row}", y[row]),
                expected: format!("a class below {}", classes.len()),
            });
        }
        Ok(Self { schema, x, y, classes: classes.into() })
    }

    /// Number of rows.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.y.len()
    }

    /// Returns at most `rows_max` rows, evenly spread over time.
    #[must_use]
    pub fn subsample_rows(&self, rows_max: usize) -> Self {
        if self.row_count() <= rows_max {
            return self.clone();
        }
        self.select_rows(&evenly_spaced_rows(self.row_count(), rows_max))
    }

    /// Returns the rows with these indices.
    #[must_use]
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        Self {
            schema: self.schema.clone(),
            x: self.x.select(Axis(0), rows),
            y: rows.iter().map(|row| self.y[*row]).collect(),
            classes: self.classes.clone(),
        }
    }

    /// Share of rows of each class.
    #[must_use]
    pub fn class_shares(&self) -> Vec<f64> {
        let count = |class| self.y.iter().filter(|label| **label == class).count() as f64;
        (0..self.classes.len()).map(|class| count(class) / self.row_count() as f64).collect()
    }

    /// Indicator of a class: 1 where a row has it, else 0.
    pub(super) fn class_indicator(&self, class: usize) -> Array1<f64> {
        self.y.iter().map(|label| f64::from(u8::from(*label == class))).collect()
    }

    /// Refuses rows that all have the same class.
    pub(super) fn require_several_classes(&self) -> Result<(), FitError> {
        let first = self.y[0];
        if self.y.iter().all(|class| *class == first) {
            return Err(FitError::OneClass(self.classes[first].clone()));
        }
        Ok(())
    }
}
