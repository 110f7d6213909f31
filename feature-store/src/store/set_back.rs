use crate::sql_expressions::open_engine;
use feature_engine::sql::SqlReading;
use std::sync::Arc;

use duckdb::{
    Connection,
    arrow::array::{Int32Array, Int64Array, UInt8Array, UInt32Array},
    params,
};
use telemetry::{MetricTable, QualityFlag, ZoneId};

use super::{
    columns::{build_record_batch, ms_to_micros},
    restore,
    stored_reports::{StoredReadingKey, StoredReport, for_each_stored_report, zone_predicate_sql},
    writer::write_rows,
};
use crate::{
    FeatureStoreSettings, StoreError,
    engine::{EngineOutput, FeatureRow, IngestBatch, ZoneProgress},
    kpi,
    lake::LakeReader,
};

/// Number of rows that are written at once.
const ROWS_AT_ONCE: usize = 20_000;

/// Result of setting a zone back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetBackSummary {
    /// Readings that are now flagged `future`.
    pub future: u64,
    /// Readings that were flagged before and are valid now.
    pub admitted: u64,
    /// Numbers of feature rows deleted and written.
    pub rows: (u64, u64),
    /// Change in the number of readings of each quality, in the order of [`QualityFlag::ALL`].
    pub by_quality: [i64; QualityFlag::ALL.len()],
}

/// Sets a zone back, in a file that no feature store has open: flags readings after `after_ms`
/// (UTC milliseconds) as `future`, and admits the readings that these kept out.
///
/// # Errors
/// Fails if the file does not have the zone, or if DuckDB fails. Nothing has changed then.
pub fn set_back(
    settings: &FeatureStoreSettings,
    zone: &ZoneId,
    after_ms: i64,
) -> Result<SetBackSummary, StoreError> {
    let metrics = settings.metric_table()?;
    let mut connection = super::open_database(&settings.store, &settings.lake)?;
    super::migrate_feature_versions(&mut connection, settings, &metrics)?;
    set_zone_back(&mut connection, settings, &metrics, zone, after_ms.saturating_add(1))
}

/// Sets back a zone that a wrong clock pushed ahead. Flags readings from `ahead_ms` (UTC
/// milliseconds) on as `future`, and recomputes everything that follows from the zone's other
/// readings: quality flags, feature rows, KPIs and progress. All of it is one transaction.
///
/// Rows whose readings were moved to the lake stay unchanged.
pub(crate) fn set_zone_back(
    connection: &mut Connection,
    settings: &FeatureStoreSettings,
    metrics: &MetricTable,
    zone: &ZoneId,
    ahead_ms: i64,
) -> Result<SetBackSummary, StoreError> {
    let mut engine =
        open_engine(&settings.engine, metrics.clone(), &restore::read_metrics(connection)?)?;
    let lake = LakeReader::new(settings)?;
    let found = restore::read_zones(connection)?;
    let Some((_, _, before)) = found.iter().find(|(id, ..)| id == zone).cloned() else {
        let known = found.into_iter().map(|(id, ..)| id).collect();
        return Err(StoreError::UnknownZone { zone: zone.clone(), known });
    };
    let reading = connection.try_clone()?;
    let transaction = connection.transaction()?;
    let (site, name) = (zone.site.as_str(), zone.zone.as_str());
    // Rows whose readings have moved to the lake stay unchanged, and so do rows that have moved
    // themselves.
    let mut from_ms = i64::MIN;
    if settings.lake.is_enabled() {
        let oldest = format!(
            "SELECT greatest(
                 (SELECT epoch_ms(min(event)) FROM silver.data WHERE {}),
                 (SELECT epoch_ms(min(time)) FROM features.rows WHERE site = ? AND zone = ?))",
            zone_predicate_sql(zone)
        );
        let oldest_ms: Option<i64> =
            reading.query_row(&oldest, params![site, name], |row| row.get(0))?;
        from_ms = oldest_ms.unwrap_or(i64::MAX);
    }
    // DuckDB's functions do not accept times before Christ.
    let from_us = ms_to_micros(from_ms.clamp(-8_000_000_000_000, 8_000_000_000_000_000));
    let deleted = transaction.execute(
        "DELETE FROM features.rows WHERE site = ? AND zone = ? AND time >= make_timestamp(?)",
        params![site, name, from_us],
    )?;
    let mut result = SetBackSummary { rows: (deleted as u64, 0), ..SetBackSummary::default() };
    let (mut changed, mut hours) = (Vec::new(), kpi::DirtyHours::default());
    let mut rows: Vec<FeatureRow> = Vec::new();
    let mut write = |rows: &mut Vec<FeatureRow>, at_least: usize| -> Result<(), StoreError> {
        rows.retain(|row| row.at_ms >= from_ms);
        if rows.len() >= at_least {
            write_rows(&transaction, rows, "rows")?;
            result.rows.1 += rows.len() as u64;
            rows.clear();
        }
        Ok(())
    };
    for_each_stored_report(&reading, &lake, Some(zone), |reports| {
        let mut output = EngineOutput::default();
        let readings = reports.iter().flat_map(|stored| SqlReading::from_report(&stored.report));
        engine.ingest_batch(readings, &mut output, |batch| {
            for stored in reports {
                let qualities = ingest_with_future_cutoff(batch, stored, ahead_ms);
                for ((key, reading), quality) in
                    stored.keys.iter().zip(&stored.report.readings).zip(qualities)
                {
                    if key.quality != quality {
                        changed.push((*key, quality));
                        hours.note_reading(zone, reading.event_ms);
                    }
                }
            }
        });
        rows.append(&mut output.rows);
        write(&mut rows, ROWS_AT_ONCE)
    })?;
    let mut output = EngineOutput::default();
    if before.live {
        engine.complete_zone(zone, i64::MIN, &mut output);
    } else {
        engine.finish_zone(zone, &mut output);
    }
    rows.append(&mut output.rows);
    write(&mut rows, 1)?;
    for (key, quality) in &changed {
        result.by_quality[key.quality as usize] -= 1;
        result.by_quality[*quality as usize] += 1;
        result.future += u64::from(*quality == QualityFlag::Future);
        result.admitted += u64::from(*quality == QualityFlag::Ok);
    }
    write_qualities(&transaction, &changed)?;
    transaction.execute(
        &format!(
            "UPDATE silver.data SET arrival = make_timestamp(?)
             WHERE arrival >= make_timestamp(?) AND quality <> {} AND {}",
            QualityFlag::Future as u8,
            zone_predicate_sql(zone)
        ),
        params![ms_to_micros(ahead_ms - 1), ms_to_micros(ahead_ms)],
    )?;
    hours.write_hours(&transaction)?;
    let mut after =
        engine.zones().find(|(id, ..)| *id == zone).map(|(.., progress)| progress.clone());
    if let Some(progress) = &mut after {
        progress.live |= before.live;
    }
    write_progress(&transaction, zone, &after.unwrap_or_default())?;
    write_counters(&transaction, &result)?;
    transaction.commit()?;
    Ok(result)
}

