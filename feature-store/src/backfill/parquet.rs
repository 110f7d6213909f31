use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use duckdb::{
    Connection,
    arrow::{
        array::{
            Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
            RecordBatch, StringArray,
        },
        datatypes::{Decimal128Type, Float64Type, Int64Type},
    },
};
use recordings::{
    RecordingError, RecordingOptions, RejectedLine,
    assembler::{RawReading, RawRow, RawValue, RowAssembler},
    layout::is_wanted,
    number::DecimalMark,
    table_header::{ColumnProblem, HINT, TableHeader, ValueColumns},
};

use super::{
    history::{SourceFile, ZoneHistories},
    plan::{hash_file, refuse_other_layouts},
};
use crate::{StoreError, store::quote_identifier};

/// Reads all readings of a Parquet file or of the Parquet files in a folder, and collects
/// rejects.
pub(super) fn read_histories(
    path: &Path,
    options: &RecordingOptions,
    refuses_other_layouts: bool,
) -> Result<(ZoneHistories, Vec<RejectedLine>), StoreError> {
    let io = |source| RecordingError::Io { path: path.to_owned(), source };
    let mut files = Vec::new();
    if std::fs::metadata(path).map_err(io)?.is_file() {
        files.push(path.to_owned());
    } else {
        collect_parquet_files(path, &mut files).map_err(io)?;
    }
    files.sort();
    if files.is_empty() {
        let what = "no .parquet file".to_owned();
        return Err(RecordingError::Nothing { path: path.to_owned(), what, hint: HINT }.into());
    }
    // Files are read by a separate DuckDB, as connections of the store can access no file.
    let connection = Connection::open_in_memory()?;
    let (mut grouped, mut all_rejects) = (ZoneHistories::default(), Vec::new());
    for path in files {
        let (bytes, sha256) = hash_file(&path)?;
        let file = SourceFile { path, bytes, sha256 };
        let (rows, rejects) = read_file_rows(&connection, &file, options, &mut grouped)?;
        if refuses_other_layouts {
            refuse_other_layouts(rows, &rejects)?;
        }
        all_rejects.extend(rejects);
        grouped.start_next_file();
    }
    Ok((grouped, all_rejects))
}

fn collect_parquet_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_parquet_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    Ok(())
}

/// Reads one file; returns the number of its readings, and the rejects.
fn read_file_rows(
    connection: &Connection,
    file: &SourceFile,
    options: &RecordingOptions,
    grouped: &mut ZoneHistories,
) -> Result<(usize, Vec<RejectedLine>), StoreError> {
    let from = format!(
        "read_parquet('{}', hive_partitioning = true, binary_as_string = true)",
        file.path.to_string_lossy().replace('\'', "''")
    );
    let refused = |found: String, expected: String| RecordingError::Header {
        path: file.path.clone(),
        line: 1,
        column: 1,
        found,
        expected,
        hint: HINT,
    };
    let columns = describe_columns(connection, &from, &file.path)?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut header = TableHeader::from_names(&names, ", ", options)
        .map_err(|problem| refused(problem.found, problem.expected))?;
    let expressions = select_expressions(&columns, &mut header).map_err(|problem| {
        let column = &columns[problem.column];
        let found = format!("the column `{}` of type {}", column.name, column.kind);
        refused(found, problem.expected.into_owned())
    })?;
    let path: Arc<Path> = file.path.as_path().into();
    let mut rejects: Vec<RejectedLine> = header
        .problems
        .iter()
        .map(|problem| {
            let (column, found) = (problem.column as u64 + 1, problem.found.as_bytes());
            RejectedLine::new(&path, 1, column, found, problem.expected.clone()).for_column()
        })
        .collect();
    let mut assembler = RowAssembler::new(options, DecimalMark::Point);
    let mut statement =
        connection.prepare(&format!("SELECT {} FROM {from}", expressions.join(", ")))?;
    let (mut count, mut line) = (0, 0_u32);
    for batch in statement.query_arrow([])? {
        let batch = RowBatch::new(&batch, &columns, &header);
        for i in 0..batch.rows {
            line += 1;
            let row = RawRow {
                time: batch.time.value_at(i),
                arrival: batch
                    .arrival
                    .as_ref()
                    .map_or(RawValue::Missing, |arrivals| arrivals.value_at(i)),
                site: text_at(batch.site, i),
                zone: text_at(Some(batch.zone), i),
                device: text_at(batch.device, i),
                line,
            };
            let readings = batch.values.iter().filter_map(|column| column.reading_at(i));
            for assembled in assembler.assemble_rows(&row, readings) {
                match assembled {
                    Ok(row) => {
                        count += 1;
                        if is_wanted(&row.sensor.zone, &options.zones) {
                            grouped.push(&row, file);
                        }
                    }
                    Err(problem) => {
                        let expected =
                            format!("as its {} {}", problem.field.name(), problem.expected);
                        let found = problem.found.as_bytes();
                        rejects.push(RejectedLine::new(&path, u64::from(line), 1, found, expected));
                    }
                }
            }
        }
    }
    Ok((count, rejects))
}

