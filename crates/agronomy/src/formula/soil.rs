//! Water in the root zone.

use super::in_range;

/// Depth of water, mm (litres per m²), that a moisture of 0–100 % by volume makes in a root zone of
/// 0–10 m. FAO 56, equation 82.
///
/// ```
/// use microclimate_agronomy::formula::soil::depth_mm;
///
/// // between field capacity and wilting point of loamy sand: 90 mm in a metre
/// let available = depth_mm(15.0, 1.0).unwrap() - depth_mm(6.0, 1.0).unwrap();
/// assert!((available - 90.0).abs() < 1e-9); // FAO 56, example 36
/// ```
#[must_use]
pub fn depth_mm(moisture_pct: f64, root_depth_m: f64) -> Option<f64> {
    Some(10.0 * in_range(moisture_pct, 0.0, 100.0)? * in_range(root_depth_m, 0.0, 10.0)?)
}

/// Root depth, area and emitters of a bed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IrrigationBed {
    /// Depth of the roots, m, above 0.
    pub root_depth_m: f64,
    /// Area, m², above 0.
    pub area_m2: f64,
    /// Flow of all emitters together, L/h, above 0.
    pub flow_l_h: f64,
    /// Share of the water that stays in the root zone, above 0, at most 1.
    pub efficiency: f64,
}

/// Minutes of irrigation, ≥ 0, that raise a bed's moisture, % by volume, to a target:
/// 60 · (θ* − θ) · 1000 · Zr · area / (η · q), the net depth of FAO 56, chapter 8, divided by the
/// application rate.
#[must_use]
pub fn irrigation_min(moisture_pct: f64, target_pct: f64, bed: &IrrigationBed) -> Option<f64> {
    let above_zero = |value: f64, max: f64| in_range(value, f64::MIN_POSITIVE, max);
    let wanted_mm = depth_mm(target_pct, above_zero(bed.root_depth_m, 10.0)?)?
        - depth_mm(moisture_pct, bed.root_depth_m)?;
    let litres = wanted_mm.max(0.0) * above_zero(bed.area_m2, 1e7)?;
    let kept_l_h = above_zero(bed.flow_l_h, 1e9)? * above_zero(bed.efficiency, 1.0)?;
    Some(60.0 * litres / kept_l_h).filter(|minutes| minutes.is_finite())
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};

    #[test]
    fn depths_are_those_of_fao_56() {
        // example 36: silt 170 mm/m, silty clay 120 mm/m
        for (capacity, wilting, mm) in [(32.0, 15.0, 170.0), (35.0, 23.0, 120.0)] {
            close(depth_mm(capacity - wilting, 1.0), mm, 1e-9);
        }
        assert_eq!(depth_mm(-1.0, 1.0), None);
        assert_eq!(depth_mm(f64::NAN, 1.0), None);
    }

    #[test]
    fn minutes_are_litres_over_the_flow() {
        let bed =
            IrrigationBed { root_depth_m: 0.3, area_m2: 10.0, flow_l_h: 240.0, efficiency: 0.9 };
        // 15 mm on 10 m² are 150 L; 216 L of an hour's water stay in the root zone.
        close(irrigation_min(25.0, 30.0, &bed), 150.0 / 216.0 * 60.0, 1e-9);
        close(irrigation_min(35.0, 30.0, &bed), 0.0, 0.0);
        assert_eq!(irrigation_min(25.0, 30.0, &IrrigationBed { flow_l_h: 0.0, ..bed }), None);
        assert_eq!(irrigation_min(25.0, 30.0, &IrrigationBed { efficiency: 1.2, ..bed }), None);
    }
}
