use std::path::PathBuf;

use service::config::ConfigError;

use crate::sql_query::QueryStopReason;

/// Why the feature store cannot go on, or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the DuckDB file.
    #[error(
        "{path}: another process has this DuckDB file open ({detail})\n\
         hint: a DuckDB file has one writer; stop the other process, or read through its REST API"
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// What DuckDB says, with the other's process number.
        detail: String,
    },
    /// The file cannot be opened.
    #[error("{path}: cannot open this DuckDB file: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What DuckDB says.
        source: duckdb::Error,
    },
    /// The file's folder cannot be made.
    #[error("{path}: cannot make this folder: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A lake in a bucket cannot be opened.
    #[error("lake.path: {0}")]
    Bucket(#[from] object_store::BucketError),
    /// A lake in a bucket cannot be read or written.
    #[error(
        "{place}: {source}\nhint: see [s3] of the configuration; what has not moved is in the DuckDB file still"
    )]
    Lake {
        /// The bucket.
        place: String,
        /// What the store says, or the system.
        source: std::io::Error,
    },
    /// Another feature store's lake is there.
    #[error(
        "{place}: another feature store keeps its lake here, and nothing in it was changed\n\
         hint: give each a folder or prefix of its own (lake.path); where its DuckDB file is no more, take this lake over with `feature-store lake adopt`"
    )]
    LakeTaken {
        /// The folder or bucket.
        place: String,
    },
    /// Files of a lake that nobody has left a mark in.
    #[error(
        "{place}: {files} files of a lake are here that this DuckDB file does not list, and nothing in it was changed\n\
         hint: take them in with `feature-store lake adopt`, or choose another folder or prefix (lake.path)"
    )]
    LakeUnowned {
        /// The folder or bucket.
        place: String,
        /// How many there are.
        files: usize,
    },
    /// What has moved cannot be read.
    #[error(
        "{files} files of what was asked for are in a lake, and no lake is set\n\
         hint: set lake.path to where they are"
    )]
    LakeNotSet {
        /// How many there are.
        files: usize,
    },
    /// DuckDB refused a statement.
    #[error("DuckDB: {0}")]
    DuckDb(#[from] duckdb::Error),
    /// A column could not be made.
    #[error("Arrow: {0}")]
    Arrow(#[from] duckdb::arrow::error::ArrowError),
    /// A table could not be made of an answer.
    #[error("polars: {0}")]
    Polars(#[from] polars::error::PolarsError),
    /// What the file says of itself cannot be read.
    #[error(
        "{table}: found `{found}`, expected {expected}\nhint: the file was written by another version, or damaged; restore a copy"
    )]
    CorruptTable {
        /// The table.
        table: &'static str,
        /// Its content.
        found: String,
        /// What should be there.
        expected: &'static str,
    },
    /// There is no such column.
    #[error("there is no feature `{name}`{}", hint.as_ref().map(|h| format!("\nhint: did you mean `{h}`?")).unwrap_or_default())]
    UnknownFeature {
        /// The name asked for.
        name: String,
        /// The nearest that there is.
        hint: Option<String>,
    },
    /// There is no such zone.
    #[error("there is no zone `{zone}`\nhint: {}", zones_hint(known))]
    UnknownZone {
        /// The zone asked for.
        zone: telemetry::ZoneId,
        /// Existing zones.
        known: Vec<telemetry::ZoneId>,
    },
    /// There are no rows of such a version of the definitions.
    #[error(
        "there are no rows of version {version} of the definitions\nhint: {}",
        versions_hint(known)
    )]
    UnknownVersion {
        /// The number asked for.
        version: i32,
        /// Those that there are.
        known: Vec<i32>,
    },
    /// More was asked for than is answered at once.
    #[error("{found} {what}, above {max}\nhint: {hint}")]
    LimitExceeded {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        max: u64,
        /// How to ask for less.
        hint: &'static str,
    },
    /// DuckDB does not understand a stranger's query.
    #[error("{0}")]
    Sql(String),
    /// A stranger's query was interrupted.
    #[error("the query was stopped: {0}")]
    Stopped(QueryStopReason),
    /// The process that a stranger's query runs in could not be started, or did not answer.
    #[error(
        "the process of the query: {0}\n\
         hint: SQL runs in the program `feature-store` or `microclimate`, which must be this one or beside it"
    )]
    SqlProcess(String),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] eventlog::LogError),
    /// A setting has no meaning.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The disk had no room for a transaction when the process ended.
    #[error(
        "{}: the disk is full: the last readings were not written\n\
         hint: make room (`df -h`) and start again: the log has them still",
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
    /// History of a zone that has some already.
    #[error(
        "{zone}: this zone has other readings already; its windows would be computed of a part\n\
         hint: take in the zones that have none (--zones), or into a file of its own (--set store.path=…)"
    )]
    ZoneHasReadings {
        /// The zone.
        zone: telemetry::ZoneId,
    },
}

/// Which versions of the definitions there are.
pub(crate) fn versions_hint(known: &[i32]) -> String {
    let known: Vec<String> = known.iter().map(ToString::to_string).collect();
    format!("there are rows of the versions {}", known.join(", "))
}

/// Which zones there are.
fn zones_hint(known: &[telemetry::ZoneId]) -> String {
    const NAMED_MAX: usize = 10;
    let named: Vec<String> = known.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match known.len() {
        0 => "the file has no zones yet".to_owned(),
        1..=NAMED_MAX => format!("the file has {}", named.join(", ")),
        count => format!("the file has {count} zones, among them {}", named.join(", ")),
    }
}
