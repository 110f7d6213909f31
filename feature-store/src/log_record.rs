//! Parsing of log records into reports.

use std::collections::BTreeMap;

use eventlog::StoredRecord;
use telemetry::{ReportSource, SensorReport, SmolStr};

/// A record of the log and its parsed report.
#[derive(Debug)]
pub struct ParsedRecord {
    /// The record with its position in the log.
    pub entry: StoredRecord,
    /// The report, or why the record has none.
    pub report: Result<SensorReport, String>,
}

impl ParsedRecord {
    /// Returns when the gateway received it, UTC ms, or `now_ms` if the log does not have it.
    pub(crate) fn received_ms(&self, now_ms: impl FnOnce() -> i64) -> i64 {
        Some(self.entry.record.timestamp_ms).filter(|ms| *ms > 0).unwrap_or_else(now_ms)
    }
}

/// Corrects the timestamps of a live device whose clock is known to be off. `offsets_s` has
/// seconds by `site/zone/device`.
pub(crate) fn correct_device_clock(report: &mut SensorReport, offsets_s: &BTreeMap<SmolStr, f64>) {
    if offsets_s.is_empty() || report.source != ReportSource::Live {
        return;
    }
    let device = format!("{}/{}", report.zone, report.device);
    if let Some(offset_s) = offsets_s.get(device.as_str()) {
        for reading in &mut report.readings {
            // Timestamps by the gateway are correct.
            if reading.event_ms != report.arrival_ms {
                reading.event_ms = reading.event_ms.saturating_add((offset_s * 1000.0) as i64);
            }
        }
    }
}

/// Parses a record. A record that cannot be parsed is kept with the reason.
#[must_use]
pub fn parse_record(entry: StoredRecord) -> ParsedRecord {
    let report = SensorReport::from_json(&entry.record.payload)
        .map_err(|error| format!("not a report: {error}"))
        .and_then(|report| {
            // The key decides the partition, and so who computes the zone.
            let (key, zone) = (&entry.record.key, &report.zone);
            if key.split_once('/') == Some((zone.site.as_str(), zone.zone.as_str())) {
                Ok(report)
            } else {
                Err(format!("key `{key}` is not the report's zone `{zone}`"))
            }
        });
    ParsedRecord { entry, report }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventlog::Record;

    fn check(key: &str, payload: &str, expect: Result<usize, &str>) {
        let entry = StoredRecord {
            partition: 0,
            offset: 0,
            record: Record::new(key, payload.to_owned(), 0),
        };
        match (parse_record(entry).report, expect) {
            (Ok(report), Ok(readings)) => assert_eq!(report.readings.len(), readings),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (got, expect) => panic!("{got:?} is not {expect:?}"),
        }
    }

    #[test]
    fn records_are_parsed_or_refused() {
        let report = r#"{"zone":"a/b","device":"d","arrival_ms":1,"readings":[{"metric":"co2","ts":1,"value":400}]}"#;
        check("a/b", report, Ok(1));
        check("a/c", report, Err("key `a/c`"));
        check("a/b", "{", Err("not a report"));
        check("a/b", r#"{"zone":"a"}"#, Err("expected `site/zone`"));
    }
}
