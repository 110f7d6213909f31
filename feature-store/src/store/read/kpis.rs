use duckdb::{Connection, params_from_iter};
use serde::{Deserialize, Serialize};
use telemetry::ZoneId;
use utoipa::ToSchema;

use super::{super::quoted, conditions::Conditions, table::Table};
use crate::StoreError;

/// How much time one line sums up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// An hour.
    #[default]
    Hour,
    /// A day.
    Day,
}

/// Which hours or days to take.
#[derive(Clone, Debug)]
pub struct KpiQuery {
    /// The zone.
    pub zone: ZoneId,
    /// Hours or days.
    pub period: Period,
    /// Lines of the zone as a whole, in place of lines of its metrics.
    pub of_zone: bool,
    /// Of this metric.
    pub metric: Option<String>,
    /// Start, UTC ms, this and later.
    pub from_ms: Option<i64>,
    /// Start, UTC ms, this and earlier.
    pub to_ms: Option<i64>,
    /// The newest this many lines.
    pub limit: usize,
}

/// The newest lines of a zone, newest first, as the table has them; `None` where
/// the file has no such table.
pub(crate) fn kpis(connection: &Connection, query: &KpiQuery) -> Result<Option<Table>, StoreError> {
    let table = match (query.period, query.of_zone) {
        (Period::Hour, false) => "hourly",
        (Period::Hour, true) => "hourly_zones",
        (Period::Day, false) => "daily",
        (Period::Day, true) => "daily_zones",
    };
    let columns = columns(connection, table)?;
    // The first time of a line is when its hour or day begins.
    let time = columns.iter().find(|(_, kind)| kind == "TIMESTAMP").map(|(name, _)| name.clone());
    let Some(time) = time else { return Ok(None) };
    let has = |wanted: &str| columns.iter().any(|(name, _)| name == wanted);
    let mut select = Vec::new();
    for (name, kind) in &columns {
        match kind.as_str() {
            _ if name == "site" || name == "zone" => {}
            "TIMESTAMP" => {
                let ms = quoted(&format!("{name}_ms"));
                select.push(format!("epoch_ms({}) AS {ms}", quoted(name)));
            }
            _ => select.push(quoted(name)),
        }
    }
    let mut conditions = Conditions::default();
    conditions.zone(Some(&query.zone));
    conditions.times(&quoted(&time), query.from_ms, query.to_ms);
    if has("metric") {
        conditions.add("metric = ?", query.metric.clone());
    }
    let order = if has("metric") { ", metric" } else { "" };
    let mut statement = connection.prepare(&format!(
        "SELECT {} FROM gold.{table} WHERE {} ORDER BY {} DESC{order} LIMIT {}",
        select.join(", "),
        conditions.sql(),
        quoted(&time),
        query.limit
    ))?;
    Ok(Some(Table::of(statement.query_arrow(params_from_iter(conditions.values.iter()))?)))
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<(String, String)>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT column_name, data_type FROM duckdb_columns()
         WHERE schema_name = 'gold' AND table_name = ? ORDER BY column_index",
    )?;
    let columns = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(columns.collect::<duckdb::Result<_>>()?)
}
