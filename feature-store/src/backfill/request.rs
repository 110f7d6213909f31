use std::path::PathBuf;

use clap::ValueEnum;
use jiff::tz::TimeZone;
use serde::Serialize;
use telemetry::TimeFormat;

/// Layout of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackfillLayout {
    /// `<room>/<sensor>.csv` or `KETI/<room>/<sensor>.csv`, lines `epoch seconds, value`.
    Keti,
    /// The four irrigated fields of `Train.csv`.
    Wazihub,
    /// `<team>/GrodanSens.csv`: the slabs of the Autonomous Greenhouse Challenge 2.
    Agc2,
    /// CSV with a header: time, [site,] zone, [device,] then either metric and value, or one
    /// column per metric.
    Csv,
    /// Lines `{"zone","device","metric","ts","value"}`, or with one member per metric, or reports
    /// as the log holds them.
    Jsonl,
    /// Parquet with the columns of `csv`: a file, or a folder of files.
    Parquet,
}

impl BackfillLayout {
    /// Returns the layout of text files; `None` for Parquet.
    pub(super) const fn text_layout(self) -> Option<recordings::RecordingLayout> {
        Some(match self {
            Self::Keti => recordings::RecordingLayout::Keti,
            Self::Wazihub => recordings::RecordingLayout::Wazihub,
            Self::Agc2 => recordings::RecordingLayout::Agc2,
            Self::Csv => recordings::RecordingLayout::Csv,
            Self::Jsonl => recordings::RecordingLayout::Jsonl,
            Self::Parquet => return None,
        })
    }
}

/// Recording to load, and how.
#[derive(Clone, Debug)]
pub struct BackfillRequest {
    /// A folder or a file.
    pub path: PathBuf,
    /// Layout of the files.
    pub layout: BackfillLayout,
    /// Site for layouts that do not name one.
    pub site: String,
    /// Only these zones, as `zone` or `site/zone`; empty means all.
    pub zones: Vec<String>,
    /// Earliest event time, UTC ms, included.
    pub from_ms: Option<i64>,
    /// Latest event time, UTC ms, excluded.
    pub to_ms: Option<i64>,
    /// Store rows and KPIs only, not the readings themselves.
    pub features_only: bool,
    /// Take interpolated series as published, not the measured readings.
    pub as_published: bool,
    /// Time zone of times that have neither offset nor zone.
    pub time_zone: TimeZone,
    /// Format of times.
    pub time_format: TimeFormat,
    /// File for the list of rejected lines.
    pub rejects: PathBuf,
    /// Number of zones at a time; 0 means as many as there are processors.
    pub jobs: usize,
}

/// Progress, for a progress bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackfillProgress {
    /// Zones committed or skipped.
    pub zones: u64,
    /// All zones.
    pub zones_all: u64,
    /// Readings that went through the engine.
    pub readings: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of all files.
    pub bytes_all: u64,
}

/// Result of a backfill.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BackfillSummary {
    /// Zones loaded.
    pub zones: u64,
    /// Zones that an earlier backfill had loaded.
    pub zones_before: u64,
    /// Readings of any quality.
    pub readings: u64,
    /// Readings by quality flag; flags without readings are left out.
    pub by_quality: std::collections::BTreeMap<&'static str, u64>,
    /// Rejected lines or fields.
    pub rejects: u64,
    /// File that lists them, if there are any.
    pub rejects_file: Option<PathBuf>,
    /// Number of feature rows.
    pub rows: u64,
    /// Number of columns of each row.
    pub columns: usize,
    /// Time from opening the first file to the last commit, s.
    pub took_s: f64,
    /// Seconds by stage, summed over all threads.
    pub stages_s: StageSeconds,
}

/// Seconds of all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StageSeconds {
    /// Reading and sorting files.
    pub read: f64,
    /// Quality flags, windows and rows.
    pub engine: f64,
    /// Writing to DuckDB.
    pub write: f64,
}

impl StageSeconds {
    pub(super) fn add_seconds(&mut self, other: Self) {
        self.read += other.read;
        self.engine += other.engine;
        self.write += other.write;
    }
}
