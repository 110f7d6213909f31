//! History in: recordings through the engine into the store, zone by zone, on
//! all processors.
//!
//! A zone's readings, rows and KPIs and the note that they are done are one
//! transaction: a backfill that was killed is run again, and neither loses nor
//! repeats anything.
//!
//! # Layout
//! In the order in which a recording meets them:
//! - `command`: `feature-store backfill`
//! - `request`: what to take in, and what came of it
//! - `plan`: the zones of a recording, and how each is read
//! - `history`: the readings of one zone, in the order in which they were known
//! - `parquet`: Parquet files by DuckDB
//! - `course`: a history through the engine
//! - `write`: one zone into the store
//! - `done`: what was taken in before
//! - `rejects`: the file of what was no reading
//! - `run`: all zones, in parallel

mod checkpoint;
mod command;
mod history;
mod parquet;
mod pipeline;
mod plan;
mod rejects;
mod request;
mod run;
mod zone_writer;

pub use command::BackfillCommand;
pub(crate) use history::ZoneHistory;
pub(crate) use plan::read_zone_histories;
pub use request::{
    BackfillLayout, BackfillProgress, BackfillRequest, BackfillSummary, StageSeconds,
};
pub use run::run_backfill;

pub(crate) const BACKFILL_SCHEMA_SQL: &str = include_str!("schema.sql");
