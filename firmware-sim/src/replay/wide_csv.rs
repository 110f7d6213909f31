//! CSV files with a time column and a column for each sensor.

use std::{path::Path, sync::Arc};

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{Reject, Row, Rows, files};
use crate::{SimError, settings::Replay};

const HINT: &str = "`--layout wide-csv` wants a header with replay.wide_csv.time_column, and a topic \
                    under [replay.columns] for each column to be played";

pub(super) fn open(path: &Path, replay: &Replay) -> Result<Vec<Rows>, SimError> {
    let nothing = |path: &Path, what: String| SimError::NothingToReplay {
        path: path.to_owned(),
        what,
        hint: HINT,
    };
    let mut all: Vec<Rows> = Vec::new();
    for file in files(path, "csv")? {
        let delimiter = replay.wide_csv.delimiter.as_bytes().first().copied().unwrap_or(b',');
        let unreadable = |error: csv::Error| nothing(&file, error.to_string());
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_path(&file)
            .map_err(unreadable)?;
        let header = reader.headers().map_err(unreadable)?.clone();
        let time_column = &replay.wide_csv.time_column;
        let time = header.iter().position(|name| name == time_column);
        let time = time.ok_or_else(|| {
            let names: Vec<&str> = header.iter().take(20).collect();
            nothing(&file, format!("no column `{time_column}` among {}", names.join(", ")))
        })?;
        let mapped: Vec<(usize, Arc<str>)> = header
            .iter()
            .enumerate()
            .filter_map(|(i, name)| Some((i, replay.columns.get(name)?.as_str().into())))
            .collect();
        if mapped.is_empty() {
            return Err(nothing(&file, "no column is mapped to a topic".to_owned()));
        }
        let name = file.display().to_string();
        all.push(Box::new(
            reader.into_records().flat_map(move |record| rows(record, &name, time, &mapped)),
        ));
    }
    if all.is_empty() { Err(nothing(path, "no .csv file".to_owned())) } else { Ok(all) }
}

fn rows(
    record: csv::Result<csv::StringRecord>,
    name: &str,
    time: usize,
    mapped: &[(usize, Arc<str>)],
) -> Vec<Result<Row, Reject>> {
    let record = match record {
        Ok(record) => record,
        Err(error) => return vec![Err(Reject { place: name.to_owned(), what: error.to_string() })],
    };
    let line = record.position().map_or(0, csv::Position::line);
    let reject = |what: String| Err(Reject { place: format!("{name}:{line}"), what });
    let text = record.get(time).unwrap_or_default();
    let Some(event_ms) = time_ms(text) else { return vec![reject(format!("`{text}` is no time"))] };
    let mut rows = Vec::new();
    for (column, topic) in mapped {
        match record.get(*column).unwrap_or_default() {
            // A sensor that said nothing then.
            "" => {}
            field => match field.parse() {
                Ok(value) => rows.push(Ok(Row { event_ms, topic: topic.clone(), value })),
                Err(_) => rows.push(reject(format!("`{field}` is no number ({topic})"))),
            },
        }
    }
    rows
}

/// Days between 1899-12-30, where spreadsheets count from, and 1970.
const SPREADSHEET_EPOCH_DAYS: f64 = 25_569.0;

/// UTC milliseconds of RFC 3339, `2020-01-31 12:00:00` (UTC), epoch seconds or
/// milliseconds, or a spreadsheet's count of days.
fn time_ms(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
    }
    let number: f64 = text.parse().ok()?;
    match number {
        // 1927 to 2173 in days; 1973 on in seconds, and in milliseconds.
        10_000.0..100_000.0 => {
            Some(((number - SPREADSHEET_EPOCH_DAYS) * 86_400_000.0).round() as i64)
        }
        1e8..1e11 => Some((number * 1000.0).round() as i64),
        1e11..1e14 => Some(number.round() as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::*;
    use crate::Settings;

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<i64>| assert_eq!(time_ms(text), expect, "{text}");
        let noon = Some(1_580_472_000_000);
        check("2020-01-31T12:00:00Z", noon);
        check("2020-01-31 12:00:00", noon);
        check("1580472000", noon);
        check("1580472000000", noon);
        check("43861.5", noon);
        check("soon", None);
        check("", None);
        check("7", None);
    }

    #[test]
    fn mapped_columns_are_rows_and_bad_fields_rejects() {
        let dir = tempfile::TempDir::new().unwrap();
        let text = "time,Tair,other\n2020-01-31 12:00:00,21.5,x\nsoon,1,x\n2020-01-31 12:05:00,,x\n2020-01-31 12:10:00,warm,x\n";
        std::fs::write(dir.path().join("a.csv"), text).unwrap();
        let mut replay = Settings::default().replay;
        let open_it = |replay: &Replay| open(dir.path(), replay);
        assert!(open_it(&replay).err().unwrap().to_string().contains("no column is mapped"));
        replay
            .columns
            .insert("Tair".to_owned(), "sensors/farm/bay-1/climate/temperature".to_owned());
        let (rows, rejects) = split(Box::new(open_it(&replay).unwrap().into_iter().flatten()));
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].event_ms, rows[0].value), (1_580_472_000_000, 21.5));
        assert!(
            rejects[0].place.ends_with("a.csv:3") && rejects[1].place.ends_with("a.csv:5"),
            "{rejects:?}"
        );
    }
}
