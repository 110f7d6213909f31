use crate::settings::engine_error;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use agronomy::kpi::{KpiRules, TimePeriod, ZoneTally};
use duckdb::{Connection, params};
use jiff::tz::TimeZone;
use telemetry::{SmolStr, ZoneId};

use super::{
    HOUR_MS,
    count::{ZonePeriods, count_readings},
    expected_metrics::ExpectedMetrics,
    gold_reader::{
        HourRange, KnownHours, find_hours_without_tally, iter_periods, read_day_tallies,
        read_known_days, read_known_hours, zone_from_row,
    },
    gold_writer::{
        GoldWriter, SilentPeriod, append_open_tally, timestamp_value, write_silent_zones,
    },
    hours::HourTallies,
};
use crate::{FeatureStoreSettings, StoreError, lake::LakeReader};

const DAY_MS: i64 = 24 * HOUR_MS;
/// Days behind a zone's newest reading for which tallies of hours are stored. Most new readings
/// belong to these days, whose hours then need not be counted again.
const TALLY_DAYS: i64 = 8;
/// Longest span of a zone's clock that is searched for silent metrics at once, ms.
const CLOCK_MS_MAX: i64 = 31 * DAY_MS;
/// Time after which hours with readings in an unreadable lake are tried again.
const LAKE_RETRY_INTERVAL: Duration = Duration::from_secs(600);

/// Counts hours with new readings, and their days. Adds rows of silent metrics as time passes.
#[derive(Debug)]
pub(crate) struct KpiRefresher {
    rules: KpiRules,
    pub(crate) time_zone: TimeZone,
    lake: LakeReader,
    lake_retry_at: Option<Instant>,
    /// How long tallies are stored, counted back from a zone's newest reading, ms.
    tallies_ms: i64,
}

/// Clock and KPI state of a zone.
#[derive(Debug, Default)]
struct ZoneClock {
    /// Present time of the zone, UTC ms: its newest valid reading, or now for a live zone.
    clock_ms: Option<i64>,
    /// Start of the hour up to which silent metrics have rows, UTC ms.
    complete_until_ms: Option<i64>,
    /// Start of the oldest dirty hour that is left for a later run, UTC ms.
    next_dirty_ms: Option<i64>,
}

impl KpiRefresher {
    pub(crate) fn new(settings: &FeatureStoreSettings) -> Result<Self, StoreError> {
        Ok(Self {
            rules: settings.kpi.rules.clone(),
            time_zone: settings.engine.time_zone().map_err(engine_error)?,
            lake: LakeReader::new(settings)?,
            lake_retry_at: None,
            tallies_ms: TALLY_DAYS * DAY_MS,
        })
    }

    /// Returns the time from which tallies are stored, given a zone's newest reading.
    pub(crate) fn tallies_kept_from_ms(&self, newest_ms: Option<i64>) -> i64 {
        newest_ms.unwrap_or(i64::MIN).saturating_sub(self.tallies_ms)
    }

    /// Counts at most `hours_max` dirty hours, the oldest first, in one transaction, and returns
    /// their number. `now_ms` is the wall clock, by which time passes for live zones that are
    /// silent; pass it only once all their reports have been ingested.
    pub(crate) fn run(
        &mut self,
        connection: &mut Connection,
        hours_max: usize,
        now_ms: Option<i64>,
    ) -> Result<usize, StoreError> {
        if self.lake_retry_at.is_none_or(|at| Instant::now() >= at) {
            match self.refresh_in_transaction(connection, hours_max, now_ms, true) {
                Ok(hours) => {
                    self.lake_retry_at = None;
                    return Ok(hours);
                }
                // Hours whose readings cannot all be read stay unchanged, and marked.
                Err(error) => {
                    tracing::warn!(%error, "KPIs of hours with readings in the lake will be counted later");
                    self.lake_retry_at = Some(Instant::now() + LAKE_RETRY_INTERVAL);
                }
            }
        }
        self.refresh_in_transaction(connection, hours_max, now_ms, false)
    }

