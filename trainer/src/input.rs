//! Model inputs by name. The name of an input states how it is computed from feature columns, so
//! that serving needs only an artifact's schema to compute the inputs of training.
//!
//! - `temperature_mean_1h`: the column
//! - `temperature_mean_1h 23h ago`: the column of an earlier row, see [`crate::lag_columns`]
//! - `temperature_mean_1h - temperature_now`: the difference of two inputs, so that trees learn
//!   changes instead of levels
//! - `temperature_now`, `soil_moisture_now`: the present value
//! - `hours_to_critical_by_drying_rate_pct_h`: a quantity that depends on the zone's settings, if a
//!   column continues as it is

use serde::{Deserialize, Serialize};

use crate::{lag_columns::parse_lag_column, settings::ComfortSettings};

/// Expression that computes one input.
#[derive(Clone, Debug, PartialEq)]
pub enum InputExpression {
    /// Feature column, of the row or of an earlier one.
    Column(String),
    /// One input minus another.
    Difference(Box<InputExpression>, Box<InputExpression>),
    /// Present value of a metric.
    Now(PresentMetric),
    /// Soil moisture above the critical value, %.
    AboveCritical,
    /// Hours until the driest soil is critical, 0 to [`HOURS_MAX`], if it continues as in the last
    /// 24 h (or the last hour where that is not falling).
    LinearHoursToCritical,
    /// Hours until the driest soil is critical, 0 to [`HOURS_MAX`], at the rate of a column (%/h).
    HoursToCritical(String),
    /// Degrees above the temperature below which the zone is heated.
    AboveHeating,
    /// Degrees above the temperature above which the zone is cooled.
    AboveCooling,
    /// Degree-minutes of the next hour below (heating) or above (cooling) the comfort band, at the
    /// present temperature or with the slope of a column (°C/h).
    DegreeMinutes(ComfortSide, Option<String>),
    /// Heating class at the present temperature: 0 to heat, 2 to cool, else 1.
    ClassNow,
    /// Hours of lamps that a day with the mean light of a column (lux) needs.
    SupplementHours(String),
}

/// Metrics that have a present value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresentMetric {
    /// Mean of the last minute, else the latest reading if it is at most two minutes old, °C.
    Temperature,
    /// Driest reading of the last 30 minutes, else the latest one if it is at most eight hours old,
    /// %.
    SoilMoisture,
}

/// Side of the comfort band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComfortSide {
    /// Below the band.
    Heating,
    /// Above the band.
    Cooling,
}

/// Limit at which hours to the critical soil moisture are censored.
pub const HOURS_MAX: f64 = 48.0;
/// Number of minutes that degree-minutes cover.
const MINUTES: f64 = 60.0;
/// Column of the mean drying rate, which is positive while drying, unlike slopes.
const DRYING_RATE_COLUMN: &str = "drying_rate_pct_h";
const QUANTITIES: [(&str, fn(String) -> InputExpression); 4] = [
    ("hours_to_critical_by_", InputExpression::HoursToCritical),
    ("degree_minutes_by_", |column| {
        InputExpression::DegreeMinutes(ComfortSide::Heating, Some(column))
    }),
    ("cooling_minutes_by_", |column| {
        InputExpression::DegreeMinutes(ComfortSide::Cooling, Some(column))
    }),
    ("supplement_hours_by_", InputExpression::SupplementHours),
];

impl PresentMetric {
    /// Names of the column of the present value, the column of the latest reading, and the column
    /// of its age, s.
    #[must_use]
    pub const fn source_columns(self) -> [&'static str; 3] {
        match self {
            Self::Temperature => ["temperature_mean_1m", "temperature_last", "temperature_age_s"],
            Self::SoilMoisture => {
                ["soil_moisture_min_30m", "soil_moisture_last", "soil_moisture_age_s"]
            }
        }
    }

    /// Present value from the values of [`PresentMetric::source_columns`]; NaN where it is unknown.
    /// A reading without an age counts as fresh.
    #[must_use]
    pub fn present_value(self, [present, last, age_s]: [f64; 3]) -> f64 {
        let age_s_max = match self {
            Self::Temperature => 120.0,
            Self::SoilMoisture => 8.0 * 3600.0,
        };
        let is_old = age_s > age_s_max; // false for NaN
        match (present.is_nan(), is_old) {
            (false, _) => present,
            (true, false) => last,
            (true, true) => f64::NAN,
        }
    }
}

