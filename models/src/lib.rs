//! The models, their artifacts and their registry. Knows arrays and names,
//! neither Kafka nor DuckDB.
//!
//! # Layout
//! - `dataset`: rows of named numbers and truths
//! - `fill`: missing values, standardised inputs
//! - `estimator`: what learns, and what was learnt
//! - [`zoo`]: the regressors
//! - [`classify`]: the classifiers
//! - [`detect`]: the anomaly detectors
//! - [`metrics`]: errors, precision, intervals
//! - [`stats`]: tests and intervals that make a comparison honest
//! - [`artifact`]: a model in a file, checked when it is read
//! - [`registry`]: versions of them, the gate, and which is the champion

pub mod artifact;
pub mod classify;
mod dataset;
pub mod detect;
mod estimator;
mod gram;
mod linalg;
pub mod metrics;
pub mod registry;
pub mod regressors;
mod scaling;
pub mod stats;

pub use artifact::{ModelArtifact, ModelCard, ModelProvenance, Predictor};
pub use dataset::{Dataset, FeatureSchema};
pub use estimator::{Estimator, FitError, FittedRegressor, ROWS_MIN, fit_regressor};
pub use registry::{ModelRegistry, RegistryError};
pub use scaling::MissingPolicy;
