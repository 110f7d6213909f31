use std::{fmt, str::FromStr};

use duckdb::{Connection, ToSql, params_from_iter};
use serde::Serialize;
use telemetry::ZoneId;
use utoipa::ToSchema;

use super::{ReadSource, where_clause::WhereClause};
use crate::{
    StoreError,
    lake::{FileScope, LakeReader},
};

/// Selects readings.
#[derive(Clone, Debug, Default)]
pub struct ReadingQuery {
    /// Only this zone.
    pub zone: Option<ZoneId>,
    /// Only this device.
    pub device: Option<String>,
    /// Only this metric.
    pub metric: Option<String>,
    /// Only this quality flag.
    pub quality: Option<String>,
    /// Earliest event time, UTC ms, included.
    pub from_ms: Option<i64>,
    /// Latest event time, UTC ms, included.
    pub to_ms: Option<i64>,
    /// Only readings after this one, newest first.
    pub after: Option<ReadingCursor>,
    /// Largest number of readings; the newest are taken.
    pub limit: usize,
}

/// A stored reading.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ReadingRow {
    /// Zone, as `site/zone`.
    pub(super) zone: String,
    pub(super) device: String,
    pub(super) metric: String,
    /// Event time, UTC milliseconds.
    pub(super) event_ms: i64,
    /// Arrival time, UTC milliseconds.
    pub(super) arrival_ms: i64,
    /// Value in the unit of the metric; `null` if it is not a number.
    pub(super) value: Option<f64>,
    /// Source: `live`, `replay`, `backfill` or `retained`.
    pub(super) source: String,
    /// Quality flag: `ok`, or why the reading enters no feature.
    pub(super) quality: String,
}

/// Position of a reading among all, by event time and then by position in the log.
///
/// ```
/// use microclimate_feature_store::ReadingCursor;
///
/// let text = "1377734400000000.0.4711.2";
/// let cursor: ReadingCursor = text.parse().unwrap();
/// assert_eq!(cursor.to_string(), text);
/// assert!("yesterday".parse::<ReadingCursor>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingCursor {
    event_us: i64,
    partition: i64,
    offset: i64,
    item: i64,
}

impl fmt::Display for ReadingCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event_us, partition, offset, item } = self;
        write!(f, "{event_us}.{partition}.{offset}.{item}")
    }
}

impl FromStr for ReadingCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Result<Vec<i64>, _> = text.split('.').map(str::parse).collect();
        match parts.as_deref() {
            Ok([event_us, partition, offset, item]) => Ok(Self {
                event_us: *event_us,
                partition: *partition,
                offset: *offset,
                item: *item,
            }),
            _ => Err("not the `next` of an answer".to_owned()),
        }
    }
}

/// Reads the newest readings, newest first; also returns where the next page starts.
pub(crate) fn read_readings(
    ReadSource { connection, lake }: ReadSource<'_>,
    query: &ReadingQuery,
) -> Result<(Vec<ReadingRow>, Option<ReadingCursor>), StoreError> {
    let mut found = read_page(connection, query, "silver.readings")?;
    // If the page is full, only readings newer than its end can still belong to it.
    let end_ms = |found: &[(ReadingRow, ReadingCursor)]| {
        (found.len() > query.limit).then(|| found[query.limit].0.event_ms)
    };
    let zones = query.zone.clone().map(|zone| [zone]);
    let to_ms = query.after.map(|after| after.event_us.div_euclid(1000));
    let scope = FileScope {
        zones: zones.as_ref().map(<[_; 1]>::as_slice),
        from_ms: query.from_ms.max(end_ms(&found)),
        to_ms: [query.to_ms, to_ms].into_iter().flatten().min(),
        metric: query.metric.as_deref(),
        version: None,
    };
    let days = LakeReader::list_days(connection, "readings", &scope)?;
    // Adds days, newest first, until the page is full, so that a page does not read years.
    let mut wanted_rows = 4 * (query.limit as u64 + 1);
    let mut taken = 0;
    while taken < days.len() {
        let mut rows = 0;
        while taken < days.len() && rows < wanted_rows {
            rows += days[taken].rows;
            taken += 1;
        }
        wanted_rows = wanted_rows.saturating_mul(4);
        let from_ms = days[taken - 1].start_ms;
        let is_all = taken == days.len();
        let of_days = FileScope { from_ms: scope.from_ms.max(Some(from_ms)), ..scope.clone() };
        let source =
            lake.union_archived_sql(connection, "silver.readings", "readings", &of_days)?;
        found = read_page(connection, query, &source)?;
        if is_all || end_ms(&found).is_some_and(|end_ms| end_ms >= from_ms) {
            break;
        }
    }
    let has_more = found.len() > query.limit;
    found.truncate(query.limit);
    let next = found.last().map(|(_, cursor)| *cursor).filter(|_| has_more);
    Ok((found.into_iter().map(|(reading, _)| reading).collect(), next))
}

/// Reads the newest readings of a source: one more than requested, which shows whether there is a
/// next page.
fn read_page(
    connection: &Connection,
    query: &ReadingQuery,
    source: &str,
) -> Result<Vec<(ReadingRow, ReadingCursor)>, StoreError> {
    let mut conditions = WhereClause::default();
    conditions.filter_zone(query.zone.as_ref());
    conditions.push_if_some("device = ?", query.device.clone());
    conditions.push_if_some("metric = ?", query.metric.clone());
    conditions.push_if_some("quality = ?", query.quality.clone());
    conditions.filter_time_span("event", query.from_ms, query.to_ms);
    if let Some(ReadingCursor { event_us, partition, offset, item }) = query.after {
        // The first condition alone lets DuckDB skip whole row groups.
        let numbers = [event_us, event_us, partition, partition, offset, offset, item];
        conditions.push_condition(
            "event <= make_timestamp(?) AND (event < make_timestamp(?)
             OR partition < ? OR (partition = ? AND (\"offset\" < ? OR (\"offset\" = ? AND item < ?))))"
                .to_owned(),
            numbers.into_iter().map(|number| Box::new(number) as Box<dyn ToSql>).collect(),
        );
    }
    let mut statement = connection.prepare(&format!(
        "SELECT site || '/' || zone, device, metric, epoch_ms(event), epoch_ms(arrival), value,
                source, quality, epoch_us(event), partition, \"offset\", item
         FROM {source} WHERE {}
         ORDER BY event DESC, partition DESC, \"offset\" DESC, item DESC LIMIT {}",
        conditions.to_sql(),
        query.limit + 1
    ))?;
    let found = statement.query_map(params_from_iter(conditions.values.iter()), |row| {
        let reading = ReadingRow {
            zone: row.get(0)?,
            device: row.get(1)?,
            metric: row.get(2)?,
            event_ms: row.get(3)?,
            arrival_ms: row.get(4)?,
            value: row.get::<_, Option<f64>>(5)?.filter(|value| value.is_finite()),
            source: row.get(6)?,
            quality: row.get(7)?,
        };
        let cursor = ReadingCursor {
            event_us: row.get(8)?,
            partition: row.get(9)?,
            offset: row.get(10)?,
            item: row.get(11)?,
        };
        Ok((reading, cursor))
    })?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}
