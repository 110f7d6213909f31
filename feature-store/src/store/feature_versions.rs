//! Versions of the definitions: which one `features.rows` belongs to, and how the rows of another
//! are computed beside it.

use crate::sql_expressions::configured_definitions;
use crate::sql_expressions::open_engine;
use feature_engine::sql::SqlReading;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use duckdb::{Connection, params};
use telemetry::MetricTable;

use super::{
    columns::ms_to_micros,
    quote_identifier, restore,
    stored_reports::{StoredReport, for_each_stored_report},
    writer::write_rows,
};
use crate::{
    FeatureStoreSettings, StoreError,
    engine::{EngineOutput, FeatureEngine, FeatureRow},
    lake::LakeReader,
};

/// Number of rows in a transaction.
const ROWS_AT_ONCE: usize = 20_000;
/// Interval at which the log reports progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// A version of the definitions with rows in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureVersion {
    /// Number of the version, from 1 on.
    pub number: i32,
    /// Hash of the definitions; empty if it is not known.
    pub hash: String,
    /// Creation time, UTC, in DuckDB's text format.
    pub created: String,
    /// Whether its rows are in `features.rows`; otherwise they are in `features.rows_v<number>`.
    pub is_active: bool,
}

impl FeatureVersion {
    /// Returns the name of its table in the schema `features`.
    pub(super) fn table_name(&self) -> String {
        if self.is_active { "rows".to_owned() } else { version_table_name(self.number) }
    }
}

/// Table name of a version that is not active.
fn version_table_name(number: i32) -> String {
    format!("rows_v{number}")
}

/// Makes sure that the file's rows belong to the configured definitions. If they belong to
/// others, all readings go through the engine again, those in the lake first, then in the order
/// of the log. The rows are written to a second table, and one transaction switches to it. If the
/// program stops before that, the old rows stay and the next start begins again.
pub(crate) fn migrate_feature_versions(
    connection: &mut Connection,
    all_settings: &FeatureStoreSettings,
    metrics: &MetricTable,
) -> Result<(), StoreError> {
    let settings = &all_settings.engine;
    let definitions = configured_definitions(settings, metrics)?;
    let (hash, text) = (definitions.compute_hash(), definitions.to_json());
    let known = read_versions(connection)?;
    if known.iter().any(|version| version.is_active && version.hash == hash) {
        return Ok(());
    }
    let has_rows =
        connection.query_row("SELECT EXISTS (SELECT 1 FROM features.rows)", [], |row| {
            row.get::<_, bool>(0)
        })?;
    let mut next = known.iter().map(|version| version.number).max().unwrap_or(0) + 1;
    if known.is_empty() && has_rows {
        // An earlier program that recorded no versions wrote them.
        insert_version(connection, next, "", "")?;
        next += 1;
    }
    if !has_rows {
        connection.execute("UPDATE meta.definitions SET active = false", [])?;
        return insert_version(connection, next, &hash, &text);
    }
    let start = Instant::now();
    tracing::info!(version = next, %hash, "definitions have changed: making rows anew");
    let engine = open_engine(settings, metrics.clone(), &restore::read_metrics(connection)?)?;
    let mut backfill = VersionRebuild {
        connection,
        engine,
        table: version_table_name(next),
        rows: Vec::new(),
        written: 0,
    };
    backfill.create_table()?;
    backfill.replay_readings(&LakeReader::new(all_settings)?)?;
    backfill.complete_silent_zones()?;
    let VersionRebuild { engine, written, .. } = backfill;
    switch_version(connection, &engine, next, &hash, &text)?;
    tracing::info!(version = next, rows = written, took = ?start.elapsed(), "switched to the new version");
    Ok(())
}

/// Lists all versions of a file, oldest first.
///
/// # Errors
/// Fails if the file cannot be opened, for example while the feature store runs.
pub fn list_versions(settings: &FeatureStoreSettings) -> Result<Vec<FeatureVersion>, StoreError> {
    read_versions(&super::open_database(&settings.store, &settings.lake)?)
}

/// Reads all versions, oldest first.
pub(crate) fn read_versions(connection: &Connection) -> Result<Vec<FeatureVersion>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT version, hash, created::VARCHAR, active FROM meta.definitions ORDER BY version",
    )?;
    let found = statement.query_map([], |row| {
        Ok(FeatureVersion {
            number: row.get(0)?,
            hash: row.get(1)?,
            created: row.get(2)?,
            is_active: row.get(3)?,
        })
    })?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}

/// Deletes the rows of an old version. Returns false if it does not exist or is active.
///
/// # Errors
/// Fails if the file cannot be opened, for example while the feature store runs.
pub fn drop_version(settings: &FeatureStoreSettings, number: i32) -> Result<bool, StoreError> {
    let mut connection = super::open_database(&settings.store, &settings.lake)?;
    let known = read_versions(&connection)?;
    if !known.iter().any(|version| version.number == number && !version.is_active) {
        return Ok(false);
    }
    let transaction = connection.transaction()?;
    transaction
        .execute_batch(&format!("DROP TABLE IF EXISTS features.{}", version_table_name(number)))?;
    transaction.execute("DELETE FROM meta.definitions WHERE version = ?", [number])?;
    transaction.commit()?;
    Ok(true)
}

