//! Features of a zone that come from several metrics, or from the clock.

use std::f64::consts::TAU;

use jiff::{Timestamp, tz::TimeZone};

/// Names of the join features, in the order of [`of`].
pub(super) const NAMES: [&str; 4] = ["hour_sin", "hour_cos", "vpd_kpa", "dew_point_c"];

/// The join features at a time, from the zone's mean temperature, °C, and mean
/// humidity, %RH, of the last ten minutes; NaN where an input is missing.
pub(super) fn of(
    at_ms: i64,
    time_zone: &TimeZone,
    [temperature, humidity]: [f64; 2],
) -> [f64; NAMES.len()] {
    let angle = hour_of_day(at_ms, time_zone) / 24.0 * TAU;
    let vapour = vapour_pressure_kpa(temperature) * humidity / 100.0;
    let vpd = vapour_pressure_kpa(temperature) - vapour;
    [angle.sin(), angle.cos(), vpd, dew_point_c(vapour)]
}

/// Hours since midnight by the clock on the wall.
fn hour_of_day(at_ms: i64, time_zone: &TimeZone) -> f64 {
    let Ok(at) = Timestamp::from_millisecond(at_ms) else { return f64::NAN };
    let time = at.to_zoned(time_zone.clone()).time();
    f64::from(time.hour()) + f64::from(time.minute()) / 60.0 + f64::from(time.second()) / 3600.0
}

/// Saturation vapour pressure over water, kPa, at a temperature, °C. Source:
/// R. G. Allen et al., "Crop evapotranspiration", FAO Irrigation and Drainage
/// Paper 56, 1998, equation 11.
fn vapour_pressure_kpa(temperature: f64) -> f64 {
    0.6108 * (17.27 * temperature / (temperature + 237.3)).exp()
}

/// The temperature, °C, at which that vapour pressure, kPa, saturates: the
/// inverse of equation 11 of FAO 56. NaN where there is no vapour.
fn dew_point_c(vapour_kpa: f64) -> f64 {
    if vapour_kpa <= 0.0 {
        return f64::NAN;
    }
    let ln = (vapour_kpa / 0.6108).ln();
    237.3 * ln / (17.27 - ln)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() <= within, "{a} is not {b}");
    }

    #[test]
    fn vapour_pressure_is_that_of_fao_56() {
        // Example 3 of FAO 56, to three decimals
        for (temperature, kpa) in [(15.0, 1.705), (24.5, 3.075)] {
            close(vapour_pressure_kpa(temperature), kpa, 6e-4);
        }
        close(dew_point_c(vapour_pressure_kpa(12.5)), 12.5, 1e-9);
    }

    #[test]
    fn dry_air_wants_water_and_saturated_air_does_not() {
        let at = |humidity: f64| of(0, &TimeZone::UTC, [20.0, humidity]);
        close(at(100.0)[2], 0.0, 1e-12);
        close(at(100.0)[3], 20.0, 1e-9);
        close(at(50.0)[2], 2.338 / 2.0, 1e-3);
        assert!(at(f64::NAN)[2].is_nan() && at(0.0)[3].is_nan());
    }

    #[test]
    fn the_hour_is_that_of_the_wall_clock() {
        let noon_utc_in_summer = 1_751_371_200_000; // 2025-07-01T12:00:00Z
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        close(hour_of_day(noon_utc_in_summer, &TimeZone::UTC), 12.0, 0.0);
        close(hour_of_day(noon_utc_in_summer, &berlin), 14.0, 0.0);
    }
}