/// A column of a file.
struct ParquetColumn {
    name: String,
    /// DuckDB's name of its type.
    kind: String,
}

impl ParquetColumn {
    fn is_integer(&self) -> bool {
        const WHOLE: [&str; 10] = [
            "TINYINT",
            "SMALLINT",
            "INTEGER",
            "BIGINT",
            "HUGEINT",
            "UTINYINT",
            "USMALLINT",
            "UINTEGER",
            "UBIGINT",
            "UHUGEINT",
        ];
        WHOLE.contains(&self.kind.as_str())
    }

    fn is_number(&self) -> bool {
        self.is_integer()
            || ["DOUBLE", "FLOAT"].contains(&self.kind.as_str())
            || self.kind.starts_with("DECIMAL")
    }

    fn time_kind(&self) -> Option<TimeKind> {
        Some(match self.kind.as_str() {
            kind if kind.contains("WITH TIME ZONE") && kind.starts_with("TIMESTAMP") => {
                TimeKind::Instant
            }
            kind if kind.starts_with("TIMESTAMP") || kind == "DATE" => TimeKind::Local,
            "VARCHAR" => TimeKind::Text,
            "DOUBLE" => TimeKind::Number,
            kind if kind.starts_with("DECIMAL") => TimeKind::Number,
            _ if self.is_integer() => TimeKind::Integer,
            _ => return None,
        })
    }
}

/// Type in which a column holds times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TimeKind {
    Instant,
    Local,
    Integer,
    Number,
    Text,
}

/// Returns names and types of a file's columns. Partition keys in its path count only if they
/// describe readings.
fn describe_columns(
    connection: &Connection,
    from: &str,
    path: &Path,
) -> Result<Vec<ParquetColumn>, StoreError> {
    let mut statement = connection.prepare(&format!("DESCRIBE SELECT * FROM {from}"))?;
    let described = statement
        .query_map([], |row| Ok(ParquetColumn { name: row.get(0)?, kind: row.get(1)? }))?;
    let mut columns = described.collect::<duckdb::Result<Vec<_>>>()?;
    let keys: Vec<String> = path
        .iter()
        .filter_map(|part| Some(part.to_str()?.split_once('=')?.0.to_ascii_lowercase()))
        .collect();
    let says = ["time", "timestamp", "ts", "arrival", "site", "zone", "room", "device", "metric"];
    columns.retain(|column| {
        let name = column.name.to_ascii_lowercase();
        !keys.contains(&name) || says.contains(&name.as_str())
    });
    Ok(columns)
}

