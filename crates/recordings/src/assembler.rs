//! Makes rows of the fields of a file, the same way for CSV, JSON lines and Parquet. The rules are
//! those of the gateway's own payloads, so that equal readings are stored equally, whatever their
//! file format.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use telemetry::{
    MetricTable, ParsedTime, SmolStr, TimeError, TimeParser, TimeUsage, ZoneId,
    time::{EXPECTED, EXPECTED_SET},
    topic::check_level,
    unit,
};

use crate::{RecordedRow, RecordingOptions, SensorKey, number::DecimalMark};

/// Device of readings for which none is named.
pub const DEFAULT_DEVICE: &str = "file";
/// Largest number of sensors in one file.
const SENSORS_MAX: usize = 100_000;

const EXPECTED_NUMBER: &str = "a number, true, false or null";

/// Field as a file holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RawValue<'a> {
    /// Null or empty.
    Missing,
    /// A whole number.
    Integer(i128),
    /// A number; NaN is not a number.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// A text, which may contain a number or a time.
    Text(&'a str),
    /// Time of known unit and zone, UTC microseconds.
    InstantUs(i64),
    /// Local time, microseconds since 1970-01-01T00:00:00 of its clock.
    LocalUs(i64),
    /// Anything that can be neither number nor time, as a text to show.
    Other(&'a str),
}

/// Fields that several readings share: a line of a file.
#[derive(Clone, Copy, Debug)]
pub struct RawRow<'a> {
    /// Event time.
    pub time: RawValue<'a>,
    /// Arrival time, if it is recorded.
    pub arrival: RawValue<'a>,
    /// Site; empty where none is named.
    pub site: &'a str,
    /// Zone, or `site/zone`.
    pub zone: &'a str,
    /// Device; empty where none is named.
    pub device: &'a str,
    /// Line number in the file, from 1.
    pub line: u32,
}

/// One value of a row.
#[derive(Clone, Copy, Debug)]
pub struct RawReading<'a> {
    /// Metric, as the file names it.
    pub metric: &'a str,
    /// Measured value.
    pub value: RawValue<'a>,
    /// Unit of the value; empty for the metric's own unit.
    pub unit: &'a str,
}

/// Field of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowField {
    /// Event time.
    Time,
    /// Arrival time.
    Arrival,
    /// Site, zone or device.
    Place,
    /// Metric of the reading with this number, from 0.
    Metric(usize),
    /// Value of the reading with this number, from 0.
    Value(usize),
    /// Unit of the reading with this number, from 0.
    Unit(usize),
}

impl RowField {
    /// Name of the field in messages to users.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Arrival => "arrival",
            Self::Place => "zone",
            Self::Metric(_) => "metric",
            Self::Value(_) => "value",
            Self::Unit(_) => "unit",
        }
    }
}

/// Reason why a field makes no reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field.
    pub field: RowField,
    /// Content of the field.
    pub found: String,
    /// Content that was expected.
    pub expected: Cow<'static, str>,
}

/// A sensor, and the unit of its metric where the metric table has it.
type KnownSensor = (Arc<SensorKey>, Option<SmolStr>);

/// Makes the rows of one file.
#[derive(Debug)]
pub struct RowAssembler {
    site: SmolStr,
    metrics: Arc<MetricTable>,
    takes_unknown_metrics: bool,
    times: TimeParser,
    decimal_mark: DecimalMark,
    /// Sensors by site, zone, device and metric as the file writes them.
    sensors: HashMap<[SmolStr; 4], KnownSensor>,
}

impl RowAssembler {
    /// Creates an assembler for a file with this decimal mark.
    #[must_use]
    pub fn new(options: &RecordingOptions, decimal_mark: DecimalMark) -> Self {
        Self {
            site: options.site.as_str().into(),
            metrics: options.metrics.clone(),
            takes_unknown_metrics: options.takes_unknown_metrics,
            times: options.time_parser(),
            decimal_mark,
            sensors: HashMap::new(),
        }
    }

