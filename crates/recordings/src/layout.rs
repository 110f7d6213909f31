//! Layouts of recorded files, and the files that a path has of one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::ValueEnum;
use jiff::tz::TimeZone;
use telemetry::{MetricTable, TimeFormat, ZoneId};

use crate::{
    RecordedRows, RecordingError, SensorKey, agc2, jsonl, keti, long_csv, wazihub, wide_csv,
};

/// Layout of recorded files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordingLayout {
    /// `<room>/<sensor>.csv` or `KETI/<room>/<sensor>.csv`, lines `epoch seconds, value`.
    Keti,
    /// The four irrigated fields of `Train.csv`.
    Wazihub,
    /// `<team>/GrodanSens.csv`: the slabs of the Autonomous Greenhouse Challenge 2.
    Agc2,
    /// CSV with a header: time, [site,] zone, [device,] then metric and value, or one column per
    /// metric.
    Csv,
    /// CSV files with a time column; configuration maps the others to topics.
    WideCsv,
    /// Lines `{"zone","device","metric","ts","value"}`, or with one member per metric, or reports
    /// as the log holds them.
    Jsonl,
}

/// Options for what a layout does not determine.
#[derive(Clone, Debug)]
pub struct RecordingOptions {
    /// Site of layouts that name none.
    pub site: String,
    /// Zones to read, as `zone` or `site/zone`; all zones if empty.
    pub zones: Vec<String>,
    /// Maps a column to a topic with a metric (`wide-csv`).
    pub columns: BTreeMap<String, String>,
    /// Name of the column that holds the time (`wide-csv`).
    pub time_column: String,
    /// Known metrics.
    pub metrics: Arc<MetricTable>,
    /// Whether unknown metric names are accepted as they are, for the caller to check, instead of
    /// being rejected.
    pub takes_unknown_metrics: bool,
    /// Time zone of times that state neither offset nor zone.
    pub time_zone: TimeZone,
    /// Format of times.
    pub time_format: TimeFormat,
    /// Number of bytes to read of each text file, from its start; all if `None`.
    pub bytes: Option<u64>,
    /// Delimiter between fields (`wide-csv`).
    pub delimiter: u8,
    /// Whether interpolated series are reduced to the measured values (`wazihub`).
    pub knots: bool,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        Self {
            site: "site".to_owned(),
            zones: Vec::new(),
            columns: BTreeMap::new(),
            time_column: "time".to_owned(),
            metrics: Arc::new(MetricTable::default()),
            takes_unknown_metrics: false,
            time_zone: TimeZone::UTC,
            time_format: TimeFormat::Iso,
            bytes: None,
            delimiter: b',',
            knots: true,
        }
    }
}

/// One recorded file.
#[derive(Clone, Debug)]
pub enum RecordingSource {
    /// File of one sensor, which its path names.
    Keti {
        /// The file.
        path: PathBuf,
        /// The sensor.
        sensor: Arc<SensorKey>,
    },
    /// File of any number of sensors, which it names.
    File {
        /// The file.
        path: PathBuf,
        /// Layout of the file.
        layout: RecordingLayout,
        /// Options for what the layout does not determine.
        options: Arc<RecordingOptions>,
    },
}

impl RecordingSource {
    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Keti { path, .. } | Self::File { path, .. } => path,
        }
    }

    /// Zone of all rows, where the path names it.
    #[must_use]
    pub fn zone(&self) -> Option<&ZoneId> {
        match self {
            Self::Keti { sensor, .. } => Some(&sensor.zone),
            Self::File { .. } => None,
        }
    }

    /// Reads the rows, in the order of the file.
    ///
    /// # Errors
    /// The file cannot be read, or its header does not have the layout.
    pub fn read_rows(&self) -> Result<RecordedRows, RecordingError> {
        let (path, layout, options) = match self {
            Self::Keti { path, sensor } => return keti::read_rows(path, sensor),
            Self::File { path, layout, options } => (path, layout, options),
        };
        let rows = match layout {
            RecordingLayout::Keti => unreachable!("its files are of one sensor each"),
            RecordingLayout::Wazihub => wazihub::read_rows(path, options)?,
            RecordingLayout::Agc2 => agc2::read_rows(path, options)?,
            RecordingLayout::Csv => long_csv::read_rows(path, options)?,
            RecordingLayout::WideCsv => wide_csv::read_rows(path, options)?,
            RecordingLayout::Jsonl => jsonl::read_rows(path, options)?,
        };
        if options.zones.is_empty() {
            return Ok(rows);
        }
        let owned_options = options.clone();
        Ok(Box::new(rows.filter(move |row| {
            row.as_ref().map_or(true, |row| is_wanted(&row.sensor.zone, &owned_options.zones))
        })))
    }
}

/// Whether a zone is selected. Each entry is `zone` or `site/zone`; an empty list selects all
/// zones.
#[must_use]
pub fn is_wanted(zone: &ZoneId, wanted: &[String]) -> bool {
    wanted.is_empty()
        || wanted.iter().any(|entry| *entry == zone.zone || *entry == zone.to_string())
}

/// Opens the files of a layout below a path, by name.
///
/// # Errors
/// There are no such files, or one of them has another header.
pub fn open_recording(
    path: &Path,
    layout: RecordingLayout,
    options: &RecordingOptions,
) -> Result<Vec<RecordingSource>, RecordingError> {
    let (paths, hint) = match layout {
        RecordingLayout::Keti => return keti::open_sources(path, options),
        RecordingLayout::Wazihub => (wazihub::find_files(path)?, wazihub::HINT),
        RecordingLayout::Agc2 => (agc2::find_files(path)?, agc2::HINT),
        RecordingLayout::Csv => (find_files(path, "csv")?, long_csv::HINT),
        RecordingLayout::WideCsv => (find_files(path, "csv")?, wide_csv::HINT),
        RecordingLayout::Jsonl => (find_files(path, "jsonl")?, jsonl::HINT),
    };
    let options = Arc::new(options.clone());
    let source = |path| RecordingSource::File { path, layout, options: options.clone() };
    let all: Vec<RecordingSource> = paths.into_iter().map(source).collect();
    if all.is_empty() {
        let what = "no file of this layout".to_owned();
        return Err(RecordingError::Nothing { path: path.to_owned(), what, hint });
    }
    // A wrong header is reported before anything is ingested.
    for source in &all {
        drop(source.read_rows()?);
    }
    Ok(all)
}

/// Files of a folder with this extension, by name; or the file itself.
pub(crate) fn find_files(path: &Path, extension: &str) -> Result<Vec<PathBuf>, RecordingError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(RecordingError::with_path(path))? {
        let path = entry.map_err(RecordingError::with_path(path))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
