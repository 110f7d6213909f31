//! A model in a file, checked when it is read.

use std::{collections::BTreeMap, path::Path};

use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Fitted, RegistryError, Schema, classify::FittedClassifier, dataset::hex, detect::FittedDetector,
};

/// The first word of the file; the second is the format, the third the
/// SHA-256 of everything after the first line.
const MAGIC: &str = "microclimate-model";
const FORMAT: &str = "2";
/// A file larger than this is no model of ours, bytes.
const BYTES_MAX: u64 = 512 << 20;
/// Rows that are predicted again when the file is read.
const GOLDEN_ROWS: usize = 8;

/// What a model says, in one of three ways.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// Numbers.
    Regressor(Fitted),
    /// Classes, with their probabilities.
    Classifier(FittedClassifier),
    /// How unusual a row is.
    Detector(FittedDetector),
}

impl Predictor {
    /// One number for each row: of a classifier the mean class number, which
    /// with two classes is the probability of the second.
    #[must_use]
    pub fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        match self {
            Self::Regressor(fitted) => fitted.predict(x),
            Self::Classifier(fitted) => fitted.mean_class(x),
            Self::Detector(fitted) => fitted.score(x),
        }
    }

    /// rows × classes, of a classifier.
    #[must_use]
    pub fn probabilities(&self, x: ArrayView2<f64>) -> Option<Array2<f64>> {
        match self {
            Self::Classifier(fitted) => Some(fitted.probabilities(x)),
            Self::Regressor(_) | Self::Detector(_) => None,
        }
    }

    /// Levels and the quantiles at them, of a model that learns a distribution;
    /// see [`Fitted::quantiles`].
    #[must_use]
    pub fn quantiles(&self, x: ArrayView2<f64>) -> Option<(&'static [f64], Array2<f64>)> {
        match self {
            Self::Regressor(fitted) => fitted.quantiles(x),
            Self::Classifier(_) | Self::Detector(_) => None,
        }
    }
}

/// A model, what it was learnt from, and how good it was.
#[derive(Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// The task.
    pub task: String,
    /// The model's name in leaderboards.
    pub model: String,
    /// Its inputs.
    pub schema: Schema,
    /// Of predictions.
    pub unit: String,
    /// First and last event time that it was learnt from, UTC ms.
    pub trained_ms: (i64, i64),
    /// Rows that it was learnt from.
    pub rows: usize,
    /// The seed.
    pub seed: u64,
    /// By name, on held-out time.
    pub metrics: BTreeMap<String, f64>,
    /// Of this program.
    pub code_version: String,
    /// What the serving side keeps with it.
    pub serving: serde_json::Value,
    /// The model itself.
    pub predictor: Predictor,
    /// Some inputs and what the model said to them.
    pub golden: Golden,
}

/// Inputs (`null` where missing) and predictions of some rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Golden {
    x: Vec<Vec<Option<f64>>>,
    y: Vec<f64>,
}

impl Golden {
    /// What `predictor` says to the first rows of `x`.
    #[must_use]
    pub fn of(predictor: &Predictor, x: ArrayView2<f64>) -> Self {
        let (x, _) = x.split_at(Axis(0), x.nrows().min(GOLDEN_ROWS));
        let some = |value: &f64| Some(*value).filter(|value| value.is_finite());
        let rows = x.rows().into_iter().map(|row| row.iter().map(some).collect()).collect();
        Self { x: rows, y: predictor.predict(x.view()).to_vec() }
    }

    /// The first row to which `predictor` says something else now.
    fn broken(&self, predictor: &Predictor, width: usize) -> Option<String> {
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

impl Artifact {
    /// The file's content.
    ///
    /// # Errors
    /// Where the model has no JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let body = serde_json::to_vec(self)?;
        let mut bytes = format!("{MAGIC} {FORMAT} {}\n", hex(&Sha256::digest(&body))).into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads a file and runs its golden rows.
    ///
    /// # Errors
    /// [`RegistryError::Refused`] with the reason.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        let refuse = |why: String| RegistryError::Refused { path: path.to_owned(), why };
        let io = |source| RegistryError::Io { path: path.to_owned(), source };
        let bytes_long = std::fs::metadata(path).map_err(io)?.len();
        if bytes_long > BYTES_MAX {
            return Err(refuse(format!("{bytes_long} bytes, expected at most {BYTES_MAX}")));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let end = bytes.iter().take(200).position(|byte| *byte == b'\n');
        let head = end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok()).unwrap_or_default();
        let words: Vec<&str> = head.split(' ').collect();
        let (sum, body) = match (words.as_slice(), end) {
            ([MAGIC, FORMAT, sum], Some(end)) => (*sum, &bytes[end + 1..]),
            ([MAGIC, format, _], _) => {
                return Err(refuse(format!("format {format}, expected {FORMAT}")));
            }
            _ => return Err(refuse(format!("it does not begin with `{MAGIC}`"))),
        };
        if hex(&Sha256::digest(body)) != sum {
            return Err(refuse(
                "its content does not match its checksum: half-written or changed".to_owned(),
            ));
        }
        let artifact: Self =
            serde_json::from_slice(body).map_err(|error| refuse(error.to_string()))?;
        match artifact.golden.broken(&artifact.predictor, artifact.schema.features.len()) {
            Some(why) => Err(refuse(why)),
            None => Ok(artifact),
        }
    }
}
