//! Rows of named numbers, and what they should predict.

use std::sync::Arc;

use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::FitError;

/// The names of a row's numbers, in order. A model refuses any other. Its
/// written form carries its hash, and is refused where the two do not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct FeatureSchema {
    /// In the order of columns.
    pub features: Vec<String>,
}

impl FeatureSchema {
    /// SHA-256 over the names, hexadecimal.
    #[must_use]
    pub fn schema_hash(&self) -> String {
        let mut hasher = Sha256::new();
        for name in &self.features {
            hasher.update(name.as_bytes());
            hasher.update([0]);
        }
        encode_hex(&hasher.finalize())
    }
}

/// A schema as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    features: Vec<String>,
    hash: String,
}

impl From<FeatureSchema> for Written {
    fn from(schema: FeatureSchema) -> Self {
        Self { hash: schema.schema_hash(), features: schema.features }
    }
}

impl TryFrom<Written> for FeatureSchema {
    type Error = String;

    fn try_from(Written { features, hash }: Written) -> Result<Self, String> {
        let schema = Self { features };
        match schema.schema_hash() {
            own if own == hash => Ok(schema),
            own => Err(format!("its inputs have the schema hash {own}, and it says {hash}")),
        }
    }
}

pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows in the order of time, with their truths.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Names of the columns of `x`.
    pub schema: Arc<FeatureSchema>,
    /// rows × features; NaN where a value is missing.
    pub x: Array2<f64>,
    /// One truth a row; always finite.
    pub y: Array1<f64>,
    /// One flag a row, true where the truth is only known to be at least `y`
    /// (the watching ended, or someone watered, before it came). Survival
    /// models learn from it; the others take `y` as it is.
    pub censored: Option<Vec<bool>>,
}

impl Dataset {
    /// Puts a data set together.
    ///
    /// # Errors
    /// Where the shapes do not fit, or a truth is not finite.
    pub fn new(
        schema: Arc<FeatureSchema>,
        x: Array2<f64>,
        y: Array1<f64>,
    ) -> Result<Self, FitError> {
        if x.ncols() != schema.features.len() || x.nrows() != y.len() {
            return Err(FitError::ShapeMismatch {
                found: format!("{} × {} inputs and {} truths", x.nrows(), x.ncols(), y.len()),
                expected: format!("n × {} inputs and n truths", schema.features.len()),
            });
        }
        if let Some(row) = y.iter().position(|truth| !truth.is_finite()) {
            return Err(FitError::NonFiniteTarget { row, found: y[row] });
        }
        Ok(Self { schema, x, y, censored: None })
    }

    /// The same rows, some truths of which are lower bounds.
    ///
    /// # Errors
    /// Where there is not one flag a row.
    pub fn with_censored(self, censored: Vec<bool>) -> Result<Self, FitError> {
        if censored.len() != self.row_count() {
            return Err(FitError::ShapeMismatch {
                found: format!("{} rows and {} flags", self.row_count(), censored.len()),
                expected: "one flag a row".to_owned(),
            });
        }
        Ok(Self { censored: Some(censored), ..self })
    }

    /// Number of rows.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.y.len()
    }

    /// At most `rows_max` rows, evenly spread over time.
    #[must_use]
    pub fn subsample_rows(&self, rows_max: usize) -> Self {
        let rows = self.row_count();
        if rows <= rows_max {
            return self.clone();
        }
        self.select_rows(&evenly_spaced_rows(rows, rows_max))
    }

    /// These rows.
    #[must_use]
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let (x, y) = (self.x.select(Axis(0), rows), self.y.select(Axis(0), rows));
        let flags = |all: &Vec<bool>| rows.iter().map(|row| all[*row]).collect();
        Self { schema: self.schema.clone(), x, y, censored: self.censored.as_ref().map(flags) }
    }
}

/// At most `rows_max` of `rows` row numbers, evenly spread.
pub(crate) fn evenly_spaced_rows(rows: usize, rows_max: usize) -> Vec<usize> {
    let kept = rows.min(rows_max);
    (0..kept).map(|i| i * rows / kept).collect()
}