impl InputExpression {
    /// Parses the name of an input. Every text is one, at least the name of a column.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        if let Some((left, right)) = name.split_once(" - ") {
            return Self::Difference(Box::new(Self::parse(left)), Box::new(Self::parse(right)));
        }
        let by = QUANTITIES.iter().find_map(|(quantity, input)| {
            name.strip_prefix(quantity).map(|column| input(column.to_owned()))
        });
        by.unwrap_or_else(|| match name {
            "temperature_now" => Self::Now(PresentMetric::Temperature),
            "soil_moisture_now" => Self::Now(PresentMetric::SoilMoisture),
            "soil_moisture_above_critical" => Self::AboveCritical,
            "linear_hours_to_critical" => Self::LinearHoursToCritical,
            "degrees_above_heating" => Self::AboveHeating,
            "degrees_above_cooling" => Self::AboveCooling,
            "degree_minutes_as_now" => Self::DegreeMinutes(ComfortSide::Heating, None),
            "cooling_minutes_as_now" => Self::DegreeMinutes(ComfortSide::Cooling, None),
            "class_now" => Self::ClassNow,
            _ => Self::Column(name.to_owned()),
        })
    }

    /// Columns that the input is computed from; those of earlier rows by their full names.
    #[must_use]
    pub fn source_columns(&self) -> Vec<&str> {
        let soil = || PresentMetric::SoilMoisture.source_columns().to_vec();
        let temperature = || PresentMetric::Temperature.source_columns().to_vec();
        let and = |mut columns: Vec<&'static str>, more: &[&'static str]| {
            columns.extend(more);
            columns
        };
        match self {
            Self::Column(name) | Self::SupplementHours(name) => vec![name],
            Self::Difference(left, right) => {
                [left.source_columns(), right.source_columns()].concat()
            }
            Self::Now(metric) => metric.source_columns().to_vec(),
            Self::AboveCritical => soil(),
            Self::LinearHoursToCritical => {
                and(soil(), &["soil_moisture_slope_24h", "soil_moisture_slope_1h"])
            }
            Self::HoursToCritical(slope) => [soil(), vec![slope.as_str()]].concat(),
            Self::DegreeMinutes(_, Some(slope)) => [temperature(), vec![slope.as_str()]].concat(),
            Self::DegreeMinutes(_, None)
            | Self::AboveHeating
            | Self::AboveCooling
            | Self::ClassNow => temperature(),
        }
    }

    /// Whether the input can be computed from these columns.
    pub fn can_be_made_of(&self, has: &dyn Fn(&str) -> bool) -> bool {
        let is_known = |metric: PresentMetric| {
            let [present, last, _] = metric.source_columns();
            has(present) || has(last)
        };
        let has = |name: &str| has(parse_lag_column(name).0);
        match self {
            Self::Column(name) | Self::SupplementHours(name) => has(name),
            Self::Difference(left, right) => {
                left.can_be_made_of(&has) && right.can_be_made_of(&has)
            }
            Self::Now(metric) => is_known(*metric),
            Self::AboveCritical => is_known(PresentMetric::SoilMoisture),
            Self::LinearHoursToCritical => {
                is_known(PresentMetric::SoilMoisture)
                    && (has("soil_moisture_slope_24h") || has("soil_moisture_slope_1h"))
            }
            Self::HoursToCritical(slope) => is_known(PresentMetric::SoilMoisture) && has(slope),
            Self::DegreeMinutes(_, slope) => {
                is_known(PresentMetric::Temperature) && slope.as_ref().is_none_or(|name| has(name))
            }
            Self::AboveHeating | Self::AboveCooling | Self::ClassNow => {
                is_known(PresentMetric::Temperature)
            }
        }
    }

    /// Value of the input; `column` returns the value of a column, NaN where it is missing. NaN
    /// where the input cannot be computed.
    pub fn compute_value(&self, comfort: &ComfortSettings, column: impl Fn(&str) -> f64) -> f64 {
        self.value_of(comfort, &column)
    }

    fn value_of(&self, comfort: &ComfortSettings, column: &dyn Fn(&str) -> f64) -> f64 {
        let now = |metric: PresentMetric| metric.present_value(metric.source_columns().map(column));
        let above_critical = || now(PresentMetric::SoilMoisture) - comfort.soil_moisture_critical;
        let temperature = || now(PresentMetric::Temperature);
        match self {
            Self::Column(name) => column(name),
            Self::Difference(left, right) => {
                left.value_of(comfort, column) - right.value_of(comfort, column)
            }
            Self::Now(metric) => now(*metric),
            Self::AboveCritical => above_critical(),
            Self::LinearHoursToCritical => {
                let [day, hour] = ["soil_moisture_slope_24h", "soil_moisture_slope_1h"].map(column);
                hours_at(above_critical(), if day < 0.0 { day } else { hour })
            }
            Self::HoursToCritical(name) => {
                let slope = if name == DRYING_RATE_COLUMN { -column(name) } else { column(name) };
                hours_at(above_critical(), slope)
            }
            Self::AboveHeating => temperature() - comfort.heat_below,
            Self::AboveCooling => temperature() - comfort.cool_above,
            Self::DegreeMinutes(side, slope) => {
                let slope_value = slope.as_ref().map_or(0.0, |name| column(name));
                degree_minutes(|at| side.degrees_outside(comfort, at), temperature(), slope_value)
            }
            Self::ClassNow => {
                comfort.heating_class(temperature()).map_or(f64::NAN, |class| class as f64)
            }
            Self::SupplementHours(name) => comfort.supplement_hours(column(name)),
        }
    }
}

