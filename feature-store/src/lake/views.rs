use duckdb::{Connection, params};

use super::{files::Folder, layer::Layer};
use crate::{StoreError, settings};

/// Makes the views of the schema `lake` anew: `lake.readings` and the like over
/// the listed files, and `lake.all_readings` over them and what is in DuckDB.
pub(super) fn make(connection: &Connection, folder: &Folder) -> Result<(), StoreError> {
    let every = settings::Lake {
        bronze_days: 1,
        silver_days: 1,
        features_days: 1,
        ..settings::Lake::default()
    };
    for layer in Layer::all(&every) {
        let name = layer.name;
        let mut statement =
            connection.prepare("SELECT path FROM meta.lake WHERE \"table\" = ? ORDER BY path")?;
        let paths: Vec<String> = statement
            .query_map(params![name], |row| row.get::<_, String>(0))?
            .collect::<duckdb::Result<_>>()?;
        if paths.is_empty() {
            connection.execute_batch(&format!("DROP VIEW IF EXISTS lake.{name}"))?;
            continue;
        }
        let files: Vec<String> = paths
            .iter()
            .map(|path| format!("'{}'", folder.path(path).to_string_lossy().replace('\'', "''")))
            .collect();
        connection.execute_batch(&format!(
            "CREATE OR REPLACE VIEW lake.{name} AS {} read_parquet([{}], union_by_name = true,
             hive_partitioning = true, hive_types_autocast = false)",
            layer.view,
            files.join(", ")
        ))?;
    }
    let has_readings: bool = connection.query_row(
        "SELECT count(*) > 0 FROM meta.lake WHERE \"table\" = 'readings'",
        [],
        |row| row.get(0),
    )?;
    let lake = if has_readings { "UNION ALL BY NAME SELECT * FROM lake.readings" } else { "" };
    Ok(connection.execute_batch(&format!(
        "CREATE OR REPLACE VIEW lake.all_readings AS SELECT * FROM silver.readings {lake}"
    ))?)
}
