//! A time of the simulation as the physics needs it.

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};

/// A time as the sun and people see it. UTC is taken for the site's solar
/// time: the sun is highest at 12:00 UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimulationTime {
    /// 1 to 366.
    pub(crate) day_of_year: f64,
    /// 0 to 24.
    pub(crate) hour: f64,
    /// Saturday or Sunday.
    pub(crate) is_weekend: bool,
}

impl SimulationTime {
    /// The moment at UTC milliseconds; the epoch itself where they are out of
    /// the range of a calendar.
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

/// Milliseconds as seconds.
// Exact up to 285,000 years.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn ms_to_seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}
