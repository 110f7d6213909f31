//! A folder whose files are taken in, each once.
//!
//! A file waits until its size and time have not changed for a while, so one
//! that is still being written is not read by half; one that was renamed into
//! the folder has both already. Of a text file that has grown, its beginning as it
//! was, only the new lines are taken. Its readings and the note that it was taken
//! are one transaction, and what the note counts is what the store holds. What is
//! no reading is listed in `rejects/<file>.csv`.
//!
//! # Layout
//! - `scan`: which files are new and at rest
//! - `fingerprint`: a file's content, and of what it is the continuation
//! - `file`: a file as records like those of the log
//! - `rejects`: what is no reading
//! - `run`: from the folder to the worker

mod fingerprint;
mod folder_scanner;
mod reject_list;
mod watched_file;
mod watcher;

pub(crate) use folder_scanner::FileVersion;
pub(crate) use watched_file::WatchedFile;
pub(crate) use watcher::poll_watched_folder;

use duckdb::{Connection, params};

use crate::StoreError;

/// The log partition of what came from the folder.
pub(crate) const WATCHED_PARTITION: i32 = -2;

pub(crate) const SCHEMA: &str = "
-- Files of the watched folder that were taken in.
CREATE TABLE IF NOT EXISTS meta.watched (
    path VARCHAR NOT NULL,
    bytes UBIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    readings UBIGINT NOT NULL,
    rejects UBIGINT NOT NULL
);";

/// Notes that a file was taken, in the transaction that is open, which has its
/// readings: they are counted there.
pub(crate) fn record_watched_file(
    connection: &Connection,
    file: &WatchedFile,
) -> Result<(), StoreError> {
    let FileVersion { path, bytes, sha256 } = &file.mark;
    let stored: u64 = connection.query_row(
        "SELECT count(*) FROM silver.data
         WHERE partition = ? AND \"offset\" >= ? AND \"offset\" < ?",
        params![WATCHED_PARTITION, file.offsets.start, file.offsets.end],
        |row| row.get(0),
    )?;
    // A record that the store cannot read is kept as one, and is no reading.
    let rejects = file.rejects + file.readings.saturating_sub(stored);
    connection.execute(
        "INSERT INTO meta.watched VALUES (?, ?, ?, ?, ?)",
        params![path, bytes, sha256, stored, rejects],
    )?;
    Ok(())
}

/// Readings and rejects of a file, as they were committed.
pub(crate) fn read_file_counts(
    connection: &Connection,
    mark: &FileVersion,
) -> Result<(u64, u64), StoreError> {
    let FileVersion { path, bytes, sha256 } = mark;
    Ok(connection.query_row(
        "SELECT readings, rejects FROM meta.watched WHERE path = ? AND bytes = ? AND sha256 = ?
         ORDER BY rowid DESC LIMIT 1",
        params![path, bytes, sha256],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?)
}

/// The files that were taken before.
pub(crate) fn read_ingested_files(connection: &Connection) -> Result<Vec<FileVersion>, StoreError> {
    let mut statement = connection.prepare("SELECT path, bytes, sha256 FROM meta.watched")?;
    let marks = statement.query_map([], |row| {
        Ok(FileVersion { path: row.get(0)?, bytes: row.get(1)?, sha256: row.get(2)? })
    })?;
    Ok(marks.collect::<duckdb::Result<_>>()?)
}
