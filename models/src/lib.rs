//! The models, their artifacts and their registry. Knows arrays and names,
//! neither Kafka nor DuckDB.
//!
//! # Layout
//! - `dataset`: rows of named numbers and truths
//! - `estimator`: what learns, and what was learnt
//! - [`zoo`]: the regressors
//! - [`detect`]: the anomaly detectors
//! - [`metrics`]: errors, precision, intervals
//! - [`artifact`]: a model in a file, checked when it is read
//! - [`registry`]: the folder of artifacts, and which is the champion

pub mod artifact;
mod dataset;
pub mod detect;
mod estimator;
mod linalg;
pub mod metrics;
pub mod registry;
pub mod zoo;

pub use artifact::{Artifact, Predictor};
pub use dataset::{Dataset, Schema};
pub use estimator::{Estimator, FitError, Fitted, ROWS_MIN, fit};
pub use registry::{Registry, RegistryError};
