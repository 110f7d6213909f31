use std::path::Path;

use eventlog::{Entry, Record};
use recordings::{Layout, Options, RecordingError, Reject};
use telemetry::{Reading, Report, Source};

use super::{WATCHED, scan::Mark};
use crate::{
    StoreError,
    backfill::{History, read_file},
};

/// A file as records like those of the log.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) mark: Mark,
    /// In the order in which things were known, zone by zone; offsets count
    /// from 0.
    pub(crate) entries: Vec<Entry>,
    pub(crate) readings: u64,
    pub(crate) rejects: u64,
}

/// Reads a file. One of another layout, or too large, is one reject.
pub(super) fn read(
    path: &Path,
    mark: Mark,
    site: &str,
    bytes_max: u64,
) -> Result<(File, Vec<Reject>), StoreError> {
    let read = if mark.bytes > bytes_max {
        Err(refused(path, "a smaller file: this one is for `feature-store backfill`"))
    } else {
        let options = Options { site: site.to_owned(), ..Options::default() };
        let layout = match path.extension().and_then(|own| own.to_str()) {
            Some("csv") => Some(Layout::Csv),
            Some("parquet") => None,
            _ => Some(Layout::Jsonl),
        };
        match read_file(path, layout, &options) {
            Ok(read) => Ok(read),
            Err(StoreError::Recording(RecordingError::Io { path, source })) => {
                return Err(RecordingError::Io { path, source }.into());
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "file refused");
                Err(refused(path, "a file of a known layout: see docs/backfill.md"))
            }
        }
    };
    let (histories, rejects) = read.unwrap_or_else(|reject| (Vec::new(), vec![reject]));
    let mut file = File { mark, entries: Vec::new(), readings: 0, rejects: rejects.len() as u64 };
    for mut history in histories {
        history.settle(None, None);
        file.readings += history.readings() as u64;
        push(&mut file.entries, &history);
    }
    Ok((file, rejects))
}

fn refused(path: &Path, expected: &'static str) -> Reject {
    let place = recordings::Place { path: path.into(), line: 1, column: 1 };
    Reject { place, found: "the file as a whole".to_owned(), expected }
}

/// What one device said at one time is one report.
fn push(entries: &mut Vec<Entry>, history: &History) {
    let mut open: Option<Report> = None;
    let mut close = |report: Option<Report>| {
        let Some(report) = report else { return };
        let record = Record::new(report.zone.to_string(), report.to_json(), report.arrival_ms);
        entries.push(Entry { partition: WATCHED, offset: entries.len() as i64, record });
    };
    for (number, at) in history.in_order() {
        let series = &history.series[number];
        let sensor = &series.sensor;
        let (event_ms, arrival_ms) = (series.event_ms[at], series.arrival_ms(at));
        let reading = Reading { metric: sensor.metric.clone(), event_ms, value: series.value[at] };
        let goes_on = open.as_ref().is_some_and(|report| {
            report.arrival_ms == arrival_ms
                && report.device == sensor.device
                && report.readings.iter().all(|own| own.metric != sensor.metric)
        });
        if goes_on && let Some(report) = &mut open {
            report.readings.push(reading);
            continue;
        }
        close(open.replace(Report {
            zone: history.zone.clone(),
            device: sensor.device.clone(),
            boot: None,
            seq: None,
            arrival_ms,
            source: Source::Backfill,
            readings: vec![reading],
        }));
    }
    close(open);
}
