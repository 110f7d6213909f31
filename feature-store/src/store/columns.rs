//! Arrow columns, built row by row.

use std::sync::Arc;

use duckdb::arrow::{
    array::{
        ArrayRef, BinaryBuilder, Float64Builder, Int32Builder, Int64Builder, RecordBatch,
        StringBuilder, TimestampMicrosecondBuilder, UInt64Builder,
    },
    datatypes::{Field, Schema},
};

use crate::StoreError;

/// The columns of `bronze.records`.
#[derive(Default)]
pub(super) struct Records {
    pub(super) partition: Int32Builder,
    pub(super) offset: Int64Builder,
    pub(super) key: StringBuilder,
    pub(super) arrival: TimestampMicrosecondBuilder,
    pub(super) payload: BinaryBuilder,
    pub(super) reject: StringBuilder,
}

impl Records {
    pub(super) fn finish(mut self) -> Result<RecordBatch, StoreError> {
        table(vec![
            ("partition", Arc::new(self.partition.finish())),
            ("offset", Arc::new(self.offset.finish())),
            ("key", Arc::new(self.key.finish())),
            ("arrival", Arc::new(self.arrival.finish())),
            ("payload", Arc::new(self.payload.finish())),
            ("reject", Arc::new(self.reject.finish())),
        ])
    }
}

/// The columns of `silver.readings`.
#[derive(Default)]
pub(super) struct Readings {
    pub(super) partition: Int32Builder,
    pub(super) offset: Int64Builder,
    pub(super) item: Int32Builder,
    pub(super) site: StringBuilder,
    pub(super) zone: StringBuilder,
    pub(super) device: StringBuilder,
    pub(super) boot: StringBuilder,
    pub(super) seq: UInt64Builder,
    pub(super) source: StringBuilder,
    pub(super) metric: StringBuilder,
    pub(super) event: TimestampMicrosecondBuilder,
    pub(super) arrival: TimestampMicrosecondBuilder,
    pub(super) value: Float64Builder,
    pub(super) quality: StringBuilder,
}

impl Readings {
    pub(super) fn finish(mut self) -> Result<RecordBatch, StoreError> {
        table(vec![
            ("partition", Arc::new(self.partition.finish())),
            ("offset", Arc::new(self.offset.finish())),
            ("item", Arc::new(self.item.finish())),
            ("site", Arc::new(self.site.finish())),
            ("zone", Arc::new(self.zone.finish())),
            ("device", Arc::new(self.device.finish())),
            ("boot", Arc::new(self.boot.finish())),
            ("seq", Arc::new(self.seq.finish())),
            ("source", Arc::new(self.source.finish())),
            ("metric", Arc::new(self.metric.finish())),
            ("event", Arc::new(self.event.finish())),
            ("arrival", Arc::new(self.arrival.finish())),
            ("value", Arc::new(self.value.finish())),
            ("quality", Arc::new(self.quality.finish())),
        ])
    }
}

pub(crate) fn table(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, StoreError> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Storage keeps microseconds; a time that they cannot hold is at the end of
/// what they can.
pub(crate) const fn micros(ms: i64) -> i64 {
    ms.saturating_mul(1000)
}
