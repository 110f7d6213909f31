//! A model in a file that is checked when it is read.
//!
//! # Layout
//! - [`ModelArtifact`]: a model, and the [`ModelCard`] that states its training data and
//!   its errors
//! - [`provenance`]: its data, libraries and settings
//! - [`input_profile`]: the ranges of its inputs in training
//! - [`golden_rows`]: rows that it predicts again whenever it is read
//! - `file_format`: the format of the file

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

/// A fitted model of one of three kinds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// Predicts numbers.
    Regressor(FittedRegressor),
    /// Predicts classes with their probabilities.
    Classifier(FittedClassifier),
    /// Scores how unusual a row is.
    Detector(FittedDetector),
}

impl Predictor {
    /// Predicts one number for each row. For a classifier it is the mean class number, which with
    /// two classes is the probability of the second.
    #[must_use]
    pub fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        match self {
            Self::Regressor(fitted) => fitted.predict(x),
            Self::Classifier(fitted) => fitted.predict_mean_class(x),
            Self::Detector(fitted) => fitted.score_rows(x),
        }
    }

    /// Predicts class probabilities (rows × classes), if the model is a classifier or a regressor
    /// that was trained on classes.
    #[must_use]
    pub fn predict_probabilities(&self, x: ArrayView2<f64>) -> Option<Array2<f64>> {
        match self {
            Self::Classifier(fitted) => Some(fitted.predict_probabilities(x)),
            Self::Regressor(fitted) => fitted.predict_probabilities(x),
            Self::Detector(_) => None,
        }
    }

    /// Returns whether [`Predictor::predict_probabilities`] returns probabilities.
    #[must_use]
    pub fn has_probabilities(&self) -> bool {
        match self {
            Self::Classifier(_) => true,
            Self::Regressor(fitted) => fitted.has_probabilities(),
            Self::Detector(_) => false,
        }
    }

    /// Returns levels and the quantiles at them, if the model predicts a distribution; see
    /// [`FittedRegressor::predict_quantiles`].
    #[must_use]
    pub fn predict_quantiles(&self, x: ArrayView2<f64>) -> Option<(&'static [f64], Array2<f64>)> {
        match self {
            Self::Regressor(fitted) => fitted.predict_quantiles(x),
            Self::Classifier(_) | Self::Detector(_) => None,
        }
    }
}

/// Description of a model in its artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Task of the model.
    pub task: String,
    /// The model's name in leaderboards.
    pub model: String,
    /// Schema of the inputs.
    pub schema: FeatureSchema,
    /// Unit of the predictions.
    pub unit: String,
    /// First and last event time of the training rows, UTC ms.
    pub trained_ms: (i64, i64),
    /// Number of training rows.
    pub rows: usize,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Errors and scores on held-out time, by name.
    pub metrics: BTreeMap<String, f64>,
    /// Version of the program that trained the model.
    pub code_version: String,
    /// Provenance of the model.
    pub facts: ModelProvenance,
    /// Facts that serving needs, in the form that the task defines.
    pub serving: serde_json::Value,
}

/// A model with its description and rows that verify it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModelArtifact {
    /// Description of the model.
    pub card: ModelCard,
    /// Some inputs and the model's predictions for them.
    pub golden: GoldenRows,
    /// The model itself.
    pub predictor: Predictor,
}
