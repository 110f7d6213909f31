use super::{
    GeoLocation,
    position::{ephemeris, sun_position},
};

/// Total solar irradiance at one astronomical unit, W/m². G. Kopp, J. L. Lean,
/// Geophys. Res. Lett. 38, 2011.
const SOLAR_CONSTANT_W_M2: f64 = 1361.0;

/// Irradiance, W/m², ≥ 0, on a horizontal surface above the atmosphere at a time, ms since 1970.
#[must_use]
pub fn extraterrestrial_w_m2(at_ms: i64, place: GeoLocation) -> f64 {
    let sine = sun_position(at_ms, place).geometric_elevation_deg.to_radians().sin();
    SOLAR_CONSTANT_W_M2 / ephemeris(at_ms).distance_au.powi(2) * sine.max(0.0)
}

/// Global horizontal irradiance, W/m², ≥ 0, of a clear sky at a time, ms since 1970. B. Haurwitz,
/// "Insolation in relation to cloud type", J. Meteorol. 3, 1946. M. J. Reno, C. W. Hansen, J. S.
/// Stein, SAND2012-2389, 2012, found it the best of the simple models.
#[must_use]
pub fn clear_sky_w_m2(at_ms: i64, place: GeoLocation) -> f64 {
    haurwitz_w_m2(sun_position(at_ms, place).elevation_deg)
}

fn haurwitz_w_m2(elevation_deg: f64) -> f64 {
    let sine = elevation_deg.to_radians().sin();
    if sine > 0.0 { 1098.0 * sine * (-0.059 / sine).exp() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_sky_is_that_of_haurwitz() {
        // pvlib 0.11, clearsky.haurwitz
        for (elevation_deg, w_m2) in [
            (-20.0, 0.0),
            (0.0, 0.0),
            (5.0, 48.629_868_8),
            (10.0, 135.741_748_1),
            (30.0, 487.894_132_9),
            (50.0, 778.766_689_3),
            (90.0, 1_035.092_032_5),
        ] {
            let found = haurwitz_w_m2(elevation_deg);
            assert!((found - w_m2).abs() < 1e-6, "{elevation_deg}°: {found} is not {w_m2}");
        }
    }

    /// The integral over the day equals the closed form of FAO 56, which has a rough declination.
    #[test]
    fn the_day_adds_up_to_fao_56() {
        for (latitude, day_of_year, midnight_ms) in
            [(-20.0, 246, 1_693_699_200_000_i64), (52.0, 172, 1_687_305_600_000)]
        {
            let place = GeoLocation::new(latitude, 0.0).unwrap();
            let minutes = (0..1440).map(|m| extraterrestrial_w_m2(midnight_ms + m * 60_000, place));
            let mj = minutes.sum::<f64>() * 60.0 / 1e6;
            let fao = crate::formula::radiation::extraterrestrial_daily(latitude, day_of_year);
            assert!((mj / fao.unwrap() - 1.0).abs() < 0.02, "{mj} {fao:?}");
        }
    }
}
