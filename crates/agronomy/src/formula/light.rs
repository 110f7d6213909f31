//! Light as plants count it: photons of 400–700 nm.

use super::in_range;

/// Photosynthetic photons, µmol/(m² s), per lux, by the lamp. R. W. Thimijan, R. D. Heins,
/// "Photometric, radiometric, and quantum light units of measure", HortScience 18(6), 1983, table 3
/// (lux per µmol/(m² s): 54 sun and sky, 82 high-pressure sodium, 71 metal halide, 74 cool-white
/// fluorescent).
pub mod ppfd_per_lux {
    /// Sun and sky.
    pub const SUN: f64 = 1.0 / 54.0;
    /// High-pressure sodium lamp.
    pub const SODIUM: f64 = 1.0 / 82.0;
    /// Metal-halide lamp.
    pub const METAL_HALIDE: f64 = 1.0 / 71.0;
    /// Cool-white fluorescent lamp, and by rule of thumb white light-emitting
    /// diodes.
    pub const FLUORESCENT: f64 = 1.0 / 74.0;
}

/// Photosynthetic photon flux density, µmol/(m² s), from an illuminance of 0 to
/// 200,000 lux and the lamp's factor (see [`ppfd_per_lux`]), above 0, at most 1.
///
/// ```
/// use microclimate_agronomy::formula::light::{ppfd_per_lux, ppfd_umol_m2_s};
///
/// let noon = ppfd_umol_m2_s(108_000.0, ppfd_per_lux::SUN).unwrap();
/// assert!((noon - 2000.0).abs() < 1e-9);
/// ```
#[must_use]
pub fn ppfd_umol_m2_s(illuminance_lux: f64, ppfd_per_lux: f64) -> Option<f64> {
    let factor = in_range(ppfd_per_lux, f64::MIN_POSITIVE, 1.0)?;
    Some(in_range(illuminance_lux, 0.0, 200_000.0)? * factor)
}

/// Light integral, mol/m², of a mean photon flux density, µmol/(m² s), ≥ 0, over a number of
/// seconds, ≥ 0. Over a day it is the daily light integral; integrals of several intervals add up.
/// J. Faust, "Light", Ball Redbook, 2003.
#[must_use]
pub fn integral_mol_m2(ppfd_umol_m2_s: f64, seconds: f64) -> Option<f64> {
    let ppfd = in_range(ppfd_umol_m2_s, 0.0, 1e5)?;
    Some(ppfd * in_range(seconds, 0.0, 1e9)? / 1e6)
}

/// Hours of supplemental light, ≥ 0, that raise a day's light integral to a target, both mol/m²,
/// with lamps of a photon flux density, µmol/(m² s), above 0. A value above 24 means that the lamps
/// are too weak.
#[must_use]
pub fn supplement_h(target_mol_m2: f64, got_mol_m2: f64, lamp_umol_m2_s: f64) -> Option<f64> {
    let lamp = in_range(lamp_umol_m2_s, f64::MIN_POSITIVE, 1e5)?;
    let missing = in_range(target_mol_m2, 0.0, 1e3)? - in_range(got_mol_m2, 0.0, 1e3)?;
    Some(missing.max(0.0) * 1e6 / lamp / 3600.0).filter(|hours| hours.is_finite())
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};

    #[test]
    fn lux_become_photons_by_the_lamp() {
        // A. P. Torres, R. G. Lopez, Purdue HO-238-W, 2010: 1,000 lux of sun
        // is 18.5 µmol/(m² s)
        close(ppfd_umol_m2_s(1000.0, ppfd_per_lux::SUN), 18.5, 0.05);
        close(ppfd_umol_m2_s(1000.0, ppfd_per_lux::SODIUM), 12.2, 0.05);
        assert_eq!(ppfd_umol_m2_s(-1.0, 0.0185), None);
        assert_eq!(ppfd_umol_m2_s(1.0, 0.0), None);
        assert_eq!(ppfd_umol_m2_s(1.0, 1.1), None, "no lamp gives that much");
        assert_eq!(ppfd_umol_m2_s(f64::NAN, 0.0185), None);
    }

    #[test]
    fn a_day_of_light_is_a_daily_light_integral() {
        close(integral_mol_m2(1000.0, 12.0 * 3600.0), 43.2, 1e-12);
        close(integral_mol_m2(0.0, 86_400.0), 0.0, 0.0);
        assert_eq!(integral_mol_m2(-1.0, 1.0), None);
    }

    #[test]
    fn lamps_give_what_the_sun_did_not() {
        close(supplement_h(17.0, 6.2, 200.0), 15.0, 1e-9);
        close(supplement_h(17.0, 20.0, 200.0), 0.0, 0.0);
        assert_eq!(supplement_h(17.0, 6.0, 0.0), None);
    }
}
