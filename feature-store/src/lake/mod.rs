//! What is old moves from the DuckDB file to a lake of Parquet files, and stays
//! queryable.
//!
//! Files are partitioned `<table>/date=…/zone=…/metric=…`, `zone` being
//! `site/zone`. They are written aside, synced, renamed into place or sent to
//! the bucket, and only then does one DuckDB transaction list them in
//! `meta.lake` and delete what they hold. A file that is not listed is left
//! over from a crash: it is not read, and the next move removes it.
//!
//! # Layout
//! - `command`: `feature-store lake move|compact|ls|query`
//! - `layer`: which tables move, and what of them is old
//! - `mover`: moves it
//! - `compact`: many small files of a partition into one
//! - `place`: where its files are: `files`, a folder of this machine; `elsewhere`, a
//!   bucket with a folder of copies
//! - `views`: `lake.readings` and the like over the listed files

mod command;
mod compact;
mod elsewhere;
mod files;
mod layer;
mod mover;
mod place;
mod views;

pub use command::Command;
pub(crate) use compact::compact;
pub(crate) use mover::run;

pub(crate) const SCHEMA: &str = include_str!("schema.sql");
