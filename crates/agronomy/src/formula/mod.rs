//! Formulas for growers and climate engineers. Each states its units, the range in which it holds
//! and its source. Outside that range, or for NaN, the result is `None`.
//!
//! # Layout
//! - [`air`]: vapour pressure, deficit, dew point, wet bulb, heat index
//! - [`light`]: lux to photons, daily light integral
//! - [`degrees`]: heating and cooling degree-hours, growing degree-days
//! - [`radiation`]: sun on a horizontal surface, net radiation
//! - [`evapotranspiration`]: reference evapotranspiration: Penman–Monteith, Hargreaves
//! - [`soil`]: water in the root zone, minutes of irrigation
//!
//! "FAO 56" is R. G. Allen, L. S. Pereira, D. Raes, M. Smith, "Crop
//! evapotranspiration", FAO Irrigation and Drainage Paper 56, Rome 1998; its
//! equations and examples are named by number.

pub mod air;
pub mod degrees;
pub mod evapotranspiration;
pub mod light;
pub mod radiation;
pub mod soil;

/// Returns the value if it is within a range, both ends included; NaN is not.
pub(crate) fn in_range(value: f64, min: f64, max: f64) -> Option<f64> {
    (min..=max).contains(&value).then_some(value)
}

#[cfg(test)]
pub(crate) fn close(found: Option<f64>, expect: f64, tolerance: f64) {
    let found = found.unwrap_or(f64::NAN);
    assert!((found - expect).abs() <= tolerance, "{found} is not {expect} ± {tolerance}");
}
