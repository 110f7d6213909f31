use std::collections::{BTreeMap, BTreeSet};

use agronomy::kpi::{Observation, Period, Rules, ZoneTally};
use duckdb::{
    Connection,
    arrow::{
        array::AsArray,
        datatypes::{Float64Type, Int64Type, UInt8Type},
    },
    params,
};
use jiff::tz::TimeZone;
use telemetry::{Quality, SmolStr, ZoneId};

use super::{
    HOUR_MS,
    hours::{self, Hours},
    write::{Gold, append_open},
};
use crate::{Settings, StoreError, store::micros};

const DAY_MS: i64 = 24 * HOUR_MS;

/// Counts hours with new readings, and their days.
#[derive(Debug)]
pub(crate) struct Refresh {
    rules: Rules,
    pub(crate) time_zone: TimeZone,
    /// How much older than a zone's newest reading a reading may be to count.
    late_max_ms: i64,
}

impl Refresh {
    pub(crate) fn new(settings: &Settings) -> Result<Self, StoreError> {
        Ok(Self {
            rules: settings.kpi.rules.clone(),
            time_zone: settings.engine.time_zone()?,
            late_max_ms: i64::from(settings.engine.late_max_s) * 1000,
        })
    }

    /// Counts anew so many of the touched zone-hours at most, in one transaction; how many
    /// it were.
    pub(crate) fn run(
        &self,
        connection: &mut Connection,
        hours_max: usize,
    ) -> Result<usize, StoreError> {
        let touched = touched(connection, hours_max)?;
        if touched.is_empty() {
            return Ok(0);
        }
        let newest = newest(connection)?;
        let transaction = connection.transaction()?;
        let mut periods: BTreeMap<ZoneId, BTreeMap<i64, Period>> = BTreeMap::new();
        for (zone, hour) in &touched {
            let open_ms = self.open_ms(newest.get(zone).copied());
            let own = periods.entry(zone.clone()).or_default();
            // An hour of UTC has parts of two hours of the clock at half-hour offsets.
            for at_ms in [hour * HOUR_MS, (hour + 1) * HOUR_MS - 1] {
                let period = Period::local_hour(at_ms, &self.time_zone);
                if let Some(period) = period.filter(|period| period.start_ms >= open_ms) {
                    own.insert(period.start_ms, period);
                }
            }
        }
        let kept = final_hours(&transaction)?;
        for (zone, own) in &mut periods {
            own.retain(|start_ms, _| !kept.contains(&(zone.clone(), *start_ms)));
        }
        periods.retain(|_, own| !own.is_empty());
        let counted = self.count(&transaction, &periods)?;
        self.replace(&transaction, &counted, &newest)?;
        transaction.execute_batch(
            "DELETE FROM meta.kpi_touched t USING refreshed r
             WHERE t.site = r.site AND t.zone = r.zone AND t.hour = r.hour;
             DROP TABLE refreshed;",
        )?;
        transaction.commit()?;
        Ok(touched.len())
    }

    /// From which time on hours can still change.
    pub(crate) fn open_ms(&self, newest_ms: Option<i64>) -> i64 {
        let since_ms = newest_ms.unwrap_or(i64::MIN).saturating_sub(self.late_max_ms + DAY_MS);
        Period::local_day(since_ms, &self.time_zone).map_or(since_ms, |day| day.start_ms)
    }

