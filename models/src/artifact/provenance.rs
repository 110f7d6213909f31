//! Provenance of a model: its training data, libraries and settings.

use std::collections::BTreeMap;

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::InputProfile;
use crate::dataset::encode_hex;

/// Provenance of a model, for reproducing it and for recognising rows that differ from its training
/// rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelProvenance {
    /// SHA-256 over the training rows, inputs and targets as little-endian doubles, row after row;
    /// hexadecimal.
    pub data_hash: String,
    /// Range of each input in training, in the order of the schema.
    pub profile: InputProfile,
    /// Unit of each input, in the order of the schema; empty if it is not known.
    pub input_units: Vec<String>,
    /// Names of the classes, in the order of their numbers; empty if the model predicts no class.
    pub classes: Vec<String>,
    /// Versions of the libraries that fit models, by name.
    pub crates: BTreeMap<String, String>,
    /// Settings of the training.
    pub settings: serde_json::Value,
    /// The evaluated fit, where the model was fitted again on all rows after that: the metrics
    /// are of the fit before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated: Option<EvaluatedFit>,
    /// Confidence interval of each metric at the level 95 %, if it was computed.
    pub metric_intervals: BTreeMap<String, [f64; 2]>,
}

/// The fit that was evaluated before the one that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluatedFit {
    /// First and last event time that it was trained on, UTC ms.
    pub trained_ms: (i64, i64),
    /// Rows that it was trained on.
    pub rows: usize,
    /// First and last event time of the rows that the metrics are of, UTC ms.
    pub test_ms: (i64, i64),
}

impl ModelProvenance {
    /// Computes the facts that follow from the rows: `x` is rows × features (NaN where a value is
    /// missing), `y` one target for each row, or `None` for a detector.
    #[must_use]
    pub fn from_rows(x: ArrayView2<f64>, y: Option<ArrayView1<f64>>) -> Self {
        let mut hasher = Sha256::new();
        for (number, row) in x.rows().into_iter().enumerate() {
            let truth = y.and_then(|y| y.get(number).copied());
            // Every NaN is the same missing value.
            let numbers = row.iter().copied().chain(truth);
            numbers.for_each(|value| {
                let value = if value.is_nan() { f64::NAN } else { value };
                hasher.update(value.to_le_bytes());
            });
        }
        Self {
            data_hash: encode_hex(&hasher.finalize()),
            profile: InputProfile::from_rows(x),
            crates: crate_versions(),
            ..Self::default()
        }
    }
}

/// Returns the libraries that fit models, with the versions that this program was built with.
#[must_use]
pub fn crate_versions() -> BTreeMap<String, String> {
    let pairs = env!("MODELS_CRATES").split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_hash_is_of_what_was_learnt() {
        let x = array![[1.0, f64::NAN], [2.0, 3.0]];
        let hash = |x: &ndarray::Array2<f64>, y: f64| {
            ModelProvenance::from_rows(x.view(), Some(array![0.0, y].view())).data_hash
        };
        assert_eq!(hash(&x, 1.0), hash(&array![[1.0, -f64::NAN], [2.0, 3.0]], 1.0));
        assert_ne!(hash(&x, 1.0), hash(&x, 2.0));
        assert_ne!(hash(&x, 1.0), hash(&array![[1.0, 0.0], [2.0, 3.0]], 1.0));
        assert_ne!(hash(&x, 1.0), ModelProvenance::from_rows(x.view(), None).data_hash);
    }

    #[test]
    fn the_libraries_are_named() {
        let crates = crate_versions();
        for name in ["hessboost", "linfa", "smartcore"] {
            assert!(crates[name].starts_with("0."), "{crates:?}");
        }
    }
}
