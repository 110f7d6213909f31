use std::collections::BTreeMap;

use duckdb::{Connection, params};
use serde::Serialize;

use super::{
    ownership::{owner_id, read_listed_paths},
    storage::LakeStorage,
    views,
};
use crate::StoreError;

/// A file of the lake that the DuckDB file does not list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct OrphanFile {
    /// Path below the lake.
    pub(super) path: String,
    /// `left` where a move would have written it, `aside` in quarantine.
    pub(super) state: &'static str,
}

/// Result of the adoption of unlisted files.
#[derive(Debug, Default, Serialize)]
pub(super) struct AdoptionSummary {
    /// Files that are listed now.
    adopted: usize,
    /// Rows in these files.
    rows: u64,
    /// Files that were quarantined, each with the reason.
    aside: BTreeMap<String, &'static str>,
}

/// Lists every file that is not listed in the DuckDB file, sorted by path.
pub(super) fn list_orphans(
    connection: &Connection,
    place: &LakeStorage,
) -> Result<Vec<OrphanFile>, StoreError> {
    let listed = read_listed_paths(connection)?;
    let mut orphans: Vec<OrphanFile> = place
        .list_archive_files()?
        .into_iter()
        .filter(|path| !listed.contains(path))
        .map(|path| OrphanFile { path, state: "left" })
        .collect();
    let quarantined = place.list_quarantined()?;
    orphans.extend(quarantined.into_iter().map(|path| OrphanFile { path, state: "aside" }));
    orphans.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(orphans)
}

/// Makes this DuckDB file the owner of the lake, whoever it belonged to, and adopts the unlisted
/// files whose rows are nowhere else. Quarantines the others.
pub(super) fn adopt_orphans(
    connection: &mut Connection,
    place: &LakeStorage,
) -> Result<AdoptionSummary, StoreError> {
    let own_id = owner_id(connection)?;
    let was_own = place.read_owner()?.is_some_and(|found| found == own_id);
    let listed = read_listed_paths(connection)?;
    let mut partitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in place.list_archive_files()?.into_iter().filter(|path| !listed.contains(path)) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        partitions.entry(folder).or_default().push(path);
    }
    let mut adoption = AdoptionSummary::default();
    let mut adopted: Vec<(String, u64, u64)> = Vec::new();
    for (folder, mut paths) in partitions {
        let in_folder =
            |path: &&String| path.rsplit_once('/').is_some_and(|(parent, _)| parent == folder);
        let mut others: Vec<String> = listed.iter().filter(in_folder).cloned().collect();
        // The newest file comes first: a compaction wrote it, and it has the rows of the older
        // ones.
        paths.sort_by_key(|path| std::cmp::Reverse(move_id_of(path)));
        for path in paths {
            match check_adoptable(connection, place, &path, &others, was_own)? {
                Ok((rows, bytes)) => {
                    others.push(path.clone());
                    adopted.push((path, rows, bytes));
                }
                Err(reason) => drop(adoption.aside.insert(path, reason)),
            }
        }
    }
    let transaction = connection.transaction()?;
    for (path, rows, bytes) in &adopted {
        transaction.execute(
            "INSERT INTO meta.lake (path, \"table\", move, rows, bytes) VALUES (?, ?, ?, ?, ?)",
            params![path, table_of(path), move_id_of(path), rows, bytes],
        )?;
        adoption.adopted += 1;
        adoption.rows += rows;
    }
    let readings: Vec<&str> = adopted
        .iter()
        .map(|(path, ..)| path.as_str())
        .filter(|path| table_of(path) == "readings")
        .collect();
    for paths in readings.chunks(1000) {
        register_adopted_readings(&transaction, place, paths)?;
    }
    place.replace_owner(&own_id)?;
    transaction.commit()?;
    for path in adoption.aside.keys() {
        place.quarantine_file(path)?;
    }
    views::recreate_views(connection, place)?;
    Ok(adoption)
}

