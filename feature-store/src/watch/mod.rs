//! A watched folder, whose files are ingested once each.
//!
//! A file waits until its size and modification time have not changed for a while, so that a file
//! that is still being written is not read half. A file that was renamed into the folder is
//! complete already. If a text file has grown and its beginning is unchanged, only the new lines
//! are ingested. Its readings and the record that it was ingested commit in one transaction, and
//! the record counts the readings that the store holds. Rejected lines are listed in
//! `rejects/<file>.csv`.
//!
//! # Layout
//! - `folder_scanner`: finds new files that no longer change
//! - `fingerprint`: the content of a file, and the version that it continues
//! - `watched_file`: a file as records like those of the log
//! - `reject_list`: the list of rejected lines
//! - `watcher`: from the folder to the worker

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

/// Log partition of readings from the folder.
pub(crate) const WATCHED_PARTITION: i32 = -2;

pub(crate) const SCHEMA: &str = "
-- Ingested files of the watched folder.
CREATE TABLE IF NOT EXISTS meta.watched (
    path VARCHAR NOT NULL,
    bytes UBIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    readings UBIGINT NOT NULL,
    rejects UBIGINT NOT NULL
);";

/// Records in the open transaction, which also holds the file's readings, that the file was
/// ingested. Counts the readings there.
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
    // A record that the store cannot parse is stored as a record without readings.
    let rejects = file.rejects + file.readings.saturating_sub(stored);
    connection.execute(
        "INSERT INTO meta.watched VALUES (?, ?, ?, ?, ?)",
        params![path, bytes, sha256, stored, rejects],
    )?;
    Ok(())
}

/// Returns the committed numbers of a file's readings and rejects.
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

/// Reads the ingested files.
pub(crate) fn read_ingested_files(connection: &Connection) -> Result<Vec<FileVersion>, StoreError> {
    let mut statement = connection.prepare("SELECT path, bytes, sha256 FROM meta.watched")?;
    let marks = statement.query_map([], |row| {
        Ok(FileVersion { path: row.get(0)?, bytes: row.get(1)?, sha256: row.get(2)? })
    })?;
    Ok(marks.collect::<duckdb::Result<_>>()?)
}