/// Builds the SQL expressions to read a file, in the order in which [`RowBatch`] expects them.
/// Metric columns that hold no numbers become problems of the header.
fn select_expressions(
    columns: &[ParquetColumn],
    header: &mut TableHeader,
) -> Result<Vec<String>, ColumnProblem> {
    let problem = |column: usize, expected: &'static str| ColumnProblem {
        column,
        found: columns[column].name.clone(),
        expected: expected.into(),
    };
    let time = |column: usize| {
        let time_column = &columns[column];
        let name = quote_identifier(&time_column.name);
        match time_column.time_kind() {
            Some(TimeKind::Instant) => {
                Ok(format!("CASE WHEN isfinite({name}) THEN epoch_us({name}) END"))
            }
            Some(TimeKind::Local) => {
                let local = format!("{name}::TIMESTAMP");
                Ok(format!("CASE WHEN isfinite({local}) THEN epoch_us({local}) END"))
            }
            Some(TimeKind::Integer) => Ok(format!("{name}::DECIMAL(38, 0)")),
            Some(TimeKind::Number) => Ok(format!("{name}::DOUBLE")),
            Some(TimeKind::Text) => Ok(name),
            None if time_column.kind == "FLOAT" => Err(problem(
                column,
                "a time in 64 bits: 32 bits resolve seconds since 1970 only to two minutes",
            )),
            None => Err(problem(column, "a time: a timestamp, a date, a number or a text")),
        }
    };
    let text = |column: usize| format!("{}::VARCHAR", quote_identifier(&columns[column].name));
    let value = |column: usize| {
        let value_column = &columns[column];
        let name = quote_identifier(&value_column.name);
        if value_column.is_number() {
            Ok(format!("{name}::DOUBLE"))
        } else if ["BOOLEAN", "VARCHAR"].contains(&value_column.kind.as_str()) {
            Ok(name)
        } else {
            Err(problem(column, "numbers, booleans or texts of numbers"))
        }
    };
    let mut expressions = vec![time(header.time)?];
    if let Some(arrival) = header.arrival {
        expressions.push(time(arrival)?);
    }
    let places = [header.site, Some(header.zone), header.device];
    expressions.extend(places.into_iter().flatten().map(text));
    match &mut header.values {
        ValueColumns::Long { metric, value: column, unit } => {
            expressions.push(text(*metric));
            expressions.extend(unit.map(text));
            expressions.push(value(*column)?);
        }
        ValueColumns::Wide(metrics) => {
            let mut readable = Vec::new();
            for metric in metrics.drain(..) {
                match value(metric.column) {
                    Ok(expression) => {
                        expressions.push(expression);
                        readable.push(metric);
                    }
                    Err(problem) => header.problems.push(problem),
                }
            }
            if readable.is_empty() {
                return Err(header.problems.pop().expect("a header has a column of a metric"));
            }
            *metrics = readable;
        }
    }
    Ok(expressions)
}

/// Columns of a batch of rows.
struct RowBatch<'a> {
    rows: usize,
    time: TimeColumn<'a>,
    arrival: Option<TimeColumn<'a>>,
    site: Option<&'a StringArray>,
    zone: &'a StringArray,
    device: Option<&'a StringArray>,
    values: Vec<ReadingColumn<'a>>,
}

