//! What layouts there are, and the files that a path has of one.

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

/// How recorded files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordingLayout {
    /// `<room>/<sensor>.csv` or `KETI/<room>/<sensor>.csv`, lines `epoch seconds, value`.
    Keti,
    /// The four irrigated fields of `Train.csv`.
    Wazihub,
    /// `<team>/GrodanSens.csv`: the slabs of the Autonomous Greenhouse Challenge 2.
    Agc2,
    /// CSV with a header: time, [site,] zone, [device,] then metric, value, or a column a metric.
    Csv,
    /// CSV files with a time column; configuration maps the others to topics.
    WideCsv,
    /// Lines `{"zone","device","metric","ts","value"}`, or with a member a metric, or reports
    /// as the log holds them.
    Jsonl,
}

/// What a layout does not say by itself.
#[derive(Clone, Debug)]
pub struct RecordingOptions {
    /// Site of layouts that name none.
    pub site: String,
    /// Only these zones, as `zone` or `site/zone`; all where there are none.
    pub zones: Vec<String>,
    /// Column → topic with a metric (`wide-csv`).
    pub columns: BTreeMap<String, String>,
    /// Name of the column that holds the time (`wide-csv`).
    pub time_column: String,
    /// The metrics that there are.
    pub metrics: Arc<MetricTable>,
    /// Whether names of no metric are taken as they are, for somebody else to
    /// judge, in place of being rejects.
    pub takes_unknown_metrics: bool,
    /// Of times that say neither offset nor zone.
    pub time_zone: TimeZone,
    /// How times are written.
    pub time_format: TimeFormat,
    /// Only so many bytes of each text file, from its start; all without it.
    pub bytes: Option<u64>,
    /// Between fields (`wide-csv`).
    pub delimiter: u8,
    /// Whether interpolated series are reduced to what was measured (`wazihub`).
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

/// One file.
#[derive(Clone, Debug)]
pub enum RecordingSource {
    /// Of one sensor, known by its path.
    Keti {
        /// The file.
        path: PathBuf,
        /// Whose readings are in it.
        sensor: Arc<SensorKey>,
    },
    /// Of any number of sensors, named in it.
    File {
        /// The file.
        path: PathBuf,
        /// How it is laid out.
        layout: RecordingLayout,
        /// What the layout does not say.
        options: Arc<RecordingOptions>,
    },
}

impl RecordingSource {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Keti { path, .. } | Self::File { path, .. } => path,
        }
    }

    /// The zone of all its rows, where the path says so.
    #[must_use]
    pub fn zone(&self) -> Option<&ZoneId> {
        match self {
            Self::Keti { sensor, .. } => Some(&sensor.zone),
            Self::File { .. } => None,
        }
    }

    /// Its rows, in the order of the file.
    ///
    /// # Errors
    /// Where it cannot be read, or its header is not of the layout.
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
        let options = options.clone();
        Ok(Box::new(rows.filter(move |row| {
            row.as_ref().map_or(true, |row| is_wanted(&row.sensor.zone, &options.zones))
        })))
    }
}

/// Whether a zone is one of these, of which each is `zone` or `site/zone`.
#[must_use]
pub fn is_wanted(zone: &ZoneId, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|own| *own == zone.zone || *own == zone.to_string())
}

/// The files of a layout below a path, by name.
///
/// # Errors
/// Where there are none, or one of them has another header.
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
    // A wrong header is said before anything is taken in.
    for source in &all {
        drop(source.read_rows()?);
    }
    Ok(all)
}

/// The files of a folder with this extension, or the file itself, by name.
pub(crate) fn find_files(path: &Path, extension: &str) -> Result<Vec<PathBuf>, RecordingError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(RecordingError::with_path(path))? {
        let path = entry.map_err(RecordingError::with_path(path))?.path();
        if path.extension().is_some_and(|own| own == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
