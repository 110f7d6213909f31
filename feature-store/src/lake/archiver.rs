use std::collections::BTreeMap;

use duckdb::{Connection, params};
use serde::Serialize;

use super::{
    archived_table::ArchivedTable, compaction::remove_superseded, lake_directory::StagedFile,
    ownership::read_listed_paths, storage::LakeStorage, views,
};
use crate::{FeatureStoreSettings, StoreError};

/// Result of a move to the lake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ArchiveSummary {
    /// Rows by table of the lake.
    pub(crate) rows: BTreeMap<&'static str, u64>,
    /// Number of new files.
    pub(crate) files: usize,
    /// Deleted hours and days of KPIs.
    pub(crate) kpis_deleted: usize,
}

/// Moves old rows to the lake by these settings, each table in its own transaction.
///
/// # Errors
/// Fails if a file cannot be written or DuckDB fails. No row of that table has moved then.
pub(crate) fn archive_old_rows(
    connection: &mut Connection,
    settings: &FeatureStoreSettings,
) -> Result<ArchiveSummary, StoreError> {
    let Some(place) = LakeStorage::open(settings)? else { return Ok(ArchiveSummary::default()) };
    place.claim_ownership(connection)?;
    remove_superseded(connection, &place)?;
    let layers = ArchivedTable::enabled_tables(&settings.lake);
    place.quarantine_unlisted(&read_listed_paths(connection)?)?;
    let mut moved = ArchiveSummary::default();
    for layer in &layers {
        let (rows, files) = archive_table(connection, &place, layer)?;
        moved.rows.insert(layer.name, rows);
        moved.files += files;
    }
    if settings.lake.kpi_days > 0 {
        moved.kpis_deleted = delete_kpis(connection, settings.lake.kpi_days)?;
    }
    views::recreate_views(connection, &place)?;
    if moved.files > 0 {
        connection.execute_batch("CHECKPOINT")?;
    }
    Ok(moved)
}

fn archive_table(
    connection: &mut Connection,
    place: &LakeStorage,
    layer: &ArchivedTable,
) -> Result<(u64, usize), StoreError> {
    let move_id = next_move_id(connection)?;
    let old = layer.old_rows_sql();
    let transaction = connection.transaction()?;
    let staging = place.create_staging_dir(move_id)?;
    let copied: u64 = transaction.query_row(
        &format!(
            "COPY ({} WHERE {old} ORDER BY ALL) TO '{}'
             (FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({}), OVERWRITE_OR_IGNORE)",
            layer.copy_select_sql,
            staging.to_string_lossy().replace('\'', "''"),
            layer.partition_by
        ),
        [],
        |row| row.get(0),
    )?;
    let staged = StagedFile::list_staged(&staging, layer.name, move_id)?;
    let version = match layer.name {
        "features" => active_version(&transaction)?,
        _ => None,
    };
    register_files(&transaction, layer.name, move_id, &staged, version)?;
    place.publish_staged(&staging, &staged)?;
    let deleted = transaction.execute(&format!("{} WHERE {old}", layer.delete_sql), [])? as u64;
    if deleted != copied {
        return Err(StoreError::CorruptTable {
            table: layer.name,
            found: format!("{copied} old rows copied, {deleted} deleted"),
            expected: "as many deleted as copied",
        });
    }
    transaction.commit()?;
    Ok((copied, staged.len()))
}

/// Lists new files, which are still in the staging folder, in the open transaction.
pub(super) fn register_files(
    connection: &Connection,
    table: &str,
    move_id: u32,
    staged: &[StagedFile],
    version: Option<i32>,
) -> Result<(), StoreError> {
    for StagedFile { from, below, bytes } in staged {
        let full = from.to_string_lossy().replace('\'', "''");
        let rows: u64 = connection.query_row(
            &format!("SELECT count(*) FROM read_parquet('{full}', hive_partitioning = false)"),
            [],
            |row| row.get(0),
        )?;
        connection.execute(
            "INSERT INTO meta.lake (path, \"table\", move, rows, bytes, version)
             VALUES (?, ?, ?, ?, ?, ?)",
            params![below, table, move_id, rows, bytes, version],
        )?;
    }
    Ok(())
}

pub(super) fn next_move_id(connection: &Connection) -> Result<u32, StoreError> {
    let sql = "SELECT coalesce(max(move), 0) + 1 FROM meta.lake";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Returns the version of the definitions that `features.rows` belongs to.
fn active_version(connection: &Connection) -> Result<Option<i32>, StoreError> {
    let sql = "SELECT max(version) FROM meta.definitions WHERE active";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

fn delete_kpis(connection: &mut Connection, days: u32) -> Result<usize, StoreError> {
    let transaction = connection.transaction()?;
    let mut deleted = 0;
    for (table, column) in [
        ("hourly", "hour"),
        ("hourly_zones", "hour"),
        ("daily", "day_start"),
        ("daily_zones", "day_start"),
    ] {
        let cut = super::archived_table::cutoff_sql(days);
        deleted += transaction.execute(
            &format!(
                "DELETE FROM gold.{table} d USING meta.zones z
                 WHERE d.site = z.site AND d.zone = z.zone AND d.{column} < {cut}"
            ),
            [],
        )?;
    }
    transaction.commit()?;
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    #[test]
    fn readings_that_a_row_still_to_be_computed_needs_stay() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut settings = FeatureStoreSettings::default();
        settings.store.path = dir.path().join("x.duckdb");
        settings.lake.path = dir.path().join("lake");
        settings.lake.silver_days = 14;
        let mut connection = store::open_database(&settings.store, &settings.lake).unwrap();
        connection
            .execute_batch(
                "INSERT INTO meta.zones (site, zone, partition, newest, oldest_row, progress) VALUES
                     ('s', 'a', 0, '2025-03-31', '2025-03-31', '{}'),
                     ('s', 'b', 0, '2025-03-31', '2025-03-11', '{}'),
                     -- As a version before wrote it.
                     ('s', 'c', 0, '2025-03-31', NULL, '{}');
                 INSERT INTO silver.series (id, site, zone, device, metric)
                 SELECT row_number() OVER (), 's', zone, 'probe', 'temperature'
                 FROM (VALUES ('a'), ('b'), ('c')) z(zone);
                 INSERT INTO silver.data BY NAME
                 SELECT s.id AS series, 0 AS source, 0 AS quality, 0 AS partition, 21.5 AS value,
                        100 * s.id + day AS \"offset\", 0 AS item,
                        TIMESTAMP '2025-02-15' + INTERVAL (day) DAY AS event, event AS arrival
                 FROM silver.series s, range(45) d(day);",
            )
            .unwrap();
        archive_old_rows(&mut connection, &settings).unwrap();
        let oldest_left = |zone: &str| -> String {
            connection
                .query_row(
                    "SELECT strftime(min(d.event), '%m-%d') FROM silver.data d
                     JOIN silver.series s ON d.series = s.id WHERE s.zone = ?",
                    [zone],
                    |row| row.get(0),
                )
                .unwrap()
        };
        assert_eq!(["a", "b", "c"].map(oldest_left), ["03-17", "02-25", "03-17"]);
    }
}
