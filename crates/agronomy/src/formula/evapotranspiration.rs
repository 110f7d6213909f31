//! Reference evapotranspiration: the water that a wide, short, well-watered lawn gives to the air.

use super::{air, in_range, radiation};

/// Clear-sky radiation, MJ/m² h, under a sun at 0.3 rad. A lower sun shows little of the clouds:
/// ASCE-EWRI, "The ASCE standardized reference evapotranspiration equation", 2005, appendix C.
const LOW_SUN_MJ: f64 = 1.09;

/// Climate of a day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DailyClimate {
    /// Highest and lowest air temperature, °C.
    pub extremes_c: [f64; 2],
    /// Vapour pressure of the air, kPa.
    pub vapour_kpa: f64,
    /// Mean wind at 2 m, m/s (see [`wind_2m`]).
    pub wind_m_s: f64,
    /// Solar radiation, MJ/m².
    pub solar_mj: f64,
    /// Heat that the soil took up, MJ/m²; 0 is right for single days.
    pub soil_heat_mj: f64,
    /// Latitude, degrees, negative in the south.
    pub latitude_deg: f64,
    /// Altitude, metres above the sea, −500 to 6,000.
    pub altitude_m: f64,
    /// Day of the year, 1–366.
    pub day_of_year: u16,
}

/// Climate of an hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HourlyClimate {
    /// Mean air temperature, °C.
    pub temperature_c: f64,
    /// Mean relative humidity, 0–100 %.
    pub humidity_pct: f64,
    /// Mean wind at 2 m, m/s.
    pub wind_m_s: f64,
    /// Solar radiation, MJ/m².
    pub solar_mj: f64,
    /// Rs/Rso of the last hours before sunset, 0–1: how clear the night is. Used while the sun is
    /// below 0.3 rad, too low to show it.
    pub night_clear_share: f64,
    /// Latitude and longitude, degrees, positive in the north and east.
    pub place_deg: [f64; 2],
    /// Altitude, metres above the sea, −500 to 6,000.
    pub altitude_m: f64,
    /// Day of the year, 1–366.
    pub day_of_year: u16,
    /// Middle of the hour, UTC, 0–24.
    pub middle_utc_h: f64,
}

/// Atmospheric pressure, kPa, at an altitude of −500 to 6,000 m. FAO 56,
/// equation 7.
#[must_use]
pub fn pressure_kpa(altitude_m: f64) -> Option<f64> {
    let altitude_m = in_range(altitude_m, -500.0, 6000.0)?;
    Some(101.3 * ((293.0 - 0.0065 * altitude_m) / 293.0).powf(5.26))
}

/// Psychrometric constant, kPa/°C, at a pressure of 40 to 120 kPa. FAO 56,
/// equation 8.
#[must_use]
pub fn psychrometric_kpa_c(pressure_kpa: f64) -> Option<f64> {
    Some(0.665e-3 * in_range(pressure_kpa, 40.0, 120.0)?)
}

/// Wind at 2 m, m/s, from the wind at another height of 1 to 100 m. FAO 56, equation 47.
#[must_use]
pub fn wind_2m(wind_m_s: f64, height_m: f64) -> Option<f64> {
    let height_m = in_range(height_m, 1.0, 100.0)?;
    Some(in_range(wind_m_s, 0.0, 100.0)? * 4.87 / (67.8 * height_m - 5.42).ln())
}

