//! Solar radiation on a horizontal surface by FAO 56, and net radiation.
//!
//! Energies are in MJ/m² over the period named: a day or an hour.

use std::f64::consts::{PI, TAU};

use super::in_range;

/// Solar constant, MJ/(m² min).
const SOLAR_CONSTANT: f64 = 0.0820;
/// Stefan–Boltzmann constant, MJ/(K⁴ m² d).
const STEFAN_BOLTZMANN: f64 = 4.903e-9;
/// Share of the radiation that grass reflects.
const ALBEDO: f64 = 0.23;

/// Inverse relative distance to the sun and its declination, rad, on a day of
/// the year, 1–366. FAO 56, equations 23 and 24.
fn sun_geometry(day_of_year: u16) -> Option<(f64, f64)> {
    let day = in_range(f64::from(day_of_year), 1.0, 366.0)?;
    let angle = TAU / 365.0 * day;
    Some((1.0 + 0.033 * angle.cos(), 0.409 * (angle - 1.39).sin()))
}

/// Sunset hour angle, rad: 0 in polar night, π in polar day. FAO 56, equation
/// 25.
fn sunset_angle(latitude: f64, declination: f64) -> f64 {
    (-latitude.tan() * declination.tan()).clamp(-1.0, 1.0).acos()
}

/// Extraterrestrial radiation of a day, MJ/m², at a latitude of −90 to 90°, negative in the south.
/// FAO 56, equation 21.
///
/// ```
/// let mj = microclimate_agronomy::formula::radiation::extraterrestrial_daily(-20.0, 246).unwrap();
/// assert!((mj - 32.2).abs() < 0.05); // FAO 56, example 8: 3 September
/// ```
#[must_use]
pub fn extraterrestrial_daily(latitude_deg: f64, day_of_year: u16) -> Option<f64> {
    let latitude = in_range(latitude_deg, -90.0, 90.0)?.to_radians();
    let (distance, declination) = sun_geometry(day_of_year)?;
    let set = sunset_angle(latitude, declination);
    let above =
        set * latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * set.sin();
    Some((24.0 * 60.0 / PI * SOLAR_CONSTANT * distance * above).max(0.0))
}

/// Extraterrestrial radiation, MJ/m², of the hour that is centred on a time of day in UTC, h, at a
/// latitude and longitude in degrees, positive in the north and east. FAO 56, equations 28 and
/// 31–33.
#[must_use]
pub fn extraterrestrial_hourly(
    [latitude_deg, longitude_deg]: [f64; 2],
    day_of_year: u16,
    middle_utc_h: f64,
) -> Option<f64> {
    let latitude = in_range(latitude_deg, -90.0, 90.0)?.to_radians();
    let longitude_deg = in_range(longitude_deg, -180.0, 180.0)?;
    let middle_h = in_range(middle_utc_h, 0.0, 24.0)?;
    let (distance, declination) = sun_geometry(day_of_year)?;
    let b = TAU * (f64::from(day_of_year) - 81.0) / 364.0;
    let correction_h = 0.1645 * (2.0 * b).sin() - 0.1255 * b.cos() - 0.025 * b.sin();
    let solar_h = middle_h + longitude_deg / 15.0 + correction_h - 12.0;
    // Angle within the solar day that is nearest to the hour.
    let middle = (PI / 12.0 * solar_h + PI).rem_euclid(TAU) - PI;
    let set = sunset_angle(latitude, declination);
    let begin = (middle - PI / 24.0).clamp(-set, set);
    let end = (middle + PI / 24.0).clamp(-set, set);
    let above = (end - begin) * latitude.sin() * declination.sin()
        + latitude.cos() * declination.cos() * (end.sin() - begin.sin());
    Some((12.0 * 60.0 / PI * SOLAR_CONSTANT * distance * above).max(0.0))
}

/// Longest possible sunshine of a day, h, 0–24. FAO 56, equation 34.
#[must_use]
pub fn daylight_h(latitude_deg: f64, day_of_year: u16) -> Option<f64> {
    let latitude = in_range(latitude_deg, -90.0, 90.0)?.to_radians();
    Some(24.0 / PI * sunset_angle(latitude, sun_geometry(day_of_year)?.1))
}

/// Solar radiation, MJ/m² d, from hours of sunshine. FAO 56, equation 35, with the Ångström values
/// 0.25 and 0.50. `None` in polar night.
#[must_use]
pub fn solar_from_sunshine(
    extraterrestrial_mj: f64,
    sunshine_h: f64,
    daylight_h: f64,
) -> Option<f64> {
    let share = in_range(sunshine_h, 0.0, daylight_h)? / daylight_h;
    in_range(extraterrestrial_mj, 0.0, 60.0)
        .filter(|_| daylight_h > 0.0)
        .map(|ra| (0.25 + 0.5 * share) * ra)
}