    /// Makes the rows of a line: one for each reading, or the problem that prevents it. A line
    /// without a time or a zone has one problem, however many readings it has.
    pub fn assemble_rows<'a>(
        &mut self,
        row: &RawRow<'a>,
        readings: impl IntoIterator<Item = RawReading<'a>>,
    ) -> Vec<Result<RecordedRow, FieldProblem>> {
        let (event_ms, arrival_ms) = match self.parse_times(row) {
            Ok(times) => times,
            Err(problem) => return vec![Err(problem)],
        };
        let mut rows = Vec::new();
        for (number, reading) in readings.into_iter().enumerate() {
            match self.assemble_reading(row, number, &reading) {
                Ok((sensor, value)) => {
                    rows.push(Ok(RecordedRow {
                        sensor,
                        event_ms,
                        arrival_ms,
                        value,
                        line: row.line,
                    }));
                }
                Err(problem) if problem.field == RowField::Place => return vec![Err(problem)],
                Err(problem) => rows.push(Err(problem)),
            }
        }
        rows
    }

    fn parse_times(&self, row: &RawRow<'_>) -> Result<(i64, i64), FieldProblem> {
        let problem = |field, error: TimeError| FieldProblem {
            field,
            found: error.found,
            expected: error.expected,
        };
        let arrival_ms = match parse_time(&self.times, row.arrival, None) {
            Ok(ParsedTime::Instant(ms)) => Some(ms),
            Ok(ParsedTime::Unset) => None,
            Err(error) => return Err(problem(RowField::Arrival, error)),
        };
        match parse_time(&self.times, row.time, arrival_ms) {
            Ok(ParsedTime::Instant(ms)) => Ok((ms, arrival_ms.unwrap_or(ms))),
            Ok(ParsedTime::Unset) => Err(FieldProblem {
                field: RowField::Time,
                found: format_field(row.time),
                expected: EXPECTED_SET.into(),
            }),
            Err(error) => Err(problem(RowField::Time, error)),
        }
    }

    fn assemble_reading(
        &mut self,
        row: &RawRow<'_>,
        number: usize,
        reading: &RawReading<'_>,
    ) -> Result<(Arc<SensorKey>, f64), FieldProblem> {
        let (sensor, known_unit) = self.find_sensor(row, number, reading.metric)?;
        let value = parse_value(reading.value, self.decimal_mark).map_err(|expected| {
            let found = format_field(reading.value);
            FieldProblem { field: RowField::Value(number), found, expected: expected.into() }
        })?;
        let wrong_unit = |expected: String| FieldProblem {
            field: RowField::Unit(number),
            found: reading.unit.to_owned(),
            expected: expected.into(),
        };
        let value = match (reading.unit.trim(), known_unit) {
            ("", _) => value,
            (given, Some(metric_unit)) => {
                unit::convert_unit(value, given, &metric_unit).map_err(|_| {
                    wrong_unit(format!(
                        "a unit that converts to {metric_unit}, that of {}",
                        sensor.metric
                    ))
                })?
            }
            (_, None) => {
                return Err(wrong_unit(format!("no unit: {} is not known", sensor.metric)));
            }
        };
        Ok((sensor, value))
    }

    /// Finds the sensor of a reading; each is created and checked once.
    fn find_sensor(
        &mut self,
        row: &RawRow<'_>,
        number: usize,
        metric: &str,
    ) -> Result<KnownSensor, FieldProblem> {
        let key = [row.site, row.zone, row.device, metric].map(SmolStr::from);
        if let Some(known) = self.sensors.get(&key) {
            return Ok(known.clone());
        }
        let (zone, device) = self.check_place(row)?;
        let (metric, unit) = match self.metrics.resolve_name(metric) {
            Some((name, known)) => (name.clone(), Some(known.unit.clone())),
            None if self.takes_unknown_metrics && check_level(metric).is_ok() => {
                (SmolStr::from(metric), None)
            }
            None => {
                return Err(FieldProblem {
                    field: RowField::Metric(number),
                    found: metric.to_owned(),
                    expected: expected_metric(&self.metrics, metric),
                });
            }
        };
        let known = (Arc::new(SensorKey { zone, device, metric }), unit);
        self.sensors.insert(key, known.clone());
        Ok(known)
    }

    /// Checks the zone and device of a row; `zone` may contain the site too.
    fn check_place(&self, row: &RawRow<'_>) -> Result<(ZoneId, SmolStr), FieldProblem> {
        let problem = |found: &str, expected: &'static str| FieldProblem {
            field: RowField::Place,
            found: found.to_owned(),
            expected: expected.into(),
        };
        if self.sensors.len() >= SENSORS_MAX {
            return Err(problem(row.zone, "at most 100,000 sensors in a file"));
        }
        let (site, zone) = match row.zone.split_once('/') {
            Some((site, _)) if !row.site.is_empty() && row.site != site => {
                return Err(problem(row.zone, "a zone of the site that `site` says"));
            }
            Some(levels) => levels,
            None if row.site.is_empty() => (self.site.as_str(), row.zone),
            None => (row.site, row.zone),
        };
        let device = if row.device.is_empty() { DEFAULT_DEVICE } else { row.device };
        match [site, zone, device].into_iter().find(|level| check_level(level).is_err()) {
            Some(level) => Err(problem(level, "a name of 1 to 64 bytes without `/`, `+`, `#`")),
            None => Ok((ZoneId::new(site, zone), device.into())),
        }
    }
}

