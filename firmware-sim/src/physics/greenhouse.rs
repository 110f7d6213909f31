//! A greenhouse bay: balances of heat, moisture and CO₂ with a crop, vents, a heater and drip
//! irrigation.

use super::{
    SensedQuantity,
    air::{
        self, AIR_HEAT_J_M3K, CO2_MG_M3_PPM, CO2_OUTDOOR_PPM, LATENT_HEAT_J_G, evaporating_share,
        relax_towards,
    },
    simulation_time::SimulationTime,
    soil::SimulatedSoil,
    weather::OutdoorWeather,
};

const FLOOR_M2: f64 = 100.0;
const VOLUME_M3: f64 = 350.0;
/// Heat loss of the cover: 160 m² of polyethylene at 5 W/(m²·K).
const COVER_W_K: f64 = 800.0;
/// Heat capacity, J/K. Plants and the upper soil store far more heat than the air.
const HEAT_CAPACITY_J_K: f64 = 7.0e6;
/// Share of the light that the cover lets through.
const TRANSMITTANCE: f64 = 0.65;
/// Share of that light that is neither reflected nor stored in the ground.
const ABSORBED: f64 = 0.7;
const HEATER_W: f64 = 15_000.0;
/// Air changes per hour with the vents closed and open.
const LEAK_ACH: f64 = 0.7;
const VENT_ACH: f64 = 25.0;
/// Widths of the two proportional controllers, °C.
const HEATING_BAND_C: f64 = 2.0;
const VENT_BAND_C: f64 = 5.0;
const VENT_AT_C: f64 = 23.0;
/// Gross photosynthesis of the canopy in full light and its respiration, mg CO₂/(m²·s), with half
/// effects (rectangular hyperbola, Thornley & Johnson 1990, ch. 9).
const PHOTOSYNTHESIS_MG_M2_S: f64 = 0.45;
const HALF_LIGHT_W_M2: f64 = 150.0;
const HALF_CO2_PPM: f64 = 300.0;
const RESPIRATION_MG_M2_S: f64 = 0.05;
/// Irrigation starts below the first and ends above the second value (mean of both ends,
/// percent), at a rate.
const WATER_BELOW_PCT: f64 = 24.5;
const WATER_UNTIL_PCT: f64 = 28.0;
const WATER_MM_S: f64 = 6.0 / 3600.0;

/// The state of the bay.
#[derive(Debug)]
pub(super) struct Greenhouse {
    temperature_c: f64,
    vapour_g_m3: f64,
    co2_ppm: f64,
    light_lux: f64,
    /// Heater power, 0 to 1.
    heater: f64,
    valve_open: bool,
    beds: [SimulatedSoil; 2],
}

impl Greenhouse {
    pub(super) fn new() -> Self {
        Self {
            temperature_c: 18.0,
            vapour_g_m3: 10.0,
            co2_ppm: CO2_OUTDOOR_PPM,
            light_lux: 0.0,
            heater: 0.0,
            valve_open: false,
            beds: [SimulatedSoil::new(0.92), SimulatedSoil::new(1.08)],
        }
    }

    pub(super) fn step_balances(
        &mut self,
        weather: &OutdoorWeather,
        moment: &SimulationTime,
        dt_s: f64,
    ) {
        let sun_w = weather.sun_w_m2 * TRANSMITTANCE * FLOOR_M2;
        self.light_lux = weather.daylight_lux() * TRANSMITTANCE;
        let is_day = (6.0..20.0).contains(&moment.hour);
        let target_c = if is_day { 17.0 } else { 14.0 };
        self.heater = ((target_c - self.temperature_c) / HEATING_BAND_C).clamp(0.0, 1.0);
        let vent = ((self.temperature_c - VENT_AT_C) / VENT_BAND_C).clamp(0.0, 1.0);
        let air_m3_s = VOLUME_M3 * (LEAK_ACH + (VENT_ACH - LEAK_ACH) * vent) / 3600.0;

        let transpired_g_s = self.water_and_grow(sun_w, dt_s);
        let exchange_w_k = COVER_W_K + air_m3_s * AIR_HEAT_J_M3K;
        let heat_w = self.heater * HEATER_W + sun_w * ABSORBED - transpired_g_s * LATENT_HEAT_J_G;
        let settled_c = weather.temperature_c + heat_w / exchange_w_k;
        self.temperature_c =
            relax_towards(self.temperature_c, settled_c, HEAT_CAPACITY_J_K / exchange_w_k, dt_s);

        let air_s = VOLUME_M3 / air_m3_s;
        let settled_g_m3 = weather.vapour_g_m3 + transpired_g_s / air_m3_s;
        // Vapour above saturation condenses on the cover.
        self.vapour_g_m3 = relax_towards(self.vapour_g_m3, settled_g_m3, air_s, dt_s)
            .min(air::saturation_g_m3(self.temperature_c));

        let light_w_m2 = sun_w / FLOOR_M2;
        let uptake_mg_m2_s = PHOTOSYNTHESIS_MG_M2_S
            * (light_w_m2 / (light_w_m2 + HALF_LIGHT_W_M2))
            * (self.co2_ppm / (self.co2_ppm + HALF_CO2_PPM));
        let source_mg_s = (RESPIRATION_MG_M2_S - uptake_mg_m2_s) * FLOOR_M2;
        let settled_ppm = CO2_OUTDOOR_PPM + source_mg_s / CO2_MG_M3_PPM / air_m3_s;
        self.co2_ppm = relax_towards(self.co2_ppm, settled_ppm, air_s, dt_s);
    }

    /// Advances irrigation and both beds. Returns the transpired water, g/s.
    fn water_and_grow(&mut self, sun_w: f64, dt_s: f64) -> f64 {
        let mean_pct = self.beds.iter().map(|bed| bed.moisture_pct).sum::<f64>() / 2.0;
        self.valve_open = match self.valve_open {
            false => mean_pct < WATER_BELOW_PCT,
            true => mean_pct < WATER_UNTIL_PCT,
        };
        let watered_mm_s = if self.valve_open { WATER_MM_S } else { 0.0 };
        let net_w_m2 = sun_w * ABSORBED / FLOOR_M2;
        // One mm is one kg/m².
        let demand_mm_s =
            net_w_m2 * evaporating_share(self.temperature_c) / (LATENT_HEAT_J_G * 1e3);
        let air_c = self.temperature_c;
        let taken_mm = self
            .beds
            .iter_mut()
            .map(|bed| bed.step_balance(watered_mm_s, demand_mm_s, air_c, dt_s))
            .sum::<f64>()
            / 2.0;
        taken_mm * 1e3 * FLOOR_M2 / dt_s
    }

    pub(super) fn read_quantity(&self, quantity: SensedQuantity) -> Option<f64> {
        match quantity {
            SensedQuantity::Temperature => Some(self.temperature_c),
            SensedQuantity::Humidity => {
                let saturated = air::saturation_g_m3(self.temperature_c);
                Some((100.0 * self.vapour_g_m3 / saturated).min(100.0))
            }
            SensedQuantity::Co2 => Some(self.co2_ppm),
            SensedQuantity::Light => Some(self.light_lux),
            SensedQuantity::Heater => Some(100.0 * self.heater),
            SensedQuantity::Irrigation => Some(f64::from(u8::from(self.valve_open))),
            SensedQuantity::SoilMoisture(end) => self.beds.get(end).map(|bed| bed.moisture_pct),
            SensedQuantity::SoilTemperature(end) => self.beds.get(end).map(|bed| bed.temperature_c),
            _ => None,
        }
    }
}
