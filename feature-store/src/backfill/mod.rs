//! Backfill: recordings through the engine into the store, zone by zone, on all processors.
//!
//! **Invariant:** a zone's readings, rows, KPIs and the record of its completion commit in one
//! transaction. A backfill that was killed can be run again; it neither loses nor repeats
//! anything.
//!
//! # Layout
//! In the order in which a recording meets them:
//! - `command`: `feature-store backfill`
//! - `request`: what to load, and the summary
//! - `plan`: the zones of a recording, and how each is read
//! - `history`: the readings of one zone, in the order of arrival
//! - `parquet`: Parquet files, read by DuckDB
//! - `pipeline`: a history through the engine
//! - `zone_writer`: one zone into the store
//! - `checkpoint`: completed histories
//! - `rejects`: the file of rejected lines
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
