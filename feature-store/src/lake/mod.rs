//! What is old moves from the DuckDB file to a lake of Parquet files, and stays
//! queryable.
//!
//! Files are partitioned `<table>/date=…/zone=…/metric=…`, `zone` being
//! `site/zone`. They are written aside, synced, renamed into place or sent to
//! the bucket, and only then does one DuckDB transaction list them in
//! `meta.lake` and delete what they hold. A file that is not listed is not read:
//! it was left by a crash, or is somebody else's. The next move puts it aside, and
//! nothing ever removes it.
//!
//! A lake has the mark of the one DuckDB file that may write to it. What has moved is
//! part of every answer of the store as before.
//!
//! # Layout
//! - `command`: `feature-store lake move|compact|ls|orphans|adopt|query`
//! - `owner`: whose lake it is
//! - `orphans`: files that are not listed, and how they are taken in
//! - `reader`: what has moved, beside what is in the DuckDB file
//! - `layer`: which tables move, and what of them is old
//! - `mover`: moves it
//! - `compact`: many small files of a partition into one
//! - `place`: where its files are: `files`, a folder of this machine; `elsewhere`, a
//!   bucket with a folder of copies
//! - `views`: `lake.readings` and the like over the listed files

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
