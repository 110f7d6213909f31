//! A room: balances of heat, moisture and CO₂ with people, lamps and a heater.

use rand::RngExt;
use rand_distr::Poisson;
use rand_pcg::Pcg64Mcg;

use super::{
    SensedQuantity,
    air::{self, AIR_HEAT_J_M3K, CO2_MG_M3_PPM, CO2_OUTDOOR_PPM, relax_towards},
    simulation_time::SimulationTime,
    weather::OutdoorWeather,
};

const VOLUME_M3: f64 = 60.0;
/// Heat loss through the walls, W/K.
const WALLS_W_K: f64 = 25.0;
/// Heat capacity of air, furniture and the inner surface of the walls, J/K. Together with the
/// loss it gives a time constant of about 20 h.
const HEAT_CAPACITY_J_K: f64 = 2.2e6;
/// Window area times its transmittance, m².
const WINDOW_M2: f64 = 1.2;
/// Share of the sunlight that passes the blinds.
const BLINDS: f64 = 0.2;
const HEATER_W: f64 = 1_500.0;
/// Hysteresis of the thermostat, °C to each side.
const HYSTERESIS_C: f64 = 0.4;
/// Air changes per hour through leaks, and with the window open.
const LEAK_ACH: f64 = 0.35;
const WINDOW_ACH: f64 = 3.0;
/// Emissions of a seated person: heat (ISO 7730, 1.2 met), moisture (VDI 2078), CO₂ at 0.0048 L/s
/// (Persily & de Jonge 2017, Indoor Air 27, 868).
const PERSON_W: f64 = 75.0;
const PERSON_G_S: f64 = 50.0 / 3600.0;
const PERSON_CO2_MG_S: f64 = 0.0048 * 1_830.0;

/// The times at which people use a room.
#[derive(Clone, Copy, Debug)]
pub(super) enum OccupancyPattern {
    /// Weekdays 8 to 18, up to four.
    Office,
    /// Mornings and evenings, and weekends, up to three.
    Living,
}

impl OccupancyPattern {
    /// Returns the number of people expected at a moment.
    fn expected_people(self, moment: &SimulationTime) -> f64 {
        match self {
            Self::Office if moment.is_weekend => 0.0,
            Self::Office => match moment.hour {
                12.0..13.0 => 0.6,
                8.0..18.0 => 2.6,
                _ => 0.0,
            },
            Self::Living => match moment.hour {
                7.0..9.0 | 18.0..23.0 => 2.0,
                9.0..18.0 if moment.is_weekend => 1.2,
                9.0..18.0 => 0.2,
                _ => 0.0,
            },
        }
    }

    const fn people_max(self) -> u32 {
        match self {
            Self::Office => 4,
            Self::Living => 3,
        }
    }
}

/// The state of a room.
#[derive(Debug)]
pub(super) struct SimulatedRoom {
    habits: OccupancyPattern,
    people: u32,
    movements: f64,
    heating: bool,
    window_open: bool,
    blinds_down: bool,
    temperature_c: f64,
    vapour_g_m3: f64,
    co2_ppm: f64,
    light_lux: f64,
}

impl SimulatedRoom {
    pub(super) fn new(habits: OccupancyPattern) -> Self {
        Self {
            habits,
            people: 0,
            movements: 0.0,
            heating: false,
            window_open: false,
            blinds_down: false,
            temperature_c: 20.0,
            vapour_g_m3: 8.0,
            co2_ppm: CO2_OUTDOOR_PPM,
            light_lux: 0.0,
        }
    }

