//! The units of inputs, from their names.

use telemetry::MetricTable;

/// The unit of each input, in order; empty where its name tells none.
#[must_use]
pub(crate) fn input_units(inputs: &[String]) -> Vec<String> {
    let metrics = MetricTable::default();
    inputs.iter().map(|name| unit_of_input(&metrics, name)).collect()
}

fn unit_of_input(metrics: &MetricTable, name: &str) -> String {
    // A difference is in the unit of what it is taken from.
    let name = name.split_once(" - ").map_or(name, |(left, _)| left);
    let metric = metrics
        .iter()
        .filter(|(metric, _)| {
            name.strip_prefix(metric.as_str()).is_some_and(|r| r.starts_with('_'))
        })
        .max_by_key(|(metric, _)| metric.len());
    let Some((metric, facts)) = metric else {
        let known = [
            ("_kpa", "kPa"),
            ("_pct", "%"),
            ("_hours", "h"),
            ("_h", "h"),
            ("_s", "s"),
            ("_mm", "mm"),
            ("hours_to_critical", "h"),
            ("degree_minutes_as_now", "°C·min"),
        ];
        let found = known.into_iter().find(|(ending, _)| name.ends_with(ending));
        return found.map_or(String::new(), |(_, unit)| unit.to_owned());
    };
    let unit = facts.unit.to_string();
    let rest = &name[metric.len() + 1..];
    match rest.split('_').next().unwrap_or_default() {
        "age" | "gap" => "s".to_owned(),
        "coverage" => "%".to_owned(),
        "count" => String::new(),
        "slope" => format!("{unit}/h"),
        "integral" => format!("{unit}·h"),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let check = |name: &str, expect: &str| {
            assert_eq!(unit_of_input(&MetricTable::default(), name), expect, "{name}");
        };
        check("temperature_mean_1h", "°C");
        check("temperature_slope_10m", "°C/h");
        check("soil_temperature_last - temperature_last", "°C");
        check("soil_moisture_coverage_24h", "%");
        check("light_age_s", "s");
        check("light_count_1h", "");
        check("vpd_kpa", "kPa");
        check("hour_sin", "");
        check("linear_hours_to_critical", "h");
    }
}
