use std::{path::Path, sync::Arc};

use eventlog::{Record, StoredRecord};
use recordings::{RecordingError, RecordingLayout, RecordingOptions, RejectedLine};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport};

use super::{WATCHED_PARTITION, folder_scanner::FileVersion};
use crate::{
    StoreError,
    backfill::{ZoneHistory, read_zone_histories},
    settings,
};

/// A file as records like those of the log.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    pub(crate) mark: FileVersion,
    /// Records in the order of arrival, zone by zone; offsets count from 0.
    pub(crate) entries: Vec<StoredRecord>,
    /// Offsets of its records in the store, once they are assigned.
    pub(crate) offsets: std::ops::Range<i64>,
    /// Readings in its records; the store counts those that it holds.
    pub(crate) readings: u64,
    pub(crate) rejects: u64,
}

/// Reads a file as it was when it was fingerprinted. From a file that has grown, reads only the
/// lines after the first `lines_taken`. A file of another layout, or one that is too large, gives
/// a single reject. Rejects are those of the whole file.
pub(super) fn read_watched_file(
    path: &Path,
    mark: FileVersion,
    lines_taken: u64,
    settings: &settings::FolderWatchSettings,
    metrics: &Arc<MetricTable>,
) -> Result<(WatchedFile, Vec<RejectedLine>), StoreError> {
    let bytes_max = settings.file_bytes_max;
    let read = if mark.bytes > bytes_max {
        let what = format!("{} bytes", mark.bytes);
        let expected =
            format!("at most {bytes_max} (hint: larger files are for `feature-store backfill`)");
        Err(reject_at(path, 1, 1, &what, expected))
    } else {
        let options = RecordingOptions {
            site: settings.site.clone(),
            metrics: metrics.clone(),
            time_zone: settings.time_zone()?,
            time_format: settings.time_format,
            bytes: Some(mark.bytes),
            ..RecordingOptions::default()
        };
        match read_zone_histories(path, layout_of(path), &options) {
            Ok(read) => Ok(read),
            Err(StoreError::Recording(RecordingError::Io { path, source })) => {
                return Err(RecordingError::Io { path, source }.into());
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "file refused");
                Err(whole_file_reject(path, error))
            }
        }
    };
    // A file that is refused as a whole has no ingested lines.
    let lines_taken = if read.is_ok() { lines_taken } else { 0 };
    let (histories, rejects) = read.unwrap_or_else(|reject| (Vec::new(), vec![reject]));
    let is_new = |reject: &&RejectedLine| lines_taken == 0 || reject.place.line > lines_taken;
    let rejected = rejects.iter().filter(is_new).count() as u64;
    let mut file =
        WatchedFile { mark, entries: Vec::new(), offsets: 0..0, readings: 0, rejects: rejected };
    for mut history in histories {
        history.retain_after_line(lines_taken);
        file.readings += history.reading_count() as u64;
        push_reports(&mut file.entries, &history);
    }
    Ok((file, rejects))
}

/// Returns the layout of a text file; `None` for Parquet.
pub(super) fn layout_of(path: &Path) -> Option<RecordingLayout> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Some(RecordingLayout::Csv),
        Some("parquet") => None,
        _ => Some(RecordingLayout::Jsonl),
    }
}

/// Converts an error into a reject of the whole file.
fn whole_file_reject(path: &Path, error: StoreError) -> RejectedLine {
    match error {
        StoreError::Recording(RecordingError::Header {
            line,
            column,
            found,
            expected,
            hint,
            ..
        }) => reject_at(path, line, column, &found, format!("{expected} (hint: {hint})")),
        StoreError::Recording(RecordingError::Nothing { what, hint, .. }) => {
            reject_at(path, 1, 1, &what, format!("a file of a known layout (hint: {hint})"))
        }
        other => {
            let expected = "a file of a known layout (hint: see docs/backfill.md)".to_owned();
            reject_at(path, 1, 1, &other.to_string(), expected)
        }
    }
}

fn reject_at(path: &Path, line: u64, column: u64, found: &str, expected: String) -> RejectedLine {
    RejectedLine::new(&path.into(), line, column, found.as_bytes(), expected)
}

/// Groups readings into reports: one per device and time.
fn push_reports(entries: &mut Vec<StoredRecord>, history: &ZoneHistory) {
    let mut open: Option<SensorReport> = None;
    let mut close = |report: Option<SensorReport>| {
        let Some(report) = report else { return };
        let record = Record::new(report.zone.to_string(), report.to_json(), report.arrival_ms);
        entries.push(StoredRecord {
            partition: WATCHED_PARTITION,
            offset: entries.len() as i64,
            record,
        });
    };
    for (number, at) in history.iter_by_arrival() {
        let series = &history.series[number];
        let sensor = &series.sensor;
        let (event_ms, arrival_ms) = (series.event_ms[at], series.arrival_ms(at));
        let reading =
            SensorReading { metric: sensor.metric.clone(), event_ms, value: series.value[at] };
        let goes_on = open.as_ref().is_some_and(|report| {
            report.arrival_ms == arrival_ms
                && report.device == sensor.device
                && report.readings.iter().all(|other| other.metric != sensor.metric)
        });
        if goes_on && let Some(report) = &mut open {
            report.readings.push(reading);
            continue;
        }
        close(open.replace(SensorReport {
            zone: history.zone.clone(),
            device: sensor.device.clone(),
            boot: None,
            seq: None,
            arrival_ms,
            source: ReportSource::Backfill,
            readings: vec![reading],
        }));
    }
    close(open);
}
