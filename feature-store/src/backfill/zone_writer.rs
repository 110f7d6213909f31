use std::{sync::Arc, time::Instant};

use duckdb::{
    Connection,
    arrow::{
        array::{
            ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch as Batch, StringArray,
            TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, new_null_array,
        },
        buffer::{BooleanBuffer, NullBuffer, ScalarBuffer},
        datatypes::DataType,
    },
    params,
};
use recordings::SensorKey;
use telemetry::{ReportSource, ZoneId};

use super::{
    history::{SensorSeries, ZoneHistory},
    pipeline::PipelineOutcome,
};
use crate::{
    StoreError,
    engine::{FeatureRow, ZoneProgress, catalog::FeatureRowSchema},
    store::{build_record_batch, ms_to_micros},
};

/// Log partition of readings from files.
pub(crate) const FILE_PARTITION: i32 = -1;
/// Rows of a chunk, the length of DuckDB's vectors.
const CHUNK_ROWS: usize = 2048;

/// Appends the feature rows of one zone to the store, column by column.
pub(super) struct FeatureRowAppender<'a> {
    appender: duckdb::Appender<'a>,
    zone: &'a ZoneId,
    schema: Arc<FeatureRowSchema>,
    time: Vec<i64>,
    revision: Vec<i64>,
    values: Vec<Vec<f64>>,
    count: u64,
    /// Time spent on writing so far, s.
    pub(super) took_s: f64,
    failed: Option<StoreError>,
}

impl<'a> FeatureRowAppender<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        zone: &'a ZoneId,
        schema: &Arc<FeatureRowSchema>,
    ) -> Result<Self, StoreError> {
        let mut appender = connection.appender_to_db("rows", "features")?;
        for name in ["site", "zone", "time", "revision", "schema_hash"] {
            appender.add_column(name)?;
        }
        for name in &schema.names {
            appender.add_column(name)?;
        }
        let values = schema.names.iter().map(|_| Vec::with_capacity(CHUNK_ROWS)).collect();
        let (time, revision) = (Vec::with_capacity(CHUNK_ROWS), Vec::with_capacity(CHUNK_ROWS));
        let schema = schema.clone();
        Ok(Self {
            appender,
            zone,
            schema,
            time,
            revision,
            values,
            count: 0,
            took_s: 0.0,
            failed: None,
        })
    }

    pub(super) fn push(&mut self, row: &FeatureRow) {
        self.time.push(ms_to_micros(row.at_ms));
        self.revision.push(row.revision);
        // A schema with fewer columns is a prefix of the later one.
        for (column, value) in self.values.iter_mut().zip(row.values.iter()) {
            column.push(*value);
        }
        for column in self.values.iter_mut().skip(row.values.len()) {
            column.push(f64::NAN);
        }
        self.count += 1;
        if self.time.len() == CHUNK_ROWS && self.failed.is_none() {
            let began = Instant::now();
            self.failed = self.append_chunk().err();
            self.took_s += began.elapsed().as_secs_f64();
        }
    }

    fn append_chunk(&mut self) -> Result<(), StoreError> {
        let rows = self.time.len();
        let text = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("site", text(&self.zone.site)),
            ("zone", text(&self.zone.zone)),
            ("time", Arc::new(TimestampMicrosecondArray::from(std::mem::take(&mut self.time)))),
            ("revision", Arc::new(Int64Array::from(std::mem::take(&mut self.revision)))),
            ("schema_hash", text(&self.schema.hash)),
        ];
        for (name, values) in self.schema.names.iter().zip(&mut self.values) {
            columns.push((
                name,
                nan_to_null(std::mem::replace(values, Vec::with_capacity(CHUNK_ROWS))),
            ));
        }
        Ok(self.appender.append_record_batch(build_record_batch(columns)?)?)
    }

    pub(super) fn finish(mut self) -> Result<u64, StoreError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.time.is_empty() {
            self.append_chunk()?;
        }
        self.appender.flush()?;
        Ok(self.count)
    }
}

/// Converts NaN to null.
fn nan_to_null(values: Vec<f64>) -> ArrayRef {
    let nulls = values.iter().any(|value| value.is_nan()).then(|| {
        NullBuffer::new(BooleanBuffer::collect_bool(values.len(), |i| !values[i].is_nan()))
    });
    Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls))
}

/// Stores the progress of a zone, from which live readings continue.
pub(super) fn write_progress(
    connection: &Connection,
    zone: &ZoneId,
    progress: &ZoneProgress,
) -> Result<(), StoreError> {
    let json = serde_json::to_string(progress).expect("progress has only numbers");
    let (newest, oldest_row) =
        (progress.newest_ms.map(ms_to_micros), progress.oldest_row_ms().map(ms_to_micros));
    connection.execute(
        "INSERT OR REPLACE INTO meta.zones (site, zone, partition, newest, oldest_row, progress)
         VALUES (?, ?, ?, make_timestamp(?), make_timestamp(?), ?)",
        params![zone.site.as_str(), zone.zone.as_str(), FILE_PARTITION, newest, oldest_row, json],
    )?;
    Ok(())
}