/// Reference evapotranspiration of a day, mm, ≥ 0, by Penman–Monteith. FAO 56,
/// equation 6.
///
/// ```
/// use microclimate_agronomy::formula::evapotranspiration::{DailyClimate, daily_mm, wind_2m};
///
/// // FAO 56, example 18: Uccle, 6 July: 3.9 mm
/// let day = DailyClimate {
///     extremes_c: [21.5, 12.3],
///     vapour_kpa: 1.409,
///     wind_m_s: wind_2m(10.0 / 3.6, 10.0).unwrap(),
///     solar_mj: 22.07,
///     soil_heat_mj: 0.0,
///     latitude_deg: 50.8,
///     altitude_m: 100.0,
///     day_of_year: 187,
/// };
/// assert!((daily_mm(&day).unwrap() - 3.9).abs() < 0.05);
/// ```
#[must_use]
pub fn daily_mm(day: &DailyClimate) -> Option<f64> {
    let DailyClimate { extremes_c: [max_c, min_c], vapour_kpa, wind_m_s, solar_mj, .. } = *day;
    let mean_c = f64::midpoint(in_range(max_c, min_c, 80.0)?, min_c);
    let saturation = f64::midpoint(air::saturation_kpa(max_c)?, air::saturation_kpa(min_c)?);
    let extraterrestrial = radiation::extraterrestrial_daily(day.latitude_deg, day.day_of_year)?;
    let clear = radiation::clear_sky(extraterrestrial, day.altitude_m)?;
    let share = clear_share(solar_mj, clear)?;
    let net = radiation::net_shortwave(solar_mj)?
        - radiation::net_longwave_daily([max_c, min_c], vapour_kpa, share)?;
    let deficit = saturation - in_range(vapour_kpa, 0.0, 50.0)?;
    let available = net - in_range(day.soil_heat_mj, -60.0, 60.0)?;
    penman_monteith(mean_c, wind_m_s, available, deficit, day.altitude_m, 900.0)
}

/// Reference evapotranspiration of an hour, mm, ≥ 0, by Penman–Monteith. FAO
/// 56, equation 53.
#[must_use]
pub fn hourly_mm(hour: &HourlyClimate) -> Option<f64> {
    let HourlyClimate { temperature_c, humidity_pct, wind_m_s, solar_mj, altitude_m, .. } = *hour;
    let vapour = air::vapour_kpa(temperature_c, humidity_pct)?;
    let extraterrestrial =
        radiation::extraterrestrial_hourly(hour.place_deg, hour.day_of_year, hour.middle_utc_h)?;
    let clear = radiation::clear_sky(extraterrestrial, altitude_m)?;
    let is_day = extraterrestrial > 0.0;
    let share =
        if clear < LOW_SUN_MJ { hour.night_clear_share } else { clear_share(solar_mj, clear)? };
    let net = radiation::net_shortwave(solar_mj)?
        - radiation::net_longwave_hourly(temperature_c, vapour, share)?;
    let available = net - radiation::soil_heat_hourly(net, is_day)?;
    let deficit = air::deficit_kpa(temperature_c, humidity_pct)?;
    penman_monteith(temperature_c, wind_m_s, available, deficit, altitude_m, 37.0)
}

/// Reference evapotranspiration of a day, mm, ≥ 0, where only temperatures are
/// known, from the extraterrestrial radiation, MJ/m². FAO 56, equation 52; G.
/// H. Hargreaves, Z. A. Samani, Appl. Eng. Agric. 1(2), 1985.
#[must_use]
pub fn hargreaves_mm(max_c: f64, min_c: f64, extraterrestrial_mj: f64) -> Option<f64> {
    let range_c = in_range(max_c, in_range(min_c, -60.0, 60.0)?, 60.0)? - min_c;
    let ra_mm = 0.408 * in_range(extraterrestrial_mj, 0.0, 60.0)?;
    let mean_c = f64::midpoint(max_c, min_c);
    Some((0.0023 * (mean_c + 17.8) * range_c.sqrt() * ra_mm).max(0.0))
}

/// Rs/Rso as FAO 56 requires it: at most 1, and at least 0.33, which an overcast sky lets through.
fn clear_share(solar_mj: f64, clear_mj: f64) -> Option<f64> {
    let solar_mj = in_range(solar_mj, 0.0, 60.0)?;
    Some(if clear_mj > 0.0 { (solar_mj / clear_mj).clamp(0.33, 1.0) } else { 0.33 })
}

