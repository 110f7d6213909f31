//! Lines `{"zone": "site/zone", "device", "metric", "ts", "value"}`, or reports
//! in the form of the log.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use telemetry::{Report, SmolStr, ZoneId};

use crate::{RecordingError, Reject, Row, Rows, Sensor};

pub(crate) const HINT: &str =
    "`--layout jsonl` wants lines {\"zone\",\"device\",\"metric\",\"ts\",\"value\"}";
const EXPECTED: &str = "{\"zone\":\"site/zone\",\"device\",\"metric\",\"ts\" in ms,\"value\"}";
/// A line longer than this is no reading.
const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Report(Report),
    Reading {
        zone: ZoneId,
        device: SmolStr,
        metric: SmolStr,
        /// UTC milliseconds.
        ts: i64,
        value: f64,
    },
}

pub(crate) fn rows(path: &Path) -> Result<Rows, RecordingError> {
    let file = std::fs::File::open(path).map_err(RecordingError::io(path))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let path: Arc<Path> = path.into();
    let (mut number, mut bytes) = (0_u32, Vec::new());
    let mut waiting: VecDeque<Row> = VecDeque::new();
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            if let Some(row) = waiting.pop_front() {
                return Some(Ok(row));
            }
            bytes.clear();
            number += 1;
            match reader.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => match parse(&bytes, number) {
                    Ok(rows) => waiting.extend(rows),
                    Err(()) => {
                        return Some(Err(Reject::new(
                            &path,
                            u64::from(number),
                            1,
                            &bytes,
                            EXPECTED,
                        )));
                    }
                },
                Err(error) => {
                    let path = path.display();
                    tracing::error!(%path, number, %error, "the rest of the file cannot be read");
                    return None;
                }
            }
        }
    })))
}

fn parse(bytes: &[u8], line: u32) -> Result<Vec<Row>, ()> {
    if bytes.len() > LINE_BYTES_MAX {
        return Err(());
    }
    let row = |zone: &ZoneId, device: &SmolStr, metric: SmolStr, event_ms, arrival_ms, value| {
        let sensor = Arc::new(Sensor { zone: zone.clone(), device: device.clone(), metric });
        Row { sensor, event_ms, arrival_ms, value, line }
    };
    Ok(match serde_json::from_slice(bytes).map_err(|_| ())? {
        Line::Reading { zone, device, metric, ts, value } => {
            vec![row(&zone, &device, metric, ts, ts, value)]
        }
        Line::Report(report) => {
            let Report { zone, device, arrival_ms, readings, .. } = report;
            let rows = readings.into_iter().map(|reading| {
                row(&zone, &device, reading.metric, reading.event_ms, arrival_ms, reading.value)
            });
            rows.collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::{Layout, Options, row::tests::split};

    #[test]
    fn lines_are_rows_or_rejects() {
        let dir = tempfile::TempDir::new().unwrap();
        let text = r#"{"zone":"a/b","device":"d","metric":"co2","ts":5,"value":400}
{"zone":"a","device":"d","metric":"co2","ts":5,"value":400}

{"zone":"a/b","device":"d","metric":"co2","ts":"x","value":400}
{"zone":"a/b","device":"d","arrival_ms":9,"readings":[{"metric":"co2","ts":6,"value":1},{"metric":"light","ts":7,"value":2}]}"#;
        std::fs::write(dir.path().join("a.jsonl"), text).unwrap();
        let source = &crate::open(dir.path(), Layout::Jsonl, &Options::default()).unwrap()[0];
        let (rows, rejects) = split(source.rows().unwrap());
        let rows: Vec<_> = rows
            .iter()
            .map(|r| (r.line, r.event_ms, r.arrival_ms, r.value, r.sensor.metric.as_str()))
            .collect();
        let expect = [(1, 5, 5, 400.0, "co2"), (5, 6, 9, 1.0, "co2"), (5, 7, 9, 2.0, "light")];
        assert_eq!(rows, expect);
        let lines: Vec<u64> = rejects.iter().map(|reject| reject.place.line).collect();
        assert_eq!(lines, [2, 4], "{rejects:?}");
    }
}
