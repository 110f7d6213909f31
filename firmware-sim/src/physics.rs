//! The simulated site: weather, rooms and a greenhouse, stepped together.
//!
//! Each quantity has one state variable and each wall one resistance. That is enough for days
//! that look like days, for features that carry information about the next hours, and for faults
//! to stand out.

mod air;
mod greenhouse;
mod noise;
mod room;
mod simulation_time;
mod soil;
mod weather;

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

pub(crate) use noise::draw_normal;

use greenhouse::Greenhouse;
use room::{OccupancyPattern, SimulatedRoom};
use simulation_time::SimulationTime;
use weather::OutdoorWeather;

/// Longest step of the balances, in ms. The fastest one (a greenhouse with open vents) settles
/// within minutes.
const STEP_MS: i64 = 60_000;

/// The zones of the simulated site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SimulatedZone {
    /// `farm/bay-1`.
    Bay,
    /// `house/room-1`, used in office hours.
    Office,
    /// `house/room-2`, used in the mornings and evenings.
    Living,
}

/// The quantities of the site, without sensor errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SensedQuantity {
    Temperature,
    Humidity,
    Co2,
    Light,
    Motion,
    Heater,
    Irrigation,
    /// At the dry end (0) or the wet end (1) of the bay.
    SoilMoisture(usize),
    SoilTemperature(usize),
    OutdoorTemperature,
    Pressure,
}

/// The state of the whole site at one time.
#[derive(Debug)]
pub(crate) struct SimulatedSite {
    now_ms: i64,
    rng: Pcg64Mcg,
    weather: OutdoorWeather,
    bay: Greenhouse,
    office: SimulatedRoom,
    living: SimulatedRoom,
}

impl SimulatedSite {
    /// Creates a site that has settled into its weather at `start_ms`.
    pub(crate) fn new(seed: u64, latitude_deg: f64, start_ms: i64) -> Self {
        /// Simulated time before the start, ms: two days, so that no transient is visible.
        const SETTLE_MS: i64 = 2 * 86_400_000;
        let now_ms = start_ms - SETTLE_MS;
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let weather = OutdoorWeather::new(latitude_deg, &SimulationTime::from_ms(now_ms), &mut rng);
        let mut site = Self {
            now_ms,
            weather,
            bay: Greenhouse::new(),
            office: SimulatedRoom::new(OccupancyPattern::Office),
            living: SimulatedRoom::new(OccupancyPattern::Living),
            rng,
        };
        site.advance_to(start_ms);
        site.clear_motion();
        site
    }

    /// Advances the whole site to `to_ms`. An earlier time changes nothing.
    pub(crate) fn advance_to(&mut self, to_ms: i64) {
        while self.now_ms < to_ms {
            let step_ms = STEP_MS.min(to_ms - self.now_ms);
            self.now_ms += step_ms;
            let (moment, dt_s) =
                (SimulationTime::from_ms(self.now_ms), simulation_time::ms_to_seconds(step_ms));
            self.weather.step_weather(&moment, dt_s, &mut self.rng);
            self.bay.step_balances(&self.weather, &moment, dt_s);
            self.office.step_balances(&self.weather, &moment, dt_s, &mut self.rng);
            self.living.step_balances(&self.weather, &moment, dt_s, &mut self.rng);
        }
    }

    /// Returns the true value now, in the unit of the metric table; `None` if the zone does not
    /// have the quantity.
    pub(crate) fn read_quantity(
        &self,
        place: SimulatedZone,
        quantity: SensedQuantity,
    ) -> Option<f64> {
        match (place, quantity) {
            (_, SensedQuantity::OutdoorTemperature) => Some(self.weather.temperature_c),
            (_, SensedQuantity::Pressure) => Some(self.weather.pressure_hpa()),
            (SimulatedZone::Bay, quantity) => self.bay.read_quantity(quantity),
            (SimulatedZone::Office, quantity) => self.office.read_quantity(quantity),
            (SimulatedZone::Living, quantity) => self.living.read_quantity(quantity),
        }
    }

