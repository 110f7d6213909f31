//! KETI building data: one folder per room, one file per sensor, lines `epoch seconds, value`.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    sync::Arc,
};

use telemetry::{ParsedTime, TimeParser, TimeUsage, ZoneId};

use crate::{
    RecordedRow, RecordedRows, RecordingError, RejectedLine, SensorKey,
    layout::{RecordingOptions, RecordingSource, find_files},
    number,
};

/// Sensor names of the data set that differ from metric names.
const RENAMED: [(&str, &str); 1] = [("pir", "motion")];
const EXPECTED: &str = "`epoch seconds, value`";
/// Range in which a number of ten digits can only be seconds to the time parser: 2001 to 2099.
const SECONDS: std::ops::Range<i64> = 1_000_000_000..4_102_444_800;
const HINT: &str = "`--layout keti` needs `<room>/<sensor>.csv` in it, as in `413/temperature.csv`";

/// All readings of one file, as columns.
#[derive(Debug, Default, PartialEq)]
pub struct KetiColumn {
    /// Event times, UTC ms.
    pub event_ms: Vec<i64>,
    /// Values in the metric's unit.
    pub value: Vec<f64>,
    /// Line numbers, from 1.
    pub line: Vec<u32>,
    /// Lines that are not readings.
    pub rejects: Vec<RejectedLine>,
}

/// Opens the files of the rooms in the options; of all rooms where none is named.
pub(crate) fn open_sources(
    dir: &Path,
    options: &RecordingOptions,
) -> Result<Vec<RecordingSource>, RecordingError> {
    let inner = dir.join("KETI");
    let dir = if inner.is_dir() { inner } else { dir.to_owned() };
    let mut found_rooms = Vec::new();
    for found in std::fs::read_dir(&dir).map_err(RecordingError::with_path(&dir))? {
        let entry = found.map_err(RecordingError::with_path(&dir))?;
        if entry.path().is_dir() {
            found_rooms.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found_rooms.sort();
    let nothing = |what| RecordingError::Nothing { path: dir.clone(), what, hint: HINT };
    let rooms = &options.zones;
    if let Some(room) = rooms.iter().find(|room| !found_rooms.contains(room)) {
        return Err(nothing(format!("there is no room `{room}`, only {}", found_rooms.join(", "))));
    }
    let wanted = found_rooms.iter().filter(|room| rooms.is_empty() || rooms.contains(room));
    let mut all = Vec::new();
    for room in wanted {
        for path in find_files(&dir.join(room), "csv")? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let renamed = RENAMED.iter().find(|(known, _)| *known == name);
            let metric = renamed.map_or(name.as_str(), |(_, metric)| metric);
            let metric = match options.metrics.resolve_name(metric) {
                Some((metric, _)) => metric.clone(),
                None if options.takes_unknown_metrics => metric.into(),
                None => {
                    let what = options.metrics.explain_unknown(metric);
                    return Err(RecordingError::Nothing { path, what, hint: HINT });
                }
            };
            let zone = ZoneId::new(options.site.as_str(), room.as_str());
            let sensor = Arc::new(SensorKey { zone, device: name.into(), metric });
            all.push(RecordingSource::Keti { path, sensor });
        }
    }
    if all.is_empty() { Err(nothing("no CSV file".to_owned())) } else { Ok(all) }
}

/// Reads the rows of one file, one at a time.
pub(crate) fn read_rows(
    path: &Path,
    sensor: &Arc<SensorKey>,
) -> Result<RecordedRows, RecordingError> {
    let file = std::fs::File::open(path).map_err(RecordingError::with_path(path))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (path, sensor): (Arc<Path>, _) = (path.into(), sensor.clone());
    let (mut number, mut bytes) = (0_u32, Vec::new());
    Ok(Box::new(std::iter::from_fn(move || {
        bytes.clear();
        number += 1;
        match reader.read_until(b'\n', &mut bytes) {
            Ok(0) => None,
            Ok(_) => Some(match parse_line(bytes.trim_ascii_end()) {
                Ok((event_ms, value)) => Ok(RecordedRow {
                    sensor: sensor.clone(),
                    event_ms,
                    arrival_ms: event_ms,
                    value,
                    line: number,
                }),
                Err(column) => Err(reject_line(&path, number, column, &bytes)),
            }),
            // A failing disk would fail forever: stop reading the file.
            Err(error) => {
                let shown_path = path.display();
                tracing::error!(
                    path = %shown_path,
                    number,
                    %error,
                    "the rest of the file cannot be read"
                );
                None
            }
        }
    })))
}

/// Parses all readings of a file with these bytes.
#[must_use]
pub fn parse_column(path: &Path, bytes: &[u8]) -> KetiColumn {
    // A line with a reading has 18 bytes or more.
    let lines = bytes.len() / 18 + 1;
    let mut column = KetiColumn {
        event_ms: Vec::with_capacity(lines),
        value: Vec::with_capacity(lines),
        line: Vec::with_capacity(lines),
        rejects: Vec::new(),
    };
    let shared_path: Arc<Path> = path.into();
    let (mut rest, mut number) = (bytes, 0_u32);
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest[..end].trim_ascii_end();
        rest = rest.get(end + 1..).unwrap_or_default();
        number += 1;
        match parse_line(line) {
            Ok((event_ms, value)) => {
                column.event_ms.push(event_ms);
                column.value.push(value);
                column.line.push(number);
            }
            Err(at) => column.rejects.push(reject_line(&shared_path, number, at, line)),
        }
    }
    column
}

