use std::path::PathBuf;

use clap::ValueEnum;
use jiff::tz::TimeZone;
use serde::Serialize;
use telemetry::TimeFormat;

/// How a recording is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackfillLayout {
    /// `<room>/<sensor>.csv` or `KETI/<room>/<sensor>.csv`, lines `epoch seconds, value`.
    Keti,
    /// The four irrigated fields of `Train.csv`.
    Wazihub,
    /// `<team>/GrodanSens.csv`: the slabs of the Autonomous Greenhouse Challenge 2.
    Agc2,
    /// CSV with a header: time, [site,] zone, [device,] then metric, value, or a column a metric.
    Csv,
    /// Lines `{"zone","device","metric","ts","value"}`, or with a member a metric, or reports
    /// as the log holds them.
    Jsonl,
    /// Parquet with the columns of `csv`: a file, or a folder of them.
    Parquet,
}

impl BackfillLayout {
    /// The same as text files have it.
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

/// What to take in.
#[derive(Clone, Debug)]
pub struct BackfillRequest {
    /// A folder, or a file.
    pub path: PathBuf,
    /// How it is laid out.
    pub layout: BackfillLayout,
    /// Site of layouts that name none.
    pub site: String,
    /// Only these zones, as `zone` or `site/zone`; all where there are none.
    pub zones: Vec<String>,
    /// Event time, UTC ms, this and later.
    pub from_ms: Option<i64>,
    /// Event time, UTC ms, before this.
    pub to_ms: Option<i64>,
    /// Rows and KPIs only: the readings themselves are not kept.
    pub features_only: bool,
    /// Interpolated series as they were published, instead of what was measured.
    pub as_published: bool,
    /// Of times that say neither offset nor zone.
    pub time_zone: TimeZone,
    /// How times are written.
    pub time_format: TimeFormat,
    /// Where lines that are no readings are listed.
    pub rejects: PathBuf,
    /// Zones at a time; 0: as many as there are processors.
    pub jobs: usize,
}

/// How far it has come, for a progress bar.
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

/// What was taken in.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BackfillSummary {
    /// Zones taken in.
    pub zones: u64,
    /// Zones that had been taken in before.
    pub zones_before: u64,
    /// Readings, whatever their quality.
    pub readings: u64,
    /// Readings by quality, those that there are.
    pub by_quality: std::collections::BTreeMap<&'static str, u64>,
    /// Lines or fields that are no readings.
    pub rejects: u64,
    /// Where they are listed, if there are any.
    pub rejects_file: Option<PathBuf>,
    /// Feature rows.
    pub rows: u64,
    /// Columns of each.
    pub columns: usize,
    /// From the first file opened to the last transaction, s.
    pub took_s: f64,
    /// Seconds of all threads by stage: read, engine, write.
    pub stages_s: StageSeconds,
}

/// Seconds of all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StageSeconds {
    /// Files to numbers, in order.
    pub read: f64,
    /// Quality, windows, rows.
    pub engine: f64,
    /// Into DuckDB.
    pub write: f64,
}

impl StageSeconds {
    pub(super) fn add_seconds(&mut self, other: Self) {
        self.read += other.read;
        self.engine += other.engine;
        self.write += other.write;
    }
}