enum TimeColumn<'a> {
    Instant(&'a Int64Array),
    Local(&'a Int64Array),
    Whole(&'a Decimal128Array),
    Number(&'a Float64Array),
    Text(&'a StringArray),
}

struct ReadingColumn<'a> {
    metric: ReadingMetric<'a>,
    value: ReadingValues<'a>,
}

enum ReadingMetric<'a> {
    /// Each row names its metric, and perhaps a unit.
    Named(&'a StringArray, Option<&'a StringArray>),
    /// The whole column has this metric and unit; null means no reading.
    Fixed(&'a str, &'a str),
}

enum ReadingValues<'a> {
    Number(&'a Float64Array),
    Flag(&'a BooleanArray),
    Text(&'a StringArray),
}

impl<'a> RowBatch<'a> {
    /// Takes the columns in the order of [`select_expressions`].
    fn new(batch: &'a RecordBatch, columns: &[ParquetColumn], header: &'a TableHeader) -> Self {
        let mut arrays = batch.columns().iter();
        let mut next = || arrays.next().expect("as many columns as were selected");
        let time = TimeColumn::new(next(), &columns[header.time]);
        let arrival = header.arrival.map(|column| TimeColumn::new(next(), &columns[column]));
        let site = header.site.map(|_| next().as_string());
        let zone = next().as_string();
        let device = header.device.map(|_| next().as_string());
        let values = match &header.values {
            ValueColumns::Long { value, unit, .. } => {
                let metric =
                    ReadingMetric::Named(next().as_string(), unit.map(|_| next().as_string()));
                vec![ReadingColumn { metric, value: ReadingValues::new(next(), &columns[*value]) }]
            }
            ValueColumns::Wide(metrics) => metrics
                .iter()
                .map(|metric| ReadingColumn {
                    metric: ReadingMetric::Fixed(&metric.metric, &metric.unit),
                    value: ReadingValues::new(next(), &columns[metric.column]),
                })
                .collect(),
        };
        Self { rows: batch.num_rows(), time, arrival, site, zone, device, values }
    }
}

impl<'a> TimeColumn<'a> {
    fn new(array: &'a ArrayRef, column: &ParquetColumn) -> Self {
        match column.time_kind().expect("`select_expressions` refuses others") {
            TimeKind::Instant => Self::Instant(array.as_primitive::<Int64Type>()),
            TimeKind::Local => Self::Local(array.as_primitive::<Int64Type>()),
            TimeKind::Integer => Self::Whole(array.as_primitive::<Decimal128Type>()),
            TimeKind::Number => Self::Number(array.as_primitive::<Float64Type>()),
            TimeKind::Text => Self::Text(array.as_string()),
        }
    }

    fn value_at(&self, i: usize) -> RawValue<'a> {
        match self {
            Self::Instant(values) if values.is_valid(i) => RawValue::InstantUs(values.value(i)),
            Self::Local(values) if values.is_valid(i) => RawValue::LocalUs(values.value(i)),
            Self::Whole(values) if values.is_valid(i) => RawValue::Integer(values.value(i)),
            Self::Number(values) if values.is_valid(i) => RawValue::Number(values.value(i)),
            Self::Text(values) if values.is_valid(i) => RawValue::Text(values.value(i)),
            _ => RawValue::Missing,
        }
    }
}

impl<'a> ReadingValues<'a> {
    fn new(array: &'a ArrayRef, column: &ParquetColumn) -> Self {
        match column.kind.as_str() {
            "BOOLEAN" => Self::Flag(array.as_boolean()),
            "VARCHAR" => Self::Text(array.as_string()),
            _ => Self::Number(array.as_primitive::<Float64Type>()),
        }
    }

    fn value_at(&self, i: usize) -> RawValue<'a> {
        match self {
            Self::Number(values) if values.is_valid(i) => RawValue::Number(values.value(i)),
            Self::Flag(values) if values.is_valid(i) => RawValue::Flag(values.value(i)),
            Self::Text(values) if values.is_valid(i) && values.value(i).trim().is_empty() => {
                RawValue::Missing
            }
            Self::Text(values) if values.is_valid(i) => RawValue::Text(values.value(i)),
            _ => RawValue::Missing,
        }
    }
}

impl<'a> ReadingColumn<'a> {
    fn reading_at(&self, i: usize) -> Option<RawReading<'a>> {
        let value = self.value.value_at(i);
        match self.metric {
            ReadingMetric::Named(metric, unit) => {
                Some(RawReading { metric: text_at(Some(metric), i), value, unit: text_at(unit, i) })
            }
            ReadingMetric::Fixed(metric, unit) => {
                (value != RawValue::Missing).then_some(RawReading { metric, value, unit })
            }
        }
    }
}

/// Returns a text without the space around it; empty if it is missing.
fn text_at(column: Option<&StringArray>, i: usize) -> &str {
    column.filter(|texts| texts.is_valid(i)).map_or("", |texts| texts.value(i).trim())
}
