//! The root zone of a bed: water in and out, and a slow temperature.

use super::air::relax_towards;

/// Depth of the substrate, mm. One mm of water is one percent of its volume.
const DEPTH_MM: f64 = 100.0;
/// Volumetric water content, percent: more than this drains, and less than the wilting point is
/// unavailable to roots (loam, FAO-56 table 19).
const FIELD_CAPACITY_PCT: f64 = 30.0;
const WILTING_POINT_PCT: f64 = 12.0;
/// Share of the water between the two that roots take without stress (FAO-56 table 22,
/// vegetables).
const READILY_TAKEN: f64 = 0.45;
/// Time constant with which water above field capacity drains, seconds.
const DRAINAGE_S: f64 = 6.0 * 3600.0;
/// Time constant with which the root zone follows the air, seconds.
const WARMING_S: f64 = 7.0 * 3600.0;

/// The root zone at one end of a bed.
#[derive(Debug)]
pub(super) struct SimulatedSoil {
    /// Water that the drippers bring to this end, as a share of the mean.
    supply: f64,
    pub(super) moisture_pct: f64,
    pub(super) temperature_c: f64,
}

impl SimulatedSoil {
    pub(super) const fn new(supply: f64) -> Self {
        Self { supply, moisture_pct: 27.0, temperature_c: 20.0 }
    }

    /// Advances the water balance of FAO-56 (eq. 85, without runoff and capillary rise). Returns
    /// the water that the crop took, mm.
    pub(super) fn step_balance(
        &mut self,
        watered_mm_s: f64,
        demand_mm_s: f64,
        air_c: f64,
        dt_s: f64,
    ) -> f64 {
        // FAO-56, eq. 84: a crop evaporates less in drier soil.
        let available = (self.moisture_pct - WILTING_POINT_PCT)
            / ((1.0 - READILY_TAKEN) * (FIELD_CAPACITY_PCT - WILTING_POINT_PCT));
        let taken_mm = demand_mm_s * available.clamp(0.0, 1.0) * dt_s;
        let watered_mm = watered_mm_s * self.supply * dt_s;
        self.moisture_pct += (watered_mm - taken_mm) * 100.0 / DEPTH_MM;
        if self.moisture_pct > FIELD_CAPACITY_PCT {
            self.moisture_pct =
                relax_towards(self.moisture_pct, FIELD_CAPACITY_PCT, DRAINAGE_S, dt_s);
        }
        self.temperature_c = relax_towards(self.temperature_c, air_c, WARMING_S, dt_s);
        taken_mm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the water content after an hour, percent.
    fn check(start_pct: f64, watered_mm_s: f64, demand_mm_s: f64, expect_pct: f64) {
        let mut soil = SimulatedSoil { moisture_pct: start_pct, ..SimulatedSoil::new(1.0) };
        for _ in 0..60 {
            soil.step_balance(watered_mm_s, demand_mm_s, 20.0, 60.0);
        }
        let got = soil.moisture_pct;
        assert!((got - expect_pct).abs() < 0.01, "{got}, expected {expect_pct}");
    }

    #[test]
    fn water_balance() {
        check(25.0, 0.0, 0.0, 25.0);
        check(25.0, 1.0 / 3600.0, 0.0, 26.0);
        // With enough water the crop takes its full demand.
        check(28.0, 0.0, 1.0 / 3600.0, 27.0);
        // At the wilting point it takes nothing.
        check(12.0, 0.0, 1.0 / 3600.0, 12.0);
        // Above field capacity a sixth of the excess drains in an hour (1/e in six).
        check(36.0, 0.0, 0.0, 30.0 + 6.0 * (-1.0_f64 / 6.0).exp());
    }
}