impl RecordingOptions {
    /// Parser of recorded times with the time zone and format of these options.
    #[must_use]
    pub fn time_parser(&self) -> TimeParser {
        TimeParser::new(TimeUsage::Recorded)
            .with_time_zone(self.time_zone.clone())
            .with_format(self.time_format)
    }
}

/// Text of what is expected in place of an unknown metric name.
pub(crate) fn expected_metric(metrics: &MetricTable, name: &str) -> Cow<'static, str> {
    format!("a metric of the table: {}", metrics.explain_unknown(name)).into()
}

fn parse_time(
    parser: &TimeParser,
    time: RawValue<'_>,
    arrival_ms: Option<i64>,
) -> Result<ParsedTime, TimeError> {
    match time {
        RawValue::Missing => Ok(ParsedTime::Unset),
        RawValue::Integer(number) => parser.parse_integer(number),
        RawValue::Number(number) => parser.parse_number(number),
        RawValue::Text(text) => parser.parse_text(text, arrival_ms),
        RawValue::InstantUs(us) => Ok(parser.parse_instant_us(us)),
        RawValue::LocalUs(us) => parser.parse_local_us(us, arrival_ms),
        RawValue::Flag(_) | RawValue::Other(_) => {
            Err(TimeError { found: format_field(time), expected: EXPECTED.into() })
        }
    }
}

/// Parses a value as the gateway's own payloads define it: a number; true and false as 1 and 0; and
/// NaN for anything that is not a finite number, which is stored and flagged.
fn parse_value(value: RawValue<'_>, decimal_mark: DecimalMark) -> Result<f64, &'static str> {
    match value {
        RawValue::Missing => Ok(f64::NAN),
        RawValue::Integer(number) => Ok(number as f64),
        RawValue::Number(number) => Ok(if number.is_finite() { number } else { f64::NAN }),
        RawValue::Flag(on) => Ok(f64::from(u8::from(on))),
        RawValue::Text(text) => decimal_mark.parse_value(text),
        RawValue::InstantUs(_) | RawValue::LocalUs(_) | RawValue::Other(_) => Err(EXPECTED_NUMBER),
    }
}

/// Shows a field to users.
fn format_field(value: RawValue<'_>) -> String {
    match value {
        RawValue::Missing => "null".to_owned(),
        RawValue::Integer(number) => number.to_string(),
        RawValue::Number(number) => number.to_string(),
        RawValue::Flag(on) => on.to_string(),
        RawValue::Text(text) | RawValue::Other(text) => text.to_owned(),
        RawValue::InstantUs(us) => format_time_us(us) + "Z",
        RawValue::LocalUs(us) => format_time_us(us),
    }
}

fn format_time_us(us: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(us);
    at.map_or_else(|_| us.to_string(), |at| jiff::tz::TimeZone::UTC.to_datetime(at).to_string())
}
