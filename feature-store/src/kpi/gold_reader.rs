use std::collections::{BTreeMap, BTreeSet};

use agronomy::kpi::{TimePeriod, ZoneTally};
use duckdb::{Connection, params};
use telemetry::{SmolStr, ZoneId};

use super::{count::ZonePeriods, gold_writer::timestamp_value};
use crate::StoreError;

/// A range of hours of one zone, from the start of the first hour to that of the last one, UTC
/// ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HourRange {
    pub(super) zone: ZoneId,
    pub(super) from_ms: i64,
    pub(super) until_ms: i64,
}

/// Contents of `gold.hourly` for a range of hours and the days before it.
#[derive(Debug, Default)]
pub(super) struct KnownHours {
    /// Start of the newest hour before the range with a valid reading, UTC ms, by metric.
    pub(super) last_valid_ms: BTreeMap<SmolStr, i64>,
    /// Whether there is a valid reading, and the data quality, by hour and metric.
    pub(super) hours: BTreeMap<i64, BTreeMap<SmolStr, (bool, f64)>>,
}

/// Reads the known hours of each range, in the order of the ranges.
pub(super) fn read_known_hours(
    connection: &Connection,
    stretches: &[HourRange],
    expected_ms: i64,
) -> Result<Vec<KnownHours>, StoreError> {
    let mut known: Vec<KnownHours> = stretches.iter().map(|_| KnownHours::default()).collect();
    connection.execute_batch(
        "CREATE OR REPLACE TEMP TABLE stretches (
             n BIGINT, site VARCHAR, zone VARCHAR, before TIMESTAMP, first TIMESTAMP, last TIMESTAMP)",
    )?;
    let mut appender = connection.appender("stretches")?;
    for (n, HourRange { zone, from_ms, until_ms }) in (0_i64..).zip(stretches) {
        let times = [from_ms.saturating_sub(expected_ms), *from_ms, *until_ms].map(timestamp_value);
        let [before, first, last] = times;
        appender.append_row(params![
            n,
            zone.site.as_str(),
            zone.zone.as_str(),
            before,
            first,
            last
        ])?;
    }
    appender.flush()?;
    let mut statement = connection.prepare(
        "SELECT s.n, g.metric, epoch_ms(max(g.hour)) FROM gold.hourly g JOIN stretches s
           ON g.site = s.site AND g.zone = s.zone AND g.hour >= s.before AND g.hour < s.first
         WHERE g.valid_share > 0 AND g.hour >= (SELECT min(before) FROM stretches)
           AND g.hour < (SELECT max(first) FROM stretches)
         GROUP BY ALL",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let range = &mut known[row.get::<_, i64>(0)? as usize];
        range.last_valid_ms.insert(row.get::<_, String>(1)?.into(), row.get(2)?);
    }
    let mut statement = connection.prepare(
        "SELECT s.n, g.metric, epoch_ms(g.hour), coalesce(g.valid_share > 0, false), g.quality
         FROM gold.hourly g JOIN stretches s
           ON g.site = s.site AND g.zone = s.zone AND g.hour >= s.first AND g.hour <= s.last
         WHERE g.hour >= (SELECT min(first) FROM stretches)
           AND g.hour <= (SELECT max(last) FROM stretches)",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let range = &mut known[row.get::<_, i64>(0)? as usize];
        let hour = range.hours.entry(row.get(2)?).or_default();
        hour.insert(row.get::<_, String>(1)?.into(), (row.get(3)?, row.get(4)?));
    }
    Ok(known)
}

/// Creates the temporary table `days_now` of some days, in the order of zones and time.
fn create_days_table(connection: &Connection, days: &ZonePeriods) -> Result<(), StoreError> {
    connection.execute_batch(
        "CREATE OR REPLACE TEMP TABLE days_now (
             site VARCHAR, zone VARCHAR, first TIMESTAMP, until TIMESTAMP)",
    )?;
    let mut appender = connection.appender("days_now")?;
    for (zone, day) in iter_periods(days) {
        let [first, until] = [day.start_ms, day.end_ms].map(timestamp_value);
        appender.append_row(params![zone.site.as_str(), zone.zone.as_str(), first, until])?;
    }
    Ok(appender.flush()?)
}

