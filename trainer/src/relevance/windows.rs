use crate::input::{Input, Metric};

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

fn width(column: &str) -> Option<Width> {
    let name = column.rsplit('_').next()?;
    let (count, unit) = name.split_at_checked(name.len().checked_sub(1)?)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = count.parse::<u64>().ok()? * unit_s;
    Some(Width { seconds, name: name.to_owned() })
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
    }
}
