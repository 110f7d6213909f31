use std::collections::BTreeMap;

use duckdb::{Connection, params};

use super::{
    files::Folder,
    mover::{list, next_move},
    views,
};
use crate::{StoreError, settings};

/// Puts the files of a partition together where there are more than
/// `lake.files_max` of them; how many partitions.
pub(crate) fn compact(
    connection: &mut Connection,
    settings: &settings::Lake,
) -> Result<usize, StoreError> {
    let Some(path) = settings.folder() else { return Ok(0) };
    let folder = Folder::open(path)?;
    let mut partitions: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    {
        let mut statement = connection.prepare("SELECT \"table\", path FROM meta.lake")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let path: String = row.get(1)?;
            let partition = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            partitions.entry((row.get(0)?, partition)).or_default().push(path);
        }
    }
    partitions.retain(|_, paths| paths.len() > settings.files_max);
    for ((table, partition), paths) in &partitions {
        one(connection, &folder, table, partition, paths)?;
    }
    if !partitions.is_empty() {
        views::make(connection, &folder)?;
    }
    Ok(partitions.len())
}

fn one(
    connection: &mut Connection,
    folder: &Folder,
    table: &str,
    partition: &str,
    paths: &[String],
) -> Result<(), StoreError> {
    let move_id = next_move(connection)?;
    let transaction = connection.transaction()?;
    let aside = folder.aside(move_id)?;
    let within = partition.strip_prefix(table).unwrap_or(partition).trim_start_matches('/');
    let to = aside.join(within);
    std::fs::create_dir_all(&to)
        .map_err(|source| StoreError::Folder { path: to.clone(), source })?;
    let quoted =
        |path: std::path::PathBuf| format!("'{}'", path.to_string_lossy().replace('\'', "''"));
    let files: Vec<String> = paths.iter().map(|path| quoted(folder.path(path))).collect();
    transaction.execute_batch(&format!(
        "COPY (SELECT * FROM read_parquet([{}], union_by_name = true, hive_partitioning = false))
         TO {} (FORMAT parquet, COMPRESSION zstd)",
        files.join(", "),
        quoted(to.join("0.parquet"))
    ))?;
    let made = folder.settle(&aside, table, move_id)?;
    list(&transaction, folder, table, move_id, &made)?;
    for path in paths {
        transaction.execute("DELETE FROM meta.lake WHERE path = ?", params![path])?;
    }
    transaction.commit()?;
    // Listed no more: a crash here leaves files that the next move removes.
    paths.iter().try_for_each(|path| folder.remove(path))
}
