use duckdb::Connection;
use serde_json::json;

use super::{compact, files::Folder, run, views};
use crate::{Settings, StoreError, store};

/// `feature-store lake …`; the store must not be running.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Move what is old from the DuckDB file to the lake now.
    Move,
    /// Put small files of a partition together.
    Compact,
    /// List the files of the lake.
    Ls,
    /// Run SQL over `lake.readings`, `lake.all_readings`, `gold.hourly` and the rest; prints JSON lines.
    Query {
        /// One SELECT.
        sql: String,
    },
}

impl Command {
    /// Does it, and prints what came of it.
    ///
    /// # Errors
    /// Where no lake is configured, a file cannot be written, or DuckDB says so.
    pub fn run(self, settings: &Settings) -> Result<(), StoreError> {
        let Some(path) = settings.lake.folder() else {
            return Err(service::config::ConfigError::invalid(
                "lake.path",
                "\"\" is no folder; name one, as in --set lake.path=var/lake",
            )
            .into());
        };
        let folder = Folder::open(path)?;
        let mut connection = store::open(&settings.store, &settings.lake)?;
        match self {
            Self::Move => {
                let moved = run(&mut connection, &settings.lake)?;
                println!("{}", serde_json::to_string_pretty(&moved).expect("numbers and names"));
            }
            Self::Compact => {
                let partitions = compact(&mut connection, &settings.lake)?;
                println!("{}", json!({ "partitions": partitions }));
            }
            Self::Ls => {
                print(&connection, "SELECT path, rows, bytes FROM meta.lake ORDER BY path")?
            }
            Self::Query { sql } => {
                views::make(&connection, &folder)?;
                print(&connection, &sql)?;
            }
        }
        Ok(())
    }
}

/// Each row as a line of JSON.
fn print(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    let sql = sql.trim().trim_end_matches(';');
    let mut statement =
        connection.prepare(&format!("SELECT to_json(t)::VARCHAR FROM ({sql}) t"))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        println!("{}", row.get::<_, String>(0)?);
    }
    Ok(())
}