    /// These hours, from all of their readings.
    fn count(
        &self,
        connection: &Connection,
        periods: &BTreeMap<ZoneId, BTreeMap<i64, Period>>,
    ) -> Result<BTreeMap<ZoneId, Hours>, StoreError> {
        connection.execute_batch(
            "CREATE OR REPLACE TEMP TABLE counting (site VARCHAR, zone VARCHAR, hour BIGINT)",
        )?;
        let mut wanted: BTreeSet<(&ZoneId, i64)> = BTreeSet::new();
        for (zone, own) in periods {
            for period in own.values() {
                let (first, last) = (period.start_ms, period.end_ms - 1);
                wanted.extend([first, last].map(|ms| (zone, ms.div_euclid(HOUR_MS))));
            }
        }
        let mut counting = connection.appender("counting")?;
        for (zone, hour) in &wanted {
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
        let names = names(connection)?;
        let span = |hour: Option<i64>| micros(hour.unwrap_or_default().saturating_mul(HOUR_MS));
        let first = wanted.iter().map(|(_, hour)| *hour).min();
        let end = wanted.iter().map(|(_, hour)| *hour + 1).max();
        let mut statement = connection.prepare(
            "SELECT s.place, epoch_ms(d.event) AS event, d.value, d.quality
             FROM silver.data d JOIN counting_series s
               ON d.series = s.id AND epoch_ms(d.event) // 3600000 = s.hour
             WHERE d.event >= make_timestamp(?) AND d.event < make_timestamp(?)
             ORDER BY s.place, d.event, d.value",
        )?;
        let mut counted: BTreeMap<ZoneId, Hours> = BTreeMap::new();
        let mut count = |place: i64, readings: &mut Vec<Observation>| {
            let Some((zone, metric)) = names.get(place as usize) else { return };
            let own = &periods[zone];
            readings.retain(|reading| contains(own, reading.event_ms));
            let hours = counted.entry(zone.clone()).or_default();
            hours::count(hours, metric, readings.drain(..), &self.rules, &self.time_zone);
        };
        let (mut place, mut readings) = (0, Vec::new());
        for batch in statement.query_arrow(params![span(first), span(end)])? {
            let places = batch.column(0).as_primitive::<Int64Type>().values();
            let events = batch.column(1).as_primitive::<Int64Type>().values();
            let values = batch.column(2).as_primitive::<Float64Type>().values();
            let qualities = batch.column(3).as_primitive::<UInt8Type>().values();
            for i in 0..batch.num_rows() {
                if places[i] != place {
                    count(place, &mut readings);
                    place = places[i];
                }
                let quality = Quality::ALL.get(usize::from(qualities[i])).copied();
                readings.push(Observation {
                    event_ms: events[i],
                    value: values[i],
                    quality: quality.unwrap_or(Quality::NotANumber),
                });
            }
        }
        count(place, &mut readings);
        Ok(counted)
    }

    /// Puts these hours, and the days that they are in, in the place of what was.
    fn replace(
        &self,
        connection: &Connection,
        counted: &BTreeMap<ZoneId, Hours>,
        newest: &BTreeMap<ZoneId, i64>,
    ) -> Result<(), StoreError> {
        for (zone, hours) in counted {
            let (site, name) = (zone.site.as_str(), zone.zone.as_str());
            let open_ms = self.open_ms(newest.get(zone).copied());
            connection.execute(
                "DELETE FROM meta.kpi_hours
                 WHERE site = ? AND zone = ? AND hour < make_timestamp(?)",
                params![site, name, micros(open_ms)],
            )?;
            let mut days: BTreeMap<i64, Period> = BTreeMap::new();
            for start_ms in hours.keys() {
                for (table, column) in [
                    ("meta.kpi_hours", "hour"),
                    ("gold.hourly", "hour"),
                    ("gold.hourly_zones", "hour"),
                ] {
                    delete(connection, table, column, zone, *start_ms)?;
                }
                if let Some(day) = Period::local_day(*start_ms, &self.time_zone) {
                    days.insert(day.start_ms, day);
                }
            }
            for start_ms in days.keys() {
                delete(connection, "gold.daily", "day_start", zone, *start_ms)?;
                delete(connection, "gold.daily_zones", "day_start", zone, *start_ms)?;
            }
            let mut open = connection.appender_to_db("kpi_hours", "meta")?;
            for (period, tally) in hours.values() {
                append_open(&mut open, zone, *period, tally, false)?;
            }
            open.flush()?;
            let mut gold = Gold::new(connection)?;
            for (period, tally) in hours.values() {
                gold.hour(zone, &tally.kpis(*period, &self.rules))?;
            }
            for day in days.into_values() {
                let tally = self.day(connection, zone, day)?;
                gold.day(zone, &tally.kpis(day, &self.rules))?;
            }
            gold.finish()?;
        }
        Ok(())
    }

    /// A day, merged from its hours.
    fn day(
        &self,
        connection: &Connection,
        zone: &ZoneId,
        day: Period,
    ) -> Result<ZoneTally, StoreError> {
        let mut statement = connection.prepare(
            "SELECT tally FROM meta.kpi_hours WHERE site = ? AND zone = ?
             AND hour >= make_timestamp(?) AND hour < make_timestamp(?) ORDER BY hour",
        )?;
        let (site, name) = (zone.site.as_str(), zone.zone.as_str());
        let times = [day.start_ms, day.end_ms].map(micros);
        let mut found = statement.query(params![site, name, times[0], times[1]])?;
        let mut merged = ZoneTally::default();
        while let Some(row) = found.next()? {
            let json: String = row.get(0)?;
            let hour = serde_json::from_str(&json).map_err(|_| StoreError::Damaged {
                table: "meta.kpi_hours",
                found: json.clone(),
                expected: "an hour's tally as JSON",
            })?;
            merged.merge(&hour, &self.rules);
        }
        Ok(merged)
    }
}

fn contains(periods: &BTreeMap<i64, Period>, at_ms: i64) -> bool {
    periods.range(..=at_ms).next_back().is_some_and(|(_, period)| period.contains(at_ms))
}

fn delete(
    connection: &Connection,
    table: &str,
    column: &str,
    zone: &ZoneId,
    start_ms: i64,
) -> Result<(), StoreError> {
    let sql =
        format!("DELETE FROM {table} WHERE site = ? AND zone = ? AND {column} = make_timestamp(?)");
    connection.execute(&sql, params![zone.site.as_str(), zone.zone.as_str(), micros(start_ms)])?;
    Ok(())
}

/// Which hours to count now, also as the temporary table `refreshed`.
fn touched(connection: &Connection, hours_max: usize) -> Result<Vec<(ZoneId, i64)>, StoreError> {
    connection.execute_batch(&format!(
        "CREATE OR REPLACE TEMP TABLE refreshed AS
         SELECT DISTINCT site, zone, hour FROM meta.kpi_touched ORDER BY hour LIMIT {hours_max}"
    ))?;
    let mut statement = connection.prepare("SELECT site, zone, hour FROM refreshed")?;
    let touched = statement.query_map([], |row| {
        Ok((ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?), row.get(2)?))
    })?;
    Ok(touched.collect::<duckdb::Result<_>>()?)
}

