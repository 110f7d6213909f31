//! The feature store: exact windows over everything in the log, in one DuckDB file, served from
//! memory.
//!
//! **Invariant:** all changes caused by a log record are written in one transaction, including
//! its offset.
//!
//! **Invariant:** live, backfill and replay use the same engine.
//!
//! **Invariant:** the online read path never uses DuckDB.
//!
//! # Layout
//! In the order in which data meets them:
//! - [`settings`]: windows, grid, lateness, where things are kept
//! - [`log_record`]: log records → reports
//! - `feature_engine`, a crate of its own: [`definitions`], and the [`engine`]: reports → quality flags and feature rows
//! - [`sql_expressions`]: the SQL of definitions, over DuckDB
//! - [`backfill`]: recordings through the engine into the store, in parallel
//! - `watch`: a watched folder, whose files are ingested once each
//! - `worker`: moves records from the log through the engine
//! - `committer`: writes the results into the store, in one transaction
//! - `maintenance`: jobs between transactions
//! - [`store`]: the DuckDB file: writing, restoring, reading
//! - [`kpi`]: readings → hours and days of zones
//! - [`lake`]: old rows, as Parquet
//! - `alert_tables`: alerts in the same file
//! - [`online`]: the latest row of each zone
//! - `feature_store`: [`FeatureStore`], the handle of all of it
//! - `feature_reader`: the part of it that trainers use ([`FeatureReader`])
//! - `queries`: queries of rows, readings, data sets and explanations; `explain`: explanation of
//!   one value
//! - [`statistics`]: statistics of values over a span, and drift
//! - `sql_query`: checks of users' SQL; [`sql_sandbox`]: the process that runs it
//! - `rest`: the REST API
//! - [`cli`]: commands that print and end
//! - `error`: [`StoreError`]
//! - [`program`]: the commands of the program `feature-store`

mod alert_tables;
pub mod backfill;
pub mod cli;
mod committer;
mod error;
mod explain;
mod feature_reader;
mod feature_store;
pub mod kpi;
pub mod lake;
pub mod log_record;
mod maintenance;
pub mod online;
pub mod program;
mod queries;
mod rest;
pub mod settings;
pub mod sql_expressions;
mod sql_query;
pub mod sql_sandbox;
pub mod store;
mod watch;
mod worker;

pub use error::StoreError;
pub use feature_api::{FeatureReader, FrameQuery, LatestFeatures, RevisionMode, RowStatus};
pub use feature_engine::{definitions, engine, engine::FeatureRow, statistics};
pub use feature_store::{CommitTotals, CommittedCounts, FeatureStore};
pub use online::{OnlineRow, ZoneSummary};
pub use rest::{openapi, routes, service_routes};
pub use settings::FeatureStoreSettings;
pub use sql_query::{QueryStopReason, SqlQuery, SqlRefusal};
pub use store::{
    FeatureVersion, HistoryQuery, HistoryRow, PointQuery, ReadingCursor, ReadingQuery,
    SetBackSummary, drop_version, list_versions, set_back,
};
