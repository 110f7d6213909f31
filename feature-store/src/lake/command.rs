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

/// `feature-store lake …`; the store must not be running.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LakeCommand {
    /// Move what is old from the DuckDB file to the lake now.
    Move,
    /// Put small files of a partition together.
    Compact,
    /// List the files of the lake.
    Ls,
    /// List files that are in the lake and that this DuckDB file does not list; none of them
    /// is read, and none is removed.
    Orphans,
    /// Make the lake that of this DuckDB file, and take in the files that it does not list.
    Adopt,
    /// Run SQL over `lake.readings`, `lake.all_readings`, `gold.hourly` and the rest; prints JSON lines.
    Query {
        /// One SELECT.
        sql: String,
        /// Which files take part.
        #[command(flatten)]
        part: LakeFileFilter,
    },
}

impl LakeCommand {
    /// Does it, and prints what came of it.
    ///
    /// # Errors
    /// Where no lake is configured, a file cannot be written, or DuckDB says so.
    pub fn run(self, settings: &FeatureStoreSettings) -> Result<(), StoreError> {
        let Some(place) = LakeStorage::open(settings)? else {
            return Err(service::config::ConfigError::invalid(
                "lake.path",
                "\"\" is no folder; name one, as in --set lake.path=var/lake",
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
                // Files of a bucket are fetched for what the query names, and no more.
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

/// Each row as a line of JSON.
fn print_rows(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    // As a subquery, so that it can only read.
    let sql = sql.trim().trim_end_matches(';');
    let mut statement = connection.prepare(&format!("SELECT * FROM ({sql})"))?;
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
        Value::Boolean(own) => json!(own),
        Value::TinyInt(own) => json!(own),
        Value::SmallInt(own) => json!(own),
        Value::Int(own) => json!(own),
        Value::BigInt(own) => json!(own),
        Value::UTinyInt(own) => json!(own),
        Value::USmallInt(own) => json!(own),
        Value::UInt(own) => json!(own),
        Value::UBigInt(own) => json!(own),
        // Sums of whole numbers.
        Value::HugeInt(own) => {
            i64::try_from(own).map_or_else(|_| json!(own as f64), |own| json!(own))
        }
        Value::Float(own) => json!(own),
        Value::Double(own) => json!(own),
        Value::Text(own) => json!(own),
        Value::Timestamp(TimeUnit::Microsecond, micros) => {
            json!(Timestamp::from_microsecond(micros).map(|at| at.to_string()).ok())
        }
        other => json!(format!("{other:?}")),
    }
}
