use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, RecordBatch, StringArray,
    cast::AsArray,
    types::{Float64Type, Int64Type, UInt64Type},
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Schema, TimeUnit};
use pyo3::prelude::*;
use telemetry::{ReportSource, SmolStr, ZoneId};

use crate::{config::EngineConfig, errors::InputError};

/// Readings of a frame, by zone.
#[derive(Debug, Default)]
pub(crate) struct FrameReadings {
    pub(crate) zones: Vec<ZoneInputReadings>,
    zone_numbers: HashMap<ZoneId, usize>,
    /// Devices, metrics and runs by the numbers that readings have.
    pub(crate) devices: NameTable,
    pub(crate) metrics: NameTable,
    pub(crate) boots: NameTable,
    /// Rows read so far, for messages.
    rows: u64,
    pub(crate) has_arrivals: bool,
    pub(crate) has_runs: bool,
    pub(crate) has_sources: bool,
}

/// Readings of one zone in the order of the frame.
#[derive(Debug)]
pub(crate) struct ZoneInputReadings {
    pub(crate) zone: ZoneId,
    pub(crate) readings: Vec<FrameReading>,
}

/// One reading, with numbers in place of names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameReading {
    pub(crate) event_ms: i64,
    pub(crate) arrival_ms: i64,
    pub(crate) value: f64,
    pub(crate) device: u32,
    pub(crate) metric: u32,
    /// Run and sequence number, if the frame has them.
    pub(crate) run: Option<(u32, u64)>,
    pub(crate) source: ReportSource,
    /// Row of the frame, from 0.
    pub(crate) row: u64,
}

/// Names by number, in the order of their first use.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    pub(crate) names: Vec<SmolStr>,
    numbers: HashMap<SmolStr, u32>,
}

impl NameTable {
    fn number_of(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }
}

/// Columns that a frame of readings can have.
const ZONE: &str = "zone";
const SITE: &str = "site";
const DEVICE: &str = "device";
const METRIC: &str = "metric";
const VALUE: &str = "value";
const EVENT: [&str; 3] = ["event", "time", "event_ms"];
const ARRIVAL: [&str; 2] = ["arrival", "arrival_ms"];
const BOOT: &str = "boot";
const SEQ: &str = "seq";
const SOURCE: &str = "source";

/// Device of readings in a frame without the column.
const NO_DEVICE: &str = "-";

/// Where the readings of a frame are.
#[derive(Debug)]
pub(crate) struct FrameLayout {
    zone: usize,
    site: Option<usize>,
    device: Option<usize>,
    event: usize,
    arrival: Option<usize>,
    boot: Option<usize>,
    seq: Option<usize>,
    source: Option<usize>,
    values: InputValueColumns,
}

/// A row of a long frame has one reading, a row of a wide frame one for each metric.
#[derive(Debug)]
enum InputValueColumns {
    Long { metric: usize, value: usize },
    Wide(Vec<(SmolStr, usize)>),
}

impl FrameLayout {
    /// Finds the columns of readings in a schema.
    pub(crate) fn from_schema(schema: &Schema, config: &EngineConfig) -> PyResult<Self> {
        let find = |name: &str| schema.fields().iter().position(|field| field.name() == name);
        let find_time = |names: &[&str]| {
            let mut found = names.iter().filter_map(|name| find(name));
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => Err(InputError::new_err(format!(
                    "the frame has more than one of the columns {}",
                    names.join(", ")
                ))),
                (found, _) => Ok(found),
            }
        };
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let missing = |what: &str| {
            InputError::new_err(format!(
                "the frame has no column {what}; its columns are {}",
                names.join(", ")
            ))
        };
        let zone = find(ZONE).ok_or_else(|| missing("`zone`"))?;
        let event = find_time(&EVENT)?
            .ok_or_else(|| missing("`event` or `time` (timestamps), or `event_ms`"))?;
        let arrival = find_time(&ARRIVAL)?;
        let [site, device, boot, seq, source] = [SITE, DEVICE, BOOT, SEQ, SOURCE].map(find);
        if boot.is_some() != seq.is_some() {
            return Err(InputError::new_err("`boot` and `seq` belong together; one is missing"));
        }
        let values = match (find(METRIC), find(VALUE)) {
            (Some(metric), Some(value)) => InputValueColumns::Long { metric, value },
            (None, None) => {
                let known = [Some(zone), Some(event), arrival, site, device, boot, seq, source];
                let mut wide = Vec::new();
                for (at, name) in names.iter().enumerate() {
                    if !known.contains(&Some(at)) {
                        config.check_metric(name)?;
                        wide.push((SmolStr::from(*name), at));
                    }
                }
                if wide.is_empty() {
                    return Err(missing("`metric` and `value`, nor one named as a metric"));
                }
                InputValueColumns::Wide(wide)
            }
            (Some(_), None) => return Err(missing("`value` beside `metric`")),
            (None, Some(_)) => return Err(missing("`metric` beside `value`")),
        };
        Ok(Self { zone, site, device, event, arrival, boot, seq, source, values })
    }
}

