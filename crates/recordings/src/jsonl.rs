//! JSON lines `{"zone": "site/zone", "device", "metric", "ts", "value"}`, lines with a member for
//! each metric, or reports in the form of the log.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    path::Path,
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::{
    RecordedRow, RecordedRows, RecordingError, RejectedLine,
    assembler::{FieldProblem, RawReading, RawRow, RawValue, RowAssembler},
    delimited,
    layout::RecordingOptions,
    number::DecimalMark,
};

pub(crate) const HINT: &str =
    "`--layout jsonl` needs lines {\"zone\",\"device\",\"metric\",\"ts\",\"value\"}";
const EXPECTED: &str = "{\"zone\":\"site/zone\",\"device\",\"metric\",\"ts\",\"value\"}";
/// Longest line, bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Largest number of readings in one report.
const READINGS_MAX: usize = 10_000;

const TIME: [&str; 4] = ["ts", "time", "timestamp", "datetime"];
const ARRIVAL: [&str; 2] = ["arrival", "arrival_ms"];
const ZONE: [&str; 2] = ["zone", "room"];
/// Members that are not metrics, in addition to those above.
const OTHERS: [&str; 6] = ["site", "device", "seq", "boot", "source", "unit"];

pub(crate) fn read_rows(
    path: &Path,
    options: &RecordingOptions,
) -> Result<RecordedRows, RecordingError> {
    let mut reader = BufReader::with_capacity(1 << 16, delimited::open_text(path, options.bytes)?);
    let mut assembler = RowAssembler::new(options, DecimalMark::Point);
    let shared_path: Arc<Path> = path.into();
    let (mut number, mut bytes) = (0_u32, Vec::new());
    let mut waiting: VecDeque<Result<RecordedRow, RejectedLine>> = VecDeque::new();
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            if let Some(row) = waiting.pop_front() {
                return Some(row);
            }
            bytes.clear();
            number += 1;
            match reader.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => {
                    let trimmed = bytes.trim_ascii();
                    let line = if number == 1 {
                        trimmed.strip_prefix("\u{feff}".as_bytes()).unwrap_or(trimmed).trim_ascii()
                    } else {
                        trimmed
                    };
                    if line.is_empty() {
                        continue;
                    }
                    let reject = |found: &[u8], expected: std::borrow::Cow<'static, str>| {
                        RejectedLine::new(&shared_path, u64::from(number), 1, found, expected)
                    };
                    match parse_rows(line, number, &mut assembler) {
                        Some(rows) => waiting.extend(rows.into_iter().map(|row| {
                            row.map_err(|problem| {
                                let field = problem.field.name();
                                let expected = format!("as its {field} {}", problem.expected);
                                reject(problem.found.as_bytes(), expected.into())
                            })
                        })),
                        None => return Some(Err(reject(line, EXPECTED.into()))),
                    }
                }
                Err(error) => {
                    let path = shared_path.display();
                    tracing::error!(%path, number, %error, "the rest of the file cannot be read");
                    return None;
                }
            }
        }
    })))
}

/// Parses the rows of a line, or the problem of a field. `None` where the line has another form.
fn parse_rows(
    bytes: &[u8],
    line: u32,
    assembler: &mut RowAssembler,
) -> Option<Vec<Result<RecordedRow, FieldProblem>>> {
    if bytes.len() > LINE_BYTES_MAX {
        return None;
    }
    let Value::Object(fields) = serde_json::from_slice(bytes).ok()? else { return None };
    let row = RawRow {
        time: RawValue::Missing,
        arrival: find_member(&fields, &ARRIVAL).map_or(RawValue::Missing, raw_field),
        site: text_member(&fields, &["site"])?,
        zone: text_member(&fields, &ZONE)?,
        device: text_member(&fields, &["device"])?,
        line,
    };
    if let Some(readings) = find_member(&fields, &["readings"]) {
        return parse_report_rows(row, readings, assembler);
    }
    let row = RawRow { time: raw_field(find_member(&fields, &TIME)?), ..row };
    if let Some(metric) = find_member(&fields, &["metric"]) {
        let reading = RawReading {
            metric: metric.as_str()?,
            value: raw_value(find_member(&fields, &["value"])?),
            unit: text_member(&fields, &["unit"])?,
        };
        return Some(assembler.assemble_rows(&row, [reading]));
    }
    let is_metric = |name: &str| {
        let known = TIME.iter().chain(&ARRIVAL).chain(&ZONE).chain(&OTHERS);
        !known.into_iter().any(|member| member.eq_ignore_ascii_case(name))
    };
    let members = fields.iter().filter(|(name, _)| is_metric(name));
    let readings: Vec<RawReading<'_>> = members
        .map(|(metric, value)| RawReading { metric, value: raw_value(value), unit: "" })
        .collect();
    (!readings.is_empty()).then(|| assembler.assemble_rows(&row, readings))
}

/// Parses the rows of a report, which has a time for each of its readings.
fn parse_report_rows(
    row: RawRow<'_>,
    readings: &Value,
    assembler: &mut RowAssembler,
) -> Option<Vec<Result<RecordedRow, FieldProblem>>> {
    let entries = readings.as_array()?;
    if entries.is_empty() || entries.len() > READINGS_MAX {
        return None;
    }
    let mut rows = Vec::new();
    for reading in entries {
        let fields = reading.as_object()?;
        let row = RawRow { time: raw_field(find_member(fields, &TIME)?), ..row };
        let reading = RawReading {
            metric: find_member(fields, &["metric"])?.as_str()?,
            value: raw_value(find_member(fields, &["value"])?),
            unit: text_member(fields, &["unit"])?,
        };
        rows.extend(assembler.assemble_rows(&row, [reading]));
    }
    Some(rows)
}

