use std::collections::HashSet;

use duckdb::Connection;

use super::{archived_table::LAKE_TABLES, storage::LakeStorage};
use crate::StoreError;

/// File or object in a lake that names the DuckDB file it belongs to.
pub(super) const OWNER_FILE: &str = "owner";
/// Largest size of the owner file, bytes.
pub(super) const OWNER_BYTES_MAX: usize = 100;

impl LakeStorage {
    /// Makes sure that this lake belongs to this DuckDB file, before anything in it is written or
    /// quarantined. Reads the owner mark, or creates one if the lake has no files or has files
    /// that the DuckDB file lists.
    ///
    /// # Errors
    /// Fails with [`StoreError::LakeTaken`] if the mark is that of another file, and with
    /// [`StoreError::LakeUnowned`] if the lake has files but no mark.
    pub(super) fn claim_ownership(&self, connection: &Connection) -> Result<(), StoreError> {
        let own_id = owner_id(connection)?;
        if self.read_owner()?.is_none() {
            let listed = read_listed_paths(connection)?;
            let files = self.list_archive_files()?;
            if !files.is_empty() && !files.iter().any(|path| listed.contains(path)) {
                return Err(StoreError::LakeUnowned {
                    place: self.display_name(),
                    files: files.len(),
                });
            }
            self.create_owner(&own_id)?;
        }
        match self.read_owner()? {
            Some(found) if found == own_id => Ok(()),
            _ => Err(StoreError::LakeTaken { place: self.display_name() }),
        }
    }

    /// Lists the files that are named like those of a move, listed or not, by path.
    pub(super) fn list_archive_files(&self) -> Result<Vec<String>, StoreError> {
        let mut files = Vec::new();
        for table in LAKE_TABLES {
            files.extend(self.list_table_files(table)?);
        }
        files.retain(|path| super::lake_directory::is_archive_file(path));
        Ok(files)
    }
}

/// Returns the id by which this DuckDB file marks its lake.
pub(super) fn owner_id(connection: &Connection) -> Result<String, StoreError> {
    connection.execute_batch(
        "INSERT INTO meta.lake_owner SELECT uuid()::VARCHAR
         WHERE NOT EXISTS (SELECT 1 FROM meta.lake_owner)",
    )?;
    Ok(connection.query_row("SELECT id FROM meta.lake_owner", [], |row| row.get(0))?)
}

/// Returns the paths that this DuckDB file lists.
pub(super) fn read_listed_paths(connection: &Connection) -> Result<HashSet<String>, StoreError> {
    let mut statement = connection.prepare("SELECT path FROM meta.lake")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<duckdb::Result<_>>()?)
}
