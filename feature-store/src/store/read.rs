use std::collections::BTreeMap;

use duckdb::{
    Connection, ToSql,
    arrow::{
        array::{Array, AsArray, RecordBatch},
        datatypes::{DataType, Float64Type, Int64Type},
    },
    params_from_iter,
};
use polars::prelude::{Column, DataFrame};
use serde::Serialize;
use telemetry::ZoneId;

use super::quoted;
use crate::StoreError;

/// Which feature rows to take, as they are known now (corrections in).
#[derive(Clone, Debug, Default)]
pub struct FrameQuery {
    /// All zones where there are none.
    pub zones: Option<Vec<ZoneId>>,
    /// Event time, UTC ms, this and later.
    pub from_ms: Option<i64>,
    /// Event time, UTC ms, this and earlier.
    pub to_ms: Option<i64>,
    /// All features where there are none.
    pub columns: Option<Vec<String>>,
    /// Only rows whose time is a multiple of this, seconds.
    pub step_s: Option<i64>,
}

/// Which rows of one zone to take.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// The zone.
    pub zone: ZoneId,
    /// Times, columns and step.
    pub frame: FrameQuery,
    /// The newest this many rows.
    pub limit: usize,
}

/// One feature row of the past.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryRow {
    /// UTC milliseconds.
    pub at_ms: i64,
    /// Always `final`: provisional rows are not kept.
    pub status: &'static str,
    /// How often it was made anew.
    pub revision: i64,
    /// Values by name; `null` where there is none.
    pub features: BTreeMap<String, Option<f64>>,
}

/// Which readings to take.
#[derive(Clone, Debug, Default)]
pub struct ReadingQuery {
    /// Of this zone.
    pub zone: Option<ZoneId>,
    /// Of this metric.
    pub metric: Option<String>,
    /// Of this quality.
    pub quality: Option<String>,
    /// Event time, UTC ms, this and later.
    pub from_ms: Option<i64>,
    /// Event time, UTC ms, this and earlier.
    pub to_ms: Option<i64>,
    /// The newest this many.
    pub limit: usize,
}

/// One reading as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadingRow {
    zone: String,
    device: String,
    metric: String,
    event_ms: i64,
    arrival_ms: i64,
    value: Option<f64>,
    source: String,
    quality: String,
}

/// How many readings of a zone's metric have a quality.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityCount {
    zone: String,
    metric: String,
    quality: String,
    readings: u64,
}

/// Conditions of a WHERE and their values.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    fn add(&mut self, sql: &str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.sql.push(sql.to_owned());
            self.values.push(Box::new(value));
        }
    }

    fn zone(&mut self, zone: Option<&ZoneId>) {
        self.add("site = ?", zone.map(|zone| zone.site.to_string()));
        self.add("zone = ?", zone.map(|zone| zone.zone.to_string()));
    }

    fn times(&mut self, column: &str, from_ms: Option<i64>, to_ms: Option<i64>) {
        self.add(&format!("{column} >= make_timestamp_ms(?)"), from_ms);
        self.add(&format!("{column} <= make_timestamp_ms(?)"), to_ms);
    }

    fn sql(&self) -> String {
        if self.sql.is_empty() { "true".to_owned() } else { self.sql.join(" AND ") }
    }
}

/// Rows as Arrow: site, zone, `at_ms`, revision, then features.
fn rows(
    connection: &Connection,
    query: &FrameQuery,
    known: &[String],
    limit: Option<usize>,
) -> Result<Vec<RecordBatch>, StoreError> {
    let columns = query.columns.as_deref().unwrap_or(known);
    let mut select = String::from("r.site, r.zone, epoch_ms(r.time) AS at_ms, r.revision");
    for name in columns {
        if !known.contains(name) {
            return Err(unknown(name, known));
        }
        select.push_str(", r.");
        select.push_str(&quoted(name));
    }
    let mut conditions = Conditions::default();
    conditions.times("r.time", query.from_ms, query.to_ms);
    conditions.add("epoch_ms(r.time) % ? = 0", query.step_s.map(|step_s| step_s * 1000));
    if let Some(zones) = &query.zones {
        let each = vec!["(r.site = ? AND r.zone = ?)"; zones.len()];
        conditions.sql.push(format!(
            "({})",
            if zones.is_empty() { "false".to_owned() } else { each.join(" OR ") }
        ));
        for zone in zones {
            conditions.values.push(Box::new(zone.site.to_string()));
            conditions.values.push(Box::new(zone.zone.to_string()));
        }
    }
    // Corrections are few: a join on them is much cheaper than to rank every row.
    let order = match limit {
        Some(limit) => format!("ORDER BY r.time DESC LIMIT {limit}"),
        None => "ORDER BY r.site, r.zone, r.time".to_owned(),
    };
    let mut statement = connection.prepare(&format!(
        "WITH corrected AS (
             SELECT site, zone, time, max(revision) AS newest FROM features.rows
             WHERE revision > 0 GROUP BY ALL
         )
         SELECT {select} FROM features.rows r
         LEFT JOIN corrected c ON r.site = c.site AND r.zone = c.zone AND r.time = c.time
         WHERE {} AND (c.newest IS NULL OR r.revision = c.newest) {order}",
        conditions.sql()
    ))?;
    Ok(statement.query_arrow(params_from_iter(conditions.values.iter()))?.collect())
}