    /// Starts a new count of movements, because a motion sensor reports each only once.
    pub(crate) fn clear_motion(&mut self) {
        self.office.clear_motion();
        self.living.clear_motion();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    /// 2024-06-15 and 2024-12-15, 00:00 UTC.
    const SUMMER: i64 = 1_718_409_600_000;
    const WINTER: i64 = 1_734_220_800_000;

    fn days(start_ms: i64, place: SimulatedZone, quantity: SensedQuantity) -> Vec<f64> {
        let mut site = SimulatedSite::new(7, 36.8, start_ms);
        (0..7 * 1440)
            .map(|minute| {
                site.advance_to(start_ms + minute * STEP_MS);
                let value = site.read_quantity(place, quantity).unwrap();
                site.clear_motion();
                value
            })
            .collect()
    }

    /// Checks that all values lie in `range` and move by at least `spread` within a week.
    fn check(
        place: SimulatedZone,
        quantity: SensedQuantity,
        range: std::ops::RangeInclusive<f64>,
        spread: f64,
    ) {
        for start_ms in [SUMMER, WINTER] {
            let values = days(start_ms, place, quantity);
            let (min, max) = values
                .iter()
                .fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
            let what = format!("{place:?} {quantity:?} from {start_ms}: {min} to {max}");
            assert!(range.contains(&min) && range.contains(&max), "{what}");
            assert!(max - min >= spread, "{what}");
        }
    }

    #[test]
    fn plausible_ranges() {
        use SensedQuantity as Q;
        use SimulatedZone::{Bay, Living, Office};
        check(Bay, Q::OutdoorTemperature, -5.0..=45.0, 5.0);
        check(Bay, Q::Pressure, 970.0..=1050.0, 2.0);
        check(Bay, Q::Temperature, 8.0..=45.0, 5.0);
        check(Bay, Q::Humidity, 15.0..=100.0, 10.0);
        check(Bay, Q::Co2, 150.0..=1000.0, 30.0);
        check(Bay, Q::Light, 0.0..=120_000.0, 10_000.0);
        check(Bay, Q::Heater, 0.0..=100.0, 0.0);
        check(Bay, Q::SoilMoisture(0), 12.0..=40.0, 1.0);
        check(Bay, Q::SoilMoisture(1), 12.0..=40.0, 1.0);
        check(Bay, Q::SoilTemperature(0), 5.0..=40.0, 2.0);
        for room in [Office, Living] {
            check(room, Q::Temperature, 12.0..=38.0, 2.0);
            check(room, Q::Humidity, 10.0..=100.0, 5.0);
            check(room, Q::Co2, 380.0..=4000.0, 100.0);
            check(room, Q::Light, 0.0..=5_000.0, 200.0);
            check(room, Q::Motion, 0.0..=30.0, 1.0);
        }
    }

    #[test]
    fn same_seed_same_site() {
        let run = |seed| {
            let mut site = SimulatedSite::new(seed, 36.8, WINTER);
            site.advance_to(WINTER + DAY_MS);
            site.read_quantity(SimulatedZone::Office, SensedQuantity::Temperature)
                .unwrap()
                .to_bits()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn irrigation_raises_soil_moisture_and_drying_lowers_it() {
        let open = days(SUMMER, SimulatedZone::Bay, SensedQuantity::Irrigation);
        let moisture = days(SUMMER, SimulatedZone::Bay, SensedQuantity::SoilMoisture(0));
        let mut watered = 0;
        for minute in 1..open.len() {
            let change = moisture[minute] - moisture[minute - 1];
            if open[minute] > 0.5 {
                watered += 1;
                assert!(change > 0.0, "minute {minute}: {change} while the valve is open");
            } else {
                assert!(change <= 0.0, "minute {minute}: {change} while the valve is closed");
            }
        }
        assert!(watered > 10, "open for {watered} minutes in a week of summer");
    }

    #[test]
    fn noon_is_lighter_than_midnight_and_summer_warmer_than_winter() {
        let light = days(SUMMER, SimulatedZone::Bay, SensedQuantity::Light);
        assert!(light[12 * 60] > 1_000.0 && light[0] < 1.0);
        let mean = |v: Vec<f64>| v.iter().sum::<f64>() / 10_080.0;
        let outdoor =
            |start| mean(days(start, SimulatedZone::Bay, SensedQuantity::OutdoorTemperature));
        assert!(outdoor(SUMMER) > outdoor(WINTER) + 5.0);
    }
}
