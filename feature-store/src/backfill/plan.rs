use std::{collections::BTreeMap, path::Path, sync::Arc};

use recordings::{RecordingOptions, RecordingSource, RejectedLine, SensorKey, keti};
use sha2::{Digest, Sha256};
use telemetry::{MetricTable, SmolStr, ZoneId};

use super::{
    BackfillLayout, BackfillRequest,
    history::{SensorSeries, SourceFile, ZoneHistories, ZoneHistory},
    parquet,
};
use crate::StoreError;

/// Largest share of rejected lines; with more, the file has another layout.
const REJECTED_SHARE_MAX: f64 = 0.5;

/// Zones of a recording, the largest first.
#[derive(Debug)]
pub(super) struct BackfillPlan {
    pub(super) zones: Vec<PlannedZone>,
    /// Every metric that may occur, by name.
    pub(super) metrics: Vec<SmolStr>,
    pub(super) bytes: u64,
}

/// One zone, and how its readings are read.
#[derive(Debug)]
pub(super) enum PlannedZone {
    /// One file per sensor, read when it is the zone's turn.
    Files { zone: ZoneId, sensors: Vec<(std::path::PathBuf, Arc<SensorKey>)>, bytes: u64 },
    /// Already read, from files with several zones.
    Loaded { history: ZoneHistory, bytes: u64 },
}

impl BackfillPlan {
    pub(super) fn from_request(
        request: &BackfillRequest,
        metrics: &MetricTable,
    ) -> Result<Self, StoreError> {
        let options = RecordingOptions {
            site: request.site.clone(),
            zones: request.zones.clone(),
            knots: !request.as_published,
            metrics: Arc::new(metrics.clone()),
            time_zone: request.time_zone.clone(),
            time_format: request.time_format,
            ..RecordingOptions::default()
        };
        let Some(layout) = request.layout.text_layout() else {
            debug_assert_eq!(request.layout, BackfillLayout::Parquet);
            let (grouped, rejects) = parquet::read_histories(&request.path, &options, true)?;
            return Ok(Self::from_histories(grouped, rejects));
        };
        let sources = recordings::open_recording(&request.path, layout, &options)?;
        let mut by_zone: BTreeMap<ZoneId, Vec<_>> = BTreeMap::new();
        let (mut grouped, mut rejects) = (ZoneHistories::default(), Vec::new());
        for source in &sources {
            match source {
                RecordingSource::Keti { path, sensor } => by_zone
                    .entry(sensor.zone.clone())
                    .or_default()
                    .push((path.clone(), sensor.clone())),
                RecordingSource::File { .. } => {
                    let (rows, source_rejects) = read_source(source, &mut grouped)?;
                    refuse_other_layouts(rows, &source_rejects)?;
                    rejects.extend(source_rejects);
                }
            }
        }
        if by_zone.is_empty() {
            return Ok(Self::from_histories(grouped, rejects));
        }
        let mut metrics: Vec<SmolStr> =
            by_zone.values().flatten().map(|(_, sensor)| sensor.metric.clone()).collect();
        let mut zones = Vec::new();
        for (zone, sensors) in by_zone {
            let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
            let bytes = sensors.iter().map(|(path, _)| size(path)).sum();
            zones.push(PlannedZone::Files { zone, sensors, bytes });
        }
        metrics.sort_unstable();
        metrics.dedup();
        Ok(Self::sort_largest_first(zones, metrics))
    }

    /// Rejected lines belong to no zone, so the first zone carries them.
    fn from_histories(grouped: ZoneHistories, rejects: Vec<RejectedLine>) -> Self {
        let mut metrics: Vec<SmolStr> = Vec::new();
        let mut zones = Vec::new();
        for history in grouped.zones.into_values() {
            metrics.extend(history.series.iter().map(|series| series.sensor.metric.clone()));
            let bytes = history.reading_count() as u64 * 16;
            zones.push(PlannedZone::Loaded { history, bytes });
        }
        metrics.sort_unstable();
        metrics.dedup();
        let mut plan = Self::sort_largest_first(zones, metrics);
        if let Some(PlannedZone::Loaded { history, .. }) = plan.zones.first_mut() {
            history.rejects = rejects;
        }
        plan
    }

    fn sort_largest_first(mut zones: Vec<PlannedZone>, metrics: Vec<SmolStr>) -> Self {
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.bytes()));
        let bytes = zones.iter().map(PlannedZone::bytes).sum();
        Self { zones, metrics, bytes }
    }
}

