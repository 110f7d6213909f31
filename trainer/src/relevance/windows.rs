use crate::{
    earlier::column_of,
    input::{Input, Metric},
    width,
};

/// A window's width, from the end of a feature's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Width {
    /// Seconds.
    pub(super) seconds: u64,
    /// As in names: `10m`, `7d`.
    pub(super) name: String,
}

/// The windows that an input needs, without repetition, shortest first; none
/// of newest values, the time of the day and the like.
pub(super) fn of(input: &str) -> Vec<Width> {
    let mut widths = of_input(&Input::parse(input));
    widths.sort();
    widths.dedup();
    widths
}

fn of_input(input: &Input) -> Vec<Width> {
    // A present value may be the mean of a minute, which makes it no history.
    let present = [Metric::Temperature, Metric::SoilMoisture].map(Metric::columns).concat();
    match input {
        Input::Column(name) => width(name).into_iter().collect(),
        Input::Difference(left, right) => [of_input(left), of_input(right)].concat(),
        other => {
            let columns = other.columns().into_iter().filter(|name| !present.contains(name));
            columns.filter_map(width).collect()
        }
    }
}

/// How far back a column reaches: its window, and how long ago it is looked up.
fn width(column: &str) -> Option<Width> {
    let (column, ago_s) = column_of(column);
    let window = column.rsplit('_').next()?;
    match (width::seconds(window), ago_s) {
        (None, 0) => None,
        (Some(seconds), 0) => Some(Width { seconds, name: window.to_owned() }),
        (seconds, ago_s) => {
            let seconds = seconds.unwrap_or_default() + ago_s.unsigned_abs();
            Some(Width { seconds, name: width::named(seconds) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_read_from_names() {
        let check = |input: &str, expect: &[&str]| {
            let names: Vec<String> = of(input).into_iter().map(|width| width.name).collect();
            assert_eq!(names, expect, "{input}");
        };
        check("temperature_mean_10m", &["10m"]);
        check("temperature_mean_7d - temperature_last", &["7d"]);
        check("soil_moisture_min_30m - soil_moisture_mean_24h", &["30m", "24h"]);
        check("temperature_last", &[]);
        check("hour_sin", &[]);
        check("vpd_kpa", &[]);
        check("drying_hours_to_critical", &[]);
        check("linear_hours_to_critical", &["1h", "24h"]);
        check("temperature_mean_6h - temperature_now", &["6h"]);
        check("temperature_now", &[]);
        check("temperature_mean_1m", &["1m"]);
        check("temperature_mean_1h 23h ago - temperature_now", &["24h"]);
        check("temperature_last 24h ago", &["24h"]);
    }
}
