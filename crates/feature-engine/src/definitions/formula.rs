use agronomy::{
    formula::{air, evapotranspiration, light, radiation},
    sun::GeoLocation,
};
use serde::{Deserialize, Serialize};

/// A built-in formula for joins. The function of `agronomy` that it calls documents the
/// computation and the range of the inputs. The result is null outside that range or if an input
/// is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinFormula {
    /// First input less second input.
    Difference,
    /// Vapour-pressure deficit, kPa, from temperature, °C, and humidity, %RH.
    VapourPressureDeficit,
    /// Dew point, °C, from temperature, °C, and humidity, %RH.
    DewPoint,
    /// Absolute humidity, g/m³, from temperature, °C, and humidity, %RH.
    AbsoluteHumidity,
    /// Wet-bulb temperature, °C, from temperature, °C, and humidity, %RH.
    WetBulb,
    /// Heat index, °C, from temperature, °C, and humidity, %RH.
    HeatIndex,
    /// Daily light integral, mol/m², from the integral of sunlight, lux·h.
    LightIntegral,
    /// Reference evapotranspiration of a day, mm, from its highest and lowest temperature, °C;
    /// needs the site's location.
    ReferenceEvapotranspiration,
}

/// Time and location for which a formula is computed.
#[derive(Clone, Copy, Debug)]
pub struct FormulaContext {
    /// Day of the year on the site's calendar, 1 to 366; `None` beyond the calendar's years.
    pub day_of_year: Option<u16>,
    /// Location of the site, if it is configured.
    pub place: Option<GeoLocation>,
}

impl JoinFormula {
    /// All formulas.
    pub const ALL: [Self; 8] = [
        Self::Difference,
        Self::VapourPressureDeficit,
        Self::DewPoint,
        Self::AbsoluteHumidity,
        Self::WetBulb,
        Self::HeatIndex,
        Self::LightIntegral,
        Self::ReferenceEvapotranspiration,
    ];

