//! The native part of the Python package `microclimate`: the feature engine and the formulas of
//! growers, over Arrow data. The Python files beside it document what users call.
//!
//! # Layout
//! - `input`: Arrow frames → readings of zones; `order`: the order in which they are ingested
//! - `output`: feature rows → Arrow tables
//! - `config`: definitions, metrics and settings as Python has them
//! - `features`: rows of a whole frame, zones in parallel
//! - `engine`: the engine as a class, for streams, with snapshots
//! - `climate`: formulas and drying trends
//! - `errors`: exceptions

mod climate;
mod config;
mod engine;
mod errors;
mod features;
mod input;
mod order;
mod output;

use pyo3::prelude::*;

/// Native part of `microclimate`.
#[pymodule]
mod _engine {
    #[pymodule_export]
    use crate::climate::{apply_formula, drying_trends, formula_names};
    #[pymodule_export]
    use crate::engine::StreamEngine;
    #[pymodule_export]
    use crate::errors::{DefinitionsError, InputError, OrderError, SettingsError, SnapshotError};
    #[pymodule_export]
    use crate::features::compute_features;
    #[pymodule_export]
    use crate::output::RowTable;
}
