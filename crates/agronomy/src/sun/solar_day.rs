use super::{GeoLocation, position::ephemeris};

const DAY_MS: i64 = 86_400_000;
const MS_MAX: i64 = 8_640_000_000_000_000;
/// Elevation of the sun's centre when its upper edge touches the horizon, with refraction: −0.833°.
const HORIZON_DEG: f64 = -0.833;

/// Solar day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SolarDay {
    /// Time at which the sun is highest, ms since 1970.
    pub noon_ms: i64,
    /// Time during which the sun is up.
    pub daylight: DaylightSpan,
}

/// Time during which the sun is up on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaylightSpan {
    /// The sun is up from sunrise to sunset, ms since 1970.
    Between {
        /// Time at which the upper edge appears.
        sunrise_ms: i64,
        /// Time at which the upper edge disappears.
        sunset_ms: i64,
    },
    /// The sun does not set.
    PolarDay,
    /// The sun does not rise.
    PolarNight,
}

impl SolarDay {
    /// Hours of daylight, 0–24.
    #[must_use]
    pub fn length_h(&self) -> f64 {
        match self.daylight {
            DaylightSpan::Between { sunrise_ms, sunset_ms } => {
                (sunset_ms - sunrise_ms) as f64 / 3.6e6
            }
            DaylightSpan::PolarDay => 24.0,
            DaylightSpan::PolarNight => 0.0,
        }
    }

    /// Whether the sun is up at a time of this solar day.
    #[must_use]
    pub fn is_up(&self, at_ms: i64) -> bool {
        match self.daylight {
            DaylightSpan::Between { sunrise_ms, sunset_ms } => {
                (sunrise_ms..sunset_ms).contains(&at_ms)
            }
            DaylightSpan::PolarDay => true,
            DaylightSpan::PolarNight => false,
        }
    }
}

/// Solar day whose noon is nearest to a time, ms since 1970. Given the noon of a calendar day at
/// its location, it is the solar day of that date.
///
/// ```
/// use microclimate_agronomy::sun::{DaylightSpan, GeoLocation, solar_day_near};
///
/// let greenwich = GeoLocation::new(51.4769, 0.0).unwrap();
/// let noon_ms = 1_718_971_200_000; // 21 June 2024, 12:00 UTC
/// let hours = solar_day_near(noon_ms, greenwich).length_h();
/// assert!((hours - 16.64).abs() < 0.03); // almanac: 3:43 to 20:21 UTC
/// ```
#[must_use]
pub fn solar_day_near(near_ms: i64, place: GeoLocation) -> SolarDay {
    let mean_noon_ms = minutes_ms(720.0 - 4.0 * place.longitude_deg);
    // Years outside the calendar's range would overflow.
    let clamped_ms = near_ms.clamp(-MS_MAX, MS_MAX);
    let days = (clamped_ms - mean_noon_ms + DAY_MS / 2).div_euclid(DAY_MS);
    let midday_ms = mean_noon_ms + days * DAY_MS;
    // The equation of time changes by half a minute a day at most.
    let noon_at = |ms: i64| midday_ms - minutes_ms(ephemeris(ms).equation_of_time_min);
    let noon_ms = noon_at(noon_at(midday_ms));
    let crossing = |side: f64| {
        let mut at_ms = noon_ms;
        for _ in 0..4 {
            let angle = hour_angle(at_ms, place)?;
            at_ms = noon_at(at_ms) + minutes_ms(side * angle * 4.0);
        }
        Ok(at_ms)
    };
    let daylight = match (crossing(-1.0), crossing(1.0)) {
        (Ok(sunrise_ms), Ok(sunset_ms)) => DaylightSpan::Between { sunrise_ms, sunset_ms },
        (Err(polar), _) | (_, Err(polar)) => polar,
    };
    SolarDay { noon_ms, daylight }
}

/// Hour angle of the horizon, degrees, with the declination at a time.
fn hour_angle(at_ms: i64, place: GeoLocation) -> Result<f64, DaylightSpan> {
    let declination = ephemeris(at_ms).declination;
    let latitude = place.latitude_deg.to_radians();
    let up = HORIZON_DEG.to_radians().sin() - latitude.sin() * declination.sin();
    let across = latitude.cos() * declination.cos();
    // Compared before dividing: at the poles `across` is 0.
    if up >= across {
        Err(DaylightSpan::PolarNight)
    } else if up <= -across {
        Err(DaylightSpan::PolarDay)
    } else {
        Ok((up / across).acos().to_degrees())
    }
}