impl ComfortSide {
    /// Degrees outside the comfort band, 0 within it.
    #[must_use]
    pub fn degrees_outside(self, comfort: &ComfortSettings, temperature: f64) -> f64 {
        self.degrees_beyond_edge(temperature - self.band_edge(comfort))
    }

    /// Edge of the comfort band on this side, °C.
    #[must_use]
    pub const fn band_edge(self, comfort: &ComfortSettings) -> f64 {
        match self {
            Self::Heating => comfort.heat_below,
            Self::Cooling => comfort.cool_above,
        }
    }

    /// Degrees outside the band for a temperature that is `above_edge` degrees above this edge.
    #[must_use]
    pub fn degrees_beyond_edge(self, above_edge: f64) -> f64 {
        let outside = match self {
            Self::Heating => -above_edge,
            Self::Cooling => above_edge,
        };
        if outside.is_nan() { f64::NAN } else { outside.max(0.0) }
    }
}

/// Degree-minutes of the next hour, if the temperature continues with a slope per hour.
pub(crate) fn degree_minutes(degrees: impl Fn(f64) -> f64, now: f64, slope: f64) -> f64 {
    if slope == 0.0 {
        return MINUTES * degrees(now);
    }
    let minutes = (1..=MINUTES as u32).map(|minute| f64::from(minute) / MINUTES);
    minutes.map(|hours| degrees(now + slope * hours)).sum()
}

