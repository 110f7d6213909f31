use std::{collections::HashSet, sync::Arc};

use duckdb::{
    Connection,
    arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray},
    params,
};
use eventlog::Positions;
use telemetry::{Quality, SmolStr, ZoneId};

use super::{
    columns::{Readings, Records, micros, table},
    quoted, restore,
};
use crate::{
    StoreError,
    engine::{Progress, Row, catalog::Schema},
    intake::Arrived,
    kpi, watch,
};

/// Everything that one transaction holds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// In the order of the log.
    pub(crate) arrived: Vec<Arrived>,
    /// One for each reading of `arrived`, in order.
    pub(crate) qualities: Vec<Quality>,
    /// Rows that became final.
    pub(crate) rows: Vec<Row>,
    /// Where to read on.
    pub(crate) positions: Positions,
    /// How far the zones have come.
    pub(crate) progress: Vec<(ZoneId, Progress)>,
    /// Metrics in the order of their columns.
    pub(crate) metrics: Vec<SmolStr>,
    /// Hours whose KPIs do not know of its readings.
    pub(crate) touched: kpi::Touched,
    /// The file of the watched folder that all of it came from.
    pub(crate) watched: Option<watch::File>,
}

/// The one writer of the file.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: Connection,
    /// The feature columns that the table has.
    columns: HashSet<SmolStr>,
    schemas: HashSet<SmolStr>,
    metrics: usize,
}

impl Writer {
    pub(crate) fn new(connection: Connection) -> Result<Self, StoreError> {
        let columns = restore::feature_columns(&connection)?.into_iter().collect();
        let metrics = restore::metrics(&connection)?.len();
        Ok(Self { connection, columns, schemas: HashSet::new(), metrics })
    }

    /// Writes a batch: all of it or nothing.
    pub(crate) fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for row in &batch.rows {
            self.make_columns(&row.schema)?;
        }
        let transaction = self.connection.transaction()?;
        write_records(&transaction, batch)?;
        write_rows(&transaction, &batch.rows)?;
        for (partition, next) in &batch.positions {
            transaction.execute(
                "INSERT OR REPLACE INTO meta.positions VALUES (?, ?)",
                params![partition, next],
            )?;
        }
        for (zone, progress) in &batch.progress {
            let json = serde_json::to_string(progress).expect("progress has only numbers");
            transaction.execute(
                "INSERT OR REPLACE INTO meta.zones VALUES (?, ?, make_timestamp(?), ?)",
                params![
                    zone.site.as_str(),
                    zone.zone.as_str(),
                    progress.newest_ms.map(micros),
                    json
                ],
            )?;
        }
        for (position, metric) in batch.metrics.iter().enumerate().skip(self.metrics) {
            transaction.execute(
                "INSERT INTO meta.metrics VALUES (?, ?)",
                params![position as i64, metric.as_str()],
            )?;
        }
        batch.touched.write(&transaction)?;
        if let Some(file) = &batch.watched {
            watch::note(&transaction, file)?;
        }
        transaction.commit()?;
        self.metrics = self.metrics.max(batch.metrics.len());
        Ok(())
    }

    /// Adds what the table has not. By itself before the transaction: a column
    /// too many is harmless, and DuckDB does not append to a table that the
    /// same transaction alters.
    fn make_columns(&mut self, schema: &Arc<Schema>) -> Result<(), StoreError> {
        if self.schemas.contains(&schema.hash) {
            return Ok(());
        }
        for name in schema.names.iter().filter(|name| !self.columns.contains(*name)) {
            let column = quoted(name);
            self.connection.execute_batch(&format!(
                "ALTER TABLE features.rows ADD COLUMN IF NOT EXISTS {column} DOUBLE"
            ))?;
        }
        self.columns.extend(schema.names.iter().cloned());
        let names: Vec<String> =
            schema.names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
        self.connection.execute_batch(&format!(
            "INSERT OR IGNORE INTO meta.schemas VALUES ('{}', [{}])",
            schema.hash,
            names.join(", ")
        ))?;
        self.schemas.insert(schema.hash.clone());
        Ok(())
    }

    /// The connection, for further transactions of the one writer.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Copies the write-ahead log into the file.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("CHECKPOINT")?)
    }
}

fn write_records(connection: &Connection, batch: &Batch) -> Result<(), StoreError> {
    if batch.arrived.is_empty() {
        return Ok(());
    }
    let (mut records, mut readings) = (Records::default(), Readings::default());
    let mut qualities = batch.qualities.iter();
    for Arrived { entry, report } in &batch.arrived {
        let arrival_ms =
            report.as_ref().map_or(entry.record.timestamp_ms, |report| report.arrival_ms);
        records.partition.append_value(entry.partition);
        records.offset.append_value(entry.offset);
        records.key.append_value(&entry.record.key);
        records.arrival.append_value(micros(arrival_ms));
        records.payload.append_value(&entry.record.payload);
        records.reject.append_option(report.as_ref().err());
        let Ok(report) = report else { continue };
        for (item, (reading, quality)) in report.readings.iter().zip(&mut qualities).enumerate() {
            readings.partition.append_value(entry.partition);
            readings.offset.append_value(entry.offset);
            readings.item.append_value(i32::try_from(item).unwrap_or(i32::MAX));
            readings.site.append_value(&report.zone.site);
            readings.zone.append_value(&report.zone.zone);
            readings.device.append_value(&report.device);
            readings.boot.append_option(report.boot.as_ref());
            readings.seq.append_option(report.seq);
            readings.source.append_value(report.source.as_str());
            readings.metric.append_value(&reading.metric);
            readings.event.append_value(micros(reading.event_ms));
            readings.arrival.append_value(micros(report.arrival_ms));
            readings.value.append_value(reading.value);
            readings.quality.append_value(quality.as_str());
        }
    }
    let mut appender = connection.appender_to_db("records", "bronze")?;
    appender.append_record_batch(records.finish()?)?;
    appender.flush()?;
    let mut appender = connection.appender_to_db("readings", "silver")?;
    appender.append_record_batch(readings.finish()?)?;
    appender.flush()?;
    Ok(())
}

/// Rows of one schema follow one another: columns are added at the end, and
/// seldom.
fn write_rows(connection: &Connection, rows: &[Row]) -> Result<(), StoreError> {
    for rows in rows.chunk_by(|a, b| Arc::ptr_eq(&a.schema, &b.schema)) {
        let schema = &rows[0].schema;
        let text = |of: &dyn Fn(&Row) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let at = rows.iter().map(|row| micros(row.at_ms));
        let revision = rows.iter().map(|row| row.revision);
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("site", text(&|row| row.zone.site.as_str())),
            ("zone", text(&|row| row.zone.zone.as_str())),
            ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(at))),
            ("revision", Arc::new(Int64Array::from_iter_values(revision))),
            ("schema_hash", text(&|row| row.schema.hash.as_str())),
        ];
        for (i, name) in schema.names.iter().enumerate() {
            let values = rows.iter().map(|row| Some(row.values[i]).filter(|value| !value.is_nan()));
            columns.push((name, Arc::new(values.collect::<Float64Array>())));
        }
        let mut appender = connection.appender_to_db("rows", "features")?;
        for (name, _) in &columns {
            appender.add_column(name)?;
        }
        appender.append_record_batch(table(columns)?)?;
        appender.flush()?;
    }
    Ok(())
}