impl FrameReadings {
    /// Adds the readings of a batch. `source` is that of frames without the column.
    pub(crate) fn add_batch(
        &mut self,
        batch: &RecordBatch,
        layout: &FrameLayout,
        config: &EngineConfig,
        source: ReportSource,
    ) -> PyResult<()> {
        let column = |at: usize| batch.column(at);
        let name = |at: usize| batch.schema_ref().field(at).name().clone();
        let text = |at: usize| cast_to_text(column(at), &name(at));
        let zones = text(layout.zone)?;
        let sites = layout.site.map(text).transpose()?;
        let devices = layout.device.map(text).transpose()?;
        let boots = layout.boot.map(text).transpose()?;
        let sources = layout.source.map(text).transpose()?;
        let events = InputTimeColumn::new(column(layout.event), &name(layout.event))?;
        let arrivals =
            layout.arrival.map(|at| InputTimeColumn::new(column(at), &name(at))).transpose()?;
        let seqs =
            layout.seq.map(|at| cast_to(column(at), &DataType::UInt64, &name(at))).transpose()?;
        let seqs = seqs.as_ref().map(|seqs| seqs.as_primitive::<UInt64Type>());
        let long = match &layout.values {
            InputValueColumns::Long { metric, .. } => Some(text(*metric)?),
            InputValueColumns::Wide(_) => None,
        };
        let value_columns: Vec<(Option<u32>, ArrayRef)> = match &layout.values {
            InputValueColumns::Long { value, .. } => {
                vec![(None, cast_to(column(*value), &DataType::Float64, &name(*value))?)]
            }
            InputValueColumns::Wide(wide) => wide
                .iter()
                .map(|(metric, at)| {
                    let values = cast_to(column(*at), &DataType::Float64, metric)?;
                    Ok((Some(self.metrics.number_of(metric)), values))
                })
                .collect::<PyResult<_>>()?,
        };
        self.has_arrivals |= arrivals.is_some();
        self.has_runs |= seqs.is_some();
        self.has_sources |= sources.is_some();
        let mut last_zone: Option<usize> = None;
        for at in 0..batch.num_rows() {
            let row = self.rows + at as u64;
            let absent = |column: &str| {
                InputError::new_err(format!("row {row}: `{column}` is null, expected a value"))
            };
            let zone = (!zones.is_null(at)).then(|| zones.value(at)).ok_or_else(|| absent(ZONE))?;
            let site = match &sites {
                Some(sites) if sites.is_null(at) => return Err(absent(SITE)),
                Some(sites) => Some(sites.value(at)),
                None => None,
            };
            let number = match last_zone {
                Some(number) if is_zone(&self.zones[number].zone, site, zone) => number,
                _ => self.find_or_add_zone(site, zone, row)?,
            };
            last_zone = Some(number);
            let event_ms = events.value_ms(at).ok_or_else(|| absent("event"))?;
            let arrival_ms = match &arrivals {
                // A recording may have arrivals of some readings only.
                Some(arrivals) => arrivals.value_ms(at).unwrap_or(event_ms),
                None => event_ms,
            };
            let device = match &devices {
                Some(devices) if !devices.is_null(at) => devices.value(at),
                _ => NO_DEVICE,
            };
            let device = self.devices.number_of(device);
            let run = match (&boots, seqs) {
                (Some(boots), Some(seqs)) if !boots.is_null(at) && !seqs.is_null(at) => {
                    Some((self.boots.number_of(boots.value(at)), seqs.value(at)))
                }
                _ => None,
            };
            let source = match &sources {
                Some(sources) if !sources.is_null(at) => parse_source(sources.value(at), row)?,
                _ => source,
            };
            for (metric, values) in &value_columns {
                let values = values.as_primitive::<Float64Type>();
                let (metric, value) = match (metric, &long) {
                    // A wide row without a value has no reading of the metric.
                    (Some(_), _) if values.is_null(at) => continue,
                    (Some(metric), _) => (*metric, values.value(at)),
                    (None, Some(metrics)) => {
                        let name = (!metrics.is_null(at)).then(|| metrics.value(at));
                        let name = name.ok_or_else(|| absent(METRIC))?;
                        let known = self.metrics.names.len();
                        let metric = self.metrics.number_of(name);
                        if self.metrics.names.len() > known {
                            config.check_metric(name).map_err(|error| at_row(row, error))?;
                        }
                        let value = if values.is_null(at) { f64::NAN } else { values.value(at) };
                        (metric, value)
                    }
                    (None, None) => unreachable!("a long frame has metrics"),
                };
                self.zones[number].readings.push(FrameReading {
                    event_ms,
                    arrival_ms,
                    value,
                    device,
                    metric,
                    run,
                    source,
                    row,
                });
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn find_or_add_zone(&mut self, site: Option<&str>, zone: &str, row: u64) -> PyResult<usize> {
        let text = site.map_or_else(|| zone.to_owned(), |site| format!("{site}/{zone}"));
        let id: ZoneId = text.parse().map_err(|error| {
            let what = format!("row {row}: {error}; or give the site in a column `site`");
            InputError::new_err(what)
        })?;
        if let Some(number) = self.zone_numbers.get(&id) {
            return Ok(*number);
        }
        self.zone_numbers.insert(id.clone(), self.zones.len());
        self.zones.push(ZoneInputReadings { zone: id, readings: Vec::new() });
        Ok(self.zones.len() - 1)
    }
}

fn at_row(row: u64, error: PyErr) -> PyErr {
    InputError::new_err(format!("row {row}: {error}"))
}

fn is_zone(id: &ZoneId, site: Option<&str>, zone: &str) -> bool {
    match site {
        Some(site) => id.site == site && id.zone == zone,
        None => zone.split_once('/').is_some_and(|(site, zone)| id.site == site && id.zone == zone),
    }
}

fn parse_source(name: &str, row: u64) -> PyResult<ReportSource> {
    ReportSource::ALL.into_iter().find(|source| source.as_str() == name).ok_or_else(|| {
        let known = ReportSource::ALL.map(ReportSource::as_str).join(", ");
        InputError::new_err(format!("row {row}: `{name}` is not a source, expected one of {known}"))
    })
}

/// Casts a column. Values that do not fit are an error, never null.
fn cast_to(column: &ArrayRef, to: &DataType, name: &str) -> PyResult<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let is_number = column.data_type().is_numeric()
        || matches!(column.data_type(), DataType::Boolean | DataType::Null);
    if !is_number {
        let found = column.data_type();
        return Err(InputError::new_err(format!("`{name}` is {found}, expected numbers")));
    }
    cast_with_options(column, to, &options)
        .map_err(|error| InputError::new_err(format!("`{name}`: {error}")))
}

/// Returns a column of text, whatever its encoding.
fn cast_to_text(column: &ArrayRef, name: &str) -> PyResult<StringArray> {
    let is_text = |data_type: &DataType| {
        matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    };
    let found = column.data_type();
    let encoded = match found {
        DataType::Dictionary(_, value) => value,
        other => other,
    };
    if !is_text(encoded) && !matches!(encoded, DataType::Null) {
        return Err(InputError::new_err(format!("`{name}` is {found}, expected text")));
    }
    let cast = cast_with_options(column, &DataType::Utf8, &CastOptions::default())
        .map_err(|error| InputError::new_err(format!("`{name}`: {error}")))?;
    Ok(cast.as_string::<i32>().clone())
}

/// Times as milliseconds.
#[derive(Debug)]
struct InputTimeColumn {
    numbers: ArrayRef,
    multiply: i64,
    divide: i64,
}

impl InputTimeColumn {
    /// Reads timestamps of any unit and time zone, or whole milliseconds. Timestamps without a
    /// time zone are UTC.
    fn new(column: &ArrayRef, name: &str) -> PyResult<Self> {
        let (multiply, divide) = match column.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => (1000, 1),
            DataType::Timestamp(TimeUnit::Millisecond, _) => (1, 1),
            DataType::Timestamp(TimeUnit::Microsecond, _) => (1, 1000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => (1, 1_000_000),
            found if found.is_integer() && name.ends_with("_ms") => (1, 1),
            found if found.is_integer() => {
                let what = format!(
                    "`{name}` is {found}, expected timestamps; name milliseconds `{name}_ms`"
                );
                return Err(InputError::new_err(what));
            }
            found => {
                let what = format!("`{name}` is {found}, expected timestamps");
                return Err(InputError::new_err(what));
            }
        };
        let numbers = cast_with_options(
            column,
            &DataType::Int64,
            &CastOptions { safe: false, ..CastOptions::default() },
        )
        .map_err(|error| InputError::new_err(format!("`{name}`: {error}")))?;
        Ok(Self { numbers: Arc::clone(&numbers), multiply, divide })
    }

    /// Returns a time, ms; finer parts are dropped.
    fn value_ms(&self, at: usize) -> Option<i64> {
        let numbers = self.numbers.as_primitive::<Int64Type>();
        let number = (!numbers.is_null(at)).then(|| numbers.value(at))?;
        Some(number.saturating_mul(self.multiply).div_euclid(self.divide))
    }
}