/// Finds a member by one of its names, ignoring case.
fn find_member<'v>(fields: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Value> {
    names.iter().find_map(|name| fields.get(*name)).or_else(|| {
        let is_wanted = |member: &str| names.iter().any(|name| member.eq_ignore_ascii_case(name));
        fields.iter().find(|(member, _)| is_wanted(member)).map(|(_, value)| value)
    })
}

/// Finds a text member, "" where it is missing or null. `None` where it is something else.
fn text_member<'v>(fields: &'v Map<String, Value>, names: &[&str]) -> Option<&'v str> {
    match find_member(fields, names) {
        None | Some(Value::Null) => Some(""),
        Some(Value::String(text)) => Some(text),
        Some(_) => None,
    }
}

fn raw_field(value: &Value) -> RawValue<'_> {
    match value {
        Value::Null => RawValue::Missing,
        Value::Bool(on) => RawValue::Flag(*on),
        Value::String(text) => RawValue::Text(text),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => RawValue::Integer(i128::from(whole)),
            (_, Some(whole)) => RawValue::Integer(i128::from(whole)),
            _ => RawValue::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::Array(_) => RawValue::Other("[…]"),
        Value::Object(_) => RawValue::Other("{…}"),
    }
}

/// Takes a measured value, which must be a JSON number: a text is not a value, as in MQTT payloads.
fn raw_value(value: &Value) -> RawValue<'_> {
    match value {
        Value::String(text) => RawValue::Other(text),
        other => raw_field(other),
    }
}

#[cfg(test)]
mod tests {
    use crate::{RecordingLayout, RecordingOptions, row::tests::split};

    #[test]
    fn lines_are_rows_or_rejects() {
        let dir = tempfile::TempDir::new().unwrap();
        let text = [
            r#"{"zone":"a/b","device":"d","metric":"co2","ts":1580472000,"value":400}"#,
            r#"{"zone":"a/b/c","device":"d","metric":"co2","ts":1580472000000,"value":400}"#,
            "",
            r#"{"zone":"a/b","device":"d","metric":"co2","ts":"x","value":400}"#,
            r#"{"zone":"a/b","device":"d","arrival_ms":1580472009000,"readings":[{"metric":"co2","ts":1580472006000,"value":1},{"metric":"light","ts":1580472007000,"value":2},{"metric":"glow","ts":1580472007000,"value":2}]}"#,
            r#"{"zone":"a/b","device":"d","metric":"CO2","ts":"2020-01-31T12:00:00+00:00","value":true,"unit":null}"#,
            r#"{"zone":"a/b","device":"d","metric":"temperature","ts":1580472000.5,"value":212,"unit":"°F"}"#,
            r#"{"zone":"a/b","device":null,"Time":"2020-01-31 12:00:00","temperature":20,"warmth":1,"humidity":"x"}"#,
            r#"{"zone":"a/b","device":"d","metric":"co2","ts":null,"value":400}"#,
            r#"{"zone":null,"device":"d","metric":"co2","ts":1580472000,"value":400}"#,
            r#"{"zone":"a/b","device":"d","metric":"co2","ts":1580472000}"#,
            r#"{"zone":"a/b","device":"d","metric":"co2","ts":75,"value":400}"#,
            "[1, 2]",
        ];
        std::fs::write(dir.path().join("a.jsonl"), format!("\u{feff}{}", text.join("\r\n")))
            .unwrap();
        let source = &crate::open_recording(
            dir.path(),
            RecordingLayout::Jsonl,
            &RecordingOptions::default(),
        )
        .unwrap()[0];
        let (rows, rejects) = split(source.read_rows().unwrap());
        let at_ms = 1_580_472_000_000;
        let rows: Vec<_> = rows
            .iter()
            .map(|r| {
                let (event_ms, arrival_ms) = (r.event_ms - at_ms, r.arrival_ms - at_ms);
                (r.line, event_ms, arrival_ms, r.value, r.sensor.metric.as_str())
            })
            .collect();
        let expect = [
            (1, 0, 0, 400.0, "co2"),
            (5, 6000, 9000, 1.0, "co2"),
            (5, 7000, 9000, 2.0, "light"),
            (6, 0, 0, 1.0, "co2"),
            (7, 500, 500, 100.0, "temperature"),
            (8, 0, 0, 20.0, "temperature"),
        ];
        assert_eq!(rows, expect);
        let rejects: Vec<String> = rejects
            .iter()
            .map(|reject| format!("{} {}", reject.place.line, reject.found))
            .collect();
        let expect = [
            "2 b/c".to_owned(),
            "4 x".to_owned(),
            "5 glow".to_owned(),
            "8 x".to_owned(),
            "8 warmth".to_owned(),
            "9 null".to_owned(),
            "10 ".to_owned(),
            format!("11 {}", text[10]),
            "12 75".to_owned(),
            "13 [1, 2]".to_owned(),
        ];
        assert_eq!(rejects, expect);
    }
}
