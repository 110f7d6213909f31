//! Rows of named inputs, with their targets.

use std::sync::Arc;

use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::FitError;

/// Names of a row's inputs, in order. A model refuses any other schema. The serialised form carries
/// its hash, and is refused where names and hash do not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct FeatureSchema {
    /// Feature names, in the order of the columns.
    pub features: Vec<String>,
}

impl FeatureSchema {
    /// SHA-256 of the names, hexadecimal.
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

/// Serialised form of a schema.
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
            computed if computed == hash => Ok(schema),
            computed => Err(format!(
                "found schema hash {hash}, expected {computed}, the hash of its inputs"
            )),
        }
    }
}

pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows in the order of time, with their targets.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Names of the columns of `x`.
    pub schema: Arc<FeatureSchema>,
    /// Inputs, rows × features; NaN where a value is missing.
    pub x: Array2<f64>,
    /// Target of each row; always finite.
    pub y: Array1<f64>,
    /// One flag per row, true where the target is only known to be at least `y`, because the
    /// observation ended, or someone watered, before it was reached. Survival models use the flags;
    /// other models use `y` alone.
    pub censored: Option<Vec<bool>>,
}

impl Dataset {
    /// Creates a data set without censored rows.
    ///
    /// # Errors
    /// The shapes do not match, or a target is not finite.
    pub fn new(
        schema: Arc<FeatureSchema>,
        x: Array2<f64>,
        y: Array1<f64>,
    ) -> Result<Self, FitError> {
        if x.ncols() != schema.features.len() || x.nrows() != y.len() {
            return Err(FitError::ShapeMismatch {
                found: format!("{} × {} inputs and {} targets", x.nrows(), x.ncols(), y.len()),
                expected: format!("n × {} inputs and n targets", schema.features.len()),
            });
        }
        if let Some(row) = y.iter().position(|target| !target.is_finite()) {
            return Err(FitError::NonFiniteTarget { row, found: y[row] });
        }
        Ok(Self { schema, x, y, censored: None })
    }

    /// Marks rows whose targets are lower bounds.
    ///
    /// # Errors
    /// The number of flags differs from the number of rows.
    pub fn with_censored(self, censored: Vec<bool>) -> Result<Self, FitError> {
        if censored.len() != self.row_count() {
            return Err(FitError::ShapeMismatch {
                found: format!("{} rows and {} flags", self.row_count(), censored.len()),
                expected: "one flag per row".to_owned(),
            });
        }
        Ok(Self { censored: Some(censored), ..self })
    }

    /// Number of rows.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.y.len()
    }

    /// Returns at most `rows_max` rows, evenly spread over time.
    #[must_use]
    pub fn subsample_rows(&self, rows_max: usize) -> Self {
        let rows = self.row_count();
        if rows <= rows_max {
            return self.clone();
        }
        self.select_rows(&evenly_spaced_rows(rows, rows_max))
    }

    /// Returns the rows with these indices.
    #[must_use]
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let (x, y) = (self.x.select(Axis(0), rows), self.y.select(Axis(0), rows));
        let flags = |all: &Vec<bool>| rows.iter().map(|row| all[*row]).collect();
        Self { schema: self.schema.clone(), x, y, censored: self.censored.as_ref().map(flags) }
    }
}

/// Returns at most `rows_max` row indices below `rows`, evenly spread.
pub(crate) fn evenly_spaced_rows(rows: usize, rows_max: usize) -> Vec<usize> {
    let kept = rows.min(rows_max);
    (0..kept).map(|i| i * rows / kept).collect()
}