fn minutes_ms(minutes: f64) -> i64 {
    (minutes * 60_000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, civil::date, tz::TimeZone};

    use super::*;

    const LONDON: (f64, f64, &str) = (51.5074, -0.1278, "Europe/London");
    const SYDNEY: (f64, f64, &str) = (-33.8688, 151.2093, "Australia/Sydney");
    const TROMSO: (f64, f64, &str) = (69.6492, 18.9553, "Europe/Oslo");
    const KIRITIMATI: (f64, f64, &str) = (1.98, -157.48, "Pacific/Kiritimati");

    fn of(
        (latitude, longitude, zone): (f64, f64, &str),
        [y, m, d]: [i16; 3],
    ) -> (SolarDay, TimeZone) {
        let zone = TimeZone::get(zone).unwrap();
        let noon = date(y, m as i8, d as i8).at(12, 0, 0, 0).to_zoned(zone.clone()).unwrap();
        let place = GeoLocation::new(latitude, longitude).unwrap();
        (solar_day_near(noon.timestamp().as_millisecond(), place), zone)
    }

    /// Local clock times of almanacs, to the minute.
    fn check(place: (f64, f64, &str), on: [i16; 3], rise: &str, set: &str) {
        let (day, zone) = of(place, on);
        let DaylightSpan::Between { sunrise_ms, sunset_ms } = day.daylight else {
            panic!("{place:?} {on:?}: {day:?}")
        };
        for (ms, clock) in [(sunrise_ms, rise), (sunset_ms, set)] {
            let local = Timestamp::from_millisecond(ms).unwrap().to_zoned(zone.clone());
            assert_eq!([local.year(), local.month().into(), local.day().into()], on);
            let (hour, minute) = clock.split_once(':').unwrap();
            let expect: i32 = hour.parse::<i32>().unwrap() * 60 + minute.parse::<i32>().unwrap();
            let found = i32::from(local.hour()) * 60 + i32::from(local.minute());
            assert!((found - expect).abs() <= 1, "{place:?} {on:?}: {local} is not {clock}");
        }
    }

    #[test]
    fn sunrise_and_sunset_are_those_of_almanacs() {
        check(LONDON, [2024, 6, 21], "4:43", "21:22");
        check(LONDON, [2024, 12, 21], "8:04", "15:53");
        check(SYDNEY, [2024, 1, 1], "5:47", "20:09");
        // NREL/TP-560-34302, table A5.1, 17 October 2003 by UTC: 6:12:43, and 17:20:19 by a clock
        // of −7 h, which is the evening of the 16th.
        let golden = (39.742_476, -105.178_6, "Etc/GMT+7");
        check(golden, [2003, 10, 17], "6:12", "17:19");
        check(golden, [2003, 10, 16], "6:11", "17:20");
    }

    #[test]
    fn the_day_is_that_of_the_calendar_at_the_edge_of_dates() {
        let (day, zone) = of(KIRITIMATI, [2024, 3, 20]);
        let noon = Timestamp::from_millisecond(day.noon_ms).unwrap().to_zoned(zone);
        assert_eq!((noon.day(), noon.hour()), (20, 12));
    }

    #[test]
    fn the_polar_sun_stays_up_or_down() {
        let light = |on| of(TROMSO, on).0;
        // midnight sun from about 20 May to 22 July, polar night from about 27
        // November to 15 January
        assert_eq!(light([2024, 6, 21]).daylight, DaylightSpan::PolarDay);
        assert_eq!(light([2024, 12, 21]).daylight, DaylightSpan::PolarNight);
        assert_eq!(
            (light([2024, 6, 21]).length_h(), light([2024, 12, 21]).length_h()),
            (24.0, 0.0)
        );
        for on in [[2024, 5, 14], [2024, 7, 30], [2024, 11, 22], [2024, 1, 19]] {
            assert!(matches!(light(on).daylight, DaylightSpan::Between { .. }), "{on:?}");
        }
        let pole = GeoLocation::new(90.0, 0.0).unwrap();
        assert_eq!(solar_day_near(1_718_971_200_000, pole).daylight, DaylightSpan::PolarDay);
        assert_eq!(solar_day_near(1_734_782_400_000, pole).daylight, DaylightSpan::PolarNight);
    }
}