    fn refresh_in_transaction(
        &self,
        connection: &mut Connection,
        hours_max: usize,
        now_ms: Option<i64>,
        with_lake: bool,
    ) -> Result<usize, StoreError> {
        let transaction = connection.transaction()?;
        let dirty = select_dirty_hours(&transaction, hours_max, with_lake)?;
        let zones = read_zone_clocks(&transaction, now_ms)?;
        let mut hours_left = hours_max.saturating_sub(dirty.len());
        let mut stretches: Vec<HourRange> = Vec::new();
        let completed = self.add_clock_ranges(&zones, &mut hours_left, &mut stretches);
        if dirty.is_empty() && completed.is_empty() {
            return Ok(0);
        }
        let periods = self.periods_to_count(&transaction, &dirty)?;
        self.add_dirty_ranges(&periods, &zones, &mut stretches);
        let stretches = merge_ranges(stretches);
        let known = read_known_hours(&transaction, &stretches, self.rules.expected_ms())?;
        let mut counted =
            count_readings(&transaction, &self.lake, &periods, &self.rules, &self.time_zone)?;
        let mut silent: Vec<SilentPeriod> = Vec::new();
        for (stretch, known_hours) in stretches.iter().zip(known) {
            self.add_silent_metrics(stretch, &known_hours, &mut counted, &mut silent);
        }
        self.replace_hours(&transaction, &counted, &silent)?;
        let days = self.replace_days(&transaction, &counted)?;
        self.add_silent_days(&transaction, &silent, &days)?;
        write_completed(&transaction, &completed)?;
        transaction.execute_batch(&format!(
            "DELETE FROM meta.kpi_hours k USING meta.zones z
             WHERE k.site = z.site AND k.zone = z.zone AND NOT k.is_final
               AND k.hour < z.newest - INTERVAL {TALLY_DAYS} DAY;
             DELETE FROM meta.kpi_touched t USING refreshed r
             WHERE t.site = r.site AND t.zone = r.zone AND t.hour = r.hour;"
        ))?;
        transaction.commit()?;
        let is_all = dirty.len() < hours_max && hours_left > 0;
        Ok(if is_all { dirty.len() } else { hours_max })
    }

    /// Adds the hours over which time has passed since the last run, for as many zones as the
    /// limit allows. Returns the hour up to which each of them is complete then.
    fn add_clock_ranges(
        &self,
        zones: &BTreeMap<ZoneId, ZoneClock>,
        hours_left: &mut usize,
        stretches: &mut Vec<HourRange>,
    ) -> BTreeMap<ZoneId, i64> {
        let mut completed = BTreeMap::new();
        for (zone, clock) in zones {
            // An hour that is left for later is completed then.
            let (Some(clock_ms), None) = (clock.clock_ms, clock.next_dirty_ms) else { continue };
            let Some(hour) = TimePeriod::local_hour(clock_ms, &self.time_zone) else { continue };
            let until_ms = match clock.complete_until_ms {
                Some(since_ms) if since_ms >= hour.start_ms => continue,
                Some(since_ms) => {
                    let until_ms = hour.start_ms.min(since_ms.saturating_add(CLOCK_MS_MAX));
                    *hours_left =
                        hours_left.saturating_sub(((until_ms - since_ms) / HOUR_MS) as usize);
                    stretches.push(HourRange { zone: zone.clone(), from_ms: since_ms, until_ms });
                    until_ms
                }
                None => hour.start_ms,
            };
            completed.insert(zone.clone(), until_ms);
            if *hours_left == 0 {
                break;
            }
        }
        completed
    }

