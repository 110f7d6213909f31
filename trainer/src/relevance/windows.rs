use crate::{
    duration_name,
    input::{InputExpression, PresentMetric},
    lag_columns::parse_lag_column,
};

/// Window of an input, from the end of a feature's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InputWindow {
    /// Length, seconds.
    pub(super) seconds: u64,
    /// Name, as in `10m` or `7d`.
    pub(super) name: String,
}

/// Windows that an input needs, without repetition, shortest first; none for latest values, the
/// time of the day and the like.
pub(super) fn input_windows(input: &str) -> Vec<InputWindow> {
    let mut widths = collect_windows(&InputExpression::parse(input));
    widths.sort();
    widths.dedup();
    widths
}

fn collect_windows(input: &InputExpression) -> Vec<InputWindow> {
    // A present value may be the mean of a minute, which does not count as history.
    let present = [PresentMetric::Temperature, PresentMetric::SoilMoisture]
        .map(PresentMetric::source_columns)
        .concat();
    match input {
        InputExpression::Column(name) => column_window(name).into_iter().collect(),
        InputExpression::Difference(left, right) => {
            [collect_windows(left), collect_windows(right)].concat()
        }
        other => {
            let columns = other.source_columns().into_iter().filter(|name| !present.contains(name));
            columns.filter_map(column_window).collect()
        }
    }
}

/// Window of a column, including the time for which it is lagged.
fn column_window(column: &str) -> Option<InputWindow> {
    let (column, ago_s) = parse_lag_column(column);
    let window = column.rsplit('_').next()?;
    match (duration_name::parse_seconds(window), ago_s) {
        (None, 0) => None,
        (Some(seconds), 0) => Some(InputWindow { seconds, name: window.to_owned() }),
        (window_s, ago_s) => {
            let seconds = window_s.unwrap_or_default() + ago_s.unsigned_abs();
            Some(InputWindow { seconds, name: duration_name::format_seconds(seconds) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_read_from_names() {
        let check = |input: &str, expect: &[&str]| {
            let names: Vec<String> =
                input_windows(input).into_iter().map(|width| width.name).collect();
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
