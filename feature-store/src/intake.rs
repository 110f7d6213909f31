//! Log entries → reports.

use eventlog::Entry;
use telemetry::Report;

/// One record of the log, and what could be read of it.
#[derive(Debug)]
pub struct Arrived {
    /// The record and where it is in the log.
    pub entry: Entry,
    /// The report, or why there is none.
    pub report: Result<Report, String>,
}

/// Reads a record. What cannot be read is kept with the reason.
#[must_use]
pub fn read(entry: Entry) -> Arrived {
    let report = Report::from_json(&entry.record.payload)
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
    Arrived { entry, report }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventlog::Record;

    fn check(key: &str, payload: &str, expect: Result<usize, &str>) {
        let entry =
            Entry { partition: 0, offset: 0, record: Record::new(key, payload.to_owned(), 0) };
        match (read(entry).report, expect) {
            (Ok(report), Ok(readings)) => assert_eq!(report.readings.len(), readings),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (got, expect) => panic!("{got:?} is not {expect:?}"),
        }
    }

    #[test]
    fn reports_and_what_is_none() {
        let report = r#"{"zone":"a/b","device":"d","arrival_ms":1,"readings":[{"metric":"co2","ts":1,"value":400}]}"#;
        check("a/b", report, Ok(1));
        check("a/c", report, Err("key `a/c`"));
        check("a/b", "{", Err("not a report"));
        check("a/b", r#"{"zone":"a"}"#, Err("expected `site/zone`"));
    }
}
