//! Sun, clouds and outdoor air.

use rand_pcg::Pcg64Mcg;

use super::{air, noise::OrnsteinUhlenbeck, simulation_time::SimulationTime};

/// Illuminance of one W/m² of daylight, lx. The luminous efficacy of daylight is 105–130 lm/W
/// (Littlefair 1985, Lighting Res. Technol. 17, 162).
const LUX_W_M2: f64 = 115.0;

/// The outdoor state.
#[derive(Debug)]
pub(super) struct OutdoorWeather {
    latitude_rad: f64,
    /// Warm and cold spells over days, °C.
    spell: OrnsteinUhlenbeck,
    /// Gusts and passing clouds over minutes, °C.
    gust: OrnsteinUhlenbeck,
    /// Cloudiness before the logistic function maps it to 0–1.
    cloud: OrnsteinUhlenbeck,
    pressure: OrnsteinUhlenbeck,
    pub(super) temperature_c: f64,
    /// Water in the outdoor air, g/m³.
    pub(super) vapour_g_m3: f64,
    /// Global horizontal irradiance, W/m².
    pub(super) sun_w_m2: f64,
}

impl OutdoorWeather {
    pub(super) fn new(latitude_deg: f64, moment: &SimulationTime, rng: &mut Pcg64Mcg) -> Self {
        const HOUR_S: f64 = 3600.0;
        let mut weather = Self {
            latitude_rad: latitude_deg.to_radians(),
            spell: OrnsteinUhlenbeck::new(2.5, 60.0 * HOUR_S, rng),
            gust: OrnsteinUhlenbeck::new(0.25, 0.3 * HOUR_S, rng),
            cloud: OrnsteinUhlenbeck::new(1.6, 8.0 * HOUR_S, rng),
            pressure: OrnsteinUhlenbeck::new(6.0, 50.0 * HOUR_S, rng),
            temperature_c: 0.0,
            vapour_g_m3: 0.0,
            sun_w_m2: 0.0,
        };
        weather.step_weather(moment, 0.0, rng);
        weather
    }

    pub(super) fn step_weather(&mut self, moment: &SimulationTime, dt_s: f64, rng: &mut Pcg64Mcg) {
        for wander in [&mut self.spell, &mut self.gust, &mut self.cloud, &mut self.pressure] {
            wander.step(dt_s, rng);
        }
        // The logistic function maps to 0–1; the offset of −0.6 makes it mostly fair.
        let cloud = 1.0 / (1.0 + (0.6 - self.cloud.value).exp());
        // Kasten & Czeplak 1980, Solar Energy 24, 177.
        let clear_share = 1.0 - 0.75 * cloud.powf(3.4);
        self.sun_w_m2 = clear_sky_w_m2(self.latitude_rad, moment) * clear_share;
        let base_c = season_c(moment) + self.spell.value;
        // Under clouds the day warms less and the night cools less.
        let swing_c = 5.5 * (1.0 - 0.6 * cloud);
        let diurnal = (std::f64::consts::TAU * (moment.hour - 15.0) / 24.0).cos();
        self.temperature_c = base_c + swing_c * diurnal + self.gust.value;
        // The dew point follows the spell, not the hour (FAO-56, eq. 48: it is near the night's
        // minimum).
        let dew_point_c = base_c - 4.0 - 2.0 * (1.0 - cloud);
        self.vapour_g_m3 =
            air::saturation_g_m3(dew_point_c).min(air::saturation_g_m3(self.temperature_c));
    }

    pub(super) fn pressure_hpa(&self) -> f64 {
        1014.0 + self.pressure.value
    }

    pub(super) fn daylight_lux(&self) -> f64 {
        self.sun_w_m2 * LUX_W_M2
    }
}

/// Returns the mean temperature of the day, °C: coldest in mid-January, as at Almería (AEMET
/// normals 1981–2010: 12.6 °C in January, 26.6 °C in August).
fn season_c(moment: &SimulationTime) -> f64 {
    19.5 - 7.0 * (std::f64::consts::TAU * (moment.day_of_year - 25.0) / 365.25).cos()
}

/// Returns the irradiance under a clear sky, W/m² (Haurwitz 1945, J. Meteorol. 2, 154), with the
/// declination of Cooper 1969 (Duffie & Beckman, eq. 1.6.1).
fn clear_sky_w_m2(latitude_rad: f64, moment: &SimulationTime) -> f64 {
    let year = std::f64::consts::TAU * (284.0 + moment.day_of_year) / 365.0;
    let declination = 23.45_f64.to_radians() * year.sin();
    let hour_angle = (15.0 * (moment.hour - 12.0)).to_radians();
    let cos_zenith = latitude_rad.sin() * declination.sin()
        + latitude_rad.cos() * declination.cos() * hour_angle.cos();
    if cos_zenith <= 0.0 { 0.0 } else { 1098.0 * cos_zenith * (-0.057 / cos_zenith).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(latitude_deg: f64, day_of_year: f64, hour: f64, expect_w_m2: f64) {
        let moment = SimulationTime { day_of_year, hour, is_weekend: false };
        let got = clear_sky_w_m2(f64::to_radians(latitude_deg), &moment);
        assert!((got - expect_w_m2).abs() < 1.0, "{got}, expected {expect_w_m2}");
    }

    #[test]
    fn the_sun() {
        // Overhead at the equinox on the equator: 1098·exp(−0.057).
        check(0.0, 81.0, 12.0, 1037.2);
        // The noon zenith is latitude − declination: 60° at 36.55° in mid-winter.
        check(36.55, 355.0, 12.0, 549.0 * (-0.114_f64).exp());
        check(52.0, 172.0, 0.0, 0.0);
    }
}