fn unknown(name: &str, known: &[String]) -> StoreError {
    let near = known.iter().map(|own| (strsim::jaro_winkler(own, name), own));
    let hint = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.8);
    StoreError::UnknownFeature { name: name.to_owned(), hint: hint.map(|(_, own)| own.clone()) }
}

/// Feature rows as a table: `site`, `zone`, `at_ms`, then features.
pub(crate) fn frame(
    connection: &Connection,
    query: &FrameQuery,
    known: &[String],
) -> Result<DataFrame, StoreError> {
    let batches = rows(connection, query, known, None)?;
    let height = batches.iter().map(RecordBatch::num_rows).sum();
    let wanted = query.columns.as_deref().unwrap_or(known);
    let text = |i: usize| -> Vec<&str> {
        batches.iter().flat_map(|b| b.column(i).as_string::<i32>().iter().flatten()).collect()
    };
    let mut columns = vec![
        Column::new("site".into(), text(0)),
        Column::new("zone".into(), text(1)),
        Column::new(
            "at_ms".into(),
            batches
                .iter()
                .flat_map(|batch| batch.column(2).as_primitive::<Int64Type>().values())
                .copied()
                .collect::<Vec<i64>>(),
        ),
    ];
    for (i, name) in wanted.iter().enumerate() {
        let values: Vec<Option<f64>> =
            batches.iter().flat_map(|b| b.column(4 + i).as_primitive::<Float64Type>()).collect();
        columns.push(Column::new(name.as_str().into(), values));
    }
    Ok(DataFrame::new(height, columns)?)
}

/// The newest rows of a zone, in the order of time.
pub(crate) fn history(
    connection: &Connection,
    query: &HistoryQuery,
    known: &[String],
) -> Result<Vec<HistoryRow>, StoreError> {
    let one = FrameQuery { zones: Some(vec![query.zone.clone()]), ..query.frame.clone() };
    let wanted = one.columns.clone().unwrap_or_else(|| known.to_vec());
    let mut history = Vec::new();
    for batch in rows(connection, &one, known, Some(query.limit))? {
        let at_ms = batch.column(2).as_primitive::<Int64Type>();
        let revision = batch.column(3).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let value = |i: usize| {
                let column = batch.column(4 + i);
                debug_assert_eq!(column.data_type(), &DataType::Float64);
                column.is_valid(row).then(|| column.as_primitive::<Float64Type>().value(row))
            };
            let features = wanted.iter().enumerate().map(|(i, name)| (name.clone(), value(i)));
            history.push(HistoryRow {
                at_ms: at_ms.value(row),
                status: "final",
                revision: revision.value(row),
                features: features.collect(),
            });
        }
    }
    history.reverse();
    Ok(history)
}

/// The newest readings, newest first.
pub(crate) fn readings(
    connection: &Connection,
    query: &ReadingQuery,
) -> Result<Vec<ReadingRow>, StoreError> {
    let mut conditions = Conditions::default();
    conditions.zone(query.zone.as_ref());
    conditions.add("metric = ?", query.metric.clone());
    conditions.add("quality = ?", query.quality.clone());
    conditions.times("event", query.from_ms, query.to_ms);
    let mut statement = connection.prepare(&format!(
        "SELECT site || '/' || zone, device, metric, epoch_ms(event), epoch_ms(arrival), value, source, quality
         FROM silver.readings WHERE {} ORDER BY event DESC LIMIT {}",
        conditions.sql(),
        query.limit
    ))?;
    let readings = statement.query_map(params_from_iter(conditions.values.iter()), |row| {
        Ok(ReadingRow {
            zone: row.get(0)?,
            device: row.get(1)?,
            metric: row.get(2)?,
            event_ms: row.get(3)?,
            arrival_ms: row.get(4)?,
            value: row.get::<_, Option<f64>>(5)?.filter(|value| value.is_finite()),
            source: row.get(6)?,
            quality: row.get(7)?,
        })
    })?;
    Ok(readings.collect::<duckdb::Result<_>>()?)
}

/// Readings by zone, metric and quality.
pub(crate) fn quality(connection: &Connection) -> Result<Vec<QualityCount>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT site || '/' || zone, metric, quality, count(*)
         FROM silver.readings GROUP BY ALL ORDER BY ALL",
    )?;
    let counts = statement.query_map([], |row| {
        Ok(QualityCount {
            zone: row.get(0)?,
            metric: row.get(1)?,
            quality: row.get(2)?,
            readings: row.get(3)?,
        })
    })?;
    Ok(counts.collect::<duckdb::Result<_>>()?)
}
