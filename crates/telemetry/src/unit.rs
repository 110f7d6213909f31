//! Units as other systems write them, and their conversion.
//!
//! Sources of the factors: BIPM, "The International System of Units", 9th
//! edition, 2019, table 8 and appendix of older editions; NIST SP 811 (2008),
//! appendix B.8, for inches of mercury (0 °C), psi, feet, miles, knots and gallons.

use std::{collections::HashMap, sync::LazyLock};

/// The dimension that a unit measures. Only units of one dimension convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnitDimension {
    Temperature,
    Ratio,
    MoleFraction,
    Pressure,
    Illuminance,
    Speed,
    Voltage,
    Irradiance,
    PhotonFlux,
    Conductivity,
    Acidity,
    Angle,
    Length,
    RainRate,
    Volume,
    Count,
}

use UnitDimension::{
    Acidity, Angle, Conductivity, Count, Illuminance, Irradiance, Length, MoleFraction, PhotonFlux,
    Pressure, RainRate, Ratio, Speed, Temperature, Voltage, Volume,
};

/// A unit's conversion: `base = (value − zero) · scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct UnitDefinition {
    dimension: UnitDimension,
    scale: f64,
    zero: f64,
}

/// Spellings, dimension, scale to the dimension's base unit, and the value that is 0 in the base
/// unit. Bases: °C, %, ppm, Pa, lx, m/s, V, W/m², µmol/(m² s), mS/cm, pH, °, m, mm/h, L, 1. A
/// spelling here covers every text that [`plain_spelling`] maps to the same one.
const UNITS: &[(&[&str], UnitDimension, f64, f64)] = &[
    (&["°C", "℃", "C", "Cel", "degC", "celsius"], Temperature, 1.0, 0.0),
    (&["°F", "℉", "F", "degF", "fahrenheit"], Temperature, 5.0 / 9.0, 32.0),
    (&["K", "kelvin"], Temperature, 1.0, 273.15),
    (&["%", "%RH", "%rH", "% VWC", "percent", "pct"], Ratio, 1.0, 0.0),
    // A volume fraction, as soil probes give it.
    (&["m³/m³", "cm³/cm³", "m³ m⁻³", "fraction", "/"], Ratio, 100.0, 0.0),
    (&["ppm"], MoleFraction, 1.0, 0.0),
    (&["ppb"], MoleFraction, 1e-3, 0.0),
    (&["Pa"], Pressure, 1.0, 0.0),
    (&["hPa", "mbar", "mb"], Pressure, 100.0, 0.0),
    (&["kPa", "cbar"], Pressure, 1e3, 0.0),
    (&["bar"], Pressure, 1e5, 0.0),
    (&["mmHg", "Torr"], Pressure, 133.322_4, 0.0),
    (&["inHg"], Pressure, 3_386.389, 0.0),
    (&["psi"], Pressure, 6_894.757, 0.0),
    (&["lx", "lux"], Illuminance, 1.0, 0.0),
    (&["klx", "klux"], Illuminance, 1e3, 0.0),
    (&["m/s"], Speed, 1.0, 0.0),
    (&["km/h", "kph"], Speed, 1.0 / 3.6, 0.0),
    (&["mph", "mi/h"], Speed, 0.447_04, 0.0),
    (&["kn", "kt"], Speed, 1_852.0 / 3_600.0, 0.0),
    (&["ft/s"], Speed, 0.304_8, 0.0),
    (&["V", "volt", "volts"], Voltage, 1.0, 0.0),
    (&["mV"], Voltage, 1e-3, 0.0),
    (&["W/m²", "W m⁻²"], Irradiance, 1.0, 0.0),
    (&["kW/m²"], Irradiance, 1e3, 0.0),
    (
        &[
            "µmol/m²/s",
            "µmol/s/m²",
            "µmol/m²s",
            "µmol/s·m²",
            "µmol m⁻² s⁻¹",
            "µmol s⁻¹ m⁻²",
            "PPFD",
        ],
        PhotonFlux,
        1.0,
        0.0,
    ),
    (&["mS/cm", "ms/cm", "dS/m", "ds/m"], Conductivity, 1.0, 0.0),
    (&["µS/cm", "µs/cm"], Conductivity, 1e-3, 0.0),
    (&["mS/m"], Conductivity, 1e-2, 0.0),
    (&["S/m"], Conductivity, 10.0, 0.0),
    (&["pH", "ph", "PH"], Acidity, 1.0, 0.0),
    (&["°", "deg", "degree", "degrees"], Angle, 1.0, 0.0),
    (&["rad"], Angle, 180.0 / std::f64::consts::PI, 0.0),
    (&["m"], Length, 1.0, 0.0),
    (&["cm"], Length, 1e-2, 0.0),
    // One litre on a square metre is one millimetre high.
    (&["mm", "L/m²", "l/m²"], Length, 1e-3, 0.0),
    (&["in", "inch"], Length, 0.025_4, 0.0),
    (&["mm/h", "mm/hr"], RainRate, 1.0, 0.0),
    (&["mm/d", "mm/day"], RainRate, 1.0 / 24.0, 0.0),
    (&["in/h", "in/hr"], RainRate, 25.4, 0.0),
    (&["L", "l", "litre", "litres", "liter", "liters"], Volume, 1.0, 0.0),
    (&["mL", "ml"], Volume, 1e-3, 0.0),
    (&["m³"], Volume, 1e3, 0.0),
    (&["gal"], Volume, 3.785_412, 0.0),
    // A contact or a switch is the count 0 or 1.
    (&["count", "0/1", "#"], Count, 1.0, 0.0),
];

