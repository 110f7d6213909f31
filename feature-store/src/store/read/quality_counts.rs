use duckdb::params_from_iter;
use serde::Serialize;
use telemetry::ZoneId;
use utoipa::ToSchema;

use super::{ReadSource, where_clause::WhereClause};
use crate::{StoreError, lake::FileScope};

/// Selects counts.
#[derive(Clone, Debug, Default)]
pub struct QualityQuery {
    /// Only this zone.
    pub zone: Option<ZoneId>,
    /// Only this metric.
    pub metric: Option<String>,
    /// Earliest event time, UTC ms, included.
    pub from_ms: Option<i64>,
    /// Latest event time, UTC ms, included.
    pub to_ms: Option<i64>,
    /// Only counts after this `zone/metric/quality`, in the order of these texts.
    pub after: Option<String>,
    /// Largest number of counts.
    pub limit: usize,
}

/// Number of readings of a zone's metric with one quality flag.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QualityCount {
    /// Zone, as `site/zone`.
    zone: String,
    metric: String,
    quality: String,
    readings: u64,
}

/// Counts readings by zone, metric and quality; also returns where the next page starts.
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
    let counts = statement.query_map(params_from_iter(values), |row| {
        let count = QualityCount {
            zone: row.get(0)?,
            metric: row.get(1)?,
            quality: row.get(2)?,
            readings: row.get(3)?,
        };
        Ok((count, row.get(4)?))
    })?;
    let mut found: Vec<(QualityCount, String)> = counts.collect::<duckdb::Result<_>>()?;
    let has_more = found.len() > query.limit;
    found.truncate(query.limit);
    let next = found.last().map(|(_, place)| place.clone()).filter(|_| has_more);
    Ok((found.into_iter().map(|(count, _)| count).collect(), next))
}