fn penman_monteith(
    temperature_c: f64,
    wind_m_s: f64,
    available_mj: f64,
    deficit_kpa: f64,
    altitude_m: f64,
    numerator: f64,
) -> Option<f64> {
    let slope = air::saturation_slope_kpa_c(temperature_c)?;
    let gamma = psychrometric_kpa_c(pressure_kpa(altitude_m)?)?;
    let wind = in_range(wind_m_s, 0.0, 100.0)?;
    let aerodynamic = gamma * numerator / (temperature_c + 273.0) * wind * deficit_kpa.max(0.0);
    let mm = (0.408 * slope * available_mj + aerodynamic) / (slope + gamma * (1.0 + 0.34 * wind));
    Some(mm.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};

    #[test]
    fn constants_are_those_of_fao_56() {
        // example 2: 1,800 m; example 14: 3.2 m/s at 10 m
        close(pressure_kpa(1800.0), 81.8, 0.05);
        close(psychrometric_kpa_c(81.8), 0.054, 5e-4);
        close(wind_2m(3.2, 10.0), 2.4, 0.05);
    }

    #[test]
    fn days_are_those_of_fao_56() {
        // example 17: Bangkok in April, 5.72 mm/d, from 8.5 h of sunshine
        let (latitude_deg, day_of_year) = (13.0 + 44.0 / 60.0, 105);
        let ra = radiation::extraterrestrial_daily(latitude_deg, day_of_year).unwrap();
        close(Some(ra), 38.06, 0.02);
        let daylight_h = radiation::daylight_h(latitude_deg, day_of_year).unwrap();
        let solar_mj = radiation::solar_from_sunshine(ra, 8.5, daylight_h).unwrap();
        close(Some(solar_mj), 22.65, 0.02);
        let bangkok = DailyClimate {
            extremes_c: [34.8, 25.6],
            vapour_kpa: 2.85,
            wind_m_s: 2.0,
            solar_mj,
            soil_heat_mj: 0.14,
            latitude_deg,
            altitude_m: 2.0,
            day_of_year,
        };
        close(daily_mm(&bangkok), 5.72, 0.01);
        // example 18: Uccle, 6 July, 3.9 mm/d, is the documentation's example
        let uccle = DailyClimate {
            extremes_c: [21.5, 12.3],
            vapour_kpa: 1.409,
            wind_m_s: 2.078,
            solar_mj: 22.07,
            soil_heat_mj: 0.0,
            latitude_deg: 50.8,
            altitude_m: 100.0,
            day_of_year: 187,
        };
        close(daily_mm(&uccle), 3.88, 0.01);
        assert_eq!(daily_mm(&DailyClimate { solar_mj: f64::NAN, ..uccle }), None);
        assert_eq!(daily_mm(&DailyClimate { extremes_c: [10.0, 12.0], ..uccle }), None);
    }

    #[test]
    fn hours_are_those_of_fao_56() {
        // example 19: N'Diaye, 1 October, 14–15 h and 2–3 h by a clock of 15° W
        let afternoon = HourlyClimate {
            temperature_c: 38.0,
            humidity_pct: 52.0,
            wind_m_s: 3.3,
            solar_mj: 2.450,
            night_clear_share: 0.8,
            place_deg: [16.0 + 13.0 / 60.0, -16.25],
            altitude_m: 8.0,
            day_of_year: 274,
            middle_utc_h: 15.5,
        };
        close(hourly_mm(&afternoon), 0.63, 5e-3);
        let night = HourlyClimate {
            temperature_c: 28.0,
            humidity_pct: 90.0,
            wind_m_s: 1.9,
            solar_mj: 0.0,
            middle_utc_h: 3.5,
            ..afternoon
        };
        close(hourly_mm(&night), 0.0, 5e-3);
        assert_eq!(hourly_mm(&HourlyClimate { humidity_pct: 105.0, ..night }), None);
    }

    #[test]
    fn the_sky_is_overcast_at_worst_and_clear_at_best() {
        for (solar_mj, share) in [(0.0, 0.33), (15.0, 0.5), (40.0, 1.0)] {
            close(clear_share(solar_mj, 30.0), share, 0.0);
        }
        close(clear_share(0.0, 0.0), 0.33, 0.0);
    }

    #[test]
    fn temperatures_alone_are_enough_for_hargreaves() {
        // example 20: Lyon in July, 26.6 and 14.8 °C, Ra 40.6 MJ/m² d: 5.0 mm
        close(hargreaves_mm(26.6, 14.8, 40.6), 5.0, 0.05);
        let ra = radiation::extraterrestrial_daily(45.0 + 43.0 / 60.0, 196);
        close(ra, 40.6, 0.1);
        assert_eq!(hargreaves_mm(10.0, 11.0, 40.0), None);
    }
}
