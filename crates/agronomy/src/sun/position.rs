use super::GeoLocation;

/// Position of the sun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SunPosition {
    /// Elevation, degrees above the horizon, −90 to 90, with refraction.
    pub elevation_deg: f64,
    /// Elevation, degrees above the horizon, without refraction.
    pub geometric_elevation_deg: f64,
    /// Azimuth, degrees clockwise from north, 0–360.
    pub azimuth_deg: f64,
}

/// Position of the sun that is the same at all locations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SolarEphemeris {
    /// Declination, radians.
    pub(super) declination: f64,
    /// True solar time minus mean solar time, minutes.
    pub(super) equation_of_time_min: f64,
    /// Distance to the sun, astronomical units.
    pub(super) distance_au: f64,
}

/// Position of the sun at a time, ms since 1970, over a location.
///
/// ```
/// use microclimate_agronomy::sun::{GeoLocation, sun_position};
///
/// let equator = GeoLocation::new(0.0, 0.0).unwrap();
/// let equinox = 1_710_936_360_000; // 20 March 2024, 12:06 UTC, its solar noon less a minute
/// assert!(sun_position(equinox, equator).elevation_deg > 89.0);
/// ```
#[must_use]
pub fn sun_position(at_ms: i64, place: GeoLocation) -> SunPosition {
    let SolarEphemeris { declination, equation_of_time_min, .. } = ephemeris(at_ms);
    let solar_min = at_ms.rem_euclid(86_400_000) as f64 / 60_000.0
        + equation_of_time_min
        + 4.0 * place.longitude_deg;
    let hour_angle = (solar_min / 4.0 - 180.0).to_radians();
    let latitude = place.latitude_deg.to_radians();
    let sine =
        latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos();
    let geometric_elevation_deg = sine.clamp(-1.0, 1.0).asin().to_degrees();
    let azimuth = hour_angle
        .sin()
        .atan2(hour_angle.cos() * latitude.sin() - declination.tan() * latitude.cos());
    SunPosition {
        elevation_deg: geometric_elevation_deg + refraction_deg(geometric_elevation_deg),
        geometric_elevation_deg,
        azimuth_deg: (azimuth.to_degrees() + 180.0).rem_euclid(360.0),
    }
}

/// Position of the sun at a time, ms since 1970, that is the same at all locations.
pub(super) fn ephemeris(at_ms: i64) -> SolarEphemeris {
    // Julian centuries since noon of 1 January 2000. Beyond ten millennia the polynomials
    // diverge.
    let days = at_ms as f64 / 86_400_000.0 + 2_440_587.5 - 2_451_545.0;
    let t = (days / 36_525.0).clamp(-100.0, 100.0);
    let mean_longitude =
        (280.466_46 + t * (36_000.769_83 + t * 0.000_303_2)).rem_euclid(360.0).to_radians();
    let anomaly = (357.529_11 + t * (35_999.050_29 - 0.000_153_7 * t)).to_radians();
    let eccentricity = 0.016_708_634 - t * (0.000_042_037 + 0.000_000_126_7 * t);
    let centre_deg = anomaly.sin() * (1.914_602 - t * (0.004_817 + 0.000_014 * t))
        + (2.0 * anomaly).sin() * (0.019_993 - 0.000_101 * t)
        + (3.0 * anomaly).sin() * 0.000_289;
    let node = (125.04 - 1934.136 * t).to_radians();
    let longitude =
        (mean_longitude.to_degrees() + centre_deg - 0.005_69 - 0.004_78 * node.sin()).to_radians();
    let obliquity_s = 21.448 - t * (46.815 + t * (0.000_59 - t * 0.001_813));
    let obliquity =
        (23.0 + (26.0 + obliquity_s / 60.0) / 60.0 + 0.002_56 * node.cos()).to_radians();
    let y = (obliquity / 2.0).tan().powi(2);
    let equation = y * (2.0 * mean_longitude).sin() - 2.0 * eccentricity * anomaly.sin()
        + 4.0 * eccentricity * y * anomaly.sin() * (2.0 * mean_longitude).cos()
        - 0.5 * y * y * (4.0 * mean_longitude).sin()
        - 1.25 * eccentricity * eccentricity * (2.0 * anomaly).sin();
    let true_anomaly = anomaly + centre_deg.to_radians();
    SolarEphemeris {
        declination: (obliquity.sin() * longitude.sin()).asin(),
        equation_of_time_min: 4.0 * equation.to_degrees(),
        distance_au: 1.000_001_018 * (1.0 - eccentricity * eccentricity)
            / (1.0 + eccentricity * true_anomaly.cos()),
    }
}

/// Refraction by the atmosphere, degrees, at a geometric elevation.
fn refraction_deg(elevation_deg: f64) -> f64 {
    let tan = elevation_deg.to_radians().tan();
    let seconds = if elevation_deg > 85.0 {
        0.0
    } else if elevation_deg > 5.0 {
        58.1 / tan - 0.07 / tan.powi(3) + 0.000_086 / tan.powi(5)
    } else if elevation_deg > -0.575 {
        let e = elevation_deg;
        1735.0 + e * (-518.2 + e * (103.4 + e * (-12.79 + e * 0.711)))
    } else {
        -20.772 / tan
    };
    seconds / 3600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expect: f64, tolerance: f64) {
        assert!((found - expect).abs() <= tolerance, "{found} is not {expect} ± {tolerance}");
    }

    /// The worked example of I. Reda, A. Andreas, "Solar position algorithm for
    /// solar radiation applications", NREL/TP-560-34302, 2008, table A5.1:
    /// Golden, Colorado, 17 October 2003, 12:30:30 by a clock of −7 h.
    #[test]
    fn the_sun_is_where_nrel_sees_it() {
        let at_ms = 1_066_419_030_000;
        let golden = GeoLocation::new(39.742_476, -105.178_6).unwrap();
        let found = sun_position(at_ms, golden);
        close(found.elevation_deg, 90.0 - 50.111_62, 0.02);
        close(found.azimuth_deg, 194.340_24, 0.02);
        let ephemeris = ephemeris(at_ms);
        close(ephemeris.equation_of_time_min, 14.641_5, 0.05);
        close(ephemeris.declination.to_degrees(), -9.314_34, 0.01);
        close(ephemeris.distance_au, 0.996_542_3, 5e-5);
    }

    #[test]
    fn the_sun_is_in_the_south_at_noon_and_in_the_north_down_under() {
        let noon_ms = 1_718_971_200_000; // 21 June 2024, 12:00 UTC
        let azimuth =
            |latitude| sun_position(noon_ms, GeoLocation::new(latitude, 0.0).unwrap()).azimuth_deg;
        close(azimuth(52.0), 180.0, 2.0);
        close(azimuth(-52.0).min(360.0 - azimuth(-52.0)), 0.0, 2.0);
        close(
            sun_position(noon_ms, GeoLocation::new(90.0, 0.0).unwrap()).geometric_elevation_deg,
            23.44,
            0.01,
        );
    }
}
