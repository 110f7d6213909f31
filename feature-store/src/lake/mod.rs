//! The lake: old rows move from the DuckDB file to Parquet files and stay queryable.
//!
//! Files are partitioned `<table>/date=…/zone=…/metric=…`, where `zone` is `site/zone`. They are
//! written to a staging folder, synced, and renamed into place or sent to the bucket. Only then
//! does one DuckDB transaction list them in `meta.lake` and delete their rows. A file that is not
//! listed is not read: a crash left it, or another store wrote it. The next move quarantines it,
//! and nothing ever removes it.
//!
//! A lake has the mark of the one DuckDB file that may write to it. Rows that have moved remain
//! part of every answer of the store.
//!
//! # Layout
//! - `command`: `feature-store lake move|compact|ls|orphans|adopt|query`
//! - `ownership`: the DuckDB file that a lake belongs to
//! - `orphans`: files that are not listed, and their adoption
//! - `reader`: moved rows together with those in the DuckDB file
//! - `archived_table`: the tables that move, and which of their rows are old
//! - `archiver`: moves old rows
//! - `compaction`: merges the small files of a partition
//! - `storage`: where the files are: `lake_directory`, a local folder; `remote_lake`, a bucket
//!   with a folder of copies
//! - `views`: `lake.readings` and similar views over the listed files

mod archived_table;
mod archiver;
mod command;
mod compaction;
mod lake_directory;
mod orphans;
mod ownership;
mod reader;
mod remote_lake;
mod storage;
mod views;

pub(crate) use archiver::archive_old_rows;
pub use command::LakeCommand;
pub(crate) use compaction::compact_files;
pub(crate) use reader::{FileScope, LakeReader};

pub(crate) const SCHEMA: &str = include_str!("schema.sql");
