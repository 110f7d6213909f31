use duckdb::{params, params_from_iter};
use serde::Serialize;
use telemetry::{SensorReading, SmolStr, ZoneId};
use utoipa::ToSchema;

use super::{
    super::quote_identifier,
    ReadSource,
    readings::{ReadingQuery, ReadingRow, read_readings},
    version_rows::VersionRows,
    where_clause::WhereClause,
};
use crate::{StoreError, lake::FileScope};

/// Largest number of tiles in an explanation.
const TILES_MAX: usize = 1000;
/// Largest number of readings from which a value is recomputed.
const READINGS_MAX: u64 = 5_000_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// Selects the readings behind a value.
#[derive(Clone, Debug)]
pub struct ProvenanceQuery {
    /// The zone.
    pub zone: ZoneId,
    /// The measured metric.
    pub metric: SmolStr,
    /// Start of the window (after, until], UTC ms, excluded.
    pub after_ms: i64,
    /// End of the window, UTC ms, included.
    pub until_ms: i64,
    /// Largest number of readings to show; the newest are taken.
    pub limit: usize,
}

/// The first or last reading of a window.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct EdgeReading {
    /// Event time, UTC milliseconds.
    pub event_ms: i64,
    /// Value in the unit of the metric.
    pub value: f64,
    /// Name of the device.
    pub device: String,
}

/// The readings of one minute or hour inside the window.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Tile {
    /// Start, UTC milliseconds. The first and the last tile may reach beyond the window, but
    /// count only readings inside it.
    start_ms: i64,
    readings: u64,
    min: f64,
    mean: f64,
    max: f64,
}

/// Readings of a window.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Window {
    /// Start, UTC ms; a reading of exactly this time is outside.
    after_ms: i64,
    /// End, UTC ms; a reading of exactly this time is inside.
    until_ms: i64,
    /// Number of valid readings.
    readings: u64,
    /// Number of flagged readings, which enter no feature.
    flagged: u64,
    /// Number of valid readings that arrived after the window's end; the row as known excludes
    /// them.
    arrived_later: u64,
}

/// Readings behind a value.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Behind {
    window: Window,
    first: Option<EdgeReading>,
    last: Option<EdgeReading>,
    /// Duration of a tile, seconds.
    tile_s: i64,
    tiles: Vec<Tile>,
    /// The newest readings, including flagged ones.
    readings: Vec<ReadingRow>,
    /// Whether there are more readings than are shown.
    truncated: bool,
}

/// Reads the readings behind a value of a window.
pub(crate) fn read_provenance(
    source: ReadSource<'_>,
    query: &ProvenanceQuery,
) -> Result<Behind, StoreError> {
    let ProvenanceQuery { zone, metric, after_ms, until_ms, limit } = query;
    let ReadSource { connection, lake } = source;
    let zones = [zone.clone()];
    let scope = FileScope {
        metric: Some(metric),
        ..FileScope::of_zone(&zones, Some(*after_ms), Some(*until_ms))
    };
    let table = lake.union_archived_sql(connection, "silver.readings", "readings", &scope)?;
    let mut inside = WhereClause::default();
    inside.filter_zone(Some(zone));
    inside.push_if_some("metric = ?", Some(metric.to_string()));
    inside.push_if_some("event > make_timestamp_ms(?)", Some(*after_ms));
    inside.push_if_some("event <= make_timestamp_ms(?)", Some(*until_ms));
    let values = || params_from_iter(inside.values.iter());
    let sql = inside.to_sql();
    let window = connection.query_row(
        &format!(
            "SELECT count(*) FILTER (quality = 'ok'), count(*) FILTER (quality <> 'ok'),
                    count(*) FILTER (quality = 'ok' AND epoch_ms(arrival) > {until_ms})
             FROM {table} WHERE {sql}"
        ),
        values(),
        |row| {
            Ok(Window {
                after_ms: *after_ms,
                until_ms: *until_ms,
                readings: row.get(0)?,
                flagged: row.get(1)?,
                arrived_later: row.get(2)?,
            })
        },
    )?;
    let edge = |order: &str| -> Result<Option<EdgeReading>, StoreError> {
        let mut statement = connection.prepare(&format!(
            "SELECT epoch_ms(event), value, device FROM {table}
             WHERE {sql} AND quality = 'ok' ORDER BY event {order} LIMIT 1"
        ))?;
        let mut found = statement.query(values())?;
        let Some(row) = found.next()? else { return Ok(None) };
        Ok(Some(EdgeReading { event_ms: row.get(0)?, value: row.get(1)?, device: row.get(2)? }))
    };
    let tile_ms = if until_ms - after_ms <= 2 * HOUR_MS { MINUTE_MS } else { HOUR_MS };
    let mut statement = connection.prepare(&format!(
        "SELECT epoch_ms(event) // {tile_ms} * {tile_ms} AS start_ms, count(*), min(value),
                avg(value), max(value)
         FROM {table} WHERE {sql} AND quality = 'ok'
         GROUP BY start_ms ORDER BY start_ms DESC LIMIT {TILES_MAX}"
    ))?;
    let tiles = statement.query_map(values(), |row| {
        Ok(Tile {
            start_ms: row.get(0)?,
            readings: row.get(1)?,
            min: row.get(2)?,
            mean: row.get(3)?,
            max: row.get(4)?,
        })
    })?;
    let mut tiles: Vec<Tile> = tiles.collect::<duckdb::Result<_>>()?;
    tiles.reverse();
    let (shown, next) = read_readings(
        source,
        &ReadingQuery {
            zone: Some(zone.clone()),
            metric: Some(metric.to_string()),
            from_ms: Some(after_ms + 1),
            to_ms: Some(*until_ms),
            limit: *limit,
            ..ReadingQuery::default()
        },
    )?;
    Ok(Behind {
        window,
        first: edge("ASC")?,
        last: edge("DESC")?,
        tile_s: tile_ms / 1000,
        tiles,
        readings: shown,
        truncated: next.is_some(),
    })
}

