//! Columns in Arrow for DuckDB, which grow record by record.

use std::sync::Arc;

use duckdb::arrow::{
    array::{
        ArrayRef, BinaryBuilder, Float64Array, Int32Array, Int64Array, RecordBatch, StringBuilder,
        TimestampMicrosecondArray, UInt8Array, UInt32Array, UInt32Builder, UInt64Builder,
    },
    datatypes::{Field, Schema},
};

use crate::StoreError;

/// Columns of `bronze.records`.
#[derive(Debug, Default)]
pub(super) struct RecordColumns {
    pub(super) partition: Vec<i32>,
    pub(super) offset: Vec<i64>,
    pub(super) key: StringBuilder,
    pub(super) arrival: Vec<i64>,
    pub(super) payload: BinaryBuilder,
    pub(super) reject: StringBuilder,
}

impl RecordColumns {
    pub(super) fn into_record_batch(mut self) -> Result<RecordBatch, StoreError> {
        build_record_batch(vec![
            ("partition", Arc::new(Int32Array::from(self.partition))),
            ("offset", Arc::new(Int64Array::from(self.offset))),
            ("key", Arc::new(self.key.finish())),
            ("arrival", Arc::new(TimestampMicrosecondArray::from(self.arrival))),
            ("payload", Arc::new(self.payload.finish())),
            ("reject", Arc::new(self.reject.finish())),
        ])
    }
}

/// Columns of `silver.data`; times in microseconds.
#[derive(Debug, Default)]
pub(super) struct ReadingColumns {
    pub(super) partition: Vec<i32>,
    pub(super) offset: Vec<i64>,
    pub(super) item: Vec<u32>,
    pub(super) series: Vec<u32>,
    pub(super) boot: UInt32Builder,
    pub(super) seq: UInt64Builder,
    pub(super) source: Vec<u8>,
    pub(super) event: Vec<i64>,
    pub(super) arrival: Vec<i64>,
    pub(super) value: Vec<f64>,
    pub(super) quality: Vec<u8>,
}

impl ReadingColumns {
    pub(super) fn into_record_batch(mut self) -> Result<RecordBatch, StoreError> {
        build_record_batch(vec![
            ("partition", Arc::new(Int32Array::from(self.partition))),
            ("offset", Arc::new(Int64Array::from(self.offset))),
            ("item", Arc::new(UInt32Array::from(self.item))),
            ("series", Arc::new(UInt32Array::from(self.series))),
            ("boot", Arc::new(self.boot.finish())),
            ("seq", Arc::new(self.seq.finish())),
            ("source", Arc::new(UInt8Array::from(self.source))),
            ("event", Arc::new(TimestampMicrosecondArray::from(self.event))),
            ("arrival", Arc::new(TimestampMicrosecondArray::from(self.arrival))),
            ("value", Arc::new(Float64Array::from(self.value))),
            ("quality", Arc::new(UInt8Array::from(self.quality))),
        ])
    }
}

pub(crate) fn build_record_batch(
    columns: Vec<(&str, ArrayRef)>,
) -> Result<RecordBatch, StoreError> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Converts milliseconds to microseconds, as DuckDB stores them. Times out of its range become
/// its first or last time.
pub(crate) fn ms_to_micros(ms: i64) -> i64 {
    ms.saturating_mul(1000).clamp(FIRST_MICROS, LAST_MICROS)
}

/// DuckDB's first time; earlier ones cannot be printed.
const FIRST_MICROS: i64 = -9_223_372_022_400_000_000;
/// DuckDB's last time; the next value means infinity.
const LAST_MICROS: i64 = i64::MAX - 1;