/// Stores the readings of a zone, as the files have them and with their quality flags.
pub(super) fn write_readings(
    connection: &Connection,
    history: &ZoneHistory,
    outcome: &PipelineOutcome,
    id: u32,
    numbers: &AssignedIds,
) -> Result<(), StoreError> {
    let mut bronze = connection.appender_to_db("recorded", "bronze")?;
    for (series, number) in history.series.iter().zip(&numbers.series) {
        let file = numbers.files[series.file];
        for from in (0..series.len()).step_by(CHUNK_ROWS) {
            let until = series.len().min(from + CHUNK_ROWS);
            bronze.append_record_batch(build_recorded_batch(
                series,
                file,
                *number,
                from..until,
            )?)?;
        }
    }
    bronze.flush()?;
    // In the order of arrival, as the log would have them.
    let mut silver = connection.appender_to_db("data", "silver")?;
    let mut order = history.iter_by_arrival().peekable();
    let mut offset = i64::from(id) << 32;
    while order.peek().is_some() {
        let mut silver_columns = SilverColumns::default();
        for (series, at) in order.by_ref().take(CHUNK_ROWS) {
            let sensor = &history.series[series];
            silver_columns.series.push(numbers.series[series]);
            silver_columns.event.push(ms_to_micros(sensor.event_ms[at]));
            silver_columns.arrival.push(ms_to_micros(sensor.arrival_ms(at)));
            silver_columns.value.push(sensor.value[at]);
            silver_columns.quality.push(outcome.qualities[series][at] as u8);
        }
        let rows = silver_columns.event.len();
        silver.append_record_batch(silver_columns.into_record_batch(offset)?)?;
        offset += rows as i64;
    }
    Ok(silver.flush()?)
}

fn build_recorded_batch(
    series: &SensorSeries,
    file: u32,
    number: u32,
    rows: std::ops::Range<usize>,
) -> Result<Batch, StoreError> {
    let len = rows.len();
    let event = series.event_ms[rows.clone()].iter().map(|ms| ms_to_micros(*ms));
    build_record_batch(vec![
        ("file", Arc::new(UInt32Array::from(vec![file; len]))),
        ("series", Arc::new(UInt32Array::from(vec![number; len]))),
        ("line", Arc::new(UInt32Array::from(series.line[rows.clone()].to_vec()))),
        ("event", Arc::new(TimestampMicrosecondArray::from_iter_values(event))),
        ("value", Arc::new(Float64Array::from(series.value[rows].to_vec()))),
    ])
}

/// Columns of `silver.data`.
#[derive(Default)]
struct SilverColumns {
    series: Vec<u32>,
    event: Vec<i64>,
    arrival: Vec<i64>,
    value: Vec<f64>,
    quality: Vec<u8>,
}

impl SilverColumns {
    fn into_record_batch(self, offset: i64) -> Result<Batch, StoreError> {
        let len = self.event.len();
        build_record_batch(vec![
            ("partition", Arc::new(Int32Array::from(vec![FILE_PARTITION; len]))),
            ("offset", Arc::new(Int64Array::from_iter_values(offset..offset + len as i64))),
            ("item", Arc::new(UInt16Array::from(vec![0; len]))),
            ("series", Arc::new(UInt32Array::from(self.series))),
            ("boot", new_null_array(&DataType::UInt32, len)),
            ("seq", new_null_array(&DataType::UInt64, len)),
            ("source", Arc::new(UInt8Array::from(vec![ReportSource::Backfill as u8; len]))),
            ("event", Arc::new(TimestampMicrosecondArray::from(self.event))),
            ("arrival", Arc::new(TimestampMicrosecondArray::from(self.arrival))),
            ("value", Arc::new(Float64Array::from(self.value))),
            ("quality", Arc::new(UInt8Array::from(self.quality))),
        ])
    }
}

/// Ids of the files and series of a zone.
pub(super) struct AssignedIds {
    pub(super) files: Vec<u32>,
    pub(super) series: Vec<u32>,
}

impl AssignedIds {
    /// Assigns consecutive ids from the first ones. A sensor in several files has one id.
    pub(super) fn assign_from(history: &ZoneHistory, first_file: u32, first_series: u32) -> Self {
        let files = (first_file..).take(history.files.len()).collect();
        let mut series: Vec<u32> = Vec::with_capacity(history.series.len());
        for (i, sensor_series) in history.series.iter().enumerate() {
            let same =
                history.series[..i].iter().position(|other| other.sensor == sensor_series.sensor);
            series.push(same.map_or(first_series + i as u32, |same| series[same]));
        }
        Self { files, series }
    }
}

/// Stores files and series under their ids.
pub(super) fn write_files_and_series(
    connection: &Connection,
    history: &ZoneHistory,
    numbers: &AssignedIds,
) -> Result<(), StoreError> {
    let mut files = connection.appender_to_db("files", "bronze")?;
    for (number, file) in numbers.files.iter().zip(&history.files) {
        let path = file.path.to_string_lossy();
        files.append_row(params![number, path, file.bytes, file.sha256])?;
    }
    files.flush()?;
    let mut series = connection.appender_to_db("series", "silver")?;
    for (i, sensor_series) in history.series.iter().enumerate() {
        let number = numbers.series[i];
        if numbers.series[..i].contains(&number) {
            continue;
        }
        let SensorKey { zone, device, metric } = &*sensor_series.sensor;
        let [site, zone, device, metric] =
            [&zone.site, &zone.zone, device, metric].map(|s| s.as_str());
        series.append_row(params![number, site, zone, device, metric])?;
    }
    Ok(series.flush()?)
}
