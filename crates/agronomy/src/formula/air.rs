//! Water vapour in air.

use super::in_range;

/// Range of air temperatures for which these formulas hold, °C.
const TEMPERATURE_C: [f64; 2] = [-40.0, 80.0];

/// Saturation vapour pressure over water, kPa, at a temperature of −40 to
/// 80 °C. FAO 56, equation 11.
///
/// ```
/// let kpa = microclimate_agronomy::formula::air::saturation_kpa(24.5).unwrap();
/// assert!((kpa - 3.075).abs() < 1e-3); // FAO 56, example 3
/// ```
#[must_use]
pub fn saturation_kpa(temperature_c: f64) -> Option<f64> {
    let t = in_range(temperature_c, TEMPERATURE_C[0], TEMPERATURE_C[1])?;
    Some(0.6108 * (17.27 * t / (t + 237.3)).exp())
}

/// Slope of the saturation vapour pressure curve, kPa/°C. FAO 56, equation 13.
#[must_use]
pub fn saturation_slope_kpa_c(temperature_c: f64) -> Option<f64> {
    Some(4098.0 * saturation_kpa(temperature_c)? / (temperature_c + 237.3).powi(2))
}

/// Vapour pressure, kPa, of air at a temperature, °C, and a relative humidity,
/// 0–100 %. FAO 56, equation 10.
#[must_use]
pub fn vapour_kpa(temperature_c: f64, humidity_pct: f64) -> Option<f64> {
    Some(saturation_kpa(temperature_c)? * in_range(humidity_pct, 0.0, 100.0)? / 100.0)
}

/// Vapour-pressure deficit, kPa, ≥ 0: how much more vapour the air could hold. FAO 56, equations 10
/// and 11.
///
/// ```
/// let kpa = microclimate_agronomy::formula::air::deficit_kpa(25.0, 60.0).unwrap();
/// assert!((kpa - 1.267).abs() < 1e-3);
/// ```
#[must_use]
pub fn deficit_kpa(temperature_c: f64, humidity_pct: f64) -> Option<f64> {
    Some(saturation_kpa(temperature_c)? - vapour_kpa(temperature_c, humidity_pct)?)
}

/// Dew point, °C: the temperature at which the vapour would condense. `None` for dry air. Inverse
/// of FAO 56, equation 11 (its equation 3-11 of annex 3).
#[must_use]
pub fn dew_point_c(temperature_c: f64, humidity_pct: f64) -> Option<f64> {
    let vapour = vapour_kpa(temperature_c, humidity_pct).filter(|kpa| *kpa > 0.0)?;
    let ln = (vapour / 0.6108).ln();
    Some(237.3 * ln / (17.27 - ln))
}

/// Absolute humidity, g of water per m³ of air, by the ideal gas law with 461.5 J/(kg K) for water
/// vapour.
#[must_use]
pub fn absolute_humidity_g_m3(temperature_c: f64, humidity_pct: f64) -> Option<f64> {
    let vapour_pa = vapour_kpa(temperature_c, humidity_pct)? * 1000.0;
    Some(vapour_pa / (461.5 * (temperature_c + 273.15)) * 1000.0)
}

/// Wet-bulb temperature, °C, at sea-level pressure, for −20 to 50 °C and 5 to 99 %RH. Its error is
/// within −1 to +0.65 °C. R. Stull, "Wet-bulb temperature from relative humidity and air
/// temperature", J. Appl. Meteorol. Climatol. 50, 2011, equation 1.
///
/// ```
/// let c = microclimate_agronomy::formula::air::wet_bulb_c(20.0, 50.0).unwrap();
/// assert!((c - 13.7).abs() < 0.05); // Stull's own example
/// ```
#[must_use]
pub fn wet_bulb_c(temperature_c: f64, humidity_pct: f64) -> Option<f64> {
    let (t, rh) = (in_range(temperature_c, -20.0, 50.0)?, in_range(humidity_pct, 5.0, 99.0)?);
    Some(
        t * (0.151_977 * (rh + 8.313_659).sqrt()).atan() + (t + rh).atan()
            - (rh - 1.676_331).atan()
            + 0.003_918_38 * rh.powf(1.5) * (0.023_101 * rh).atan()
            - 4.686_035,
    )
}

