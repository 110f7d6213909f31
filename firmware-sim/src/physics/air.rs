//! Moist air: the formulas that rooms and the greenhouse share.

/// Heat capacity of one m³ of air, J/(m³·K), at 20 °C and sea level.
pub(super) const AIR_HEAT_J_M3K: f64 = 1_206.0;
/// Heat of evaporation of water, J/g, at 20 °C (FAO-56, annex 3).
pub(super) const LATENT_HEAT_J_G: f64 = 2_450.0;
/// One ppm of CO₂ in mg/m³ at 20 °C and sea level.
pub(super) const CO2_MG_M3_PPM: f64 = 1.83;
/// CO₂ outdoors, ppm (NOAA global mean of 2024, rounded).
pub(super) const CO2_OUTDOOR_PPM: f64 = 423.0;

/// Saturation vapour pressure over water, kPa, of air at −30 to 60 °C
/// (Tetens 1930, as in FAO Irrigation and Drainage Paper 56, eq. 11).
pub(super) fn saturation_kpa(temperature_c: f64) -> f64 {
    0.6108 * (17.27 * temperature_c / (temperature_c + 237.3)).exp()
}

/// Water vapour in saturated air, g/m³: the gas law with R = 461.5 J/(kg·K).
pub(super) fn saturation_g_m3(temperature_c: f64) -> f64 {
    saturation_kpa(temperature_c) * 1e6 / (461.5 * (temperature_c + 273.15))
}

/// Share of the net radiation that evaporates water from a well-watered surface: α·Δ/(Δ + γ)
/// (Priestley & Taylor 1972, with α = 1.26; Δ from FAO-56 eq. 13, γ = 0.066 kPa/K).
pub(super) fn evaporating_share(temperature_c: f64) -> f64 {
    let slope = 4098.0 * saturation_kpa(temperature_c) / (temperature_c + 237.3).powi(2);
    (1.26 * slope / (slope + 0.066)).min(1.0)
}

/// Moves `value` towards its settled value, exactly for constant inputs: the solution of dx/dt =
/// (settled − x)/τ after `dt_s`.
pub(super) fn relax_towards(value: f64, settled: f64, tau_s: f64, dt_s: f64) -> f64 {
    settled + (value - settled) * (-dt_s / tau_s).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(got: f64, expect: f64) {
        assert!((got - expect).abs() < expect * 2e-3, "{got}, expected {expect}");
    }

    #[test]
    fn printed_tables() {
        // FAO-56, annex 2, table 2.3.
        check(saturation_kpa(1.0), 0.657);
        check(saturation_kpa(20.0), 2.338);
        check(saturation_kpa(35.0), 5.624);
        // Psychrometric tables give 17.3 g/m³ at 20 °C.
        check(saturation_g_m3(20.0), 17.28);
        // FAO-56, table 2.4: Δ = 0.145 kPa/K at 20 °C.
        check(evaporating_share(20.0), 1.26 * 0.1447 / (0.1447 + 0.066));
    }

    #[test]
    fn relaxing_in_two_steps_is_relaxing_in_one() {
        let once = relax_towards(10.0, 20.0, 600.0, 120.0);
        check(relax_towards(relax_towards(10.0, 20.0, 600.0, 60.0), 20.0, 600.0, 60.0), once);
    }
}
