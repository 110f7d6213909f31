use agronomy::kpi::{Kpis, Period, Rules, ZoneTally};
use duckdb::{Appender, Connection, params};
use jiff::tz::TimeZone;
use telemetry::ZoneId;

use super::hours::{self, Hours};
use crate::{StoreError, store::micros};

/// The KPIs of a zone that had none: every hour and every day of a history.
/// Hours from `open_ms` on can still change; `is_final` where their readings
/// are not kept.
pub(crate) fn write_zone(
    connection: &Connection,
    zone: &ZoneId,
    hours: &Hours,
    rules: &Rules,
    time_zone: &TimeZone,
    open_ms: i64,
    is_final: bool,
) -> Result<(), StoreError> {
    let mut gold = Gold::new(connection)?;
    for (period, tally) in hours.values() {
        gold.hour(zone, &tally.kpis(*period, rules))?;
    }
    for (period, tally) in hours::days(hours, rules, time_zone).values() {
        gold.day(zone, &tally.kpis(*period, rules))?;
    }
    gold.finish()?;
    let mut open = connection.appender_to_db("kpi_hours", "meta")?;
    for (period, tally) in hours.range(open_ms..).map(|(_, hour)| hour) {
        append_open(&mut open, zone, *period, tally, is_final)?;
    }
    Ok(open.flush()?)
}

pub(super) fn append_open(
    open: &mut Appender<'_>,
    zone: &ZoneId,
    period: Period,
    tally: &ZoneTally,
    is_final: bool,
) -> Result<(), StoreError> {
    let json = serde_json::to_string(tally).expect("a tally has only numbers and names");
    let hour = micros_text(period.start_ms);
    open.append_row(params![zone.site.as_str(), zone.zone.as_str(), hour, json, is_final])?;
    Ok(())
}

/// The four tables of `gold`, written to.
pub(super) struct Gold<'a> {
    tables: [Appender<'a>; 4],
}

impl<'a> Gold<'a> {
    pub(super) fn new(connection: &'a Connection) -> Result<Self, StoreError> {
        let open = |name| connection.appender_to_db(name, "gold");
        let tables = [open("hourly")?, open("hourly_zones")?, open("daily")?, open("daily_zones")?];
        Ok(Self { tables })
    }

    pub(super) fn hour(&mut self, zone: &ZoneId, kpis: &Kpis) -> Result<(), StoreError> {
        let [metrics, zones, ..] = &mut self.tables;
        append(metrics, zones, zone, kpis)
    }

    pub(super) fn day(&mut self, zone: &ZoneId, kpis: &Kpis) -> Result<(), StoreError> {
        let [_, _, metrics, zones] = &mut self.tables;
        append(metrics, zones, zone, kpis)
    }

    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.tables.iter_mut().try_for_each(|table| Ok(table.flush()?))
    }
}

fn append(
    metrics: &mut Appender<'_>,
    zones: &mut Appender<'_>,
    zone: &ZoneId,
    kpis: &Kpis,
) -> Result<(), StoreError> {
    let [site, name] = [zone.site.as_str(), zone.zone.as_str()];
    let [start, end] = [kpis.period.start_ms, kpis.period.end_ms].map(micros_text);
    for (metric, own) in &kpis.metrics {
        metrics.append_row(params![
            site,
            name,
            metric.as_str(),
            start,
            own.count,
            own.valid_share,
            own.min,
            own.mean,
            own.max,
            own.std,
            own.completeness,
            own.gap_max_s,
            own.comfort,
            own.quality
        ])?;
    }
    let Kpis { comfort, quality, light_h, occupied_share, .. } = kpis;
    zones.append_row(params![site, name, start, end, comfort, quality, light_h, occupied_share])?;
    Ok(())
}

/// A time as appenders take it.
pub(super) fn micros_text(ms: i64) -> duckdb::types::Value {
    duckdb::types::Value::Timestamp(duckdb::types::TimeUnit::Microsecond, micros(ms))
}
