//! From readings to feature rows: exact windows over mergeable summaries.
//!
//! A window of width w at time t covers event times in **(t − w, t]**. Everything here is a
//! function of the readings and their order in the log. It depends on no wall clock, no batch
//! border and no hash order, so that a restart gives the same rows, bit for bit.
//!
//! # Layout
//! In the order in which a reading meets them:
//! - `engine`: [`FeatureEngine`], all zones; `feed`: [`ZoneFeed`], one zone at full speed
//! - `zone`: quality flags and the readings of a zone; `sequence`: copies, recognised by sequence
//!   number; `device_clock`: offsets of device clocks; `pending_readings`: readings that rows
//!   before their arrival must not see
//! - `row_emission`: when rows become final and when they are recomputed; `progress`: progress of
//!   a zone; `row_ranges`, `recompute_schedule`: which rows late readings change, and how often
//!   they are recomputed
//! - `derivation`: derived metrics, by day and by night
//! - `metric_state`: one metric of a zone, with its derived metrics
//! - `series`: one metric: `sorted_readings`, and the windows over them; each `sliding_window`
//!   moves from minute to minute over `time_blocks` of [`window_summary`]; `quantiles` counts
//!   values
//! - `sql_prefetch`: SQL expressions over readings and rows, evaluated in batches
//! - `feature_row`: the features of a zone at a time, from its windows and from
//! - `drying`: drying trends; `calendar_columns`: the calendar; `formula_joins`: formulas
//! - `snapshot`: the state of a zone as bytes, and back; `snapshot_format`: its layout and errors
//! - [`catalog`]: assignment of features to columns

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
mod snapshot;
mod snapshot_format;
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
pub use snapshot::SnapshotChanges;
pub use snapshot_format::{SNAPSHOT_VERSION, SnapshotError};

/// The width of the finest tiles, milliseconds.
pub const MINUTE_MS: i64 = 60_000;
/// An hour, milliseconds.
pub const HOUR_MS: i64 = 3_600_000;
/// A day, milliseconds.
pub const DAY_MS: i64 = 86_400_000;
