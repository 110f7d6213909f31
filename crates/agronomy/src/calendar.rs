//! Local time of day, week and year as features, by the site's time zone and with daylight saving
//! time.

use std::f64::consts::TAU;

use jiff::{Timestamp, Zoned, tz::TimeZone};

use crate::sun::{self, DaylightSpan, GeoLocation};

/// Local calendar time at a place.
///
/// Cyclic quantities are also given as sine and cosine, so that 23:59 is next to 0:00.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalendarFeatures {
    /// Local time of day, hours, 0 ≤ h < 24.
    pub hour: f64,
    /// Day of the week: Monday is 0, Sunday is 6.
    pub day_of_week: u8,
    /// Day of the year, 1–366.
    pub day_of_year: u16,
    /// Minutes that have passed since the local day began; up to 1,500 on a day of 25 hours.
    pub since_midnight_min: f64,
    /// Minutes since the day's sunrise, negative before it. `None` where the sun does not rise or
    /// set, or where no location is known.
    pub since_sunrise_min: Option<f64>,
    /// Whether the sun is up. `None` where no location is known.
    pub is_day: Option<bool>,
    /// Time from sunrise to sunset, 0–24 h. `None` where no location is known.
    pub day_length_h: Option<f64>,
    /// Days in this year: 365 or 366.
    days_of_year: u16,
}

impl CalendarFeatures {
    /// Names of the values of [`CalendarFeatures::feature_values`].
    pub const NAMES: [&'static str; 10] = [
        "hour_sin",
        "hour_cos",
        "weekday_sin",
        "weekday_cos",
        "year_sin",
        "year_cos",
        "since_midnight_min",
        "since_sunrise_min",
        "is_day",
        "day_length_h",
    ];

    /// Computes the calendar of a time, ms since 1970, in a time zone, with the sun of a location
    /// if one is known. `None` outside the years −9999 to 9999.
    ///
    /// ```
    /// use microclimate_agronomy::calendar::CalendarFeatures;
    /// use jiff::tz::TimeZone;
    ///
    /// let berlin = TimeZone::get("Europe/Berlin").unwrap();
    /// // Tuesday, 1 July 2025, 12:00 UTC: 14 h in summer time
    /// let calendar = CalendarFeatures::at_time(1_751_371_200_000, &berlin, None).unwrap();
    /// assert_eq!((calendar.hour, calendar.day_of_week, calendar.day_of_year), (14.0, 1, 182));
    /// ```
    #[must_use]
    pub fn at_time(at_ms: i64, time_zone: &TimeZone, place: Option<GeoLocation>) -> Option<Self> {
        let at = Timestamp::from_millisecond(at_ms).ok()?.to_zoned(time_zone.clone());
        let midnight_ms = at.start_of_day().ok()?.timestamp().as_millisecond();
        let sun = match place {
            Some(place) => Some(sun::solar_day_near(local_noon_ms(&at)?, place)),
            None => None,
        };
        let since_sunrise_min = sun.and_then(|day| match day.daylight {
            DaylightSpan::Between { sunrise_ms, .. } => Some(minutes_between(sunrise_ms, at_ms)),
            DaylightSpan::PolarDay | DaylightSpan::PolarNight => None,
        });
        let time = at.time();
        let seconds = f64::from(time.second()) + f64::from(time.subsec_nanosecond()) / 1e9;
        Some(Self {
            hour: f64::from(time.hour()) + (f64::from(time.minute()) + seconds / 60.0) / 60.0,
            day_of_week: at.weekday().to_monday_zero_offset() as u8,
            day_of_year: at.day_of_year() as u16,
            since_midnight_min: minutes_between(midnight_ms, at_ms),
            since_sunrise_min,
            is_day: sun.map(|day| day.is_up(at_ms)),
            day_length_h: sun.map(|day| day.length_h()),
            days_of_year: at.days_in_year() as u16,
        })
    }

    /// Values of a feature row, in the order of [`CalendarFeatures::NAMES`]. The week runs from
    /// Monday 0:00, the year from 1 January 0:00.
    #[must_use]
    pub fn feature_values(&self) -> [Option<f64>; Self::NAMES.len()] {
        let day_fraction = self.hour / 24.0;
        let week_fraction = (f64::from(self.day_of_week) + day_fraction) / 7.0;
        let year_fraction =
            (f64::from(self.day_of_year - 1) + day_fraction) / f64::from(self.days_of_year);
        let [hour, week, year] =
            [day_fraction, week_fraction, year_fraction].map(|share| (share * TAU).sin_cos());
        [
            Some(hour.0),
            Some(hour.1),
            Some(week.0),
            Some(week.1),
            Some(year.0),
            Some(year.1),
            Some(self.since_midnight_min),
            self.since_sunrise_min,
            self.is_day.map(f64::from),
            self.day_length_h,
        ]
    }
}