    /// Returns the name in definitions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Difference => "difference",
            Self::VapourPressureDeficit => "vapour_pressure_deficit",
            Self::DewPoint => "dew_point",
            Self::AbsoluteHumidity => "absolute_humidity",
            Self::WetBulb => "wet_bulb",
            Self::HeatIndex => "heat_index",
            Self::LightIntegral => "light_integral",
            Self::ReferenceEvapotranspiration => "reference_evapotranspiration",
        }
    }

    /// Returns the number of inputs.
    #[must_use]
    pub const fn input_count(self) -> usize {
        match self {
            Self::LightIntegral => 1,
            _ => 2,
        }
    }

    /// Describes the inputs.
    #[must_use]
    pub const fn input_description(self) -> &'static str {
        match self {
            Self::Difference => "two features of the same unit",
            Self::LightIntegral => "the integral of light over a day, lux·h",
            Self::ReferenceEvapotranspiration => "the day's highest and lowest temperature, °C",
            _ => "temperature, °C, and humidity, %RH",
        }
    }

    /// Returns the unit of the result; `None` if it is the unit of the first input.
    #[must_use]
    pub const fn unit(self) -> Option<&'static str> {
        match self {
            Self::Difference => None,
            Self::VapourPressureDeficit => Some("kPa"),
            Self::DewPoint | Self::WetBulb | Self::HeatIndex => Some("°C"),
            Self::AbsoluteHumidity => Some("g/m³"),
            Self::LightIntegral => Some("mol/m²"),
            Self::ReferenceEvapotranspiration => Some("mm"),
        }
    }

    /// Returns the source of the formula.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Difference => "subtraction",
            Self::VapourPressureDeficit => "FAO 56 (Allen et al., 1998), equations 11 and 12",
            Self::DewPoint => "FAO 56, equation 11 solved for the temperature",
            Self::AbsoluteHumidity => "ideal gas law for water vapour, vapour pressure by FAO 56",
            Self::WetBulb => "R. Stull, J. Appl. Meteorol. Climatol. 50(11), 2011",
            Self::HeatIndex => "L. P. Rothfusz, NWS Technical Attachment SR 90-23, 1990",
            Self::LightIntegral => {
                "J. Faust, \"Light\", Ball Redbook, 2003; 54 lux of sunlight to 1 µmol/(m² s)"
            }
            Self::ReferenceEvapotranspiration => {
                "FAO 56, equations 21 and 52 (Hargreaves and Samani, 1985)"
            }
        }
    }

    /// Computes the value; NaN if it does not exist.
    ///
    /// ```
    /// use microclimate_feature_store::definitions::{FormulaContext, JoinFormula};
    ///
    /// let anywhere = FormulaContext { day_of_year: None, place: None };
    /// let kpa = JoinFormula::VapourPressureDeficit.compute_value(&[20.0, 50.0], anywhere);
    /// assert!((kpa - 1.169).abs() < 1e-3); // FAO 56, table 2.3: e°(20 °C) = 2.338 kPa
    /// ```
    #[must_use]
    pub fn compute_value(self, inputs: &[f64], moment: FormulaContext) -> f64 {
        let value = match (self, inputs) {
            (Self::Difference, [a, b]) => Some(a - b),
            (Self::VapourPressureDeficit, [t, rh]) => air::deficit_kpa(*t, *rh),
            (Self::DewPoint, [t, rh]) => air::dew_point_c(*t, *rh),
            (Self::AbsoluteHumidity, [t, rh]) => air::absolute_humidity_g_m3(*t, *rh),
            (Self::WetBulb, [t, rh]) => air::wet_bulb_c(*t, *rh),
            (Self::HeatIndex, [t, rh]) => air::heat_index_c(*t, *rh),
            (Self::LightIntegral, [lux_h]) => {
                light::integral_mol_m2(lux_h / 24.0 * light::ppfd_per_lux::SUN, 86_400.0)
            }
            (Self::ReferenceEvapotranspiration, [max_c, min_c]) => {
                moment.place.zip(moment.day_of_year).and_then(|(place, day)| {
                    let ra_mj = radiation::extraterrestrial_daily(place.latitude_deg(), day)?;
                    evapotranspiration::hargreaves_mm(*max_c, *min_c, ra_mj)
                })
            }
            _ => None,
        };
        value.unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        formula: JoinFormula,
        inputs: &[f64],
        moment: FormulaContext,
        expect: f64,
        within: f64,
    ) {
        let value = formula.compute_value(inputs, moment);
        let same = (value.is_nan() && expect.is_nan()) || (value - expect).abs() <= within;
        assert!(same, "{formula:?} {inputs:?}: {value}, expected {expect}");
    }

    #[test]
    fn formulas_give_their_sources_examples() {
        let anywhere = FormulaContext { day_of_year: Some(246), place: None };
        let south =
            FormulaContext { place: Some(GeoLocation::new(-20.0, 0.0).unwrap()), ..anywhere };
        check(JoinFormula::Difference, &[21.0, 20.5], anywhere, 0.5, 0.0);
        // FAO 56, table 2.3: e°(20 °C) = 2.338 kPa
        check(JoinFormula::VapourPressureDeficit, &[20.0, 50.0], anywhere, 1.169, 1e-3);
        check(JoinFormula::DewPoint, &[20.0, 100.0], anywhere, 20.0, 1e-9);
        // 10,000 lux of sun for 12 h: 185.2 µmol/(m² s) · 43,200 s
        check(JoinFormula::LightIntegral, &[120_000.0], anywhere, 8.0, 1e-9);
        // FAO 56, example 8 gives Ra = 32.2 MJ/m²: 0.0023 · 37.8 · √10 · 0.408 · 32.2
        check(JoinFormula::ReferenceEvapotranspiration, &[25.0, 15.0], south, 3.61, 0.01);
        check(JoinFormula::ReferenceEvapotranspiration, &[25.0, 15.0], anywhere, f64::NAN, 0.0);
        check(JoinFormula::DewPoint, &[20.0, f64::NAN], anywhere, f64::NAN, 0.0);
    }

    #[test]
    fn names_are_those_of_the_file() {
        for formula in JoinFormula::ALL {
            let json = format!("\"{}\"", formula.as_str());
            assert_eq!(serde_json::from_str::<JoinFormula>(&json).unwrap(), formula);
        }
    }
}