/// Returns the hours of these days that have readings but no stored tally.
pub(super) fn find_hours_without_tally(
    connection: &Connection,
    days: &ZonePeriods,
) -> Result<Vec<(ZoneId, i64)>, StoreError> {
    create_days_table(connection, days)?;
    let mut statement = connection.prepare(
        "SELECT DISTINCT g.site, g.zone, epoch_ms(g.hour) FROM gold.hourly g
         JOIN days_now d ON g.site = d.site AND g.zone = d.zone
           AND g.hour >= d.first AND g.hour < d.until
         ANTI JOIN meta.kpi_hours k ON g.site = k.site AND g.zone = k.zone AND g.hour = k.hour
         WHERE g.readings > 0 AND g.hour >= (SELECT min(first) FROM days_now)
           AND g.hour < (SELECT max(until) FROM days_now)",
    )?;
    let hours = statement.query_map([], |row| Ok((zone_from_row(row)?, row.get(2)?)))?;
    Ok(hours.collect::<duckdb::Result<_>>()?)
}

/// Returns, for each of these days, the stored tallies in order, and every metric that has a row
/// in any hour.
pub(super) fn read_day_tallies(
    connection: &Connection,
    days: &ZonePeriods,
) -> Result<BTreeMap<(ZoneId, i64), (Vec<ZoneTally>, BTreeSet<SmolStr>)>, StoreError> {
    create_days_table(connection, days)?;
    let mut all: BTreeMap<(ZoneId, i64), (Vec<ZoneTally>, BTreeSet<SmolStr>)> = BTreeMap::new();
    let mut statement = connection.prepare(
        "SELECT k.site, k.zone, epoch_ms(d.first), k.tally FROM meta.kpi_hours k
         JOIN days_now d ON k.site = d.site AND k.zone = d.zone
           AND k.hour >= d.first AND k.hour < d.until
         ORDER BY k.hour",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let json: String = row.get(3)?;
        let tally = serde_json::from_str(&json).map_err(|_| StoreError::CorruptTable {
            table: "meta.kpi_hours",
            found: json.clone(),
            expected: "an hour's tally as JSON",
        })?;
        all.entry((zone_from_row(row)?, row.get(2)?)).or_default().0.push(tally);
    }
    let mut statement = connection.prepare(
        "SELECT DISTINCT g.site, g.zone, epoch_ms(d.first), g.metric FROM gold.hourly g
         JOIN days_now d ON g.site = d.site AND g.zone = d.zone
           AND g.hour >= d.first AND g.hour < d.until
         WHERE g.hour >= (SELECT min(first) FROM days_now)
           AND g.hour < (SELECT max(until) FROM days_now)",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let metric = SmolStr::from(row.get::<_, String>(3)?);
        all.entry((zone_from_row(row)?, row.get(2)?)).or_default().1.insert(metric);
    }
    Ok(all)
}

/// Returns the data quality of each metric that has a row for these days.
pub(super) fn read_known_days(
    connection: &Connection,
    days: &ZonePeriods,
) -> Result<BTreeMap<(ZoneId, i64), BTreeMap<SmolStr, f64>>, StoreError> {
    create_days_table(connection, days)?;
    let mut statement = connection.prepare(
        "SELECT g.site, g.zone, epoch_ms(g.day_start), g.metric, g.quality FROM gold.daily g
         JOIN days_now d ON g.site = d.site AND g.zone = d.zone AND g.day_start = d.first",
    )?;
    let mut found = statement.query([])?;
    let mut known: BTreeMap<(ZoneId, i64), BTreeMap<SmolStr, f64>> = BTreeMap::new();
    while let Some(row) = found.next()? {
        let day = known.entry((zone_from_row(row)?, row.get(2)?)).or_default();
        day.insert(row.get::<_, String>(3)?.into(), row.get(4)?);
    }
    Ok(known)
}

/// Iterates over all periods with their zones.
pub(super) fn iter_periods(periods: &ZonePeriods) -> impl Iterator<Item = (&ZoneId, &TimePeriod)> {
    periods
        .iter()
        .flat_map(|(zone, zone_periods)| zone_periods.values().map(move |period| (zone, period)))
}

/// Reads the zone of a row that begins with site and zone name.
pub(super) fn zone_from_row(row: &duckdb::Row<'_>) -> duckdb::Result<ZoneId> {
    Ok(ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?))
}
