//! KPIs of zones by the hour and by the local day: made by
//! [`agronomy::kpi`], kept in `gold`.
//!
//! An hour whose readings changed is noted in the transaction that changed
//! them, and counted again from all of its readings, in silver and in the lake, in
//! one further transaction, with its day: so late readings are in whatever their age
//! and order, and a crash loses nothing. KPIs outlive the readings.
//!
//! Every hour of a zone's clock has a row for each metric that was expected in it:
//! one that had a valid reading in the days before. A silent one has completeness 0.
//!
//! # Layout
//! - `periods.sql`: the tables of hours and days; `schema.sql`, `zones.sql`: what is kept to
//!   make them
//! - `touched`: which hours have readings that their KPIs do not know
//! - `refresh`: what of it is counted next, and put in the place of what was
//! - `count`: the readings of hours, from silver and the lake
//! - `silence`: which metrics are expected in an hour
//! - `gold`: hours and days that are there already
//! - `hours`: from readings to the hours and days of a zone
//! - `write`: hours and days into `gold`
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

/// Milliseconds of an hour of UTC.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Makes the tables. In files of before, `gold.hourly` was a view.
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
        let periods = include_str!("periods.sql");
        let periods = periods.replace("{length}", length).replace("{start}", start);
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
