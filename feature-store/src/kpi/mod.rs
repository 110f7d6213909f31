//! KPIs of zones by the hour and by the local day: made by
//! [`agronomy::kpi`], kept in `gold`.
//!
//! An hour whose readings changed is noted in the transaction that changed
//! them, and counted anew from all of its readings in silver in one further
//! transaction, with its day: so late readings are in, and a crash loses
//! nothing. A zone's hours are final once nothing can correct them any more
//! (`engine.late_max_s`, and a day): KPIs outlive the readings.
//!
//! # Layout
//! - `periods.sql`: the tables of hours and days; `schema.sql`: what is kept to make them
//! - `touched`: which hours have readings that their KPIs do not know
//! - `refresh`: counts them anew
//! - `hours`: from readings to the hours and days of a zone
//! - `write`: hours and days into `gold`
//! - `read`: [`KpiQuery`] → [`ZoneKpis`]

mod hours;
mod read;
mod refresh;
mod touched;
mod write;

use duckdb::Connection;

pub(crate) use hours::{Readings, of_history};
pub(crate) use read::read;
pub use read::{KpiQuery, Length, ZoneKpis};
pub(crate) use refresh::Refresh;
pub(crate) use touched::Touched;
pub(crate) use write::write_zone;

use crate::StoreError;

/// Milliseconds of an hour of UTC.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Makes the tables. In files of before, `gold.hourly` was a view.
pub(crate) fn make_tables(connection: &Connection) -> Result<(), StoreError> {
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
    Ok(connection.execute_batch(include_str!("schema.sql"))?)
}