impl PlannedZone {
    pub(super) const fn bytes(&self) -> u64 {
        match self {
            Self::Files { bytes, .. } | Self::Loaded { bytes, .. } => *bytes,
        }
    }

    /// Returns upper limits of the zone's files and series.
    pub(super) fn count_files_and_series(&self) -> (u32, u32) {
        let (files, series) = match self {
            Self::Files { sensors, .. } => (sensors.len(), sensors.len()),
            Self::Loaded { history, .. } => (history.files.len(), history.series.len()),
        };
        (files as u32, series as u32)
    }

    /// Reads the readings, in the order of arrival.
    pub(super) fn read_history(self, request: &BackfillRequest) -> Result<ZoneHistory, StoreError> {
        let mut history = match self {
            Self::Loaded { history, .. } => history,
            Self::Files { zone, sensors, .. } => {
                let mut history = ZoneHistory::new(zone);
                for (path, sensor) in sensors {
                    let bytes = std::fs::read(&path).map_err(|source| {
                        recordings::RecordingError::Io { path: path.clone(), source }
                    })?;
                    let column = keti::parse_column(&path, &bytes);
                    refuse_other_layouts(column.value.len(), &column.rejects)?;
                    let sha256 = encode_hex(Sha256::digest(&bytes));
                    history.files.push(SourceFile { path, bytes: bytes.len() as u64, sha256 });
                    let file = history.files.len() - 1;
                    let keti::KetiColumn { event_ms, value, line, rejects } = column;
                    let arrival_ms = None;
                    history.series.push(SensorSeries {
                        sensor,
                        file,
                        event_ms,
                        arrival_ms,
                        value,
                        line,
                    });
                    history.rejects.extend(rejects);
                }
                history
            }
        };
        history.trim_and_sort(request.from_ms, request.to_ms);
        Ok(history)
    }
}

/// Reads a file with several zones. Returns the number of its readings, and the rejects.
fn read_source(
    source: &RecordingSource,
    grouped: &mut ZoneHistories,
) -> Result<(usize, Vec<RejectedLine>), StoreError> {
    let (bytes, sha256) = hash_file(source.path())?;
    let file = SourceFile { path: source.path().to_owned(), bytes, sha256 };
    let (mut rows, mut rejects) = (0, Vec::new());
    for row in source.read_rows()? {
        match row {
            Ok(row) => {
                rows += 1;
                grouped.push(&row, &file);
            }
            Err(reject) => rejects.push(reject),
        }
    }
    grouped.start_next_file();
    Ok((rows, rejects))
}

/// Reads the zones and the rejects of one file. Without a layout, the file is Parquet; otherwise
/// CSV or JSON lines.
pub(crate) fn read_zone_histories(
    path: &Path,
    layout: Option<recordings::RecordingLayout>,
    options: &RecordingOptions,
) -> Result<(Vec<ZoneHistory>, Vec<RejectedLine>), StoreError> {
    let (grouped, rejects) = match layout {
        None => parquet::read_histories(path, options, false)?,
        Some(layout) => {
            let (mut grouped, mut rejects) = (ZoneHistories::default(), Vec::new());
            for source in recordings::open_recording(path, layout, options)? {
                rejects.extend(read_source(&source, &mut grouped)?.1);
            }
            (grouped, rejects)
        }
    };
    Ok((grouped.zones.into_values().collect(), rejects))
}

pub(super) fn refuse_other_layouts(
    rows: usize,
    rejects: &[RejectedLine],
) -> Result<(), StoreError> {
    // A column that is not a metric says nothing about the lines.
    let lines = rejects.iter().filter(|reject| !reject.is_column).count();
    match rejects.iter().find(|reject| !reject.is_column) {
        Some(first) if lines as f64 > REJECTED_SHARE_MAX * (rows + lines) as f64 => {
            Err(recordings::RecordingError::Header {
                path: first.place.path.to_path_buf(),
                line: first.place.line,
                column: first.place.column,
                found: format!("`{}`, and {} lines like it", first.found, lines - 1),
                expected: first.expected.clone().into_owned(),
                hint: "most of the file is not readings; is the layout right?",
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// Returns size and SHA-256 of a file.
pub(super) fn hash_file(path: &Path) -> Result<(u64, String), StoreError> {
    let io = |source| recordings::RecordingError::Io { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut hasher).map_err(io)?;
    Ok((bytes, encode_hex(hasher.finalize())))
}

pub(super) fn encode_hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