/// Clear-sky solar radiation, MJ/m², of the same period, at an altitude of −500 to 6,000 m. FAO 56,
/// equation 37.
#[must_use]
pub fn clear_sky(extraterrestrial_mj: f64, altitude_m: f64) -> Option<f64> {
    let ra = in_range(extraterrestrial_mj, 0.0, 60.0)?;
    Some((0.75 + 2e-5 * in_range(altitude_m, -500.0, 6000.0)?) * ra)
}

/// Net shortwave radiation, MJ/m², absorbed by grass. FAO 56, equation 38.
#[must_use]
pub fn net_shortwave(solar_mj: f64) -> Option<f64> {
    Some((1.0 - ALBEDO) * in_range(solar_mj, 0.0, 60.0)?)
}

/// Net longwave radiation, MJ/m², lost in a day with these extremes, °C, a vapour pressure, kPa,
/// and a clear-sky share Rs/Rso of 0 to 1. FAO 56, equation 39.
#[must_use]
pub fn net_longwave_daily(
    [max_c, min_c]: [f64; 2],
    vapour_kpa: f64,
    clear_share: f64,
) -> Option<f64> {
    let emitted = |c: f64| Some((in_range(c, -90.0, 80.0)? + 273.16).powi(4));
    let mean = f64::midpoint(emitted(max_c)?, emitted(min_c)?);
    let air = 0.34 - 0.14 * in_range(vapour_kpa, 0.0, 50.0)?.sqrt();
    Some(STEFAN_BOLTZMANN * mean * air * (1.35 * in_range(clear_share, 0.0, 1.0)? - 0.35))
}

/// Net longwave radiation, MJ/m², lost in an hour. FAO 56, equation 39 with the constant for an
/// hour (chapter 4, hourly time step).
#[must_use]
pub fn net_longwave_hourly(temperature_c: f64, vapour_kpa: f64, clear_share: f64) -> Option<f64> {
    Some(net_longwave_daily([temperature_c; 2], vapour_kpa, clear_share)? / 24.0)
}

/// Soil heat flux, MJ/m² h, under grass: 0.1 of the net radiation by day, 0.5 by night. FAO 56,
/// equations 45 and 46.
#[must_use]
pub fn soil_heat_hourly(net_mj: f64, is_day: bool) -> Option<f64> {
    Some(in_range(net_mj, -60.0, 60.0)? * if is_day { 0.1 } else { 0.5 })
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};

    #[test]
    fn days_are_those_of_fao_56() {
        // examples 8 and 9: 20° S on 3 September
        close(extraterrestrial_daily(-20.0, 246), 32.2, 0.05);
        close(daylight_h(-20.0, 246), 11.7, 0.05);
        // examples 10–12: Rio de Janeiro, 22°54′ S, May
        let ra = extraterrestrial_daily(-22.9, 135).unwrap();
        close(Some(ra), 25.1, 0.05);
        close(daylight_h(-22.9, 135), 10.9, 0.05);
        let rs = solar_from_sunshine(ra, 220.0 / 31.0, 10.9).unwrap();
        close(Some(rs), 14.5, 0.05);
        let share = rs / clear_sky(ra, 0.0).unwrap();
        let longwave = net_longwave_daily([25.1, 19.1], 2.1, share);
        close(longwave, 3.5, 0.06);
        close(net_shortwave(rs).map(|rns| rns - longwave.unwrap()), 7.6, 0.1);
    }

    #[test]
    fn hours_are_those_of_fao_56() {
        // example 19: N'Diaye, 16°13′ N 16°15′ W, 1 October, 14–15 h by a clock
        // of 15° W: Ra 3.543, Rso 2.658 at 8 m
        let ra = extraterrestrial_hourly([16.0 + 13.0 / 60.0, -16.25], 274, 15.5);
        close(ra, 3.543, 2e-3);
        close(clear_sky(ra.unwrap(), 8.0), 2.658, 2e-3);
        close(extraterrestrial_hourly([16.217, -16.25], 274, 3.5), 0.0, 0.0);
    }

    #[test]
    fn the_hours_of_a_day_add_up_to_it() {
        for (place, day) in [([52.0, 5.5], 172), ([-33.9, 151.2], 10), ([69.6, 18.9], 172)] {
            let hours = (0..24).map(|h| extraterrestrial_hourly(place, day, f64::from(h) + 0.5));
            let sum: f64 = hours.map(Option::unwrap).sum();
            // An hour in which the sun crosses midnight is cut at the solar day.
            close(Some(sum), extraterrestrial_daily(place[0], day).unwrap(), 0.1);
        }
    }

    #[test]
    fn polar_night_is_dark_and_polar_day_is_long() {
        close(extraterrestrial_daily(80.0, 355), 0.0, 0.0);
        close(daylight_h(80.0, 355), 0.0, 0.0);
        close(daylight_h(80.0, 172), 24.0, 0.0);
        assert_eq!(solar_from_sunshine(0.0, 0.0, 0.0), None);
        assert_eq!(extraterrestrial_daily(91.0, 1), None);
        assert_eq!(extraterrestrial_daily(0.0, 0), None);
    }
}
