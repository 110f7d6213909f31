//! Old rows move to Parquet files and stay queryable.
//!
//! # Layout
//! - `site`: a DuckDB file with twenty days, and the program run on it
//! - `local_lake`: a lake in a folder; `remote_lake`: a lake in a bucket
//! - `running_store`: moved rows are part of every answer of a running store
//! - `s3_server`: a real S3-compatible server

mod local_lake;
mod remote_lake;
mod running_store;
mod s3_server;
mod site;
