//! KPIs of zones by hour and by local day, computed by [`agronomy::kpi`] and stored in `gold`.
//!
//! The transaction that changes the readings of an hour also marks the hour. One further
//! transaction counts it again from all of its readings, in silver and in the lake, together with
//! its day. So late readings are included whatever their age and order, and a crash loses
//! nothing. KPIs outlive the readings.
//!
//! Every local hour of a zone has a row for each metric that was expected in it: one that had a
//! valid reading in the days before. A silent one has completeness 0.
//!
//! # Layout
//! - `periods.sql`: tables of hours and days; `schema.sql`, `zones.sql`: state for computing them
//! - `dirty_hours`: hours with readings that their KPIs do not include yet
//! - `refresh`: counts the next dirty hours and replaces their rows
//! - `count`: tallies of hours, from silver and the lake
//! - `expected_metrics`: metrics that are expected in an hour
//! - `gold_reader`: existing hours and days
//! - `hours`: from readings to the hours and days of a zone
//! - `gold_writer`: hours and days into `gold`
//! - `read`: [`KpiQuery`] → [`ZoneKpis`]

mod count;
mod dirty_hours;
mod expected_metrics;
mod gold_reader;
mod gold_writer;
mod hours;
mod read;
mod refresh;

use duckdb::Connection;

pub(crate) use dirty_hours::DirtyHours;
pub(crate) use gold_writer::write_zone_kpis;
pub(crate) use hours::{ReadingSlices, tally_history};
pub(crate) use read::read_kpis;
pub use read::{KpiQuery, PeriodLength, ZoneKpis};
pub(crate) use refresh::KpiRefresher;

use crate::StoreError;

/// Milliseconds of an hour.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Creates the tables. In earlier files, `gold.hourly` was a view.
pub(crate) fn create_tables(connection: &Connection) -> Result<(), StoreError> {
    let views: u64 = connection.query_row(
        "SELECT count(*) FROM duckdb_views() WHERE schema_name = 'gold' AND view_name = 'hourly'",
        [],
        |row| row.get(0),
    )?;
    if views > 0 {
        connection.execute_batch("DROP VIEW gold.hourly")?;
    }
    for (length, start) in [("hourly", "hour"), ("daily", "day_start")] {
        let template = include_str!("periods.sql");
        let periods = template.replace("{length}", length).replace("{start}", start);
        connection.execute_batch(&periods)?;
    }
    connection.execute_batch(include_str!("schema.sql"))?;
    let zones: u64 = connection.query_row(
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'meta' AND table_name = 'kpi_zones'",
        [],
        |row| row.get(0),
    )?;
    if zones == 0 {
        let script = format!("BEGIN TRANSACTION; {} COMMIT;", include_str!("zones.sql"));
        connection.execute_batch(&script)?;
    }
    Ok(())
}
