//! A model in a file, checked when it is read.
//!
//! # Layout
//! - [`ModelArtifact`]: a model, and the [`ModelCard`] that says what it was learnt from and
//!   how good it was
//! - [`provenance`]: where it comes from: data, libraries, settings
//! - [`input_profile`]: what its inputs looked like in training
//! - [`golden_rows`]: rows that it is asked again whenever it is read
//! - `file_format`: the file's form
//! - `safety`: what is checked before a model is asked, and the limits within which it is

mod file_format;
pub mod golden_rows;
pub mod input_profile;
pub mod provenance;
mod safety;

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{FeatureSchema, FittedRegressor, classify::FittedClassifier, detect::FittedDetector};

pub use file_format::BYTES_MAX;
pub use golden_rows::GoldenRows;
pub use input_profile::{InputDeviation, InputProfile};
pub use provenance::{EvaluatedFit, ModelProvenance};

/// What a model says, in one of three ways.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// Numbers.
    Regressor(FittedRegressor),
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
            Self::Classifier(fitted) => fitted.predict_mean_class(x),
            Self::Detector(fitted) => fitted.score_rows(x),
        }
    }

    /// rows × classes, of a classifier, or of a regressor that learnt classes.
    #[must_use]
    pub fn predict_probabilities(&self, x: ArrayView2<f64>) -> Option<Array2<f64>> {
        match self {
            Self::Classifier(fitted) => Some(fitted.predict_probabilities(x)),
            Self::Regressor(fitted) => fitted.predict_probabilities(x),
            Self::Detector(_) => None,
        }
    }

    /// Whether it says [`Predictor::predict_probabilities`].
    #[must_use]
    pub fn has_probabilities(&self) -> bool {
        match self {
            Self::Classifier(_) => true,
            Self::Regressor(fitted) => fitted.has_probabilities(),
            Self::Detector(_) => false,
        }
    }

    /// Levels and the quantiles at them, of a model that learns a distribution;
    /// see [`FittedRegressor::predict_quantiles`].
    #[must_use]
    pub fn predict_quantiles(&self, x: ArrayView2<f64>) -> Option<(&'static [f64], Array2<f64>)> {
        match self {
            Self::Regressor(fitted) => fitted.predict_quantiles(x),
            Self::Classifier(_) | Self::Detector(_) => None,
        }
    }
}

/// What an artifact says of its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The task.
    pub task: String,
    /// The model's name in leaderboards.
    pub model: String,
    /// Its inputs.
    pub schema: FeatureSchema,
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
    /// Where it comes from.
    pub facts: ModelProvenance,
    /// What the serving side keeps with it.
    pub serving: serde_json::Value,
}

/// A model, what it was learnt from, and how good it was.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModelArtifact {
    /// What it says of itself.
    pub card: ModelCard,
    /// Some inputs and what the model said to them.
    pub golden: GoldenRows,
    /// The model itself.
    pub predictor: Predictor,
}