    pub(super) fn step_balances(
        &mut self,
        weather: &OutdoorWeather,
        moment: &SimulationTime,
        dt_s: f64,
        rng: &mut Pcg64Mcg,
    ) {
        self.move_people(moment, dt_s, rng);
        self.control_climate(moment);
        let people = f64::from(self.people);
        let ach = if self.window_open { WINDOW_ACH } else { LEAK_ACH };
        let air_m3_s = VOLUME_M3 * ach / 3600.0;
        // Each balance: settled value = outdoors + source / exchange.
        let exchange_w_k = WALLS_W_K + air_m3_s * AIR_HEAT_J_M3K;
        let heat_w = f64::from(u8::from(self.heating)) * HEATER_W
            + people * PERSON_W
            + weather.sun_w_m2 * WINDOW_M2 * if self.blinds_down { BLINDS } else { 1.0 };
        let settled_c = weather.temperature_c + heat_w / exchange_w_k;
        self.temperature_c =
            relax_towards(self.temperature_c, settled_c, HEAT_CAPACITY_J_K / exchange_w_k, dt_s);
        let air_s = VOLUME_M3 / air_m3_s;
        let settled_g_m3 = weather.vapour_g_m3 + people * PERSON_G_S / air_m3_s;
        self.vapour_g_m3 = relax_towards(self.vapour_g_m3, settled_g_m3, air_s, dt_s)
            .min(air::saturation_g_m3(self.temperature_c));
        let settled_ppm = CO2_OUTDOOR_PPM + people * PERSON_CO2_MG_S / CO2_MG_M3_PPM / air_m3_s;
        self.co2_ppm = relax_towards(self.co2_ppm, settled_ppm, air_s, dt_s);
        // A daylight factor of 2 %, and lamps when that is too dark to work.
        let daylight_lux = 0.02 * weather.daylight_lux();
        let lamps_lux = if self.people > 0 && daylight_lux < 500.0 { 420.0 } else { 0.0 };
        self.light_lux = daylight_lux + lamps_lux;
    }

    /// Moves people in or out one at a time, about every quarter of an hour, so that their number
    /// follows the expected one.
    fn move_people(&mut self, moment: &SimulationTime, dt_s: f64, rng: &mut Pcg64Mcg) {
        let changes = rng.random_bool((dt_s / 900.0).clamp(0.0, 1.0));
        if changes {
            let expected = self.habits.expected_people(moment);
            let draw = rng.random_range(0.0..2.0);
            if f64::from(self.people) < expected * draw {
                self.people = (self.people + 1).min(self.habits.people_max());
            } else if f64::from(self.people) > expected {
                self.people -= 1;
            }
        }
        // A person is seen moving about every 50 s.
        let mean = f64::from(self.people) * dt_s / 50.0;
        if let Ok(poisson) = Poisson::new(mean) {
            self.movements += rng.sample(poisson);
        }
    }

    fn control_climate(&mut self, moment: &SimulationTime) {
        let target_c = if (7.0..22.0).contains(&moment.hour) { 20.5 } else { 17.0 };
        if self.temperature_c < target_c - HYSTERESIS_C {
            self.heating = true;
        } else if self.temperature_c > target_c + HYSTERESIS_C {
            self.heating = false;
        }
        // Blinds go down when the room gets warm, and up when it has cooled.
        if self.temperature_c > 24.5 {
            self.blinds_down = true;
        } else if self.temperature_c < 22.5 {
            self.blinds_down = false;
        }
        // Somebody who is too warm or smells stale air opens the window.
        let stuffy = self.temperature_c > 26.0 || self.co2_ppm > 1_400.0;
        let fresh = self.temperature_c < 23.0 && self.co2_ppm < 700.0;
        self.window_open = self.people > 0 && (stuffy || (self.window_open && !fresh));
    }

    pub(super) fn read_quantity(&self, quantity: SensedQuantity) -> Option<f64> {
        match quantity {
            SensedQuantity::Temperature => Some(self.temperature_c),
            SensedQuantity::Humidity => {
                Some(100.0 * self.vapour_g_m3 / air::saturation_g_m3(self.temperature_c))
                    .map(|percent| percent.min(100.0))
            }
            SensedQuantity::Co2 => Some(self.co2_ppm),
            SensedQuantity::Light => Some(self.light_lux),
            SensedQuantity::Motion => Some(self.movements),
            SensedQuantity::Heater => Some(if self.heating { 100.0 } else { 0.0 }),
            _ => None,
        }
    }

    pub(super) fn clear_motion(&mut self) {
        self.movements = 0.0;
    }
}
