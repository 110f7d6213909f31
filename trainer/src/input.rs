//! Model inputs by name. An input's name says how it is made from feature
//! columns, so that an artifact's schema is all that serving needs to make the
//! inputs that training made.
//!
//! - `temperature_mean_1h`: the column
//! - `temperature_mean_1h - temperature_last`: the difference of two columns,
//!   so that trees learn changes and not levels
//! - `linear_hours_to_critical`, `degree_minutes_as_now`: a quantity of the
//!   zone's comfort settings

use crate::settings::Comfort;

/// How one input is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A feature column.
    Column(String),
    /// One column less another.
    Difference(String, String),
    /// Hours until the driest soil is critical if it goes on as in the last 24 h
    /// (else the last hour), 0 to [`HOURS_MAX`].
    LinearHoursToCritical,
    /// Heating degree-minutes of an hour at the present temperature.
    DegreeMinutesAsNow,
}

/// Hours to the critical soil moisture are censored here.
pub const HOURS_MAX: f64 = 48.0;

impl Input {
    /// Reads an input's name; every text is one, at least a column's.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "linear_hours_to_critical" => Self::LinearHoursToCritical,
            "degree_minutes_as_now" => Self::DegreeMinutesAsNow,
            _ => match name.split_once(" - ") {
                Some((left, right)) => Self::Difference(left.to_owned(), right.to_owned()),
                None => Self::Column(name.to_owned()),
            },
        }
    }

    /// The columns that it is made from.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::Column(name) => vec![name],
            Self::Difference(left, right) => vec![left, right],
            Self::LinearHoursToCritical => {
                vec!["soil_moisture_min_30m", "soil_moisture_slope_24h", "soil_moisture_slope_1h"]
            }
            Self::DegreeMinutesAsNow => vec!["temperature_last"],
        }
    }

    /// Its value; `column` gives a column's, NaN where there is none. NaN
    /// where it cannot be made.
    pub fn value(&self, comfort: &Comfort, column: impl Fn(&str) -> f64) -> f64 {
        match self {
            Self::Column(name) => column(name),
            Self::Difference(left, right) => column(left) - column(right),
            Self::LinearHoursToCritical => {
                let above = column("soil_moisture_min_30m") - comfort.soil_moisture_critical;
                let [day, hour] =
                    ["soil_moisture_slope_24h", "soil_moisture_slope_1h"].map(&column);
                hours_at(above, if day < 0.0 { day } else { hour })
            }
            Self::DegreeMinutesAsNow => {
                let missing = comfort.heat_below - column("temperature_last");
                if missing.is_nan() { f64::NAN } else { 60.0 * missing.max(0.0) }
            }
        }
    }
}

/// Hours until `above` is used up at `slope` an hour.
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
    use crate::Settings;

    fn check(name: &str, columns: &[(&str, f64)], expect: f64) {
        let comfort = Settings::default().comfort; // critical at 30 %, heat below 20 °C
        let column =
            |name: &str| columns.iter().find(|(n, _)| *n == name).map_or(f64::NAN, |(_, v)| *v);
        let got = Input::parse(name).value(&comfort, column);
        assert!(
            (got - expect).abs() < 1e-9 || (got.is_nan() && expect.is_nan()),
            "{name}: {got}, expected {expect}"
        );
    }

    #[test]
    fn inputs() {
        check("a", &[("a", 2.0)], 2.0);
        check("a - b", &[("a", 2.0), ("b", 0.5)], 1.5);
        check("a - b", &[("a", 2.0)], f64::NAN);
        check("degree_minutes_as_now", &[("temperature_last", 19.5)], 30.0);
        check("degree_minutes_as_now", &[("temperature_last", 21.0)], 0.0);
        check("degree_minutes_as_now", &[], f64::NAN);
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
    }
}
