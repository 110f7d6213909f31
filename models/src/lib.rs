//! Models, their artifacts and their registry. This crate knows arrays and names, but neither Kafka
//! nor DuckDB.
//!
//! # Layout
//! - `dataset`: rows of named inputs, with their targets
//! - `scaling`: missing values, standardised inputs
//! - `gram`, `linalg`: sums of products and linear algebra for least squares
//! - `estimator`: the trait of regressors, and fitted regressors
//! - [`regressors`]: the regressors
//! - [`classify`]: the classifiers
//! - [`detect`]: the anomaly detectors
//! - [`forecast`]: the course of one series over the next hours
//! - [`metrics`]: errors, precision, intervals
//! - [`stats`]: statistical tests and intervals for comparisons
//! - [`artifact`]: a model in a file, which is checked when it is loaded
//! - [`registry`]: versions of models, the gate, and the champion

pub mod artifact;
pub mod classify;
mod dataset;
pub mod detect;
mod estimator;
pub mod forecast;
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
