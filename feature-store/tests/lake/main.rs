//! What is old moves to Parquet and stays queryable.
//!
//! # Layout
//! - `site`: a DuckDB file with twenty days, and the program run on it
//! - `here`: a lake that is a folder; `elsewhere`: one in a bucket
//! - `running`: what has moved is part of every answer of a running store
//! - `s3`: a real S3-compatible server

mod local_lake;
mod remote_lake;
mod running_store;
mod s3_server;
mod site;
