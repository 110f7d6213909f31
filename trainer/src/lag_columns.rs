//! Columns of earlier rows of a zone, by name: `temperature_mean_1h 23h ago` is
//! that column of the row 23 hours before, here the mean of the hour that
//! followed the same time yesterday.
//!
//! What rows hold of it is as it was known at that earlier time.

use crate::duration_name;

const LAG_SUFFIX: &str = " ago";

/// The name of a column so long ago, as in `23h`.
#[must_use]
pub fn lag_column_name(column: &str, ago: &str) -> String {
    format!("{column} {ago}{LAG_SUFFIX}")
}

/// A name's column, and how many seconds before the row it is looked up: 0
/// where the name says nothing of it.
///
/// ```
/// use microclimate_trainer::earlier::column_of;
/// assert_eq!(column_of("light_mean_1h 23h ago"), ("light_mean_1h", 23 * 3600));
/// assert_eq!(column_of("light_mean_1h"), ("light_mean_1h", 0));
/// ```
#[must_use]
pub fn parse_lag_column(name: &str) -> (&str, i64) {
    let parts = name.strip_suffix(LAG_SUFFIX).and_then(|rest| rest.rsplit_once(' '));
    let found = parts.and_then(|(column, ago)| Some((column, duration_name::parse_seconds(ago)?)));
    found.map_or((name, 0), |(column, seconds)| (column, seconds.cast_signed()))
}
