use std::collections::BTreeMap;

use agronomy::kpi::{KpiRules, MetricKpis, PeriodKpis, TimePeriod, ZoneTally};
use duckdb::{Appender, Connection, params};
use jiff::tz::TimeZone;
use telemetry::{SmolStr, ZoneId};

use super::hours::{self, HourTallies};
use crate::{StoreError, store::ms_to_micros};

/// Writes the KPIs of a zone that has none yet: every hour and day of a history, including silent
/// ones. Stores the tallies of hours from `kept_ms` on, or all of them if `is_final`, because the
/// readings are not stored then.
pub(crate) fn write_zone_kpis(
    connection: &Connection,
    zone: &ZoneId,
    hours: &HourTallies,
    rules: &KpiRules,
    time_zone: &TimeZone,
    kept_ms: i64,
    is_final: bool,
) -> Result<(), StoreError> {
    let mut gold = GoldWriter::new(connection)?;
    for (period, tally) in hours.values() {
        gold.append_hour(zone, &tally.compute_kpis(*period, rules))?;
    }
    for (period, tally) in hours::merge_into_days(hours, rules, time_zone).values() {
        gold.append_day(zone, &tally.compute_kpis(*period, rules))?;
    }
    gold.finish()?;
    let mut open = connection.appender_to_db("kpi_hours", "meta")?;
    let tallies_from_ms = if is_final { i64::MIN } else { kept_ms };
    for (period, tally) in hours.range(tallies_from_ms..).map(|(_, hour)| hour) {
        append_open_tally(&mut open, zone, *period, tally, is_final)?;
    }
    open.flush()?;
    let is_valid = |(_, tally): &&(TimePeriod, ZoneTally)| tally.valid_metrics().next().is_some();
    if let Some((last, _)) = hours.values().rev().find(is_valid) {
        let mut zones = connection.appender_to_db("kpi_zones", "meta")?;
        let until = timestamp_value(last.start_ms);
        zones.append_row(params![zone.site.as_str(), zone.zone.as_str(), until])?;
        zones.flush()?;
    }
    Ok(())
}

pub(super) fn append_open_tally(
    open: &mut Appender<'_>,
    zone: &ZoneId,
    period: TimePeriod,
    tally: &ZoneTally,
    is_final: bool,
) -> Result<(), StoreError> {
    let json = serde_json::to_string(tally).expect("a tally has only numbers and names");
    let hour = timestamp_value(period.start_ms);
    open.append_row(params![zone.site.as_str(), zone.zone.as_str(), hour, json, is_final])?;
    Ok(())
}

/// Appenders of the four tables of `gold`.
pub(super) struct GoldWriter<'a> {
    tables: [Appender<'a>; 4],
}

impl<'a> GoldWriter<'a> {
    pub(super) fn new(connection: &'a Connection) -> Result<Self, StoreError> {
        let open = |name| connection.appender_to_db(name, "gold");
        let tables = [open("hourly")?, open("hourly_zones")?, open("daily")?, open("daily_zones")?];
        Ok(Self { tables })
    }

    pub(super) fn append_hour(
        &mut self,
        zone: &ZoneId,
        kpis: &PeriodKpis,
    ) -> Result<(), StoreError> {
        let [metrics, zones, ..] = &mut self.tables;
        append_period(metrics, zones, zone, kpis)
    }

    pub(super) fn append_day(
        &mut self,
        zone: &ZoneId,
        kpis: &PeriodKpis,
    ) -> Result<(), StoreError> {
        let [_, _, metrics, zones] = &mut self.tables;
        append_period(metrics, zones, zone, kpis)
    }

    /// Appends rows of silent metrics to an hour that has rows of others.
    pub(super) fn append_silent_hour(
        &mut self,
        silent: &SilentPeriod,
        rules: &KpiRules,
    ) -> Result<(), StoreError> {
        append_silent_metrics(&mut self.tables[0], silent, rules)
    }

    /// Appends rows of silent metrics to a day that has rows of others.
    pub(super) fn append_silent_day(
        &mut self,
        silent: &SilentPeriod,
        rules: &KpiRules,
    ) -> Result<(), StoreError> {
        append_silent_metrics(&mut self.tables[2], silent, rules)
    }

    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.tables.iter_mut().try_for_each(|table| Ok(table.flush()?))
    }
}

