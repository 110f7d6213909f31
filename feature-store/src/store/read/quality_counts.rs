use duckdb::params_from_iter;
use serde::Serialize;
use telemetry::ZoneId;
use utoipa::ToSchema;

use super::{ReadSource, where_clause::WhereClause};
use crate::{StoreError, lake::FileScope};

/// Which counts to take.
#[derive(Clone, Debug, Default)]
pub struct QualityQuery {
    /// Of this zone.
    pub zone: Option<ZoneId>,
    /// Of this metric.
    pub metric: Option<String>,
    /// Event time, UTC ms, this and later.
    pub from_ms: Option<i64>,
    /// Event time, UTC ms, this and earlier.
    pub to_ms: Option<i64>,
    /// Only those after `zone/metric/quality`, in their order.
    pub after: Option<String>,
    /// The first this many.
    pub limit: usize,
}

/// How many readings of a zone's metric have a quality.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QualityCount {
    /// `site/zone`
    zone: String,
    metric: String,
    quality: String,
    readings: u64,
}

/// Readings by zone, metric and quality, and where to go on.
pub(crate) fn read_quality_counts(
    ReadSource { connection, lake }: ReadSource<'_>,
    query: &QualityQuery,
) -> Result<(Vec<QualityCount>, Option<String>), StoreError> {
    let zones = query.zone.clone().map(|zone| [zone]);
    let scope = FileScope {
        zones: zones.as_ref().map(<[_; 1]>::as_slice),
        from_ms: query.from_ms,
        to_ms: query.to_ms,
        metric: query.metric.as_deref(),
        version: None,
    };
    let readings = lake.union_archived_sql(connection, "silver.readings", "readings", &scope)?;
    let mut conditions = WhereClause::default();
    conditions.filter_zone(query.zone.as_ref());
    conditions.push_if_some("metric = ?", query.metric.clone());
    conditions.filter_time_span("event", query.from_ms, query.to_ms);
    let mut having = WhereClause::default();
    having.push_if_some("place > ?", query.after.clone());
    let mut statement = connection.prepare(&format!(
        "SELECT * FROM (
             SELECT site || '/' || zone AS id, metric, quality, count(*) AS readings,
                    site || '/' || zone || '/' || metric || '/' || quality AS place
             FROM {readings} WHERE {} GROUP BY ALL
         ) WHERE {} ORDER BY place LIMIT {}",
        conditions.to_sql(),
        having.to_sql(),
        query.limit + 1
    ))?;
    let values = conditions.values.iter().chain(having.values.iter());
    let found = statement.query_map(params_from_iter(values), |row| {
        let count = QualityCount {
            zone: row.get(0)?,
            metric: row.get(1)?,
            quality: row.get(2)?,
            readings: row.get(3)?,
        };
        Ok((count, row.get(4)?))
    })?;
    let mut found: Vec<(QualityCount, String)> = found.collect::<duckdb::Result<_>>()?;
    let has_more = found.len() > query.limit;
    found.truncate(query.limit);
    let next = found.last().map(|(_, place)| place.clone()).filter(|_| has_more);
    Ok((found.into_iter().map(|(count, _)| count).collect(), next))
}