/// Ingests a report, treating readings from `ahead_ms` on as in the future.
fn ingest_with_future_cutoff(
    batch: &mut IngestBatch<'_>,
    stored: &StoredReport,
    ahead_ms: i64,
) -> Vec<QualityFlag> {
    let is_ahead = |event_ms: i64| event_ms >= ahead_ms;
    let has_event_ahead = stored.report.readings.iter().any(|reading| is_ahead(reading.event_ms));
    if !has_event_ahead && !is_ahead(stored.report.arrival_ms) {
        return batch.ingest_report(&stored.report, stored.received_ms).to_vec();
    }
    let mut qualities = Vec::new();
    for reading in &stored.report.readings {
        let received_ms = if is_ahead(reading.event_ms) { i64::MIN } else { stored.received_ms };
        let mut report = stored.report.clone();
        // A correct timestamp with an arrival by the wrong clock arrived before that clock was
        // correct again.
        report.arrival_ms = report.arrival_ms.min(ahead_ms - 1);
        report.readings = vec![reading.clone()];
        qualities.extend(batch.ingest_report(&report, received_ms));
    }
    qualities
}

fn write_qualities(
    connection: &Connection,
    changed: &[(StoredReadingKey, QualityFlag)],
) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    connection.execute_batch(
        "CREATE OR REPLACE TEMPORARY TABLE judged_again (
             partition INTEGER, \"offset\" BIGINT, item UINTEGER, quality UTINYINT)",
    )?;
    let keys = || changed.iter().map(|(key, _)| key);
    let staged = build_record_batch(vec![
        ("partition", Arc::new(Int32Array::from_iter_values(keys().map(|key| key.partition)))),
        ("offset", Arc::new(Int64Array::from_iter_values(keys().map(|key| key.offset)))),
        ("item", Arc::new(UInt32Array::from_iter_values(keys().map(|key| key.item)))),
        (
            "quality",
            Arc::new(UInt8Array::from_iter_values(
                changed.iter().map(|(_, quality)| *quality as u8),
            )),
        ),
    ])?;
    let mut appender = connection.appender_to_catalog_and_db("judged_again", "temp", "main")?;
    appender.append_record_batch(staged)?;
    appender.flush()?;
    Ok(connection.execute_batch(
        "UPDATE silver.data AS data SET quality = own.quality FROM temp.judged_again AS own
         WHERE data.partition = own.partition AND data.\"offset\" = own.\"offset\"
           AND data.item = own.item;
         DROP TABLE temp.judged_again;",
    )?)
}

fn write_progress(
    connection: &Connection,
    zone: &ZoneId,
    progress: &ZoneProgress,
) -> Result<(), StoreError> {
    let json = serde_json::to_string(progress).expect("progress has only numbers");
    connection.execute(
        "UPDATE meta.zones
         SET progress = ?, newest = make_timestamp(?), oldest_row = make_timestamp(?)
         WHERE site = ? AND zone = ?",
        params![
            json,
            progress.newest_ms.map(ms_to_micros),
            progress.oldest_row_ms().map(ms_to_micros),
            zone.site.as_str(),
            zone.zone.as_str()
        ],
    )?;
    Ok(())
}

fn write_counters(connection: &Connection, result: &SetBackSummary) -> Result<(), StoreError> {
    let (deleted, written) = result.rows;
    let qualities = QualityFlag::ALL.iter().zip(result.by_quality);
    let named = qualities.map(|(quality, more)| (format!("readings_{}", quality.as_str()), more));
    for (name, more) in named.chain([("rows".to_owned(), written as i64 - deleted as i64)]) {
        // Readings of backfills are counted elsewhere, so a counter must not fall below 0.
        connection.execute(
            "INSERT INTO meta.counters VALUES (?, greatest(?, 0))
             ON CONFLICT DO UPDATE SET count = greatest(count::BIGINT + ?, 0)",
            params![name, more, more],
        )?;
    }
    Ok(())
}
