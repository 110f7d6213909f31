//! The building data of KETI: a folder a room, a file a sensor, lines `epoch
//! seconds, value`.

use std::{path::Path, sync::Arc};

use telemetry::ZoneId;

use super::{Reject, Row, Rows, files, lines};
use crate::{SimError, message::topic};

/// The data's names of sensors, where they are not metrics' names.
const RENAMED: [(&str, &str); 1] = [("pir", "motion")];

/// The files of these rooms; of all where none is named.
pub(super) fn open(dir: &Path, site: &str, rooms: &[String]) -> Result<Vec<Rows>, SimError> {
    let inner = dir.join("KETI");
    let dir = if inner.is_dir() { inner } else { dir.to_owned() };
    let io = |source| SimError::Io { path: dir.clone(), source };
    let mut there = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().is_dir() {
            there.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    there.sort();
    let nothing = |what: String| SimError::NothingToReplay {
        path: dir.clone(),
        what,
        hint: "`--layout keti` wants `<room>/<sensor>.csv` in it, as in `413/temperature.csv`",
    };
    if let Some(room) = rooms.iter().find(|room| !there.contains(room)) {
        return Err(nothing(format!("there is no room `{room}`, only {}", there.join(", "))));
    }
    let wanted = there.iter().filter(|room| rooms.is_empty() || rooms.contains(room));
    let mut all: Vec<Rows> = Vec::new();
    for room in wanted {
        for path in files(&dir.join(room), "csv")? {
            let sensor = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let renamed = RENAMED.iter().find(|(own, _)| *own == sensor);
            let metric = renamed.map_or(sensor.as_str(), |(_, metric)| metric);
            let topic: Arc<str> =
                topic(&ZoneId::new(site, room.as_str()), &sensor, Some(metric)).into();
            let rows = lines(&path)?.map(move |(place, line)| {
                let parsed = line.and_then(|line| parse(&line));
                let (event_ms, value) = parsed.map_err(|what| Reject { place, what })?;
                Ok(Row { event_ms, topic: topic.clone(), value })
            });
            all.push(Box::new(rows));
        }
    }
    if all.is_empty() { Err(nothing("no CSV file".to_owned())) } else { Ok(all) }
}

/// `epoch seconds, value`.
fn parse(line: &str) -> Result<(i64, f64), String> {
    let line = line.trim();
    let start: String = line.chars().take(60).collect();
    let (time, value) = line
        .split_once(',')
        .ok_or_else(|| format!("found `{start}`, expected `epoch seconds, value`"))?;
    let seconds: f64 =
        time.trim().parse().map_err(|_| format!("`{}` is no time in seconds", time.trim()))?;
    // From 1970 to the year 9999.
    if !(0.0..253_402_300_800.0).contains(&seconds) {
        return Err(format!("{seconds} s is no time between 1970 and 9999"));
    }
    let value: f64 =
        value.trim().parse().map_err(|_| format!("`{}` is no number", value.trim()))?;
    Ok(((seconds * 1000.0).round() as i64, value))
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn rows_of_the_wanted_rooms_and_bad_lines_by_place() {
        let dir = TempDir::new().unwrap();
        for (room, sensor, text) in [
            ("413", "temperature", "1377299108, 22.8\nnonsense\n1377299113, 22.9\n1377299118,\n"),
            ("413", "pir", "1377299108,0\n"),
            ("415", "co2", "1377299108, 400\n"),
        ] {
            std::fs::create_dir_all(dir.path().join("KETI").join(room)).unwrap();
            std::fs::write(dir.path().join(format!("KETI/{room}/{sensor}.csv")), text).unwrap();
        }
        let files = open(dir.path(), "keti", &["413".to_owned()]).unwrap();
        assert_eq!(files.len(), 2);
        let (rows, rejects) = split(Box::new(files.into_iter().flatten()));
        let topics: Vec<&str> = rows.iter().map(|row| row.topic.as_ref()).collect();
        assert_eq!(
            topics,
            [
                "sensors/keti/413/pir/motion",
                "sensors/keti/413/temperature/temperature",
                "sensors/keti/413/temperature/temperature"
            ]
        );
        assert_eq!((rows[1].event_ms, rows[1].value), (1_377_299_108_000, 22.8));
        let places: Vec<bool> = rejects
            .iter()
            .zip([2, 4])
            .map(|(r, line)| r.place.ends_with(&format!("temperature.csv:{line}")))
            .collect();
        assert_eq!(places, [true, true], "{rejects:?}");
        let error = open(dir.path(), "keti", &["9".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("no room `9`, only 413, 415"), "{error}");
    }
}
