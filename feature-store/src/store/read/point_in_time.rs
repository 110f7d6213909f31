use std::sync::Arc;

use duckdb::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use feature_api::RevisionMode;
use telemetry::ZoneId;

use super::{
    super::{
        columns::{build_record_batch, ms_to_micros},
        quote_identifier,
    },
    ReadSource,
    arrow_table::ArrowTable,
    feature_rows,
    version_rows::VersionRows,
};
use crate::{StoreError, lake::FileScope};

/// Selects zones and times, as for a training set.
#[derive(Clone, Debug)]
pub struct PointQuery {
    /// Zone and event time, UTC ms, of each point.
    pub points: Vec<(ZoneId, i64)>,
    /// As it was known at that time, or with what has arrived since.
    pub mode: RevisionMode,
    /// All features where there are none.
    pub columns: Option<Vec<String>>,
    /// Largest age of a row at its point, seconds; an older row counts as missing.
    pub age_s_max: i64,
    /// Version of the definitions; `None` means the active one.
    pub version: Option<i32>,
}

/// Joins each point with a row. The result has one line for each point, in the order of the
/// points: `zone`, `at_ms`, then the row's `row_ms`, `revision` and `schema_hash`, then features.
/// They are null if there is no row.
///
/// The row is the newest of the grid that is not after the point. As known, it has only readings
/// that were measured and had arrived by its own time, and so by the point's time: nothing of the
/// future is in it.
pub(crate) fn read_points(
    source: ReadSource<'_>,
    query: &PointQuery,
    active: &[String],
) -> Result<ArrowTable, StoreError> {
    let connection = source.connection;
    let times = || query.points.iter().map(|(_, at_ms)| *at_ms);
    let scope = FileScope {
        from_ms: times().min().map(|ms| ms.saturating_sub(query.age_s_max.saturating_mul(1000))),
        to_ms: times().max(),
        ..FileScope::default()
    };
    let VersionRows { table: kept, features } =
        VersionRows::new(source, query.version, active, &scope)?;
    let wanted = feature_rows::resolve_columns(query.columns.as_deref(), &features)?;
    let features: String =
        wanted.iter().map(|name| format!(", r.{}", quote_identifier(name))).collect();
    let (join, revision) = feature_rows::revision_filter_sql(&kept, Some(query.mode));
    // The temporary table belongs to this connection.
    connection.execute_batch(
        "CREATE TEMP TABLE asked (i BIGINT, site VARCHAR, zone VARCHAR, moment TIMESTAMP)",
    )?;
    let mut appender = connection.appender_to_catalog_and_db("asked", "temp", "main")?;
    appender.append_record_batch(build_points_batch(&query.points)?)?;
    appender.flush()?;
    drop(appender);
    // Narrow keys find the rows, and only these are read in full width.
    let mut statement = connection.prepare(&format!(
        "WITH span AS (
             SELECT min(moment) - to_seconds(CAST(? AS BIGINT)) AS oldest, max(moment) AS newest FROM asked
         ), keys AS (
             SELECT r.site, r.zone, r.time, r.revision FROM {kept} r {join}
             WHERE r.time >= (SELECT oldest FROM span) AND r.time <= (SELECT newest FROM span)
               AND {revision}
         ), hits AS (
             SELECT a.i, a.site, a.zone, a.moment, k.time, k.revision
             FROM asked a ASOF LEFT JOIN keys k
               ON a.site = k.site AND a.zone = k.zone AND a.moment >= k.time
         )
         SELECT h.site || '/' || h.zone AS zone, epoch_ms(h.moment) AS at_ms, epoch_ms(r.time) AS row_ms,
                r.revision, r.schema_hash{features}
         FROM hits h LEFT JOIN {kept} r
           ON h.site = r.site AND h.zone = r.zone AND h.time = r.time AND h.revision = r.revision
          AND h.moment - h.time <= to_seconds(CAST(? AS BIGINT))
         ORDER BY h.i"
    ))?;
    let found = ArrowTable::from_arrow(statement.query_arrow([query.age_s_max, query.age_s_max])?);
    connection.execute_batch("DROP TABLE temp.main.asked")?;
    Ok(found)
}

fn build_points_batch(points: &[(ZoneId, i64)]) -> Result<RecordBatch, StoreError> {
    let text = |name: &dyn Fn(&ZoneId) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(points.iter().map(|(zone, _)| name(zone))))
    };
    let at = points.iter().map(|(_, at_ms)| ms_to_micros(*at_ms));
    build_record_batch(vec![
        ("i", Arc::new(Int64Array::from_iter_values(0..points.len() as i64))),
        ("site", text(&|zone| zone.site.to_string())),
        ("zone", text(&|zone| zone.zone.to_string())),
        ("moment", Arc::new(TimestampMicrosecondArray::from_iter_values(at))),
    ])
}
