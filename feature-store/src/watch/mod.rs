//! A folder whose files are taken in, each once.
//!
//! A file waits until its size and time have not changed for a while, so one
//! that is still being written is not read by half; one that was renamed into
//! the folder has both already. Its readings and the note that it was taken are
//! one transaction. What is no reading is listed in `rejects/<file>.csv`.
//!
//! # Layout
//! - `scan`: which files are new and at rest
//! - `file`: a file as records like those of the log
//! - `rejects`: what is no reading
//! - `run`: from the folder to the worker

mod file;
mod rejects;
mod run;
mod scan;

pub(crate) use file::File;
pub(crate) use run::run;
pub(crate) use scan::Mark;

use duckdb::{Connection, params};

use crate::StoreError;

/// The log partition of what came from the folder.
pub(crate) const WATCHED: i32 = -2;

pub(crate) const SCHEMA: &str = "
-- Files of the watched folder that were taken in.
CREATE TABLE IF NOT EXISTS meta.watched (
    path VARCHAR NOT NULL,
    bytes UBIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    readings UBIGINT NOT NULL,
    rejects UBIGINT NOT NULL
);";

/// Notes that a file was taken, in the transaction that is open.
pub(crate) fn note(connection: &Connection, file: &File) -> Result<(), StoreError> {
    let Mark { path, bytes, sha256 } = &file.mark;
    connection.execute(
        "INSERT INTO meta.watched VALUES (?, ?, ?, ?, ?)",
        params![path, bytes, sha256, file.readings, file.rejects],
    )?;
    Ok(())
}

/// The files that were taken before.
pub(crate) fn taken(connection: &Connection) -> Result<Vec<Mark>, StoreError> {
    let mut statement = connection.prepare("SELECT path, bytes, sha256 FROM meta.watched")?;
    let marks = statement.query_map([], |row| {
        Ok(Mark { path: row.get(0)?, bytes: row.get(1)?, sha256: row.get(2)? })
    })?;
    Ok(marks.collect::<duckdb::Result<_>>()?)
}