/// Reads the revisions of one stored value, oldest first.
pub(crate) fn read_stored_revisions(
    source: ReadSource<'_>,
    zone: &ZoneId,
    feature: &str,
    at_ms: i64,
) -> Result<Vec<(i64, Option<f64>)>, StoreError> {
    let zones = [zone.clone()];
    let scope = FileScope::of_zone(&zones, Some(at_ms), Some(at_ms));
    let VersionRows { table, .. } = VersionRows::new(source, None, &[feature.to_owned()], &scope)?;
    let mut statement = source.connection.prepare(&format!(
        "SELECT revision, {} FROM {table}
         WHERE site = ? AND zone = ? AND time = make_timestamp_ms(?) ORDER BY revision",
        quote_identifier(feature)
    ))?;
    let found = statement
        .query_map(params![zone.site.as_str(), zone.zone.as_str(), at_ms], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}

/// Calls `take` with every valid reading of a zone that was measured in (after, until] and, with
/// `arrived_ms`, had arrived by that time; in the order of the log.
pub(crate) fn replay_readings(
    ReadSource { connection, lake }: ReadSource<'_>,
    zone: &ZoneId,
    (after_ms, until_ms): (i64, i64),
    arrived_ms: Option<i64>,
    mut take: impl FnMut(&SmolStr, &SensorReading),
) -> Result<(), StoreError> {
    let mut inside = WhereClause::default();
    inside.filter_zone(Some(zone));
    inside.push_if_some("event > make_timestamp_ms(?)", Some(after_ms));
    inside.push_if_some("event <= make_timestamp_ms(?)", Some(until_ms));
    inside.push_if_some("arrival <= make_timestamp_ms(?)", arrived_ms);
    let zones = [zone.clone()];
    let scope = FileScope::of_zone(&zones, Some(after_ms), Some(until_ms));
    let table = lake.union_archived_sql(connection, "silver.readings", "readings", &scope)?;
    let sql = format!("FROM {table} WHERE quality = 'ok' AND {}", inside.to_sql());
    let values = || params_from_iter(inside.values.iter());
    let found: u64 =
        connection.query_row(&format!("SELECT count(*) {sql}"), values(), |row| row.get(0))?;
    if found > READINGS_MAX {
        return Err(StoreError::LimitExceeded {
            what: "readings",
            found,
            max: READINGS_MAX,
            hint: "the value has too many readings to be recomputed in a request",
        });
    }
    let mut statement = connection.prepare(&format!(
        "SELECT device, metric, epoch_ms(event), value {sql} ORDER BY partition, \"offset\", item"
    ))?;
    let mut found = statement.query(values())?;
    while let Some(row) = found.next()? {
        let text = |i: usize| row.get::<_, String>(i).map(SmolStr::from);
        let reading = SensorReading { metric: text(1)?, event_ms: row.get(2)?, value: row.get(3)? };
        take(&text(0)?, &reading);
    }
    Ok(())
}
