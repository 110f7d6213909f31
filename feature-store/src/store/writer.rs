use std::{collections::HashSet, sync::Arc};

use duckdb::{
    Connection,
    arrow::array::{
        ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
        UInt32Array,
    },
    params,
};
use telemetry::SmolStr;

use super::{
    columns::{build_record_batch, ms_to_micros},
    name_dictionary::NewNameEntries,
    quote_identifier, restore,
    write_batch::WriteBatch,
};
use crate::{
    StoreError,
    engine::{FeatureRow, catalog::FeatureRowSchema},
    watch,
};

/// Rows that are converted to columns at once: as many as DuckDB takes in one step, and few
/// enough for the processor's cache.
const ROWS_AT_ONCE: usize = 2048;

/// The only writer of the file.
#[derive(Debug)]
pub(crate) struct StoreWriter {
    connection: Connection,
    /// Feature columns of the table.
    columns: HashSet<SmolStr>,
    schemas: HashSet<SmolStr>,
    metrics: usize,
}

impl StoreWriter {
    pub(crate) fn new(connection: Connection) -> Result<Self, StoreError> {
        connection.execute_batch(
            "CREATE TEMPORARY TABLE progress (site VARCHAR, zone VARCHAR, partition INTEGER, newest TIMESTAMP, oldest_row TIMESTAMP, progress VARCHAR)",
        )?;
        let columns = restore::read_feature_columns(&connection, "rows")?.into_iter().collect();
        let metrics = restore::read_metrics(&connection)?.len();
        Ok(Self { connection, columns, schemas: HashSet::new(), metrics })
    }

    /// Writes a batch, all of it or nothing.
    pub(crate) fn commit_batch(&mut self, batch: WriteBatch) -> Result<(), StoreError> {
        for row in batch.rows.chunk_by(|a, b| Arc::ptr_eq(&a.schema, &b.schema)) {
            self.add_missing_columns(&row[0].schema)?;
        }
        let WriteBatch {
            records,
            readings,
            rows,
            positions,
            progress,
            metrics,
            names,
            tally,
            touched,
            watched,
            ..
        } = batch;
        let transaction = self.connection.transaction()?;
        append_batch(&transaction, "bronze", "records", records.into_record_batch()?)?;
        append_batch(&transaction, "silver", "data", readings.into_record_batch()?)?;
        write_names(&transaction, &names)?;
        write_rows(&transaction, &rows, "rows")?;
        for (partition, next) in &positions {
            transaction.execute(
                "INSERT OR REPLACE INTO meta.positions VALUES (?, ?)",
                params![partition, next],
            )?;
        }
        if !progress.is_empty() {
            let text = |of: &dyn Fn(usize) -> String| -> ArrayRef {
                Arc::new(StringArray::from_iter_values((0..progress.len()).map(of)))
            };
            let partitions = progress.iter().map(|(_, partition, _)| *partition);
            let newest =
                progress.iter().map(|(_, _, progress)| progress.newest_ms.map(ms_to_micros));
            let oldest_row =
                progress.iter().map(|(_, _, progress)| progress.oldest_row_ms().map(ms_to_micros));
            let json = |i: usize| {
                serde_json::to_string(&progress[i].2).expect("progress has only numbers")
            };
            let staged = build_record_batch(vec![
                ("site", text(&|i| progress[i].0.site.to_string())),
                ("zone", text(&|i| progress[i].0.zone.to_string())),
                ("partition", Arc::new(Int32Array::from_iter_values(partitions))),
                ("newest", Arc::new(newest.collect::<TimestampMicrosecondArray>())),
                ("oldest_row", Arc::new(oldest_row.collect::<TimestampMicrosecondArray>())),
                ("progress", text(&json)),
            ])?;
            let mut appender =
                transaction.appender_to_catalog_and_db("progress", "temp", "main")?;
            appender.append_record_batch(staged)?;
            appender.flush()?;
            transaction.execute_batch(
                "INSERT OR REPLACE INTO meta.zones BY NAME FROM temp.progress;
                 DELETE FROM temp.progress;",
            )?;
        }
        for (position, metric) in metrics.iter().enumerate().skip(self.metrics) {
            transaction.execute(
                "INSERT INTO meta.metrics VALUES (?, ?)",
                params![position as i64, metric.as_str()],
            )?;
        }
        for (name, count) in tally.iter_named().filter(|(_, count)| *count > 0) {
            transaction.execute(
                "INSERT INTO meta.counters VALUES (?, ?)
                 ON CONFLICT DO UPDATE SET count = count + excluded.count",
                params![name, count],
            )?;
        }
        touched.write_hours(&transaction)?;
        if let Some(file) = &watched {
            watch::record_watched_file(&transaction, file)?;
        }
        transaction.commit()?;
        self.metrics = self.metrics.max(metrics.len());
        Ok(())
    }

