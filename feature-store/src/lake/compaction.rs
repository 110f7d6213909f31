use std::collections::BTreeMap;

use duckdb::{Connection, params};

use super::{
    archiver::{next_move_id, register_files},
    lake_directory::StagedFile,
    storage::{LakeStorage, ListedFile},
    views,
};
use crate::{FeatureStoreSettings, StoreError};

/// Merges the files of each partition that has more than `lake.files_max`, and returns the number
/// of such partitions. The next move removes the merged files, or this call does if `is_alone`,
/// when nobody can be reading them.
pub(crate) fn compact_files(
    connection: &mut Connection,
    settings: &FeatureStoreSettings,
    is_alone: bool,
) -> Result<usize, StoreError> {
    let Some(place) = LakeStorage::open(settings)? else { return Ok(0) };
    let mut partitions: BTreeMap<(String, String, Option<i32>), Vec<ListedFile>> = BTreeMap::new();
    {
        let mut statement =
            connection.prepare("SELECT \"table\", path, bytes, version FROM meta.lake")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let file = ListedFile { path: row.get(1)?, bytes: row.get(2)? };
            let partition = file.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            partitions.entry((row.get(0)?, partition, row.get(3)?)).or_default().push(file);
        }
    }
    partitions.retain(|_, files| files.len() > settings.lake.files_max);
    if partitions.is_empty() {
        return Ok(0);
    }
    place.claim_ownership(connection)?;
    for ((table, partition, version), files) in &partitions {
        compact_partition(connection, &place, (table, *version), partition, files)?;
    }
    views::recreate_views(connection, &place)?;
    if is_alone {
        remove_superseded(connection, &place)?;
    }
    Ok(partitions.len())
}

fn compact_partition(
    connection: &mut Connection,
    place: &LakeStorage,
    (table, version): (&str, Option<i32>),
    partition: &str,
    listed: &[ListedFile],
) -> Result<(), StoreError> {
    let move_id = next_move_id(connection)?;
    let transaction = connection.transaction()?;
    let staging = place.create_staging_dir(move_id)?;
    let within = partition.strip_prefix(table).unwrap_or(partition).trim_start_matches('/');
    let to = staging.join(within);
    std::fs::create_dir_all(&to)
        .map_err(|source| StoreError::Folder { path: to.clone(), source })?;
    let quoted =
        |path: std::path::PathBuf| format!("'{}'", path.to_string_lossy().replace('\'', "''"));
    let files: Vec<String> = place.fetch_files(listed)?.into_iter().map(quoted).collect();
    transaction.execute_batch(&format!(
        "COPY (SELECT * FROM read_parquet([{}], union_by_name = true, hive_partitioning = false))
         TO {} (FORMAT parquet, COMPRESSION zstd)",
        files.join(", "),
        quoted(to.join("0.parquet"))
    ))?;
    let staged = StagedFile::list_staged(&staging, table, move_id)?;
    register_files(&transaction, table, move_id, &staged, version)?;
    place.publish_staged(&staging, &staged)?;
    for file in listed {
        transaction.execute("DELETE FROM meta.lake WHERE path = ?", params![file.path])?;
        transaction.execute("INSERT INTO meta.lake_superseded VALUES (?)", params![file.path])?;
    }
    Ok(transaction.commit()?)
}

/// Removes files that an earlier compaction merged into another one.
pub(super) fn remove_superseded(
    connection: &Connection,
    place: &LakeStorage,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare(
        "SELECT DISTINCT path FROM meta.lake_superseded s
         ANTI JOIN meta.lake l ON s.path = l.path",
    )?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?;
    for path in found.collect::<duckdb::Result<Vec<_>>>()? {
        place.remove_file(&path)?;
    }
    Ok(connection.execute_batch("DELETE FROM meta.lake_superseded")?)
}