/// Hours until `above` is used up at `slope` per hour.
fn hours_at(above: f64, slope: f64) -> f64 {
    if above.is_nan() {
        f64::NAN
    } else if above <= 0.0 {
        0.0
    } else if slope < 0.0 {
        (above / -slope).min(HOURS_MAX)
    } else {
        HOURS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainerSettings;

    #[test]
    fn an_input_is_made_of_columns_that_there_are() {
        let check = |name: &str, columns: &[&str], expect: bool| {
            let is_made =
                InputExpression::parse(name).can_be_made_of(&|column| columns.contains(&column));
            assert_eq!(is_made, expect, "{name} of {columns:?}");
        };
        check("a - b", &["a"], false);
        check("a - b", &["a", "b"], true);
        check("a 23h ago - b", &["a", "b"], true);
        check("a 23h ago - b", &["b"], false);
        check("a - temperature_now", &["a", "temperature_age_s"], false);
        check("a - temperature_now", &["a", "temperature_last"], true);
        check("degree_minutes_by_s", &["temperature_last"], false);
        check("degree_minutes_as_now", &["temperature_mean_1m"], true);
        check("linear_hours_to_critical", &["soil_moisture_last"], false);
        check("hours_to_critical_by_s", &["soil_moisture_last", "s"], true);
    }

    fn check(name: &str, columns: &[(&str, f64)], expect: f64) {
        // critical at 30 %, heat below 20 °C, cool above 25 °C
        let comfort = TrainerSettings::default().comfort;
        let column =
            |name: &str| columns.iter().find(|(n, _)| *n == name).map_or(f64::NAN, |(_, v)| *v);
        let input = InputExpression::parse(name);
        let got = input.compute_value(&comfort, column);
        assert!(
            (got - expect).abs() < 1e-9 || (got.is_nan() && expect.is_nan()),
            "{name}: {got}, expected {expect}"
        );
        let named = input.source_columns();
        assert!(columns.iter().all(|(name, _)| named.contains(name)), "{name}: {named:?}");
    }

    #[test]
    fn columns_and_differences() {
        check("a", &[("a", 2.0)], 2.0);
        check("a - b", &[("a", 2.0), ("b", 0.5)], 1.5);
        check("a - b", &[("a", 2.0)], f64::NAN);
        check("a 23h ago - b", &[("a 23h ago", 2.0), ("b", 0.5)], 1.5);
        check("a - temperature_now", &[("a", 20.5), ("temperature_mean_1m", 20.0)], 0.5);
    }

    #[test]
    fn the_present_is_a_mean_of_now_or_else_a_fresh_reading() {
        let temperature = |mean, last, age| {
            [("temperature_mean_1m", mean), ("temperature_last", last), ("temperature_age_s", age)]
        };
        check("temperature_now", &temperature(20.0, 21.0, 5.0), 20.0);
        check("temperature_now", &temperature(f64::NAN, 21.0, 119.0), 21.0);
        check("temperature_now", &temperature(f64::NAN, 21.0, 121.0), f64::NAN);
        check("temperature_now", &[("temperature_last", 21.0)], 21.0);
        check(
            "soil_moisture_now",
            &[("soil_moisture_last", 40.0), ("soil_moisture_age_s", 9e3)],
            40.0,
        );
    }

    #[test]
    fn degree_minutes_of_the_next_hour() {
        let at = |now| [("temperature_last", now)];
        check("degree_minutes_as_now", &at(19.5), 30.0);
        check("degree_minutes_as_now", &at(21.0), 0.0);
        check("degree_minutes_as_now", &[], f64::NAN);
        check("cooling_minutes_as_now", &at(25.5), 30.0);
        // From 20 °C, one degree down per hour: 1/60 + … + 60/60 degrees.
        let falling = [("temperature_last", 20.0), ("s", -1.0)];
        check("degree_minutes_by_s", &falling, 30.5);
        check("cooling_minutes_by_s", &falling, 0.0);
        check("degrees_above_heating", &at(19.5), -0.5);
        check("degrees_above_cooling", &at(19.5), -5.5);
        check("class_now", &at(19.5), 0.0);
        check("class_now", &at(20.0), 1.0);
        check("class_now", &at(25.5), 2.0);
        check("class_now", &[], f64::NAN);
    }

    #[test]
    fn hours_to_the_critical_moisture() {
        let soil = |last, day, hour| {
            [
                ("soil_moisture_min_30m", last),
                ("soil_moisture_slope_24h", day),
                ("soil_moisture_slope_1h", hour),
            ]
        };
        check("linear_hours_to_critical", &soil(35.0, -0.5, 0.1), 10.0);
        check("linear_hours_to_critical", &soil(35.0, 0.2, -1.0), 5.0);
        check("linear_hours_to_critical", &soil(35.0, 0.2, 0.1), 48.0);
        check("linear_hours_to_critical", &soil(29.0, 0.2, 0.1), 0.0);
        check("linear_hours_to_critical", &soil(90.0, -0.1, -0.1), 48.0);
        let by = |name, pace| [("soil_moisture_last", 35.0), (name, pace)];
        check("hours_to_critical_by_drying_rate_pct_h", &by("drying_rate_pct_h", 0.5), 10.0);
        check("hours_to_critical_by_drying_slope_pct_h", &by("drying_slope_pct_h", -0.5), 10.0);
        check("hours_to_critical_by_drying_slope_pct_h", &by("drying_slope_pct_h", f64::NAN), 48.0);
        check("soil_moisture_above_critical", &[("soil_moisture_last", 35.0)], 5.0);
    }

    #[test]
    fn lamps_make_up_for_what_the_day_lacks() {
        // 17 mol/m² wanted; 5,000 lux are 7.992 mol; lamps of 150 µmol/(m²·s)
        // give 0.54 mol an hour
        check("supplement_hours_by_light", &[("light", 5000.0)], (17.0 - 7.992) / 0.54);
        check("supplement_hours_by_light", &[("light", 50_000.0)], 0.0);
        check("supplement_hours_by_light", &[("light", 0.0)], 24.0);
        check("supplement_hours_by_light", &[], f64::NAN);
    }
}