    /// Adds missing feature columns, before the transaction. An extra column is harmless, and
    /// DuckDB cannot append to a table that the same transaction has altered.
    fn add_missing_columns(&mut self, schema: &Arc<FeatureRowSchema>) -> Result<(), StoreError> {
        if self.schemas.contains(&schema.hash) {
            return Ok(());
        }
        for name in schema.names.iter().filter(|name| !self.columns.contains(*name)) {
            let column = quote_identifier(name);
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

    /// Returns the connection, for further transactions of the only writer.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Copies the write-ahead log into the file.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("CHECKPOINT")?)
    }
}

fn append_batch(
    connection: &Connection,
    schema: &str,
    name: &str,
    rows: duckdb::arrow::array::RecordBatch,
) -> Result<(), StoreError> {
    if rows.num_rows() > 0 {
        let mut appender = connection.appender_to_db(name, schema)?;
        appender.append_record_batch(rows)?;
        appender.flush()?;
    }
    Ok(())
}

fn write_names(connection: &Connection, names: &NewNameEntries) -> Result<(), StoreError> {
    let NewNameEntries { series, boots } = names;
    let text = |names: &mut dyn Iterator<Item = &SmolStr>| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(names))
    };
    let of_series = build_record_batch(vec![
        ("id", Arc::new(UInt32Array::from_iter_values(series.iter().map(|one| one.id)))),
        ("site", text(&mut series.iter().map(|one| &one.zone.site))),
        ("zone", text(&mut series.iter().map(|one| &one.zone.zone))),
        ("device", text(&mut series.iter().map(|one| &one.device))),
        ("metric", text(&mut series.iter().map(|one| &one.metric))),
    ])?;
    let of_boots = build_record_batch(vec![
        ("id", Arc::new(UInt32Array::from_iter_values(boots.iter().map(|(id, _)| *id)))),
        ("boot", text(&mut boots.iter().map(|(_, boot)| boot))),
    ])?;
    append_batch(connection, "silver", "series", of_series)?;
    append_batch(connection, "silver", "boots", of_boots)
}

/// Appends rows, by chunks of one schema. Rows of one schema follow one another, because columns
/// are only added at the end, and seldom.
pub(super) fn write_rows(
    connection: &Connection,
    rows: &[FeatureRow],
    name: &str,
) -> Result<(), StoreError> {
    for rows in rows.chunk_by(|a, b| Arc::ptr_eq(&a.schema, &b.schema)) {
        let schema = &rows[0].schema;
        let mut appender = connection.appender_to_db(name, "features")?;
        for name in ["site", "zone", "time", "revision", "schema_hash"] {
            appender.add_column(name)?;
        }
        for name in &schema.names {
            appender.add_column(name)?;
        }
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let text = |of: &dyn Fn(&FeatureRow) -> &str| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
            };
            let at = rows.iter().map(|row| ms_to_micros(row.at_ms));
            let revision = rows.iter().map(|row| row.revision);
            let mut columns: Vec<(&str, ArrayRef)> = vec![
                ("site", text(&|row| row.zone.site.as_str())),
                ("zone", text(&|row| row.zone.zone.as_str())),
                ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(at))),
                ("revision", Arc::new(Int64Array::from_iter_values(revision))),
                ("schema_hash", text(&|row| row.schema.hash.as_str())),
            ];
            for (i, name) in schema.names.iter().enumerate() {
                let values =
                    rows.iter().map(|row| Some(row.values[i]).filter(|value| !value.is_nan()));
                columns.push((name, Arc::new(values.collect::<Float64Array>())));
            }
            appender.append_record_batch(build_record_batch(columns)?)?;
        }
        appender.flush()?;
    }
    Ok(())
}
