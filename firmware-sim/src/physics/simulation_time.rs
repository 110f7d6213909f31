//! A time of the simulation as the physics needs it.

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};

/// A time as the sun and people see it. UTC serves as the site's solar time: the sun is highest
/// at 12:00 UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimulationTime {
    /// Day of the year, 1 to 366.
    pub(crate) day_of_year: f64,
    /// Hour of the day, 0 to 24.
    pub(crate) hour: f64,
    /// Whether it is Saturday or Sunday.
    pub(crate) is_weekend: bool,
}

impl SimulationTime {
    /// Converts UTC milliseconds. A time outside the calendar's range gives the epoch.
    pub(crate) fn from_ms(ms: i64) -> Self {
        let stamp = Timestamp::from_millisecond(ms).unwrap_or_default();
        let zoned = stamp.to_zoned(TimeZone::UTC);
        let minutes = f64::from(zoned.hour()) * 60.0 + f64::from(zoned.minute());
        Self {
            day_of_year: f64::from(zoned.day_of_year()),
            hour: minutes / 60.0 + f64::from(zoned.second()) / 3600.0,
            is_weekend: matches!(zoned.weekday(), Weekday::Saturday | Weekday::Sunday),
        }
    }
}

/// Converts milliseconds to seconds.
// Exact up to 285,000 years.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn ms_to_seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}
