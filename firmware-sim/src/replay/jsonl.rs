//! Lines `{"zone": "site/zone", "device", "metric", "ts", "value"}`.

use std::path::Path;

use serde::Deserialize;
use telemetry::ZoneId;

use super::{Reject, Row, Rows, files, lines};
use crate::{SimError, message::topic};

#[derive(Deserialize)]
struct Line {
    zone: ZoneId,
    device: String,
    metric: String,
    /// UTC milliseconds.
    ts: i64,
    value: f64,
}

pub(super) fn open(path: &Path) -> Result<Vec<Rows>, SimError> {
    let mut all: Vec<Rows> = Vec::new();
    for file in files(path, "jsonl")? {
        let rows =
            lines(&file)?.filter(|(_, line)| !line.as_ref().is_ok_and(|l| l.trim().is_empty()));
        all.push(Box::new(rows.map(|(place, line)| {
            let parsed = line.and_then(|line| {
                serde_json::from_str::<Line>(&line).map_err(|error| error.to_string())
            });
            let Line { zone, device, metric, ts, value } =
                parsed.map_err(|what| Reject { place, what })?;
            Ok(Row { event_ms: ts, topic: topic(&zone, &device, Some(&metric)).into(), value })
        })));
    }
    if all.is_empty() {
        return Err(SimError::NothingToReplay {
            path: path.to_owned(),
            what: "no .jsonl file".to_owned(),
            hint: "`--layout jsonl` wants lines {\"zone\",\"device\",\"metric\",\"ts\",\"value\"}",
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::*;

    #[test]
    fn lines_are_rows_or_rejects() {
        let dir = tempfile::TempDir::new().unwrap();
        let text = r#"{"zone":"a/b","device":"d","metric":"co2","ts":5,"value":400}
{"zone":"a","device":"d","metric":"co2","ts":5,"value":400}

{"zone":"a/b","device":"d","metric":"co2","ts":"x","value":400}"#;
        std::fs::write(dir.path().join("a.jsonl"), text).unwrap();
        let (rows, rejects) = split(Box::new(open(dir.path()).unwrap().into_iter().flatten()));
        assert_eq!(rows, [Row { event_ms: 5, topic: "sensors/a/b/d/co2".into(), value: 400.0 }]);
        assert!(
            rejects[0].place.ends_with(":2") && rejects[1].place.ends_with(":4"),
            "{rejects:?}"
        );
    }
}
