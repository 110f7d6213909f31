use std::{path::Path, sync::Arc};

use duckdb::{
    Connection,
    arrow::{
        array::AsArray,
        datatypes::{Float64Type, Int64Type},
    },
};
use recordings::{RecordingError, Row, Sensor, layout::is_wanted};
use telemetry::{SmolStr, ZoneId};

use super::{
    history::{File, Grouped},
    plan::hash_of,
};
use crate::{StoreError, store::quoted};

const HINT: &str = "`--layout parquet` wants the columns time, zone, device, metric, value, or time, \
                    zone, device and a column for each metric; `site` and `arrival` may be there too";
const DEVICE: &str = "parquet";
/// Columns that are not metrics.
const OTHERS: [&str; 7] = ["time", "arrival", "site", "zone", "device", "metric", "value"];

/// All readings of a Parquet file, or of those in a folder.
pub(super) fn read(path: &Path, site: &str, wanted: &[String]) -> Result<Grouped, StoreError> {
    let io = |source| RecordingError::Io { path: path.to_owned(), source };
    let mut files = Vec::new();
    if std::fs::metadata(path).map_err(io)?.is_file() {
        files.push(path.to_owned());
    } else {
        collect(path, &mut files).map_err(io)?;
    }
    files.sort();
    if files.is_empty() {
        let what = "no .parquet file".to_owned();
        return Err(RecordingError::Nothing { path: path.to_owned(), what, hint: HINT }.into());
    }
    // Files are read apart from the store, whose connections reach no file.
    let connection = Connection::open_in_memory()?;
    let mut grouped = Grouped::default();
    for path in files {
        let (bytes, sha256) = hash_of(&path)?;
        let file = File { path, bytes, sha256 };
        rows_of(&connection, &file, site, wanted, &mut grouped)?;
        grouped.next_file();
    }
    Ok(grouped)
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|own| own == "parquet") {
            files.push(path);
        }
    }
    Ok(())
}

fn rows_of(
    connection: &Connection,
    file: &File,
    site: &str,
    wanted: &[String],
    grouped: &mut Grouped,
) -> Result<(), StoreError> {
    let from = format!(
        "read_parquet('{}', hive_partitioning = true)",
        file.path.to_string_lossy().replace('\'', "''")
    );
    let columns = columns(connection, &from)?;
    let sql = select(&columns, &from, site).ok_or_else(|| RecordingError::Header {
        path: file.path.clone(),
        line: 1,
        column: 1,
        found: format!("the columns {}", names(&columns)),
        expected: "`time`, `zone`, and `metric` with `value` or numbers by metric".to_owned(),
        hint: HINT,
    })?;
    let mut statement = connection.prepare(&sql)?;
    let mut line = 0_u32;
    for batch in statement.query_arrow([])? {
        let text = |i: usize| batch.column(i).as_string::<i32>();
        let (event, arrival) = (
            batch.column(0).as_primitive::<Int64Type>(),
            batch.column(1).as_primitive::<Int64Type>(),
        );
        let (sites, zones, devices, metrics) = (text(2), text(3), text(4), text(5));
        let value = batch.column(6).as_primitive::<Float64Type>();
        for i in 0..batch.num_rows() {
            line += 1;
            let zone = ZoneId::new(sites.value(i), zones.value(i));
            if !is_wanted(&zone, wanted) {
                continue;
            }
            let sensor = Sensor {
                zone,
                device: SmolStr::from(devices.value(i)),
                metric: SmolStr::from(metrics.value(i)),
            };
            let row = Row {
                sensor: Arc::new(sensor),
                event_ms: event.value(i),
                arrival_ms: arrival.value(i),
                value: value.value(i),
                line,
            };
            grouped.push(&row, file);
        }
    }
    Ok(())
}

type Columns = Vec<(String, String)>;

/// Names and types.
fn columns(connection: &Connection, from: &str) -> Result<Columns, StoreError> {
    let mut statement = connection.prepare(&format!("DESCRIBE SELECT * FROM {from}"))?;
    let columns = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(columns.collect::<duckdb::Result<_>>()?)
}

fn names(columns: &Columns) -> String {
    columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// SQL for event ms, arrival ms, site, zone, device, metric, value.
fn select(columns: &Columns, from: &str, site: &str) -> Option<String> {
    let has = |name: &str| columns.iter().any(|(own, _)| own == name);
    let ms = |name: &str| {
        let (_, kind) = columns.iter().find(|(own, _)| own == name)?;
        Some(match kind.as_str() {
            kind if kind.starts_with("TIMESTAMP") => {
                format!("epoch_ms({}::TIMESTAMP)", quoted(name))
            }
            // Seconds end where milliseconds of 1973 begin.
            _ => format!("CASE WHEN {0} < 1e11 THEN {0} * 1000 ELSE {0} END::BIGINT", quoted(name)),
        })
    };
    let (event, arrival) = (ms("time")?, ms("arrival"));
    let arrival = arrival.map_or_else(|| event.clone(), |own| format!("coalesce({own}, {event})"));
    let or = |name: &str, other: &str| {
        let other = format!("'{}'", other.replace('\'', "''"));
        if has(name) { format!("coalesce({}::VARCHAR, {other})", quoted(name)) } else { other }
    };
    let zone = has("zone").then_some("zone::VARCHAR")?;
    let head = format!(
        "{event} AS event, {arrival} AS arrival, {} AS site, {zone} AS zone, {} AS device",
        or("site", site),
        or("device", DEVICE)
    );
    if has("metric") && has("value") {
        return Some(format!(
            "SELECT {head}, metric::VARCHAR, value::DOUBLE FROM {from} WHERE value IS NOT NULL"
        ));
    }
    let is_number = |kind: &str| {
        ["DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT"].contains(&kind)
            || kind.starts_with("DECIMAL")
    };
    let metrics: Vec<String> = columns
        .iter()
        .filter(|(name, kind)| !OTHERS.contains(&name.as_str()) && is_number(kind))
        .map(|(name, _)| quoted(name))
        .collect();
    let values: Vec<String> =
        metrics.iter().map(|name| format!("{name}::DOUBLE AS {name}")).collect();
    (!metrics.is_empty()).then(|| {
        format!(
            "UNPIVOT (SELECT {head}, {} FROM {from}) ON {} INTO NAME metric VALUE value",
            values.join(", "),
            metrics.join(", ")
        )
    })
}