/// A period, counted earlier, in which further metrics were expected but silent.
#[derive(Debug)]
pub(super) struct SilentPeriod {
    pub(super) zone: ZoneId,
    pub(super) period: TimePeriod,
    pub(super) metrics: Vec<SmolStr>,
    /// Data quality of the zone including them.
    pub(super) quality: f64,
}

impl SilentPeriod {
    /// Takes the expected metrics that have no data quality yet; returns `None` if there are
    /// none.
    pub(super) fn new(
        zone: &ZoneId,
        period: TimePeriod,
        expected: &[SmolStr],
        known: Option<&BTreeMap<SmolStr, f64>>,
    ) -> Option<Self> {
        let is_known = |metric: &SmolStr| known.is_some_and(|known| known.contains_key(metric));
        let metrics: Vec<SmolStr> =
            expected.iter().filter(|metric| !is_known(metric)).cloned().collect();
        let sum: f64 = known.map_or(0.0, |known| known.values().sum());
        let all = metrics.len() + known.map_or(0, BTreeMap::len);
        let quality = sum / all.max(1) as f64;
        (!metrics.is_empty()).then(|| Self { zone: zone.clone(), period, metrics, quality })
    }
}

/// Updates the data quality of zones in periods with new silent metrics, and inserts missing zone
/// rows.
pub(super) fn write_silent_zones(
    connection: &Connection,
    silent: &[SilentPeriod],
    (table, start): (&str, &str),
) -> Result<(), StoreError> {
    connection.execute_batch(
        "CREATE OR REPLACE TEMP TABLE silent_zones (
             site VARCHAR, zone VARCHAR, first TIMESTAMP, until TIMESTAMP, quality DOUBLE)",
    )?;
    let mut appender = connection.appender("silent_zones")?;
    for SilentPeriod { zone, period, quality, .. } in silent {
        let [first, until] = [period.start_ms, period.end_ms].map(timestamp_value);
        let (site, name) = (zone.site.as_str(), zone.zone.as_str());
        appender.append_row(params![site, name, first, until, quality])?;
    }
    appender.flush()?;
    Ok(connection.execute_batch(&format!(
        "UPDATE {table} z SET quality = s.quality FROM silent_zones s
         WHERE z.site = s.site AND z.zone = s.zone AND z.{start} = s.first;
         INSERT INTO {table}
         SELECT s.site, s.zone, s.first, s.until, NULL, s.quality, NULL, NULL FROM silent_zones s
         ANTI JOIN {table} z ON z.site = s.site AND z.zone = s.zone AND z.{start} = s.first;"
    ))?)
}

fn append_silent_metrics(
    table: &mut Appender<'_>,
    silent: &SilentPeriod,
    rules: &KpiRules,
) -> Result<(), StoreError> {
    let start = timestamp_value(silent.period.start_ms);
    for metric in &silent.metrics {
        let kpis = rules.silent_kpis(metric, silent.period);
        append_metric(table, &silent.zone, metric, &start, &kpis)?;
    }
    Ok(())
}

fn append_period(
    metrics: &mut Appender<'_>,
    zones: &mut Appender<'_>,
    zone: &ZoneId,
    kpis: &PeriodKpis,
) -> Result<(), StoreError> {
    let [site, name] = [zone.site.as_str(), zone.zone.as_str()];
    let [start, end] = [kpis.period.start_ms, kpis.period.end_ms].map(timestamp_value);
    for (metric, metric_kpis) in &kpis.metrics {
        append_metric(metrics, zone, metric, &start, metric_kpis)?;
    }
    let PeriodKpis { comfort, quality, light_h, occupied_share, .. } = kpis;
    zones.append_row(params![site, name, start, end, comfort, quality, light_h, occupied_share])?;
    Ok(())
}

fn append_metric(
    metrics: &mut Appender<'_>,
    zone: &ZoneId,
    metric: &SmolStr,
    start: &duckdb::types::Value,
    kpis: &MetricKpis,
) -> Result<(), StoreError> {
    Ok(metrics.append_row(params![
        zone.site.as_str(),
        zone.zone.as_str(),
        metric.as_str(),
        start,
        kpis.count,
        kpis.valid_share,
        kpis.min,
        kpis.mean,
        kpis.max,
        kpis.std,
        kpis.completeness,
        kpis.gap_max_s,
        kpis.comfort,
        kpis.quality
    ])?)
}

/// Converts a time to a value for appenders.
pub(super) fn timestamp_value(ms: i64) -> duckdb::types::Value {
    duckdb::types::Value::Timestamp(duckdb::types::TimeUnit::Microsecond, ms_to_micros(ms))
}
