//! From readings to feature rows: exact windows over mergeable summaries.
//!
//! A window of width w at time t covers event times in **(t − w, t]**.
//! Everything here is a function of the readings and their order in the log:
//! no wall clock, no batch borders, no hash order, so that a restart gives the
//! same rows, bit for bit.
//!
//! # Layout
//! In the order in which a reading meets them:
//! - `engine`: [`Engine`], all zones; `feed`: [`ZoneFeed`], one zone at full speed
//! - `zone`: judges and keeps the readings of a zone; `sequence`: copies by number;
//!   `device_clock`: how far a device's clock is off; `pending`: readings that rows of before their arrival must not know of
//! - `emission`: when which rows are made, and made again; `progress`: how far a zone has come;
//!   `row_ranges`, `recompute_schedule`: which rows late readings change, and how often
//! - `derive`: readings made of readings, by day and by night
//! - `metric_state`: one metric of a zone, and what is derived of it
//! - `series`: one metric: its `readings` in order, and the windows over them, each
//!   `sliding` from minute to minute over `blocks` of a [`summary`] each, `quantiles` counted
//! - `sql`: what expressions of the definitions make of readings and of rows
//! - `row`: the features of a zone at a time: windows, and then
//! - `drying`: the drying of the soil; `clock`: the calendar; `join`: formulas
//! - [`catalog`]: which feature is in which column

mod calendar_columns;
pub mod catalog;
mod derivation;
mod device_clock;
mod drying;
mod engine;
mod feature_row;
mod feed;
mod formula_joins;
mod metric_state;
mod pending_readings;
mod progress;
mod quantiles;
mod recompute_schedule;
mod row_emission;
mod row_ranges;
mod sequence;
mod series;
mod sliding_window;
mod sorted_readings;
mod sql_prefetch;
mod time_blocks;
pub mod window_summary;
mod zone;

pub use catalog::FeatureCatalog;
pub(crate) use drying::SOIL_RETENTION_MS;
pub use engine::{EngineOutput, FeatureEngine, IngestBatch};
pub use feature_row::FeatureRow;
pub use feed::ZoneFeed;
pub use progress::ZoneProgress;
pub use row_ranges::RowRanges;

/// The width of the finest tiles, milliseconds.
pub const MINUTE_MS: i64 = 60_000;
/// An hour, milliseconds.
pub const HOUR_MS: i64 = 3_600_000;
/// A day, milliseconds.
pub const DAY_MS: i64 = 86_400_000;