/// Noon of the local day, ms since 1970.
fn local_noon_ms(at: &Zoned) -> Option<i64> {
    let noon = at.date().at(12, 0, 0, 0).to_zoned(at.time_zone().clone()).ok()?;
    Some(noon.timestamp().as_millisecond())
}

fn minutes_between(from_ms: i64, to_ms: i64) -> f64 {
    (to_ms - from_ms) as f64 / 60_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str, zone: &str, place: Option<GeoLocation>) -> CalendarFeatures {
        let ms = time.parse::<Timestamp>().unwrap().as_millisecond();
        CalendarFeatures::at_time(ms, &TimeZone::get(zone).unwrap(), place).unwrap()
    }

    fn check(time: &str, zone: &str, hour: f64, since_midnight_min: f64, week: u8, year: u16) {
        let found = at(time, zone, None);
        assert!((found.hour - hour).abs() < 1e-9, "{time} {zone}: {found:?}");
        let rest = (found.since_midnight_min, found.day_of_week, found.day_of_year);
        assert_eq!(rest, (since_midnight_min, week, year), "{time} {zone}");
    }

    #[test]
    fn the_clock_is_that_on_the_wall() {
        check("2025-07-01T12:00:00Z", "UTC", 12.0, 720.0, 1, 182);
        check("2025-07-01T12:00:00Z", "Europe/Berlin", 14.0, 840.0, 1, 182);
        check("2024-12-31T20:15:30Z", "Asia/Kolkata", 1.758_333_333_333, 105.5, 2, 1);
        check("2024-12-31T12:00:00Z", "UTC", 12.0, 720.0, 1, 366);
    }

    #[test]
    fn days_of_23_and_25_hours_count_what_has_passed() {
        // The clock was moved from 2 to 3 on 30 March 2025, and from 3 to 2 on 26 October.
        check("2025-03-30T10:00:00Z", "Europe/Berlin", 12.0, 660.0, 6, 89);
        check("2025-10-26T11:00:00Z", "Europe/Berlin", 12.0, 780.0, 6, 299);
        check("2025-10-26T22:59:00Z", "Europe/Berlin", 23.983_333_333_333, 1499.0, 6, 299);
        // Midnight itself was skipped in Beirut on 30 March 2025.
        check("2025-03-29T22:00:00Z", "Asia/Beirut", 1.0, 0.0, 6, 89);
    }

    #[test]
    fn cycles_close() {
        let before = at("2024-12-31T23:59:59Z", "UTC", None).feature_values();
        let after = at("2025-01-01T00:00:00Z", "UTC", None).feature_values();
        for i in [0, 1, 4, 5] {
            let (a, b) = (before[i].unwrap(), after[i].unwrap());
            assert!((a - b).abs() < 1e-4, "{}: {a} {b}", CalendarFeatures::NAMES[i]);
        }
        assert_eq!(after[7..], [None, None, None], "no place, no sun");
    }

    #[test]
    fn the_sun_is_that_of_the_local_day() {
        let london = Some(GeoLocation::new(51.5074, -0.1278).unwrap());
        // sunrise at 3:43 UTC
        let morning = at("2024-06-21T05:43:00Z", "Europe/London", london);
        assert!((morning.since_sunrise_min.unwrap() - 120.0).abs() < 1.0, "{morning:?}");
        assert_eq!(morning.is_day, Some(true));
        let night = at("2024-06-21T02:43:00Z", "Europe/London", london);
        assert!((night.since_sunrise_min.unwrap() + 60.0).abs() < 1.0, "{night:?}");
        assert_eq!(night.is_day, Some(false));
        // evening in Auckland is still the UTC day before noon
        let auckland = Some(GeoLocation::new(-36.85, 174.76).unwrap());
        let evening = at("2024-06-21T10:00:00Z", "Pacific/Auckland", auckland);
        assert_eq!(evening.is_day, Some(false));
        assert!((860.0..870.0).contains(&evening.since_sunrise_min.unwrap()), "{evening:?}");
        let tromso = Some(GeoLocation::new(69.6492, 18.9553).unwrap());
        let winter = at("2024-12-21T11:00:00Z", "Europe/Oslo", tromso);
        assert_eq!((winter.since_sunrise_min, winter.is_day), (None, Some(false)));
        assert_eq!(winter.day_length_h, Some(0.0));
    }

    #[test]
    fn beyond_the_calendar_there_is_none() {
        assert_eq!(CalendarFeatures::at_time(i64::MAX, &TimeZone::UTC, None), None);
    }
}
