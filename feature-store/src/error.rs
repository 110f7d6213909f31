use std::path::PathBuf;

use service::config::ConfigError;

use crate::sql_query::QueryStopReason;

/// Errors of the feature store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the DuckDB file open.
    #[error(
        "{path}: another process has this DuckDB file open ({detail})\n\
         hint: a DuckDB file has one writer; stop the other process, or read through its REST API"
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// DuckDB's message, with the other process's id.
        detail: String,
    },
    /// The file cannot be opened.
    #[error("{path}: cannot open this DuckDB file: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// DuckDB's error.
        source: duckdb::Error,
    },
    /// A folder cannot be created, read or written.
    #[error("{path}: cannot access this path: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A lake in a bucket cannot be opened.
    #[error("lake.path: {0}")]
    Bucket(#[from] object_store::BucketError),
    /// A lake in a bucket cannot be read or written.
    #[error(
        "{place}: {source}\nhint: see [s3] of the configuration; rows that have not moved are still in the DuckDB file"
    )]
    Lake {
        /// The bucket.
        place: String,
        /// The store's or the system's error.
        source: std::io::Error,
    },
    /// The lake belongs to another feature store.
    #[error(
        "{place}: another feature store keeps its lake here, and nothing in it was changed\n\
         hint: give each its own folder or prefix (lake.path); if the other's DuckDB file no longer exists, take over this lake with `feature-store lake adopt`"
    )]
    LakeTaken {
        /// The folder or bucket.
        place: String,
    },
    /// The lake has files but no owner mark.
    #[error(
        "{place}: {files} lake files are here that this DuckDB file does not list, and nothing was changed\n\
         hint: adopt them with `feature-store lake adopt`, or choose another folder or prefix (lake.path)"
    )]
    LakeUnowned {
        /// The folder or bucket.
        place: String,
        /// Number of these files.
        files: usize,
    },
    /// Rows in a lake are needed, but no lake is configured.
    #[error(
        "{files} requested files are in a lake, but no lake is configured\n\
         hint: set lake.path to their folder or bucket"
    )]
    LakeNotSet {
        /// Number of these files.
        files: usize,
    },
    /// DuckDB refused a statement.
    #[error("DuckDB: {0}")]
    DuckDb(#[from] duckdb::Error),
    /// An Arrow array could not be built.
    #[error("Arrow: {0}")]
    Arrow(#[from] duckdb::arrow::error::ArrowError),
    /// A data frame could not be built.
    #[error("polars: {0}")]
    Polars(#[from] polars::error::PolarsError),
    /// Metadata in the file cannot be read.
    #[error(
        "{table}: found `{found}`, expected {expected}\nhint: the file was written by another version, or damaged; restore a copy"
    )]
    CorruptTable {
        /// The table.
        table: &'static str,
        /// Its content.
        found: String,
        /// The expected content.
        expected: &'static str,
    },
    /// The feature does not exist.
    #[error("there is no feature `{name}`{}", hint.as_ref().map(|h| format!("\nhint: did you mean `{h}`?")).unwrap_or_default())]
    UnknownFeature {
        /// The requested name.
        name: String,
        /// The most similar existing name.
        hint: Option<String>,
    },
    /// The zone does not exist.
    #[error("there is no zone `{zone}`\nhint: {}", zones_hint(known))]
    UnknownZone {
        /// The requested zone.
        zone: telemetry::ZoneId,
        /// Existing zones.
        known: Vec<telemetry::ZoneId>,
    },
    /// No rows of this version of the definitions exist.
    #[error(
        "there are no rows of version {version} of the definitions\nhint: {}",
        versions_hint(known)
    )]
    UnknownVersion {
        /// The requested number.
        version: i32,
        /// Existing versions.
        known: Vec<i32>,
    },
    /// The result exceeds a limit.
    #[error("{found} {what}, above {max}\nhint: {hint}")]
    LimitExceeded {
        /// Unit of the limit.
        what: &'static str,
        /// Found number.
        found: u64,
        /// Largest allowed number.
        max: u64,
        /// How to request less.
        hint: &'static str,
    },
    /// DuckDB rejected a user's query.
    #[error("{0}")]
    Sql(String),
    /// A user's query was interrupted.
    #[error("the query was stopped: {0}")]
    Stopped(QueryStopReason),
    /// The process of a user's query could not be started, or did not answer.
    #[error(
        "the process of the query: {0}\n\
         hint: SQL runs in the program `feature-store` or `microclimate`, which must be this program or in the same folder"
    )]
    SqlProcess(String),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] eventlog::LogError),
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The disk had no room for the last transaction at shutdown.
    #[error(
        "{}: the disk is full: the last readings were not written\n\
         hint: make room (`df -h`) and start again; the log still has them",
        folder.display()
    )]
    DiskFull {
        /// The folder of the DuckDB file.
        folder: std::path::PathBuf,
    },
    /// A thread of this process ended early.
    #[error("the writing thread ended: {0}")]
    Thread(String),
    /// A recording cannot be read.
    #[error(transparent)]
    Recording(#[from] recordings::RecordingError),
    /// A backfill of a zone that already has readings.
    #[error(
        "{zone}: this zone has other readings already; its windows would be computed from a part of them\n\
         hint: backfill zones that have none (--zones), or use a separate file (--set store.path=…)"
    )]
    ZoneHasReadings {
        /// The zone.
        zone: telemetry::ZoneId,
    },
}

/// Lists the existing versions of the definitions.
pub(crate) fn versions_hint(known: &[i32]) -> String {
    let numbers: Vec<String> = known.iter().map(ToString::to_string).collect();
    format!("there are rows of the versions {}", numbers.join(", "))
}

/// Lists the existing zones.
fn zones_hint(known: &[telemetry::ZoneId]) -> String {
    const NAMED_MAX: usize = 10;
    let named: Vec<String> = known.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match known.len() {
        0 => "the file has no zones yet".to_owned(),
        1..=NAMED_MAX => format!("the file has {}", named.join(", ")),
        count => format!("the file has {count} zones, among them {}", named.join(", ")),
    }
}
