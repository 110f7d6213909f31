//! CSV with a header that names time, zone and either metric and value, or a column for each
//! metric, as spreadsheets of any country write it.

use std::{path::Path, sync::Arc};

use crate::{
    RecordedRows, RecordingError, RejectedLine,
    assembler::{FieldProblem, RawReading, RawRow, RawValue, RowAssembler, RowField},
    delimited::{self, BlankLines, LineFeedReader},
    layout::RecordingOptions,
    number::DecimalMark,
    table_header::{self, TableHeader, ValueColumns},
};

pub(crate) const HINT: &str = table_header::HINT;

pub(crate) fn read_rows(
    path: &Path,
    options: &RecordingOptions,
) -> Result<RecordedRows, RecordingError> {
    let delimiter = delimited::detect_delimiter(path, options.bytes)?;
    let (mut reader, blank_lines) = open_reader(path, options, delimiter)?;
    let names = reader.headers().map_err(|error| unreadable_error(path, &error))?.clone();
    let shown: Vec<&str> = names.iter().collect();
    let separator = char::from(delimiter).to_string();
    let header = TableHeader::from_names(&shown, &separator, options).map_err(|problem| {
        RecordingError::Header {
            path: path.to_owned(),
            line: 1,
            column: 1,
            found: problem.found,
            expected: problem.expected,
            hint: HINT,
        }
    })?;
    let decimal_mark = match delimiter {
        b',' => DecimalMark::Point,
        _ => detect_decimal_mark(path, options, delimiter, &header)?,
    };
    let mut assembler = RowAssembler::new(options, decimal_mark);
    let shared_path: Arc<Path> = path.into();
    let column_rejects: Vec<_> = header
        .problems
        .iter()
        .map(|problem| {
            let column = field_byte(&names, problem.column);
            let found = problem.found.as_bytes();
            Err(RejectedLine::new(&shared_path, 1, column, found, problem.expected.clone())
                .for_column())
        })
        .collect();
    let rows = reader.into_records().flat_map(move |record| {
        parse_rows(record, &shared_path, &header, &blank_lines, &mut assembler)
    });
    Ok(Box::new(column_rejects.into_iter().chain(rows)))
}

type CsvReader = csv::Reader<Box<dyn std::io::Read + Send>>;

fn open_reader(
    path: &Path,
    options: &RecordingOptions,
    delimiter: u8,
) -> Result<(CsvReader, BlankLines), RecordingError> {
    let (text, blank_lines) = LineFeedReader::new(delimited::open_text(path, options.bytes)?);
    let text: Box<dyn std::io::Read + Send> = Box::new(text);
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).flexible(true).trim(csv::Trim::All);
    Ok((builder.from_reader(text), blank_lines))
}

fn unreadable_error(path: &Path, error: &csv::Error) -> RecordingError {
    let what = error.to_string();
    RecordingError::Nothing { path: path.to_owned(), what, hint: HINT }
}

/// Detects the decimal mark of a file's values, which is known only after all of them were read.
fn detect_decimal_mark(
    path: &Path,
    options: &RecordingOptions,
    delimiter: u8,
    header: &TableHeader,
) -> Result<DecimalMark, RecordingError> {
    let columns: Vec<usize> = match &header.values {
        ValueColumns::Long { value, .. } => vec![*value],
        ValueColumns::Wide(metrics) => metrics.iter().map(|metric| metric.column).collect(),
    };
    let (mut reader, _) = open_reader(path, options, delimiter)?;
    let mut mark = DecimalMark::Undecided;
    for record in reader.records().filter_map(Result::ok) {
        let values = columns.iter().filter_map(|column| record.get(*column));
        match DecimalMark::detect_mark(values) {
            DecimalMark::Comma => return Ok(DecimalMark::Comma),
            DecimalMark::Point => mark = DecimalMark::Point,
            DecimalMark::Undecided => {}
        }
    }
    Ok(mark)
}

/// Makes a value of a field; an empty field is missing.
fn raw_text(text: &str) -> RawValue<'_> {
    if text.is_empty() { RawValue::Missing } else { RawValue::Text(text) }
}

/// Byte at which a field starts, from 1.
fn field_byte(record: &csv::StringRecord, column: usize) -> u64 {
    record.iter().take(column).map(|field| field.len() as u64 + 1).sum::<u64>() + 1
}

