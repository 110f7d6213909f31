//! From readings to feature rows: exact windows over mergeable summaries.
//!
//! A window of width w at time t covers event times in **(t − w, t]**.
//! Everything here is a function of the readings and their order in the log:
//! no wall clock, no batch borders, no hash order, so that a restart gives the
//! same rows, bit for bit.
//!
//! # Layout
//! In the order in which a reading meets them:
//! - `engine`: [`Engine`], all zones; `feed`: [`Feed`], one zone at full speed
//! - `zone`: judges and keeps the readings of a zone; `sequence`: copies by number
//! - `derive`: readings made of readings, by day and by night
//! - `series`: one metric: its `readings` in order, and the windows over them, each
//!   `sliding` from minute to minute over `blocks` of a [`summary`] each, `quantiles` counted
//! - `sql`: what expressions of the definitions make of readings and of rows
//! - `row`: the features of a zone at a time: windows, and then
//! - `driest`: the drying of the soil; `clock`: the calendar; `join`: formulas
//! - [`catalog`]: which feature is in which column

mod blocks;
pub mod catalog;
mod clock;
mod derive;
mod driest;
mod engine;
mod feed;
mod join;
mod quantiles;
mod readings;
mod row;
mod sequence;
mod series;
mod sliding;
mod sql;
pub mod summary;
mod zone;

pub use catalog::Catalog;
pub(crate) use driest::KEPT_MS as SOIL_KEPT_MS;
pub use engine::{Engine, Output};
pub use feed::Feed;
pub use row::Row;
pub use zone::Progress;

/// The width of the finest tiles, milliseconds.
pub(crate) const MINUTE_MS: i64 = 60_000;
/// An hour, milliseconds.
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// A day, milliseconds.
pub(crate) const DAY_MS: i64 = 86_400_000;