/// The units by their plain spelling.
static BY_SPELLING: LazyLock<HashMap<String, UnitDefinition>> = LazyLock::new(|| {
    let spelled = UNITS.iter().flat_map(|(names, dimension, scale, zero)| {
        let unit = UnitDefinition { dimension: *dimension, scale: *scale, zero: *zero };
        names.iter().map(move |name| (plain_spelling(name), unit))
    });
    spelled.collect()
});

fn find_unit(text: &str) -> Option<UnitDefinition> {
    BY_SPELLING.get(&plain_spelling(text)).copied()
}

/// Removes the variants in which people write units: both characters for micro become `u`; raised
/// digits become digits; `^`, product dots, brackets and spaces are dropped. Only the first 32
/// characters are read, which is longer than any unit.
fn plain_spelling(text: &str) -> String {
    const LENGTH_MAX: usize = 32;
    let plain = text.chars().take(LENGTH_MAX).filter_map(|c| match c {
        // The micro sign and the Greek letter mu.
        '\u{b5}' | '\u{3bc}' => Some('u'),
        '\u{b9}' => Some('1'),
        '\u{b2}' => Some('2'),
        '\u{b3}' => Some('3'),
        '\u{207b}' | '\u{2212}' => Some('-'),
        // The ring above and the ordinal indicator, which people write for the degree sign.
        '\u{2da}' | '\u{ba}' => Some('\u{b0}'),
        '^' | '(' | ')' | '\u{b7}' | '\u{22c5}' | '*' => None,
        c if c.is_whitespace() => None,
        c => Some(c),
    });
    plain.collect()
}

/// Whether a text is a unit of the table, in any spelling.
#[must_use]
pub fn is_unit(text: &str) -> bool {
    find_unit(text).is_some()
}

/// The error for a value that cannot be converted from one unit to another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{from}` cannot be converted to `{to}`")]
pub struct UnitError {
    /// The unit that was found.
    pub from: String,
    /// The unit that was wanted.
    pub to: String,
}

/// Converts a value to another unit. If both texts are the same unit, known or not, or two
/// spellings of one, the value stays as it is to the last bit.
///
/// # Errors
/// Returns [`UnitError`] if either unit is not known, or if they have different dimensions.
///
/// ```
/// use microclimate_telemetry::unit::convert_unit;
/// assert_eq!(convert_unit(212.0, "°F", "°C"), Ok(100.0));
/// assert_eq!(convert_unit(1013.25, "mbar", "hPa"), Ok(1013.25));
/// assert_eq!(convert_unit(3.0, "brix", "brix"), Ok(3.0));
/// assert!(convert_unit(80.0, "%", "V").is_err());
/// ```
pub fn convert_unit(value: f64, from: &str, to: &str) -> Result<f64, UnitError> {
    if from == to {
        return Ok(value);
    }
    let (Some(source), Some(target)) = (find_unit(from), find_unit(to)) else {
        return Err(unit_error(from, to));
    };
    if source == target {
        Ok(value)
    } else if source.dimension == target.dimension {
        Ok((value - source.zero) * source.scale / target.scale + target.zero)
    } else {
        Err(unit_error(from, to))
    }
}