fn parse_rows(
    record: csv::Result<csv::StringRecord>,
    path: &Arc<Path>,
    header: &TableHeader,
    blank_lines: &BlankLines,
    assembler: &mut RowAssembler,
) -> Vec<Result<crate::RecordedRow, RejectedLine>> {
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            let line = error.position().map_or(0, |at| blank_lines.line_number(at));
            let found = error.to_string();
            return vec![Err(RejectedLine::new(path, line, 1, found.as_bytes(), "CSV in UTF-8"))];
        }
    };
    let line = record.position().map_or(0, |at| blank_lines.line_number(at));
    // Spreadsheets write empty rows below a table.
    if record.iter().all(str::is_empty) {
        return Vec::new();
    }
    let field = |column: usize| record.get(column).unwrap_or_default();
    let maybe = |column: Option<usize>| column.map(field).unwrap_or_default();
    let row = RawRow {
        time: raw_text(field(header.time)),
        arrival: raw_text(maybe(header.arrival)),
        site: maybe(header.site),
        zone: field(header.zone),
        device: maybe(header.device),
        line: u32::try_from(line).unwrap_or(u32::MAX),
    };
    // The column of each reading, which gives a problem its position.
    let mut columns: Vec<usize> = Vec::new();
    let rows = match &header.values {
        ValueColumns::Long { metric, value: column, unit } => {
            columns.push(*column);
            let (metric, unit) = (field(*metric), maybe(*unit));
            assembler
                .assemble_rows(&row, [RawReading { metric, value: raw_text(field(*column)), unit }])
        }
        // An empty field means that the sensor gave no value then.
        ValueColumns::Wide(metrics) => {
            let readings: Vec<RawReading<'_>> = metrics
                .iter()
                .filter(|metric| !field(metric.column).is_empty())
                .map(|metric| {
                    columns.push(metric.column);
                    let value = RawValue::Text(field(metric.column));
                    RawReading { metric: &metric.metric, value, unit: &metric.unit }
                })
                .collect();
            assembler.assemble_rows(&row, readings)
        }
    };
    let place = |problem: &FieldProblem| match (problem.field, &header.values) {
        (RowField::Time, _) => header.time,
        (RowField::Arrival, _) => header.arrival.unwrap_or_default(),
        (RowField::Place, _) => header.zone,
        (RowField::Metric(_), ValueColumns::Long { metric, .. }) => *metric,
        (RowField::Unit(_), ValueColumns::Long { unit: Some(unit), .. }) => *unit,
        (RowField::Metric(number) | RowField::Value(number) | RowField::Unit(number), _) => {
            columns.get(number).copied().unwrap_or_default()
        }
    };
    rows.into_iter()
        .map(|row| {
            row.map_err(|problem| {
                let column = field_byte(&record, place(&problem));
                RejectedLine::new(path, line, column, problem.found.as_bytes(), problem.expected)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RecordingLayout, SensorKey, row::tests::split};
    use telemetry::TimeFormat;

    fn check(text: &str, expect: Result<(&[&str], &[&str]), &str>) {
        check_with(text, &RecordingOptions::default(), expect);
    }

    fn check_with(
        text: &str,
        options: &RecordingOptions,
        expect: Result<(&[&str], &[&str]), &str>,
    ) {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::write(dir.path().join("a.csv"), text).unwrap();
        let opened = crate::open_recording(dir.path(), RecordingLayout::Csv, options);
        let (rows, rejects) = match (opened, &expect) {
            (Ok(sources), Ok(_)) => split(sources[0].read_rows().unwrap()),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
                return;
            }
            (opened, _) => panic!("{opened:?} is not {expect:?}"),
        };
        let rows: Vec<String> = rows
            .iter()
            .map(|row| {
                let SensorKey { zone, device, metric } = &*row.sensor;
                let late_ms = row.arrival_ms - row.event_ms;
                format!("{zone} {device} {metric} {} +{late_ms} {}", row.event_ms, row.value)
            })
            .collect();
        let rejects: Vec<String> = rejects
            .iter()
            .map(|reject| format!("{}:{} {}", reject.place.line, reject.place.column, reject.found))
            .collect();
        let (want_rows, want_rejects) = expect.unwrap();
        assert_eq!((rows, rejects), (owned(want_rows), owned(want_rejects)), "{text}");
    }

    fn owned(all: &[&str]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn long_and_wide_and_what_is_neither() {
        check(
            "time,site,zone,device,metric,value\n1580472000,farm,bay-1,probe,co2,400\n\
             soon,farm,bay-1,probe,co2,400\n1580472000,farm,bay-1,probe,co2,much\n\
             75,farm,bay-1,probe,co2,400\n,farm,bay-1,probe,co2,400\n\
             1580472000,farm,hut/bay-1,probe,co2,400\n1580472000,farm,bay-1,probe,warmth,400\n\
             1580472000,farm,bay-1,probe,CO2,\n",
            Ok((
                &[
                    "farm/bay-1 probe co2 1580472000000 +0 400",
                    "farm/bay-1 probe co2 1580472000000 +0 NaN",
                ],
                &["3:1 soon", "4:33 much", "5:1 75", "6:1 null", "7:17 hut/bay-1", "8:29 warmth"],
            )),
        );
        check(
            "Timestamp, zone, temperature, humidity, arrival\n\
             2020-01-31T12:00:00Z,farm/bay-1,20.5,,2020-01-31T12:00:02Z\n\
             2020-01-31T12:05:00Z,bay-2,21,50,\n2020-01-31T12:05:00Z,,21,50,\n",
            Ok((
                &[
                    "farm/bay-1 file temperature 1580472000000 +2000 20.5",
                    "site/bay-2 file temperature 1580472300000 +0 21",
                    "site/bay-2 file humidity 1580472300000 +0 50",
                ],
                &["4:22 "],
            )),
        );
        check(
            "zone,metric,value\n",
            Err("a.csv:1:1: found the columns zone,metric,value, expected one named `time`\nhint:"),
        );
        check("time,zone\n", Err("expected one named `metric`"));
    }

    #[test]
    fn names_and_units_are_those_of_the_table() {
        check(
            "time,zone,device,metric,value,unit\n1580472000,a/b,d,Temperature,212,°F\n\
             1580472000,a/b,d,temperature,1,lx\n1580472000,a/b,d,temperature,20,\n",
            Ok((
                &[
                    "a/b d temperature 1580472000000 +0 100",
                    "a/b d temperature 1580472000000 +0 20",
                ],
                &["3:32 lx"],
            )),
        );
        check(
            ",Time,Zone,Device,Temperature (°F),note\n0,1580472000,a/b,d,212,x\n1,1580472060,a/b,d,warm,x\n",
            Ok((&["a/b d temperature 1580472000000 +0 100"], &["1:37 note", "3:20 warm"])),
        );
    }

    #[test]
    fn as_spreadsheets_of_other_countries_write_it() {
        let german = "\u{feff}Time;Zone;Temperature\r\n31.01.2020 12:00;a/b;21,5\r\n31.01.2020 12:01;a/b;1.021,5\r\n31.01.2020 12:02;a/b;21.5\r\n";
        check(
            german,
            Ok((&[], &["2:1 31.01.2020 12:00", "3:1 31.01.2020 12:01", "4:1 31.01.2020 12:02"])),
        );
        let day_first =
            RecordingOptions { time_format: TimeFormat::DayFirst, ..RecordingOptions::default() };
        check_with(
            german,
            &day_first,
            Ok((
                &[
                    "a/b file temperature 1580472000000 +0 21.5",
                    "a/b file temperature 1580472060000 +0 1021.5",
                ],
                &["4:22 21.5"],
            )),
        );
        check("time;zone;pressure\n1580472000;a/b;1.013\n", Ok((&[], &["2:16 1.013"])));
        check(
            "time\tzone\tpressure\n1580472000\ta/b\t1.013\n1580472060\ta/b\t13.5\n",
            Ok((
                &[
                    "a/b file pressure 1580472000000 +0 1.013",
                    "a/b file pressure 1580472060000 +0 13.5",
                ],
                &[],
            )),
        );
        check("time,zone,temperature\n1580472000,a/b,\"21,5\"\n", Ok((&[], &["2:16 21,5"])));
        check(
            "Zeit;Raum;Temperatur\n",
            Err("found the columns Zeit;Raum;Temperatur, expected one named `time`"),
        );
    }

    #[test]
    fn local_times_are_of_the_zone_of_the_options() {
        let berlin = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        let options = RecordingOptions { time_zone: berlin, ..RecordingOptions::default() };
        check_with(
            "time,zone,co2,arrival\n2024-01-15 13:00,a/b,400,\n2024-10-27 02:30,a/b,400,\n\
             2024-10-27 02:30,a/b,400,2024-10-27T01:30:05Z\n",
            &options,
            Ok((
                &["a/b file co2 1705320000000 +0 400", "a/b file co2 1729992600000 +5000 400"],
                &["3:1 2024-10-27 02:30"],
            )),
        );
    }
}
