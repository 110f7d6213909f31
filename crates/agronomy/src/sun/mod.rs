//! Sun over a location: when it is up, how high it is, and how bright a clear sky would be.
//!
//! By the equations of the NOAA Solar Calculator (NOAA Global Monitoring Laboratory, "General solar
//! position calculations"), after J. Meeus, "Astronomical Algorithms", 1991. In the years 1901–2099
//! sunrise is accurate to a minute up to 72° of latitude, and the elevation to 0.02°.

mod irradiance;
mod position;
mod solar_day;

use serde::{Deserialize, Serialize};

pub use self::{
    irradiance::{clear_sky_w_m2, extraterrestrial_w_m2},
    position::{SunPosition, sun_position},
    solar_day::{DaylightSpan, SolarDay, solar_day_near},
};

/// Location on the Earth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Coordinates", into = "Coordinates")]
pub struct GeoLocation {
    latitude_deg: f64,
    longitude_deg: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Coordinates {
    latitude: f64,
    longitude: f64,
}

/// Error: coordinates outside −90 to 90 and −180 to 180 degrees.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "no such place: latitude {latitude_deg}, longitude {longitude_deg}; expected degrees, \
     −90 to 90 and −180 to 180"
)]
pub struct GeoLocationError {
    latitude_deg: f64,
    longitude_deg: f64,
}

impl GeoLocation {
    /// Creates a location from degrees, positive in the north and east.
    ///
    /// # Errors
    /// Degrees are outside −90 to 90 and −180 to 180.
    pub fn new(latitude_deg: f64, longitude_deg: f64) -> Result<Self, GeoLocationError> {
        if latitude_deg.abs() <= 90.0 && longitude_deg.abs() <= 180.0 {
            Ok(Self { latitude_deg, longitude_deg })
        } else {
            Err(GeoLocationError { latitude_deg, longitude_deg })
        }
    }

    /// Latitude, degrees, positive in the north.
    #[must_use]
    pub const fn latitude_deg(&self) -> f64 {
        self.latitude_deg
    }

    /// Longitude, degrees, positive in the east.
    #[must_use]
    pub const fn longitude_deg(&self) -> f64 {
        self.longitude_deg
    }
}

impl TryFrom<Coordinates> for GeoLocation {
    type Error = GeoLocationError;

    fn try_from(coordinates: Coordinates) -> Result<Self, GeoLocationError> {
        Self::new(coordinates.latitude, coordinates.longitude)
    }
}

impl From<GeoLocation> for Coordinates {
    fn from(place: GeoLocation) -> Self {
        Self { latitude: place.latitude_deg, longitude: place.longitude_deg }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_on_the_earth() {
        for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.5), (f64::NAN, 0.0)] {
            assert!(GeoLocation::new(latitude, longitude).is_err(), "{latitude} {longitude}");
        }
        let place: GeoLocation =
            serde_json::from_str(r#"{"latitude":52.1,"longitude":5.2}"#).unwrap();
        assert_eq!(place, GeoLocation::new(52.1, 5.2).unwrap());
        let error =
            serde_json::from_str::<GeoLocation>(r#"{"latitude":152,"longitude":5}"#).unwrap_err();
        assert!(error.to_string().contains("latitude 152"), "{error}");
    }
}