/// Heat index, °C: what shaded air feels like. `None` where the index is below 80 °F (26.7 °C), and
/// above 50 °C, where it was never fitted. L. P. Rothfusz, NWS Technical Attachment SR 90-23, 1990,
/// with the adjustments of the US National Weather Service for dry and for humid air.
#[must_use]
pub fn heat_index_c(temperature_c: f64, humidity_pct: f64) -> Option<f64> {
    let t = in_range(temperature_c, -40.0, 50.0)? * 1.8 + 32.0;
    let rh = in_range(humidity_pct, 0.0, 100.0)?;
    let simple = 0.5 * (t + 61.0 + (t - 68.0) * 1.2 + rh * 0.094);
    if f64::midpoint(simple, t) < 80.0 {
        return None;
    }
    let mut index = rothfusz_f(t, rh);
    if rh < 13.0 && (80.0..=112.0).contains(&t) {
        index -= (13.0 - rh) / 4.0 * ((17.0 - (t - 95.0).abs()) / 17.0).sqrt();
    } else if rh > 85.0 && (80.0..=87.0).contains(&t) {
        index += (rh - 85.0) / 10.0 * (87.0 - t) / 5.0;
    }
    Some((index - 32.0) / 1.8)
}

/// Rothfusz regression, in °F and %.
fn rothfusz_f(t: f64, rh: f64) -> f64 {
    -42.379 + 2.049_015_23 * t + 10.143_331_27 * rh
        - 0.224_755_41 * t * rh
        - 6.837_83e-3 * t * t
        - 5.481_717e-2 * rh * rh
        + 1.228_74e-3 * t * t * rh
        + 8.5282e-4 * t * rh * rh
        - 1.99e-6 * t * t * rh * rh
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};

    #[test]
    fn vapour_pressure_is_that_of_fao_56() {
        // example 3
        close(saturation_kpa(24.5), 3.075, 5e-4);
        close(saturation_kpa(15.0), 1.705, 5e-4);
        // example 17: slope at 30.2 °C
        close(saturation_slope_kpa_c(30.2), 0.246, 5e-4);
        // example 5: 25 °C at 54 % and 18 °C at 82 %, both about 1.70 kPa
        close(vapour_kpa(25.0, 54.0), 1.71, 5e-3);
        close(vapour_kpa(18.0, 82.0), 1.69, 5e-3);
    }

    #[test]
    fn saturated_air_wants_nothing_and_dews_where_it_is() {
        for t in [-10.0, 0.0, 21.5, 45.0] {
            close(deficit_kpa(t, 100.0), 0.0, 1e-12);
            close(dew_point_c(t, 100.0), t, 1e-9);
        }
        assert_eq!(dew_point_c(20.0, 0.0), None);
        // steam tables: saturated air of 20 °C holds 17.3 g/m³
        close(absolute_humidity_g_m3(20.0, 100.0), 17.3, 0.05);
    }

    #[test]
    fn wet_bulb_is_that_of_stull() {
        close(wet_bulb_c(20.0, 50.0), 13.7, 0.05);
        assert_eq!(wet_bulb_c(20.0, 4.9), None);
        assert_eq!(wet_bulb_c(50.1, 50.0), None);
    }

    #[test]
    fn heat_index_is_that_of_the_weather_service() {
        // National Weather Service heat index chart, °F
        let fahrenheit = |t: f64, rh| heat_index_c((t - 32.0) / 1.8, rh).map(|c| c * 1.8 + 32.0);
        for (t, rh, index) in
            [(90.0, 70.0, 106.0), (96.0, 50.0, 108.0), (100.0, 40.0, 109.0), (86.0, 90.0, 105.0)]
        {
            close(fahrenheit(t, rh), index, 0.6);
        }
        assert_eq!(fahrenheit(70.0, 50.0), None);
        // adjustments: −(13 − 9)/4·√(17/17) in dry air, +(95 − 85)/10·(87 − 82)/5
        // in humid air, none between
        for (t, rh, adjustment) in [(95.0, 9.0, -1.0), (82.0, 95.0, 1.0), (95.0, 50.0, 0.0)] {
            close(fahrenheit(t, rh), rothfusz_f(t, rh) + adjustment, 1e-9);
        }
    }

    #[test]
    fn no_number_and_no_air_are_none() {
        for formula in [deficit_kpa, dew_point_c, absolute_humidity_g_m3, wet_bulb_c, heat_index_c]
        {
            for (t, rh) in
                [(f64::NAN, 50.0), (20.0, f64::NAN), (579.27, 50.0), (20.0, -1.0), (20.0, 101.0)]
            {
                assert_eq!(formula(t, rh), None, "{t} °C {rh} %");
            }
        }
    }
}