    /// Returns the local hours that overlap these UTC hours, except those whose readings were not
    /// stored.
    fn periods_to_count(
        &self,
        connection: &Connection,
        dirty: &[(ZoneId, i64)],
    ) -> Result<ZonePeriods, StoreError> {
        let mut periods = ZonePeriods::new();
        for (zone, hour) in dirty {
            let zone_periods = periods.entry(zone.clone()).or_default();
            for at_ms in
                [hour.saturating_mul(HOUR_MS), hour.saturating_add(1).saturating_mul(HOUR_MS) - 1]
            {
                if let Some(period) = TimePeriod::local_hour(at_ms, &self.time_zone) {
                    zone_periods.insert(period.start_ms, period);
                }
            }
        }
        let mut statement = connection.prepare(
            "SELECT k.site, k.zone, epoch_ms(k.hour) FROM meta.kpi_hours k
             SEMI JOIN refreshed r ON k.site = r.site AND k.zone = r.zone WHERE k.is_final",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            if let Some(zone_periods) = periods.get_mut(&zone_from_row(row)?) {
                zone_periods.remove(&row.get(2)?);
            }
        }
        Ok(periods)
    }

    /// Adds the hours in which metrics are expected because of readings in the dirty hours.
    fn add_dirty_ranges(
        &self,
        periods: &ZonePeriods,
        zones: &BTreeMap<ZoneId, ZoneClock>,
        stretches: &mut Vec<HourRange>,
    ) {
        for (zone, period) in iter_periods(periods) {
            let Some(clock) = zones.get(zone) else { continue };
            // No zone is expected to have sent readings beyond its own clock.
            let Some(clock_ms) = clock.clock_ms else { continue };
            let start_ms = period.start_ms;
            let mut until_ms = clock_ms.min(start_ms.saturating_add(self.rules.expected_ms()));
            if let Some(next_ms) = clock.next_dirty_ms.filter(|next_ms| *next_ms > start_ms) {
                // Later hours are handled when that hour is counted.
                until_ms = until_ms.min(next_ms - 1);
            }
            if until_ms >= start_ms {
                stretches.push(HourRange { zone: zone.clone(), from_ms: start_ms, until_ms });
            }
        }
    }

    /// Adds metrics that were expected but silent, to hours that are counted now and to others.
    fn add_silent_metrics(
        &self,
        stretch: &HourRange,
        known: &KnownHours,
        counted: &mut BTreeMap<ZoneId, HourTallies>,
        silent: &mut Vec<SilentPeriod>,
    ) {
        let HourRange { zone, from_ms, until_ms } = stretch;
        let none = HourTallies::new();
        let zone_hours = counted.get(zone).unwrap_or(&none);
        let starts = zone_hours.keys().chain(known.hours.keys()).copied().collect();
        let valid = |start_ms: i64| -> Vec<SmolStr> {
            if let Some((_, tally)) = zone_hours.get(&start_ms) {
                return tally.valid_metrics().cloned().collect();
            }
            let metrics = known.hours.get(&start_ms).into_iter().flatten();
            metrics
                .filter(|(_, (has_valid, _))| *has_valid)
                .map(|(metric, _)| metric.clone())
                .collect()
        };
        let mut expected_metrics = ExpectedMetrics::new(&self.rules);
        for (metric, last_ms) in &known.last_valid_ms {
            expected_metrics.note_valid(metric, *last_ms);
        }
        let mut found: Vec<(TimePeriod, Vec<SmolStr>)> = Vec::new();
        let span = (*from_ms, *until_ms);
        expected_metrics.visit_hours(span, &self.time_zone, &starts, valid, |period, expected| {
            found.push((period, expected.to_vec()));
        });
        for (period, expected) in found {
            let hour = counted.get_mut(zone).and_then(|hours| hours.get_mut(&period.start_ms));
            if let Some((_, tally)) = hour {
                expected.iter().for_each(|metric| tally.expect_metric(metric));
                continue;
            }
            let known_qualities = known.hours.get(&period.start_ms).map(|metrics| {
                metrics.iter().map(|(metric, (_, quality))| (metric.clone(), *quality)).collect()
            });
            silent.extend(SilentPeriod::new(zone, period, &expected, known_qualities.as_ref()));
        }
    }

    /// Replaces counted hours, and adds rows of silent metrics to others.
    fn replace_hours(
        &self,
        connection: &Connection,
        counted: &BTreeMap<ZoneId, HourTallies>,
        silent: &[SilentPeriod],
    ) -> Result<(), StoreError> {
        connection.execute_batch(
            "CREATE OR REPLACE TEMP TABLE hours_now (site VARCHAR, zone VARCHAR, hour TIMESTAMP)",
        )?;
        let mut now = connection.appender("hours_now")?;
        for (zone, hours) in counted {
            for start_ms in hours.keys() {
                let (site, name) = (zone.site.as_str(), zone.zone.as_str());
                now.append_row(params![site, name, timestamp_value(*start_ms)])?;
            }
        }
        now.flush()?;
        for table in ["meta.kpi_hours", "gold.hourly", "gold.hourly_zones"] {
            connection.execute_batch(&format!(
                "DELETE FROM {table} t USING hours_now n
                 WHERE t.site = n.site AND t.zone = n.zone AND t.hour = n.hour"
            ))?;
        }
        let mut tallies = connection.appender_to_db("kpi_hours", "meta")?;
        let mut gold = GoldWriter::new(connection)?;
        for (zone, hours) in counted {
            for (period, tally) in hours.values() {
                append_open_tally(&mut tallies, zone, *period, tally, false)?;
                gold.append_hour(zone, &tally.compute_kpis(*period, &self.rules))?;
            }
        }
        for silent_hour in silent {
            gold.append_silent_hour(silent_hour, &self.rules)?;
        }
        tallies.flush()?;
        gold.finish()?;
        write_silent_zones(connection, silent, ("gold.hourly_zones", "hour"))
    }

    /// Merges the days of counted hours again, and returns these days.
    fn replace_days(
        &self,
        connection: &Connection,
        counted: &BTreeMap<ZoneId, HourTallies>,
    ) -> Result<ZonePeriods, StoreError> {
        let mut days = ZonePeriods::new();
        for (zone, hours) in counted {
            let zone_days = days.entry(zone.clone()).or_default();
            let of_hours =
                hours.keys().filter_map(|ms| TimePeriod::local_day(*ms, &self.time_zone));
            zone_days.extend(of_hours.map(|day| (day.start_ms, day)));
        }
        let all = days.clone();
        // Hours that were counted long ago have no tally, so they are counted again.
        let mut again = ZonePeriods::new();
        for (zone, start_ms) in find_hours_without_tally(connection, &days)? {
            if let Some(period) = TimePeriod::local_hour(start_ms, &self.time_zone) {
                again.entry(zone).or_default().insert(start_ms, period);
            }
        }
        let found = count_readings(connection, &self.lake, &again, &self.rules, &self.time_zone)?;
        let mut tallies = connection.appender_to_db("kpi_hours", "meta")?;
        for (zone, period) in iter_periods(&again) {
            match found.get(zone).and_then(|hours| hours.get(&period.start_ms)) {
                Some((period, tally)) => {
                    append_open_tally(&mut tallies, zone, *period, tally, false)?;
                }
                // Its readings have been deleted, so the day stays as it was counted with them.
                None => {
                    let day = TimePeriod::local_day(period.start_ms, &self.time_zone);
                    if let (Some(zone_days), Some(day)) = (days.get_mut(zone), day) {
                        zone_days.remove(&day.start_ms);
                    }
                }
            }
        }
        tallies.flush()?;
        let of_days = read_day_tallies(connection, &days)?;
        for table in ["gold.daily", "gold.daily_zones"] {
            connection.execute_batch(&format!(
                "DELETE FROM {table} t USING days_now d
                 WHERE t.site = d.site AND t.zone = d.zone AND t.day_start = d.first"
            ))?;
        }
        let mut gold = GoldWriter::new(connection)?;
        for (zone, day) in iter_periods(&days) {
            let Some((tallies, metrics)) = of_days.get(&(zone.clone(), day.start_ms)) else {
                continue;
            };
            let mut merged = ZoneTally::default();
            tallies.iter().for_each(|hour| merged.merge_later(hour, &self.rules));
            metrics.iter().for_each(|metric| merged.expect_metric(metric));
            gold.append_day(zone, &merged.compute_kpis(*day, &self.rules))?;
        }
        gold.finish()?;
        Ok(all)
    }

    /// Adds rows of silent metrics to days without counted hours.
    fn add_silent_days(
        &self,
        connection: &Connection,
        silent: &[SilentPeriod],
        counted: &ZonePeriods,
    ) -> Result<(), StoreError> {
        let mut days = ZonePeriods::new();
        let mut metrics: BTreeMap<(ZoneId, i64), BTreeSet<SmolStr>> = BTreeMap::new();
        for SilentPeriod { zone, period, metrics: silent_metrics, .. } in silent {
            let Some(day) = TimePeriod::local_day(period.start_ms, &self.time_zone) else {
                continue;
            };
            if counted.get(zone).is_some_and(|days| days.contains_key(&day.start_ms)) {
                continue;
            }
            days.entry(zone.clone()).or_default().insert(day.start_ms, day);
            metrics
                .entry((zone.clone(), day.start_ms))
                .or_default()
                .extend(silent_metrics.iter().cloned());
        }
        let known = read_known_days(connection, &days)?;
        let mut silent_days = Vec::new();
        for (zone, day) in iter_periods(&days) {
            let key = (zone.clone(), day.start_ms);
            let expected: Vec<SmolStr> = metrics.remove(&key).into_iter().flatten().collect();
            silent_days.extend(SilentPeriod::new(zone, *day, &expected, known.get(&key)));
        }
        let mut gold = GoldWriter::new(connection)?;
        for day in &silent_days {
            gold.append_silent_day(day, &self.rules)?;
        }
        gold.finish()?;
        write_silent_zones(connection, &silent_days, ("gold.daily_zones", "day_start"))
    }
}