fn reject_line(path: &Arc<Path>, line: u32, column: usize, text: &[u8]) -> RejectedLine {
    let found = text.get(column..).unwrap_or_default();
    RejectedLine::new(path, u64::from(line), column as u64 + 1, found, EXPECTED)
}

/// Parses a line without its end to UTC ms and a value. The error is the byte, from 0, at which the
/// line stops being valid.
fn parse_line(line: &[u8]) -> Result<(i64, f64), usize> {
    let comma = memchr::memchr(b',', line).ok_or(0_usize)?;
    let event_ms = epoch_ms(&line[..comma]).ok_or(0_usize)?;
    let after = &line[comma + 1..];
    let value = after.trim_ascii_start();
    let at = line.len() - value.len();
    number::parse_decimal(value).map(|value| (event_ms, value)).ok_or(at)
}

/// Parses seconds: whole ones in most files, with decimals in some.
fn epoch_ms(text: &[u8]) -> Option<i64> {
    if text.len() == 10 && text.iter().all(u8::is_ascii_digit) {
        let seconds = text.iter().fold(0_i64, |all, digit| all * 10 + i64::from(digit - b'0'));
        if SECONDS.contains(&seconds) {
            return Some(seconds * 1000);
        }
    }
    let text = std::str::from_utf8(text).ok()?;
    match TimeParser::new(TimeUsage::Recorded).parse_text(text, None) {
        Ok(ParsedTime::Instant(ms)) => Some(ms),
        Ok(ParsedTime::Unset) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RecordingLayout, row::tests::split};
    use tempfile::TempDir;

    #[test]
    fn rows_of_the_wanted_rooms_and_bad_lines_by_place() {
        let dir = TempDir::new().unwrap();
        for (room, sensor, text) in [
            ("413", "temperature", "1377299108, 22.8\nnonsense\n1377299113, 22.9\n1377299118,\n"),
            ("413", "pir", "1377299108.5,0\r\n"),
            ("415", "co2", "1377299108, 400"),
        ] {
            std::fs::create_dir_all(dir.path().join("KETI").join(room)).unwrap();
            std::fs::write(dir.path().join(format!("KETI/{room}/{sensor}.csv")), text).unwrap();
        }
        let mut options =
            RecordingOptions { zones: vec!["413".to_owned()], ..RecordingOptions::default() };
        options.site = "keti".to_owned();
        let sources = crate::open_recording(dir.path(), RecordingLayout::Keti, &options).unwrap();
        assert_eq!(sources.len(), 2);
        let mut all = Vec::new();
        for source in &sources {
            let RecordingSource::Keti { path, sensor } = source else { panic!("{source:?}") };
            let (rows, rejects) = split(source.read_rows().unwrap());
            let column = parse_column(path, &std::fs::read(path).unwrap());
            let times: Vec<i64> = rows.iter().map(|row| row.event_ms).collect();
            let lines: Vec<u32> = rows.iter().map(|row| row.line).collect();
            assert_eq!((&column.event_ms, &column.line), (&times, &lines), "both readers agree");
            assert_eq!(column.rejects, rejects);
            all.push((sensor.metric.to_string(), times, rejects));
        }
        assert_eq!(all[0].0, "motion");
        assert_eq!(all[0].1, [1_377_299_108_500]);
        assert_eq!(all[1].1, [1_377_299_108_000, 1_377_299_113_000]);
        let messages: Vec<String> = all[1].2.iter().map(ToString::to_string).collect();
        assert!(
            messages[0].ends_with("csv:2:1: found `nonsense`, expected `epoch seconds, value`")
        );
        assert!(
            messages[1].ends_with("csv:4:12: found ``, expected `epoch seconds, value`"),
            "{messages:?}"
        );
        options.zones = vec!["9".to_owned()];
        let error = crate::open_recording(dir.path(), RecordingLayout::Keti, &options)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no room `9`, only 413, 415"), "{error}");
    }
}
