//! Rolling windows over everything in the log, exact, once, kept in one DuckDB
//! file and served from memory.
//!
//! **Invariant:** what one log record changes, its offset included, is written
//! in one transaction. **Invariant:** live, backfill and replay go through the
//! same engine. **Invariant:** the online read path never asks DuckDB.
//!
//! # Layout
//! In the order in which data meets them:
//! - [`settings`]: windows, grid, lateness, where things are kept
//! - [`definitions`]: `features.toml`: windows, aggregates, joins
//! - [`intake`]: log records → reports
//! - [`engine`]: reports → quality flags and feature rows
//! - [`backfill`]: recordings through the engine into the store, in parallel
//! - `watch`: a folder whose files are taken in, each once
//! - `worker`: moves records from the log through the engine
//! - `committer`: writes what came of them into the store, in one transaction
//! - `upkeep`: what is done between transactions
//! - [`store`]: the DuckDB file: written, restored from, read
//! - [`kpi`]: readings → hours and days of zones
//! - [`lake`]: what is old, as Parquet
//! - [`online`]: the latest row of each zone
//! - `feature_store`: [`FeatureStore`], all of it behind one handle
//! - `feature_reader`: the part of it that trainers use ([`FeatureReader`])
//! - `questions`: what it can be asked: rows, readings, data sets, explanations
//! - `statistics`: of values over a span, and whether they have moved
//! - `query`: SQL of strangers, and what is refused in it; `sql_sandbox`: the process that it runs in
//! - `rest`: the same over HTTP
//! - [`cli`]: commands that print and end

pub mod backfill;
pub mod cli;
mod committer;
pub mod definitions;
pub mod engine;
mod error;
mod explain;
mod feature_reader;
mod feature_store;
pub mod kpi;
pub mod lake;
pub mod log_record;
mod maintenance;
pub mod online;
mod queries;
mod rest;
pub mod settings;
mod sql_query;
pub mod sql_sandbox;
pub mod statistics;
pub mod store;
mod watch;
mod worker;

pub use engine::FeatureRow;
pub use error::StoreError;
pub use feature_api::{FeatureReader, FrameQuery, LatestFeatures, RevisionMode, RowStatus};
pub use feature_store::{CommitTotals, CommittedCounts, FeatureStore};
pub use online::{OnlineRow, ZoneSummary};
pub use rest::{openapi, routes, service_routes};
pub use settings::FeatureStoreSettings;
pub use sql_query::{QueryStopReason, SqlQuery, SqlRefusal};
pub use store::{
    FeatureVersion, HistoryQuery, HistoryRow, PointQuery, ReadingCursor, ReadingQuery,
    SetBackSummary, drop_version, list_versions, set_back,
};
