//! The DuckDB file, which holds all stored data.
//!
//! # Layout
//! - `writer`: commits one `WriteBatch` in one transaction; `write_batch`: its contents;
//!   `columns`: its columns in Arrow; `name_dictionary`: ids for names
//! - `read`: queries, which write nothing
//! - `restore`: the engine's state from the last commit
//! - `stored_reports`: stored readings as reports, to be ingested again
//! - `feature_versions`: versions of the definitions and their rows
//! - `set_back`: corrects a zone that a wrong clock pushed ahead
//! - `revisions`: deletes superseded corrections

mod columns;
mod feature_versions;
mod name_dictionary;
mod read;
mod restore;
mod revisions;
mod set_back;
mod stored_reports;
mod write_batch;
mod writer;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use duckdb::{AccessMode, Config, Connection};

pub(crate) use columns::{build_record_batch, ms_to_micros};
pub use feature_versions::{FeatureVersion, drop_version, list_versions};
pub(crate) use feature_versions::{migrate_feature_versions, read_versions};
pub(crate) use name_dictionary::NameDictionary;
pub use read::{
    ArrowTable, EdgeReading, FeatureValues, HistoryQuery, HistoryRow, PointQuery, ProvenanceQuery,
    QualityCount, QualityQuery, ReadingCursor, ReadingQuery, ReadingRow,
};
pub(crate) use read::{
    Behind, ReadSource, read_feature_frame, read_feature_values, read_history, read_newest_rows,
    read_points, read_provenance, read_quality_counts, read_readings, read_stored_revisions,
    replay_readings, unknown_feature_error,
};
pub(crate) use restore::{
    RestoredState, read_feature_columns, read_metrics, read_positions, restore_some_zones,
    restore_state, restore_zones,
};
pub(crate) use revisions::drop_superseded_revisions;
pub(crate) use set_back::set_zone_back;
pub use set_back::{SetBackSummary, set_back};
pub(crate) use write_batch::{CommitTally, WriteBatch};
pub(crate) use writer::StoreWriter;

use crate::{StoreError, alert_tables, backfill, kpi, lake, settings, watch};

const SCHEMA: &str = include_str!("schema.sql");
/// Size of the write-ahead log at which DuckDB copies it into the file. It is large because each
/// copy costs as much as many commits.
const CHECKPOINT_THRESHOLD: &str = "1GB";

/// Largest number of times, per checkpoint, that DuckDB may rewrite neighbouring row groups to
/// merge them. Each merges up to three, which takes some seconds with rows of hundreds of
/// columns. DuckDB's default of 100 could delay the end of a process by minutes.
const VACUUM_TASKS_MAX: u32 = 2;

/// Oldest DuckDB version that can read new files: the first with dictionary compression of
/// strings after zstd.
const STORAGE_VERSION: &str = "v1.3.0";

/// Opens the file, creates its tables, and restricts what SQL can access.
pub(crate) fn open_database(
    settings: &settings::StoreSettings,
    lake: &settings::LakeSettings,
) -> Result<Connection, StoreError> {
    open_merging(settings, lake, VACUUM_TASKS_MAX)
}

/// Does the same for a backfill, whose row groups are not merged.
pub(crate) fn open_for_backfill(
    settings: &settings::StoreSettings,
    lake: &settings::LakeSettings,
) -> Result<Connection, StoreError> {
    open_merging(settings, lake, 0)
}

fn open_merging(
    settings: &settings::StoreSettings,
    lake: &settings::LakeSettings,
    merges_max: u32,
) -> Result<Connection, StoreError> {
    let path = &settings.path;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    }
    let config = Config::default()
        .access_mode(AccessMode::ReadWrite)?
        .max_memory(&format!("{}MB", settings.memory_mb_max))?
        .threads(thread_count(settings.threads))?
        .with("storage_compatibility_version", STORAGE_VERSION)?
        .with("checkpoint_threshold", CHECKPOINT_THRESHOLD)?
        .with("max_vacuum_tasks", merges_max.to_string())?;
    let connection =
        Connection::open_with_flags(path, config).map_err(|source| open_error(path, source))?;
    let schemas = [SCHEMA, backfill::BACKFILL_SCHEMA_SQL, lake::SCHEMA, watch::SCHEMA];
    for schema in schemas.into_iter().chain([alert_tables::SCHEMA]) {
        connection.execute_batch(schema)?;
    }
    kpi::create_tables(&connection)?;
    if let Some(folder) = lake.local_folder() {
        // SQL can access this one folder only.
        let absolute = std::path::absolute(folder)
            .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let quoted = absolute.to_string_lossy().replace('\'', "''");
        connection.execute_batch(&format!("SET allowed_directories = ['{quoted}/']"))?;
    }
    connection
        .execute_batch("SET enable_external_access = false; SET lock_configuration = true;")?;
    Ok(connection)
}

/// Returns the configured number of threads, or half of the processors.
fn thread_count(wanted: u32) -> i64 {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    if wanted > 0 { i64::from(wanted) } else { (processors() / 2).max(1) as i64 }
}

fn open_error(path: &Path, source: duckdb::Error) -> StoreError {
    let path = path.to_owned();
    let text = source.to_string();
    match text.find("Conflicting lock") {
        Some(start) => {
            let detail = text[start..].split(". ").next().unwrap_or_default().to_owned();
            StoreError::Locked { path, detail }
        }
        None => StoreError::Open { path, source },
    }
}

/// Source of connections for reading, beside the one that writes.
#[derive(Debug)]
pub(crate) struct ReadConnections(Mutex<Connection>);

impl ReadConnections {
    pub(crate) fn new(writer: &Connection) -> Result<Self, StoreError> {
        Ok(Self(Mutex::new(writer.try_clone()?)))
    }

    /// Opens another connection; DuckDB runs one statement at a time on each.
    pub(crate) fn new_connection(&self) -> Result<Connection, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).try_clone()?)
    }
}

/// Quotes a name for SQL.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::{QualityFlag, ReportSource};

    #[test]
    fn numbers_in_silver_have_the_names_that_the_program_gives_them() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection
            .execute_batch("INSERT INTO silver.series VALUES (0, 's', 'z', 'd', 'm')")
            .unwrap();
        let name = |column: &str, source: u8, quality: u8| -> String {
            connection.execute_batch("DELETE FROM silver.data").unwrap();
            let insert = format!(
                "INSERT INTO silver.data VALUES (0, 0, 0, 0, NULL, NULL, {source}, '2025-06-02', '2025-06-02', 1, {quality})"
            );
            connection.execute_batch(&insert).unwrap();
            let select = format!("SELECT {column} FROM silver.readings");
            connection.query_row(&select, [], |row| row.get(0)).unwrap()
        };
        for quality in QualityFlag::ALL {
            assert_eq!(name("quality", 0, quality as u8), quality.as_str());
        }
        for source in ReportSource::ALL {
            assert_eq!(name("source", source as u8, 0), source.as_str());
        }
    }
}
