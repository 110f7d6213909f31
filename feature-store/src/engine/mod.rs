//! From readings to feature rows: exact windows over mergeable tiles.
//!
//! A window of width w at time t covers event times in **(t − w, t]**.
//! Everything here is a function of the readings and their order in the log:
//! no wall clock, no batch borders, no hash order, so that a restart gives the
//! same rows, bit for bit.

pub mod catalog;
mod engine;
mod join;
mod sequence;
mod series;
pub mod summary;
mod zone;

pub use catalog::Catalog;
pub use engine::{Engine, Output};
pub use zone::{Progress, Row};

/// The finer of the two tile widths, milliseconds.
pub(crate) const MINUTE_MS: i64 = 60_000;
/// The coarser of the two tile widths, milliseconds.
pub(crate) const HOUR_MS: i64 = 3_600_000;