/// Returns the rows and bytes of a file that can be adopted beside the other files of its
/// partition, or the reason why it cannot.
fn check_adoptable(
    connection: &Connection,
    place: &LakeStorage,
    path: &str,
    others: &[String],
    was_own: bool,
) -> Result<Result<(u64, u64), &'static str>, StoreError> {
    let (key, existing) = match table_of(path) {
        "readings" => (
            "zone, metric, device, event, value",
            "SELECT s.site || '/' || s.zone AS zone, s.metric, s.device, d.event, d.value
             FROM silver.data d JOIN silver.series s ON d.series = s.id",
        ),
        "records" => (
            "zone, arrival, partition, \"offset\"",
            "SELECT d.key AS zone, d.arrival, d.partition, d.\"offset\" FROM bronze.records d",
        ),
        "features" => (
            "zone, time, revision, schema_hash",
            "SELECT d.site || '/' || d.zone AS zone, d.time, d.revision, d.schema_hash
             FROM features.rows d",
        ),
        _ if !was_own => return Ok(Err("its numbers are those of another DuckDB file")),
        _ => {
            ("series, event, value, line", "SELECT series, event, value, line FROM bronze.recorded")
        }
    };
    let (file, bytes) = place.fetch_unlisted(path)?;
    let file = parquet_source_sql(&[file]);
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    let Ok(rows) = count(&format!("SELECT count(*) FROM {file}")) else {
        return Ok(Err("it is not a complete Parquet file"));
    };
    let mut all = existing.to_owned();
    if !others.is_empty() {
        let files: Result<Vec<_>, _> = others
            .iter()
            .map(|path| Ok(place.fetch_unlisted(path)?.0))
            .collect::<Result<_, StoreError>>();
        all = format!("{all} UNION ALL SELECT {key} FROM {}", parquet_source_sql(&files?));
    }
    let same = count(&format!("SELECT count(*) FROM {file} SEMI JOIN ({all}) e USING ({key})"));
    match same {
        Ok(0) => Ok(Ok((rows, bytes))),
        Ok(_) => Ok(Err("rows of it are in the DuckDB file, or in another file of the lake")),
        Err(_) => Ok(Err("its columns are not those of the table")),
    }
}

/// Registers the series of adopted readings, and marks their hours to be counted.
fn register_adopted_readings(
    connection: &Connection,
    place: &LakeStorage,
    paths: &[&str],
) -> Result<(), StoreError> {
    let mut files = Vec::new();
    for path in paths {
        files.push(place.fetch_unlisted(path)?.0);
    }
    let files = parquet_source_sql(&files);
    let names = "split_part(zone, '/', 1) AS site, split_part(zone, '/', 2) AS zone";
    Ok(connection.execute_batch(&format!(
        "INSERT INTO silver.series
         SELECT (SELECT coalesce(max(id), 0) FROM silver.series) + row_number() OVER (), n.*
         FROM (SELECT DISTINCT {names}, device, metric FROM {files}) n
         ANTI JOIN silver.series s USING (site, zone, device, metric);
         INSERT INTO meta.kpi_touched
         SELECT DISTINCT {names}, epoch_ms(event) // 3600000 FROM {files};"
    ))?)
}

/// SQL that reads files as a table.
fn parquet_source_sql(files: &[std::path::PathBuf]) -> String {
    let quoted = files.iter().map(|path| path.to_string_lossy().replace('\'', "''"));
    let literals: Vec<String> = quoted.map(|path| format!("'{path}'")).collect();
    format!(
        "read_parquet([{}], union_by_name = true, hive_partitioning = true, hive_types_autocast = false)",
        literals.join(", ")
    )
}

fn table_of(path: &str) -> &str {
    path.split_once('/').map_or(path, |(table, _)| table)
}

/// Returns the id of the move that wrote a file.
fn move_id_of(path: &str) -> u32 {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split_once('-').and_then(|(number, _)| number.parse().ok()).unwrap_or_default()
}