/// Merges ranges that overlap or follow one another.
fn merge_ranges(mut stretches: Vec<HourRange>) -> Vec<HourRange> {
    stretches.sort_by(|a, b| (&a.zone, a.from_ms).cmp(&(&b.zone, b.from_ms)));
    let mut merged: Vec<HourRange> = Vec::new();
    for stretch in stretches {
        match merged.last_mut() {
            Some(last)
                if last.zone == stretch.zone
                    && stretch.from_ms <= last.until_ms.saturating_add(2 * HOUR_MS) =>
            {
                last.until_ms = last.until_ms.max(stretch.until_ms);
            }
            _ => merged.push(stretch),
        }
    }
    merged
}

/// Selects the dirty hours to count now, the oldest first. They are also in the temporary table
/// `refreshed`; all dirty hours are in `countable`. Without the lake, both exclude hours of days
/// that are in it.
fn select_dirty_hours(
    connection: &Connection,
    hours_max: usize,
    with_lake: bool,
) -> Result<Vec<(ZoneId, i64)>, StoreError> {
    let in_lake = if with_lake {
        ""
    } else {
        "ANTI JOIN (
             SELECT DISTINCT url_decode(regexp_extract(path, 'zone=([^/]*)', 1)) AS zone,
                    regexp_extract(path, 'date=([^/]*)', 1) AS date
             FROM meta.lake WHERE \"table\" = 'readings'
         ) l ON t.site || '/' || t.zone = l.zone
            AND strftime(make_timestamp(t.hour * 3600000000), '%Y-%m-%d') = l.date"
    };
    connection.execute_batch(&format!(
        "CREATE OR REPLACE TEMP TABLE countable AS
             SELECT DISTINCT t.site, t.zone, t.hour FROM meta.kpi_touched t {in_lake};
         CREATE OR REPLACE TEMP TABLE refreshed AS
             SELECT * FROM countable ORDER BY hour, site, zone LIMIT {hours_max};"
    ))?;
    let mut statement = connection.prepare("SELECT site, zone, hour FROM refreshed")?;
    let hours = statement.query_map([], |row| Ok((zone_from_row(row)?, row.get(2)?)))?;
    Ok(hours.collect::<duckdb::Result<_>>()?)
}