fn insert_version(
    connection: &Connection,
    number: i32,
    hash: &str,
    text: &str,
) -> Result<(), StoreError> {
    // DuckDB's `now()` has a time zone, for which the build has no casts.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let created_us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    connection.execute(
        "INSERT INTO meta.definitions VALUES (?, ?, ?, make_timestamp(?), true)",
        params![number, hash, text, created_us],
    )?;
    Ok(())
}

/// Replaces the old rows with the new ones, and stores the progress that belongs to them.
fn switch_version(
    connection: &mut Connection,
    engine: &FeatureEngine,
    number: i32,
    hash: &str,
    text: &str,
) -> Result<(), StoreError> {
    let active = read_versions(connection)?.into_iter().find(|version| version.is_active);
    let old = active.map_or(0, |version| version.number);
    let transaction = connection.transaction()?;
    transaction.execute_batch(&format!(
        "ALTER TABLE features.rows RENAME TO {};
         ALTER TABLE features.{} RENAME TO rows;
         UPDATE meta.definitions SET active = false;",
        version_table_name(old),
        version_table_name(number)
    ))?;
    insert_version(&transaction, number, hash, text)?;
    for (zone, _, progress) in engine.zones() {
        let json = serde_json::to_string(progress).expect("progress has only numbers");
        transaction.execute(
            "UPDATE meta.zones SET progress = ?, oldest_row = make_timestamp(?)
             WHERE site = ? AND zone = ?",
            params![
                json,
                progress.oldest_row_ms().map(ms_to_micros),
                zone.site.as_str(),
                zone.zone.as_str()
            ],
        )?;
    }
    let count = "UPDATE meta.counters SET count = (SELECT count(*) FROM features.rows";
    transaction.execute_batch(&format!(
        "{count}) WHERE name = 'rows'; {count} WHERE revision > 0) WHERE name = 'corrections';"
    ))?;
    let names = engine.schema().names.iter().map(|name| format!("'{}'", name.replace('\'', "''")));
    transaction.execute_batch(&format!(
        "INSERT OR IGNORE INTO meta.schemas VALUES ('{}', [{}])",
        engine.schema().hash,
        names.collect::<Vec<_>>().join(", ")
    ))?;
    Ok(transaction.commit()?)
}

struct VersionRebuild<'a> {
    connection: &'a mut Connection,
    engine: FeatureEngine,
    table: String,
    /// Rows that are not written yet.
    rows: Vec<FeatureRow>,
    written: usize,
}

impl VersionRebuild<'_> {
    /// Creates all columns at once, as the metrics are known.
    fn create_table(&self) -> Result<(), StoreError> {
        let names = &self.engine.schema().names;
        let columns: String =
            names.iter().map(|name| format!(", {} DOUBLE", quote_identifier(name))).collect();
        let table = &self.table;
        // An interrupted rebuild may have left a table.
        Ok(self.connection.execute_batch(&format!(
            "DROP TABLE IF EXISTS features.{table};
             CREATE TABLE features.{table} (
                 site VARCHAR NOT NULL, zone VARCHAR NOT NULL, time TIMESTAMP NOT NULL,
                 revision BIGINT NOT NULL, schema_hash VARCHAR NOT NULL{columns})"
        ))?)
    }

    /// Ingests all readings as they were first ingested.
    fn replay_readings(&mut self, lake: &LakeReader) -> Result<(), StoreError> {
        let reading = self.connection.try_clone()?;
        let count = |sql: &str| reading.query_row(sql, [], |row| row.get::<_, u64>(0));
        let all = count("SELECT count(*) FROM silver.data")?
            + count(
                "SELECT coalesce(sum(rows), 0)::UBIGINT FROM meta.lake WHERE \"table\" = 'readings'",
            )?;
        let (mut done, mut reported_at) = (0, Instant::now());
        for_each_stored_report(&reading, lake, None, |reports| {
            done += reports.iter().map(|stored| stored.keys.len() as u64).sum::<u64>();
            if reported_at.elapsed() >= PROGRESS_INTERVAL {
                reported_at = Instant::now();
                let percent = 100 * done / all.max(1);
                tracing::info!(readings = done, all, percent, "recomputing rows");
            }
            self.ingest_reports(reports)
        })
    }

    fn ingest_reports(&mut self, reports: &[StoredReport]) -> Result<(), StoreError> {
        let mut output = EngineOutput::default();
        let readings = reports.iter().flat_map(|stored| SqlReading::from_report(&stored.report));
        self.engine.ingest_batch(readings, &mut output, |batch| {
            for stored in reports {
                batch.ingest_report(&stored.report, stored.received_ms);
            }
        });
        self.rows.extend(output.rows);
        self.flush_rows(ROWS_AT_ONCE)
    }

    /// Emits the rows that had become final by the clock while their zone was silent, and those
    /// that late readings changed.
    fn complete_silent_zones(&mut self) -> Result<(), StoreError> {
        let mut output = EngineOutput::default();
        for (zone, _, progress) in restore::read_zones(self.connection)? {
            let final_ms = progress.final_ms.unwrap_or(i64::MIN);
            self.engine.complete_zone(&zone, final_ms, &mut output);
        }
        self.rows.extend(output.rows);
        self.flush_rows(1)
    }

    fn flush_rows(&mut self, at_least: usize) -> Result<(), StoreError> {
        if self.rows.len() < at_least {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        write_rows(&transaction, &self.rows, &self.table)?;
        transaction.commit()?;
        self.written += self.rows.len();
        self.rows.clear();
        Ok(())
    }
}
