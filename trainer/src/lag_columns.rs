//! Columns of earlier rows of a zone, by name. `temperature_mean_1h 23h ago` is that column of the
//! row 23 hours before, which is the mean of the hour that followed the same time yesterday.
//!
//! Rows contain these values as they were known at that earlier time.

use crate::duration_name;

const LAG_SUFFIX: &str = " ago";

/// Name of the column of an earlier row, as in `23h`.
#[must_use]
pub fn lag_column_name(column: &str, ago: &str) -> String {
    format!("{column} {ago}{LAG_SUFFIX}")
}

/// Parses a name to its column and the number of seconds before the row at which it is looked up,
/// which is 0 for other names.
///
/// ```
/// use microclimate_trainer::lag_columns::parse_lag_column;
/// assert_eq!(parse_lag_column("light_mean_1h 23h ago"), ("light_mean_1h", 23 * 3600));
/// assert_eq!(parse_lag_column("light_mean_1h"), ("light_mean_1h", 0));
/// ```
#[must_use]
pub fn parse_lag_column(name: &str) -> (&str, i64) {
    let parts = name.strip_suffix(LAG_SUFFIX).and_then(|rest| rest.rsplit_once(' '));
    let found = parts.and_then(|(column, ago)| Some((column, duration_name::parse_seconds(ago)?)));
    found.map_or((name, 0), |(column, seconds)| (column, seconds.cast_signed()))
}
