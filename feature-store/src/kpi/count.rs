use std::collections::{BTreeMap, BTreeSet};

use agronomy::kpi::{KpiRules, Observation, TimePeriod};
use duckdb::{
    Connection,
    arrow::{
        array::AsArray,
        datatypes::{Float64Type, Int64Type, UInt8Type},
    },
    params,
};
use jiff::tz::TimeZone;
use telemetry::{QualityFlag, SmolStr, ZoneId};

use super::{
    HOUR_MS,
    hours::{self, HourTallies},
};
use crate::{
    StoreError,
    lake::{FileScope, LakeReader},
    store::ms_to_micros,
};

/// Periods by zone and start, ms.
pub(super) type ZonePeriods = BTreeMap<ZoneId, BTreeMap<i64, TimePeriod>>;

/// Hours that lie further apart are read by separate queries: the table is nearly in the order of
/// time, so the rows between them need not be read.
const APART_HOURS_MAX: i64 = 14 * 24;

/// Tallies these hours from all of their readings, including those in the lake.
pub(super) fn count_readings(
    connection: &Connection,
    lake: &LakeReader,
    periods: &ZonePeriods,
    rules: &KpiRules,
    time_zone: &TimeZone,
) -> Result<BTreeMap<ZoneId, HourTallies>, StoreError> {
    let mut counted = BTreeMap::new();
    let mut wanted: BTreeSet<(i64, &ZoneId)> = BTreeSet::new();
    for (zone, zone_periods) in periods {
        for period in zone_periods.values() {
            // A local hour may overlap two hours of UTC.
            let (first, last) = (period.start_ms, period.end_ms - 1);
            wanted.extend([first, last].map(|ms| (ms.div_euclid(HOUR_MS), zone)));
        }
    }
    let sorted: Vec<(i64, &ZoneId)> = wanted.into_iter().collect();
    for together in sorted.chunk_by(|a, b| b.0 - a.0 <= APART_HOURS_MAX) {
        count_span(connection, lake, periods, together, rules, time_zone, &mut counted)?;
    }
    Ok(counted)
}

fn count_span(
    connection: &Connection,
    lake: &LakeReader,
    periods: &ZonePeriods,
    wanted: &[(i64, &ZoneId)],
    rules: &KpiRules,
    time_zone: &TimeZone,
    counted: &mut BTreeMap<ZoneId, HourTallies>,
) -> Result<(), StoreError> {
    connection.execute_batch(
        "CREATE OR REPLACE TEMP TABLE counting (site VARCHAR, zone VARCHAR, hour BIGINT)",
    )?;
    let mut counting = connection.appender("counting")?;
    for (hour, zone) in wanted {
        counting.append_row(params![zone.site.as_str(), zone.zone.as_str(), hour])?;
    }
    counting.flush()?;
    // Numbers sort several times as fast as names.
    connection.execute_batch(
        "CREATE OR REPLACE TEMP TABLE counting_series AS
         SELECT s.id, c.hour, s.site, s.zone, s.metric,
                dense_rank() OVER (ORDER BY s.site, s.zone, s.metric) - 1 AS place
         FROM silver.series s JOIN counting c ON s.site = c.site AND s.zone = c.zone",
    )?;
    let names = read_series_names(connection)?;
    let span_ms = (
        wanted[0].0.saturating_mul(HOUR_MS),
        (wanted[wanted.len() - 1].0 + 1).saturating_mul(HOUR_MS),
    );
    let zone_set: BTreeSet<&ZoneId> = wanted.iter().map(|(_, zone)| *zone).collect();
    let zones: Vec<ZoneId> = zone_set.into_iter().cloned().collect();
    let scope = FileScope {
        zones: Some(&zones),
        from_ms: Some(span_ms.0),
        to_ms: Some(span_ms.1 - 1),
        ..FileScope::default()
    };
    let lake_files = lake.files_source_sql(connection, "readings", &scope)?;
    let moved = lake_files.map_or_else(String::new, |files| {
        format!(
            "UNION ALL
             SELECT p.place, epoch_ms(l.event), l.value, l.quality
             FROM {files} l JOIN (
                 SELECT DISTINCT site || '/' || zone AS zone, metric, place, hour FROM counting_series
             ) p ON l.zone = p.zone AND l.metric = p.metric AND epoch_ms(l.event) // 3600000 = p.hour"
        )
    });
    let mut statement = connection.prepare(&format!(
        "SELECT * FROM (
             SELECT s.place, epoch_ms(d.event) AS event, d.value, d.quality
             FROM silver.data d JOIN counting_series s
               ON d.series = s.id AND epoch_ms(d.event) // 3600000 = s.hour
             WHERE d.event >= make_timestamp(?) AND d.event < make_timestamp(?)
             {moved}
         ) ORDER BY place, event, value"
    ))?;
    let mut count = |place: i64, readings: &mut Vec<Observation>| {
        let Some((zone, metric)) = names.get(place as usize) else { return };
        let zone_periods = &periods[zone];
        readings.retain(|reading| is_in_periods(zone_periods, reading.event_ms));
        let hours = counted.entry(zone.clone()).or_default();
        hours::count_into_hours(hours, metric, readings.drain(..), rules, time_zone);
    };
    let (mut place, mut readings) = (0, Vec::new());
    let span = [span_ms.0, span_ms.1].map(ms_to_micros);
    for batch in statement.query_arrow(params![span[0], span[1]])? {
        let places = batch.column(0).as_primitive::<Int64Type>().values();
        let events = batch.column(1).as_primitive::<Int64Type>().values();
        let values = batch.column(2).as_primitive::<Float64Type>().values();
        let qualities = batch.column(3).as_primitive::<UInt8Type>().values();
        for i in 0..batch.num_rows() {
            if places[i] != place {
                count(place, &mut readings);
                place = places[i];
            }
            let quality = QualityFlag::ALL.get(usize::from(qualities[i])).copied();
            readings.push(Observation {
                event_ms: events[i],
                value: values[i],
                quality: quality.unwrap_or(QualityFlag::NotANumber),
            });
        }
    }
    count(place, &mut readings);
    Ok(())
}

fn is_in_periods(periods: &BTreeMap<i64, TimePeriod>, at_ms: i64) -> bool {
    periods.range(..=at_ms).next_back().is_some_and(|(_, period)| period.contains(at_ms))
}

/// Returns zone and metric by place in `counting_series`.
fn read_series_names(connection: &Connection) -> Result<Vec<(ZoneId, SmolStr)>, StoreError> {
    let mut statement = connection
        .prepare("SELECT DISTINCT place, site, zone, metric FROM counting_series ORDER BY place")?;
    let names = statement.query_map([], |row| {
        let text = |i: usize| row.get::<_, String>(i).map(SmolStr::from);
        Ok((ZoneId::new(text(1)?, text(2)?), text(3)?))
    })?;
    Ok(names.collect::<duckdb::Result<_>>()?)
}