/// Reads the clock of every zone.
fn read_zone_clocks(
    connection: &Connection,
    now_ms: Option<i64>,
) -> Result<BTreeMap<ZoneId, ZoneClock>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT z.site, z.zone, epoch_ms(z.newest), contains(z.progress, '\"live\":true'),
                epoch_ms(k.until), n.hour
         FROM meta.zones z
         LEFT JOIN (
             SELECT site, zone, max(complete_until) AS until FROM meta.kpi_zones GROUP BY ALL
         ) k ON z.site = k.site AND z.zone = k.zone
         LEFT JOIN (
             SELECT c.site, c.zone, min(c.hour) AS hour FROM countable c
             ANTI JOIN refreshed r ON c.site = r.site AND c.zone = r.zone AND c.hour = r.hour
             GROUP BY ALL
         ) n ON z.site = n.site AND z.zone = n.zone",
    )?;
    let zones = statement.query_map([], |row| {
        let newest_ms: Option<i64> = row.get(2)?;
        let live_now_ms = now_ms.filter(|_| row.get(3).unwrap_or(false));
        let clock = ZoneClock {
            clock_ms: newest_ms.map(|newest_ms| newest_ms.max(live_now_ms.unwrap_or(newest_ms))),
            complete_until_ms: row.get(4)?,
            next_dirty_ms: row.get::<_, Option<i64>>(5)?.map(|hour| hour.saturating_mul(HOUR_MS)),
        };
        Ok((zone_from_row(row)?, clock))
    })?;
    Ok(zones.collect::<duckdb::Result<_>>()?)
}

/// Stores up to which hour zones have a row for every expected metric.
fn write_completed(
    connection: &Connection,
    completed: &BTreeMap<ZoneId, i64>,
) -> Result<(), StoreError> {
    connection.execute_batch(
        "CREATE OR REPLACE TEMP TABLE completed (site VARCHAR, zone VARCHAR, until TIMESTAMP)",
    )?;
    let mut appender = connection.appender("completed")?;
    for (zone, until_ms) in completed {
        let until = timestamp_value(*until_ms);
        appender.append_row(params![zone.site.as_str(), zone.zone.as_str(), until])?;
    }
    appender.flush()?;
    Ok(connection.execute_batch(
        "DELETE FROM meta.kpi_zones k USING completed c WHERE k.site = c.site AND k.zone = c.zone;
         INSERT INTO meta.kpi_zones SELECT * FROM completed;",
    )?)
}
