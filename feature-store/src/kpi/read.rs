use std::collections::BTreeMap;

use agronomy::kpi::{MetricKpis, PeriodKpis, TimePeriod};
use duckdb::{Connection, params};
use telemetry::{SmolStr, ZoneId};

use crate::{StoreError, store::ms_to_micros};

/// Length of a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeriodLength {
    /// An hour of the site's local time.
    #[default]
    Hour,
    /// A day at the site, from midnight to midnight.
    Day,
}

/// Selects KPIs.
#[derive(Clone, Debug)]
pub struct KpiQuery {
    /// The zone.
    pub zone: ZoneId,
    /// Hours or days.
    pub length: PeriodLength,
    /// Earliest start of a period, UTC ms, included.
    pub from_ms: Option<i64>,
    /// Latest start of a period, UTC ms, excluded.
    pub to_ms: Option<i64>,
    /// Largest number of periods; the newest are taken.
    pub limit: usize,
}

/// KPIs of a zone over one period.
pub type ZoneKpis = PeriodKpis;

/// Reads the KPIs of one zone, newest period first.
pub(crate) fn read_kpis(
    connection: &Connection,
    query: &KpiQuery,
) -> Result<Vec<ZoneKpis>, StoreError> {
    let (zones, metrics, start) = match query.length {
        PeriodLength::Hour => ("gold.hourly_zones", "gold.hourly", "hour"),
        PeriodLength::Day => ("gold.daily_zones", "gold.daily", "day_start"),
    };
    let zone = &query.zone;
    let (site, name) = (zone.site.as_str(), zone.zone.as_str());
    let (from, to) = (
        query.from_ms.map_or(i64::MIN + 2, ms_to_micros),
        query.to_ms.map_or(i64::MAX - 1, ms_to_micros),
    );
    let mut statement = connection.prepare(&format!(
        "SELECT epoch_ms({start}), epoch_ms(until), comfort, quality, light_h, occupied_share
         FROM {zones}
         WHERE site = ? AND zone = ? AND epoch_us({start}) >= ? AND epoch_us({start}) < ?
         ORDER BY {start} DESC LIMIT {}",
        query.limit
    ))?;
    let mut found = statement.query(params![site, name, from, to])?;
    let mut all: BTreeMap<i64, ZoneKpis> = BTreeMap::new();
    while let Some(row) = found.next()? {
        let period = TimePeriod { start_ms: row.get(0)?, end_ms: row.get(1)? };
        let kpis = PeriodKpis {
            period,
            metrics: BTreeMap::new(),
            comfort: row.get(2)?,
            quality: row.get(3)?,
            light_h: row.get(4)?,
            occupied_share: row.get(5)?,
        };
        all.insert(period.start_ms, kpis);
    }
    let (Some(first), Some(last)) = (all.keys().next(), all.keys().next_back()) else {
        return Ok(Vec::new());
    };
    let mut statement = connection.prepare(&format!(
        "SELECT epoch_ms({start}), metric, readings, valid_share, min, mean, max, std,
                completeness, gap_max_s, comfort, quality
         FROM {metrics}
         WHERE site = ? AND zone = ? AND {start} BETWEEN make_timestamp(?) AND make_timestamp(?)"
    ))?;
    let mut found =
        statement.query(params![site, name, ms_to_micros(*first), ms_to_micros(*last)])?;
    while let Some(row) = found.next()? {
        let metric_kpis = MetricKpis {
            count: row.get(2)?,
            valid_share: row.get(3)?,
            min: row.get(4)?,
            mean: row.get(5)?,
            max: row.get(6)?,
            std: row.get(7)?,
            completeness: row.get(8)?,
            gap_max_s: row.get(9)?,
            comfort: row.get(10)?,
            quality: row.get(11)?,
        };
        if let Some(kpis) = all.get_mut(&row.get(0)?) {
            kpis.metrics.insert(SmolStr::from(row.get::<_, String>(1)?), metric_kpis);
        }
    }
    Ok(all.into_values().rev().collect())
}