fn unit_error(from: &str, to: &str) -> UnitError {
    let short = |text: &str| text.chars().take(32).collect();
    UnitError { from: short(from), to: short(to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, from: &str, to: &str, expect: Option<f64>) {
        match (convert_unit(value, from, to).ok(), expect) {
            (Some(got), Some(expect)) => {
                assert!(
                    (got - expect).abs() <= 1e-9 * expect.abs(),
                    "{value} {from} → {to}: {got}"
                );
            }
            (got, expect) => assert_eq!(got, expect, "{value} {from} → {to}"),
        }
    }

    #[test]
    fn conversions() {
        check(71.6, "°F", "°C", Some(22.0));
        check(-40.0, "F", "°C", Some(-40.0));
        check(-40.0, "°C", "°F", Some(-40.0));
        check(300.0, "K", "°C", Some(26.85));
        check(48.5, "%", "%RH", Some(48.5));
        check(0.31, "m³/m³", "%", Some(31.0));
        check(101_325.0, "Pa", "hPa", Some(1_013.25));
        check(101.325, "kPa", "hPa", Some(1_013.25));
        check(1_013.25, "mbar", "hPa", Some(1_013.25));
        check(29.92, "inHg", "hPa", Some(1_013.207_588_8));
        check(760.0, "mmHg", "hPa", Some(1_013.250_24));
        check(3_020.0, "mV", "V", Some(3.02));
        check(1.2, "klx", "lux", Some(1_200.0));
        check(36.0, "km/h", "m/s", Some(10.0));
        check(10.0, "kn", "m/s", Some(5.144_444_444_444));
        check(420_000.0, "ppb", "ppm", Some(420.0));
        check(1.0, "0/1", "count", Some(1.0));
        check(1_250.0, "µS/cm", "mS/cm", Some(1.25));
        check(2.4, "dS/m", "mS/cm", Some(2.4));
        check(0.24, "S/m", "mS/cm", Some(2.4));
        check(0.5, "in", "mm", Some(12.7));
        check(0.5, "in/h", "mm/h", Some(12.7));
        check(2.0, "L/m²", "mm", Some(2.0));
        check(std::f64::consts::PI, "rad", "°", Some(180.0));
        check(250.0, "mL", "L", Some(0.25));
        check(0.8, "kW/m²", "W/m²", Some(800.0));
        check(1.0, "mm", "mm/h", None);
        check(1.0, "µS/cm", "µmol/m²/s", None);
        check(0.1 + 0.2, "brix", "brix", Some(0.1 + 0.2));
        check(1.0, "brix", "%", None);
        check(80.0, "%", "V", None);
        check(230.0, "V", "%", None);
        check(1.0, "", "°C", None);
    }

    #[test]
    fn spellings_of_one_unit() {
        let check = |spellings: &[&str], to: &str, expect: f64| {
            for from in spellings {
                check(1_000.0, from, to, Some(expect));
            }
        };
        // The micro sign U+00B5, the Greek letter U+03BC and the letter u; S, and the common
        // mistake s.
        check(
            &["\u{b5}S/cm", "\u{3bc}S/cm", "uS/cm", " µS / cm ", "\u{b5}s/cm", "us/cm"],
            "mS/cm",
            1.0,
        );
        check(
            &[
                "µmol/m²/s",
                "μmol/(m²·s)",
                "umol/m2/s",
                "µmol m⁻² s⁻¹",
                "µmol·m^-2·s^-1",
                "µmol/s/m²",
            ],
            "PPFD",
            1_000.0,
        );
        check(&["W/m²", "W/m2", "W/m^2", "W m⁻²", "W·m⁻²"], "W/m²", 1_000.0);
        check(&["m³/m³", "m3/m3", "m^3/m^3", "cm³/cm³"], "%", 100_000.0);
        check(&["°C", "º C", "˚C", "degC"], "°C", 1_000.0);
    }

    #[test]
    fn there_and_back() {
        for (names, dimension, ..) in UNITS {
            for (others, ..) in UNITS.iter().filter(|(_, other, ..)| other == dimension) {
                let there = convert_unit(12.5, names[0], others[0]).unwrap();
                check(there, others[0], names[0], Some(12.5));
            }
        }
    }

    #[test]
    fn no_spelling_is_two_units() {
        let names = UNITS.iter().flat_map(|(names, ..)| names.iter());
        let mut names: Vec<_> = names.map(|name| plain_spelling(name)).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
