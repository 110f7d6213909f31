//! Features of a zone that come from several metrics, or from the clock.

use std::f64::consts::TAU;

use agronomy::{
    calendar::Calendar,
    formula::air::{deficit_kpa, dew_point_c},
};
use jiff::tz::TimeZone;

/// Names of the join features, in the order of [`of`].
pub(super) const NAMES: [&str; 4] = ["hour_sin", "hour_cos", "vpd_kpa", "dew_point_c"];

/// The join features at a time, from the zone's mean temperature, °C, and mean
/// humidity, %RH, of the last ten minutes; NaN where an input is missing.
pub(super) fn of(
    at_ms: i64,
    time_zone: &TimeZone,
    [temperature, humidity]: [f64; 2],
) -> [f64; NAMES.len()] {
    let or_nan = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let angle = Calendar::of(at_ms, time_zone, None).map(|calendar| calendar.hour / 24.0 * TAU);
    [
        or_nan(angle.map(f64::sin)),
        or_nan(angle.map(f64::cos)),
        or_nan(deficit_kpa(temperature, humidity)),
        or_nan(dew_point_c(temperature, humidity)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() <= within, "{a} is not {b}");
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
        let check = |zone: &TimeZone, hour: f64| {
            let [sin, cos, ..] = of(noon_utc_in_summer, zone, [f64::NAN; 2]);
            let (expect_sin, expect_cos) = (hour / 24.0 * TAU).sin_cos();
            close(sin, expect_sin, 1e-12);
            close(cos, expect_cos, 1e-12);
        };
        check(&TimeZone::UTC, 12.0);
        check(&TimeZone::get("Europe/Berlin").unwrap(), 14.0);
    }
}
