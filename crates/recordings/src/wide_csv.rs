//! CSV files with a time column and one column per sensor, mapped to topics.

use std::{path::Path, sync::Arc};

use telemetry::{DeviceAddress, ParsedTime, TimeParser, time::EXPECTED_SET};

use crate::{
    RecordedRow, RecordedRows, RecordingError, RejectedLine, SensorKey, layout::RecordingOptions,
    number::DecimalMark,
};

pub(crate) const HINT: &str = "`--layout wide-csv` needs a header with replay.wide_csv.time_column, and a topic \
                    under [replay.columns] for each column to replay";

pub(crate) fn read_rows(
    path: &Path,
    options: &RecordingOptions,
) -> Result<RecordedRows, RecordingError> {
    let nothing =
        |what: String| RecordingError::Nothing { path: path.to_owned(), what, hint: HINT };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(options.delimiter)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| nothing(error.to_string()))?;
    let header = reader.headers().map_err(|error| nothing(error.to_string()))?.clone();
    let time_column = &options.time_column;
    let time_position = header.iter().position(|name| name == time_column);
    let time = time_position.ok_or_else(|| {
        let names: Vec<&str> = header.iter().take(20).collect();
        nothing(format!("no column `{time_column}` among {}", names.join(", ")))
    })?;
    let mut mapped: Vec<(usize, Arc<SensorKey>)> = Vec::new();
    for (i, name) in header.iter().enumerate() {
        let Some(topic) = options.columns.get(name) else { continue };
        let address = DeviceAddress::parse(topic).map_err(|(_, what)| nothing(what))?;
        let metric = address
            .metric
            .ok_or_else(|| nothing(format!("topic `{topic}` of `{name}` names no metric")))?;
        let DeviceAddress { zone, device, .. } = address;
        let metric = match options.metrics.resolve_name(&metric) {
            Some((metric, _)) => metric.clone(),
            None if options.takes_unknown_metrics => metric,
            None => return Err(nothing(options.metrics.explain_unknown(&metric))),
        };
        mapped.push((i, Arc::new(SensorKey { zone, device, metric })));
    }
    if mapped.is_empty() {
        return Err(nothing("no column is mapped to a topic".to_owned()));
    }
    let shared_path: Arc<Path> = path.into();
    let times = options.time_parser();
    Ok(Box::new(
        reader
            .into_records()
            .flat_map(move |record| parse_rows(record, &shared_path, (time, &times), &mapped)),
    ))
}

fn parse_rows(
    record: csv::Result<csv::StringRecord>,
    path: &Arc<Path>,
    (time, times): (usize, &TimeParser),
    mapped: &[(usize, Arc<SensorKey>)],
) -> Vec<Result<RecordedRow, RejectedLine>> {
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            let line = error.position().map_or(0, csv::Position::line);
            return vec![Err(RejectedLine::new(
                path,
                line,
                1,
                error.to_string().as_bytes(),
                "CSV",
            ))];
        }
    };
    let line = record.position().map_or(0, csv::Position::line);
    let text = record.get(time).unwrap_or_default();
    let refused = |expected| vec![Err(RejectedLine::new(path, line, 1, text.as_bytes(), expected))];
    let event_ms = match times.parse_text(text, None) {
        Ok(ParsedTime::Instant(ms)) => ms,
        Ok(ParsedTime::Unset) => return refused(EXPECTED_SET.into()),
        Err(error) => return refused(error.expected),
    };
    let mut rows = Vec::new();
    for (column, sensor) in mapped {
        let field = record.get(*column).unwrap_or_default();
        // An empty field means that the sensor gave no value then.
        if field.is_empty() {
            continue;
        }
        rows.push(match DecimalMark::Point.parse_value(field) {
            Ok(value) => Ok(RecordedRow {
                sensor: sensor.clone(),
                event_ms,
                arrival_ms: event_ms,
                value,
                line: u32::try_from(line).unwrap_or(u32::MAX),
            }),
            Err(expected) => {
                Err(RejectedLine::new(path, line, *column as u64 + 1, field.as_bytes(), expected))
            }
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use crate::{RecordingLayout, RecordingOptions, row::tests::split};

    #[test]
    fn mapped_columns_are_rows_and_bad_fields_rejects() {
        let dir = tempfile::TempDir::new().unwrap();
        let text = "time,Tair,other\n2020-01-31 12:00:00,21.5,x\nsoon,1,x\n2020-01-31 12:05:00,,x\n2020-01-31 12:10:00,warm,x\n";
        std::fs::write(dir.path().join("a.csv"), text).unwrap();
        let mut options = RecordingOptions::default();
        let open = |options: &RecordingOptions| {
            crate::open_recording(dir.path(), RecordingLayout::WideCsv, options)
        };
        assert!(open(&options).unwrap_err().to_string().contains("no column is mapped"));
        options
            .columns
            .insert("Tair".to_owned(), "sensors/farm/bay-1/climate/temperature".to_owned());
        let (rows, rejects) = split(open(&options).unwrap()[0].read_rows().unwrap());
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].event_ms, rows[0].value), (1_580_472_000_000, 21.5));
        let lines: Vec<u64> = rejects.iter().map(|reject| reject.place.line).collect();
        assert_eq!(lines, [3, 5], "{rejects:?}");
    }
}
