use duckdb::{Connection, params};

use super::{
    archived_table::ArchivedTable,
    storage::{LakeStorage, ListedFile},
};
use crate::StoreError;

/// Selects files of the lake for a query.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LakeFileFilter {
    /// Only files of this zone take part, as in farm/bay-1.
    #[arg(long, value_name = "SITE/ZONE")]
    pub zone: Option<String>,
    /// Only files of this UTC day and later, as in 2013-08-24.
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
    /// Only files of this UTC day and earlier.
    #[arg(long, value_name = "DAY")]
    pub to: Option<String>,
}

/// Recreates the views of the schema `lake` after a move. A bucket has no views until a query
/// needs them, because its files must be fetched first.
pub(super) fn recreate_views(
    connection: &Connection,
    place: &LakeStorage,
) -> Result<(), StoreError> {
    if place.is_local() {
        create_views(connection, place, &LakeFileFilter::default(), |_| true)
    } else {
        drop_views(connection)
    }
}

/// Creates the views of the schema `lake`: `lake.readings` and similar over the selected files,
/// for tables that `is_wanted` accepts, and `lake.all_readings` over them and the DuckDB file.
pub(super) fn create_views(
    connection: &Connection,
    place: &LakeStorage,
    part: &LakeFileFilter,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<(), StoreError> {
    drop_views(connection)?;
    let mut wanted = Vec::new();
    for layer in ArchivedTable::all_tables().into_iter().filter(|layer| is_wanted(layer.name)) {
        let files = list_files(connection, layer.name, part)?;
        if !files.is_empty() {
            wanted.push((layer, files));
        }
    }
    // All at once, so that fetching one table cannot evict another.
    let all: Vec<ListedFile> = wanted.iter().flat_map(|(_, files)| files).cloned().collect();
    let paths = place.fetch_files(&all)?;
    let quoted = paths.iter().map(|path| path.to_string_lossy().replace('\'', "''"));
    let mut literals = quoted.map(|path| format!("'{path}'"));
    let mut has_readings = false;
    for (layer, files) in &wanted {
        has_readings |= layer.name == "readings";
        let file_literals: Vec<String> = literals.by_ref().take(files.len()).collect();
        connection.execute_batch(&format!(
            "CREATE OR REPLACE VIEW lake.{} AS {} read_parquet([{}], union_by_name = true,
             hive_partitioning = true, hive_types_autocast = false)",
            layer.name,
            layer.view_select,
            file_literals.join(", ")
        ))?;
    }
    let lake = if has_readings { "UNION ALL BY NAME SELECT * FROM lake.readings" } else { "" };
    Ok(connection.execute_batch(&format!(
        "CREATE OR REPLACE VIEW lake.all_readings AS SELECT * FROM silver.readings {lake}"
    ))?)
}

/// Drops all views, so that none refers to files that no longer exist.
pub(super) fn drop_views(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("DROP VIEW IF EXISTS lake.all_readings")?;
    for layer in ArchivedTable::all_tables() {
        connection.execute_batch(&format!("DROP VIEW IF EXISTS lake.{}", layer.name))?;
    }
    Ok(())
}

fn list_files(
    connection: &Connection,
    table: &str,
    part: &LakeFileFilter,
) -> Result<Vec<ListedFile>, StoreError> {
    let LakeFileFilter { zone, from, to } = part;
    let mut statement = connection.prepare(
        "SELECT path, bytes FROM (
             SELECT *, url_decode(regexp_extract(path, 'zone=([^/]*)', 1)) AS zone,
                    regexp_extract(path, 'date=([^/]*)', 1) AS date FROM meta.lake
         )
         WHERE \"table\" = $1 AND zone = coalesce($2, zone)
           AND date >= coalesce($3, date) AND date <= coalesce($4, date)
         ORDER BY path",
    )?;
    let found = statement.query_map(params![table, zone, from, to], |row| {
        Ok(ListedFile { path: row.get(0)?, bytes: row.get(1)? })
    })?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}