/// Zone and metric by place in `counting_series`.
fn names(connection: &Connection) -> Result<Vec<(ZoneId, SmolStr)>, StoreError> {
    let mut statement = connection
        .prepare("SELECT DISTINCT place, site, zone, metric FROM counting_series ORDER BY place")?;
    let names = statement.query_map([], |row| {
        let text = |i: usize| row.get::<_, String>(i).map(SmolStr::from);
        Ok((ZoneId::new(text(1)?, text(2)?), text(3)?))
    })?;
    Ok(names.collect::<duckdb::Result<_>>()?)
}

fn newest(connection: &Connection) -> Result<BTreeMap<ZoneId, i64>, StoreError> {
    let mut statement = connection
        .prepare("SELECT site, zone, epoch_ms(newest) FROM meta.zones WHERE newest IS NOT NULL")?;
    let newest = statement.query_map([], |row| {
        Ok((ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?), row.get(2)?))
    })?;
    Ok(newest.collect::<duckdb::Result<_>>()?)
}

/// Hours that cannot be counted anew, since their readings were not kept.
fn final_hours(connection: &Connection) -> Result<BTreeSet<(ZoneId, i64)>, StoreError> {
    let mut statement = connection
        .prepare("SELECT site, zone, epoch_ms(hour) FROM meta.kpi_hours WHERE is_final")?;
    let hours = statement.query_map([], |row| {
        Ok((ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?), row.get(2)?))
    })?;
    Ok(hours.collect::<duckdb::Result<_>>()?)
}
