use duckdb::{
    Connection,
    types::{TimeUnit, Value},
};
use jiff::Timestamp;
use serde_json::json;

use super::{
    archive_old_rows, compact_files,
    orphans::{adopt_orphans, list_orphans},
    storage::LakeStorage,
    views::{self, LakeFileFilter},
};
use crate::{FeatureStoreSettings, StoreError, store};

/// Subcommands of `feature-store lake`; the store must not be running.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LakeCommand {
    /// Move old rows from the DuckDB file to the lake now.
    Move,
    /// Merge small files of a partition.
    Compact,
    /// List the files of the lake.
    Ls,
    /// List the files in the lake that this DuckDB file does not list. None of them is read or
    /// removed.
    Orphans,
    /// Make this DuckDB file the lake's owner, and adopt the files that it does not list.
    Adopt,
    /// Run SQL over `lake.readings`, `lake.all_readings`, `gold.hourly` and the rest; prints JSON lines.
    Query {
        /// One SELECT.
        sql: String,
        /// Files to include.
        #[command(flatten)]
        part: LakeFileFilter,
    },
}

impl LakeCommand {
    /// Runs the command and prints the result.
    ///
    /// # Errors
    /// Fails if no lake is configured, a file cannot be written or DuckDB fails.
    pub fn run(self, settings: &FeatureStoreSettings) -> Result<(), StoreError> {
        let Some(place) = LakeStorage::open(settings)? else {
            return Err(service::config::ConfigError::invalid(
                "lake.path",
                "\"\" is not a folder; name one, as in --set lake.path=var/lake",
            )
            .into());
        };
        let mut connection = store::open_database(&settings.store, &settings.lake)?;
        match self {
            Self::Move => {
                let moved = archive_old_rows(&mut connection, settings)?;
                println!("{}", serde_json::to_string_pretty(&moved).expect("numbers and names"));
            }
            Self::Compact => {
                let partitions = compact_files(&mut connection, settings, true)?;
                println!("{}", json!({ "partitions": partitions }));
            }
            Self::Ls => {
                print_rows(&connection, "SELECT path, rows, bytes FROM meta.lake ORDER BY path")?;
            }
            Self::Orphans => {
                for orphan in list_orphans(&connection, &place)? {
                    println!("{}", serde_json::to_string(&orphan).expect("texts"));
                }
            }
            Self::Adopt => {
                let adoption = adopt_orphans(&mut connection, &place)?;
                println!("{}", serde_json::to_string_pretty(&adoption).expect("numbers and texts"));
            }
            Self::Query { sql, part } => {
                // Files of a bucket are only fetched for tables that the query names.
                let text = sql.to_lowercase();
                let is_named = |table: &str| text.contains("lake") && text.contains(table);
                let is_wanted = |table: &str| place.is_local() || is_named(table);
                views::create_views(&connection, &place, &part, is_wanted)?;
                let printed = print_rows(&connection, &sql);
                views::recreate_views(&connection, &place)?;
                printed?;
            }
        }
        Ok(())
    }
}

/// Prints each row as a line of JSON.
fn print_rows(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    // As a subquery, so that it can only read.
    let query = sql.trim().trim_end_matches(';');
    let mut statement = connection.prepare(&format!("SELECT * FROM ({query})"))?;
    let mut found = statement.query([])?;
    let names = found.as_ref().map(|statement| statement.column_names()).unwrap_or_default();
    while let Some(row) = found.next()? {
        let mut line = serde_json::Map::new();
        for (i, name) in names.iter().enumerate() {
            line.insert(name.clone(), to_json(row.get(i)?));
        }
        println!("{}", serde_json::Value::Object(line));
    }
    Ok(())
}

fn to_json(value: Value) -> serde_json::Value {
    match value {
        Value::Null => json!(null),
        Value::Boolean(value) => json!(value),
        Value::TinyInt(value) => json!(value),
        Value::SmallInt(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::BigInt(value) => json!(value),
        Value::UTinyInt(value) => json!(value),
        Value::USmallInt(value) => json!(value),
        Value::UInt(value) => json!(value),
        Value::UBigInt(value) => json!(value),
        // Sums of integers have this type.
        Value::HugeInt(value) => {
            i64::try_from(value).map_or_else(|_| json!(value as f64), |value| json!(value))
        }
        Value::Float(value) => json!(value),
        Value::Double(value) => json!(value),
        Value::Text(value) => json!(value),
        Value::Timestamp(TimeUnit::Microsecond, micros) => {
            json!(Timestamp::from_microsecond(micros).map(|at| at.to_string()).ok())
        }
        other => json!(format!("{other:?}")),
    }
}
