use std::collections::HashMap;

use duckdb::{
    Connection,
    arrow::{
        array::{Array, AsArray, RecordBatch},
        datatypes::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type, UInt64Type},
    },
};
use telemetry::{QualityFlag, ReportSource, SensorReading, SensorReport, SmolStr, ZoneId};

use super::{
    name_dictionary::{StoredSeries, read_series},
    restore,
};
use crate::{
    StoreError,
    lake::{FileScope, LakeReader},
};

/// Number of reports that are passed on at once.
const REPORTS_AT_ONCE: usize = 8192;

/// A report as it was ingested, rebuilt from its readings in `silver.data`.
#[derive(Debug)]
pub(super) struct StoredReport {
    pub(super) report: SensorReport,
    /// Receive time, UTC ms, chosen so that readings that were in the future are so again.
    pub(super) received_ms: i64,
    /// Keys of its readings.
    pub(super) keys: Vec<StoredReadingKey>,
}

/// Position of a reading in `silver.data`, and its quality flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredReadingKey {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) item: u32,
    pub(super) quality: QualityFlag,
}

/// Reads the stored reports of one zone or of all, some thousand at a time: first those in the
/// lake, then those of `silver.data` in the order of the log.
pub(super) fn for_each_stored_report(
    connection: &Connection,
    lake: &LakeReader,
    zone: Option<&ZoneId>,
    mut act: impl FnMut(&[StoredReport]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let names = StoredNames::read_names(connection)?;
    let columns = "epoch_ms(d.arrival), epoch_ms(d.event), d.value, d.item, d.quality";
    // Without ORDER BY for the file: rows come in the order in which they were appended
    // (`preserve_insertion_order`).
    let in_file = format!(
        "SELECT d.partition, d.\"offset\", d.series, d.boot, d.seq, d.source, {columns}
         FROM silver.data d WHERE {}",
        zone.map_or_else(|| "true".to_owned(), zone_predicate_sql)
    );
    let zones = zone.map(std::slice::from_ref);
    let scope = FileScope { zones, ..FileScope::default() };
    let moved = lake.files_source_sql(connection, "readings", &scope)?.map(|files| {
        format!(
            "SELECT d.partition, d.\"offset\", s.id, b.id, d.seq, d.source, {columns}
             FROM {files} d JOIN (
                 SELECT min(id) AS id, site || '/' || zone AS zone, device, metric
                 FROM silver.series GROUP BY ALL
             ) s ON d.zone = s.zone AND d.device = s.device AND d.metric = s.metric
             LEFT JOIN (SELECT min(id) AS id, boot FROM silver.boots GROUP BY boot) b
               ON d.boot = b.boot
             ORDER BY d.partition, d.\"offset\", d.item"
        )
    });
    for sql in moved.into_iter().chain([in_file]) {
        for_each_report_of_query(connection, &names, &sql, &mut act)?;
    }
    Ok(())
}

/// SQL predicate that selects a zone's rows of `silver.data`.
pub(super) fn zone_predicate_sql(zone: &ZoneId) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    format!(
        "series IN (SELECT id FROM silver.series WHERE site = {} AND zone = {})",
        quoted(&zone.site),
        quoted(&zone.zone)
    )
}

fn for_each_report_of_query(
    connection: &Connection,
    names: &StoredNames,
    sql: &str,
    act: &mut impl FnMut(&[StoredReport]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare(sql)?;
    let mut reports: Vec<StoredReport> = Vec::new();
    for batch in statement.stream_arrow([])? {
        for row in 0..batch.num_rows() {
            let stored = names.decode_report(&batch, row)?;
            match reports.last_mut() {
                Some(open) if is_one_report(open, &stored) => {
                    open.report.readings.extend(stored.report.readings);
                    open.keys.extend(stored.keys);
                }
                _ => {
                    if reports.len() >= REPORTS_AT_ONCE {
                        act(&reports)?;
                        reports.clear();
                    }
                    reports.push(stored);
                }
            }
        }
    }
    act(&reports)
}

/// Returns whether two readings of one record belong to one report; readings of a file need not.
fn is_one_report(a: &StoredReport, b: &StoredReport) -> bool {
    let place = |stored: &StoredReport| {
        let key = stored.keys.last();
        key.map(|key| (key.partition, key.offset, stored.received_ms))
    };
    let (first, second) = (&a.report, &b.report);
    place(a) == place(b)
        && (&first.zone, &first.device, &first.boot, first.seq, first.arrival_ms)
            == (&second.zone, &second.device, &second.boot, second.seq, second.arrival_ms)
}

/// Names for the ids of `silver.data`.
struct StoredNames {
    series: HashMap<u32, StoredSeries>,
    boots: HashMap<u32, SmolStr>,
}

impl StoredNames {
    fn read_names(connection: &Connection) -> Result<Self, StoreError> {
        let series = read_series(connection)?.into_iter().map(|one| (one.id, one)).collect();
        Ok(Self { series, boots: restore::read_boots(connection)? })
    }

    /// Decodes one row into a report with one reading.
    fn decode_report(&self, batch: &RecordBatch, row: usize) -> Result<StoredReport, StoreError> {
        let integer = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
        let number = batch.column(2).as_primitive::<UInt32Type>().value(row);
        let series = self.series.get(&number).ok_or_else(|| StoreError::CorruptTable {
            table: "silver.data",
            found: number.to_string(),
            expected: "a number of silver.series",
        })?;
        let boot = batch.column(3).as_primitive::<UInt32Type>();
        let seq = batch.column(4).as_primitive::<UInt64Type>();
        let source = batch.column(5).as_primitive::<UInt8Type>().value(row);
        let source = ReportSource::ALL.get(usize::from(source)).copied();
        let reading = SensorReading {
            metric: series.metric.clone(),
            event_ms: integer(7),
            value: batch.column(8).as_primitive::<Float64Type>().value(row),
        };
        let report = SensorReport {
            zone: series.zone.clone(),
            device: series.device.clone(),
            boot: boot.is_valid(row).then(|| self.boots.get(&boot.value(row)).cloned()).flatten(),
            seq: seq.is_valid(row).then(|| seq.value(row)),
            arrival_ms: integer(6),
            source: source.unwrap_or_default(),
            readings: vec![reading],
        };
        let key = StoredReadingKey {
            partition: batch.column(0).as_primitive::<Int32Type>().value(row),
            offset: integer(1),
            item: batch.column(9).as_primitive::<UInt32Type>().value(row),
            quality: restore::decode_quality(
                batch.column(10).as_primitive::<UInt8Type>().value(row),
            )?,
        };
        let received_ms = if key.quality == QualityFlag::Future { i64::MIN } else { i64::MAX };
        Ok(StoredReport { report, received_ms, keys: vec![key] })
    }
}
