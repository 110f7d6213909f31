use serde::Serialize;
use telemetry::{MetricTable, SmolStr};
use utoipa::ToSchema;

use super::{
    Aggregate, DaylightFilter, DefinedFeature, DerivedMetric, FeatureDefinitions, FeatureOrigin,
    JoinDefinition,
};

/// Lineage of a feature: its inputs, and how it is computed from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FeatureLineage {
    /// Name of the feature.
    #[schema(value_type = String, example = "temperature_slope_1h")]
    pub feature: SmolStr,
    /// Metric of the feature, measured or derived.
    #[schema(value_type = Option<String>, example = "temperature")]
    pub metric: Option<SmolStr>,
    /// Width of the window, as in `24h`.
    #[schema(value_type = Option<String>, example = "1h")]
    pub window: Option<SmolStr>,
    /// Aggregate over the window.
    #[schema(value_type = Option<String>, example = "slope")]
    pub aggregate: Option<Aggregate>,
    /// Formula over the inputs.
    pub formula: String,
    /// Condition for readings that count; null if all count.
    pub filter: Option<String>,
    /// Source of the formula.
    #[schema(value_type = Option<String>)]
    pub source: Option<SmolStr>,
    /// Unit of the values; null if it is not known.
    #[schema(value_type = Option<String>, example = "°C/h")]
    pub unit: Option<SmolStr>,
    /// Metric or features from which it is computed.
    #[schema(value_type = Vec<String>)]
    pub inputs: Vec<SmolStr>,
}

/// Returns the lineage of the named features, in the order of the names; unknown names are
/// skipped. Without names, returns the lineage of all features of a zone that has every known
/// metric.
#[must_use]
pub fn trace_lineage(
    definitions: &FeatureDefinitions,
    metrics: &MetricTable,
    names: &[&str],
) -> Vec<FeatureLineage> {
    let features = definitions.features_for_metrics(metrics.iter().map(|(name, _)| name.as_str()));
    let to_lineage =
        |feature: &DefinedFeature| FeatureLineage::from_feature(definitions, metrics, feature);
    if names.is_empty() {
        return features.iter().map(to_lineage).collect();
    }
    let find = |name: &&str| features.iter().find(|feature| feature.name == *name);
    names.iter().filter_map(find).map(to_lineage).collect()
}

impl FeatureLineage {
    fn from_feature(
        definitions: &FeatureDefinitions,
        metrics: &MetricTable,
        feature: &DefinedFeature,
    ) -> Self {
        let mut lineage = Self {
            feature: feature.name.clone(),
            metric: feature.metric().cloned(),
            window: None,
            aggregate: None,
            formula: String::new(),
            filter: None,
            source: None,
            unit: None,
            inputs: Vec::new(),
        };
        match &feature.origin {
            FeatureOrigin::Newest { metric } => {
                lineage.formula = format!("newest {metric}");
                lineage.fill_from_metric(definitions, metrics, metric);
            }
            FeatureOrigin::Age { metric } => {
                lineage.formula = format!("time since the newest {metric}");
                lineage.fill_from_metric(definitions, metrics, metric);
                lineage.unit = Some("s".into());
            }
            FeatureOrigin::Window { metric, aggregate, window } => {
                let value = lineage.fill_from_metric(definitions, metrics, metric);
                lineage.formula = format!("{aggregate} of {value} over (t − {window}, t]");
                lineage.window = Some(window.to_string().into());
                lineage.aggregate = Some(*aggregate);
                lineage.source = aggregate.source().map(SmolStr::new_static);
                lineage.unit = aggregate.unit(lineage.unit.as_deref());
            }
            FeatureOrigin::Calendar(name) => {
                lineage.formula = format!("{name} of the site's clock");
                lineage.source = Some(CALENDAR_SOURCE.into());
                lineage.unit = Some(unit_from_name(name));
            }
            FeatureOrigin::Drying(name) => {
                lineage.formula = format!("{name} of the drying trend of the driest probe");
                lineage.source = Some(DRYING_SOURCE.into());
                lineage.unit = Some(unit_from_name(name));
                lineage.inputs = vec!["soil_moisture".into(), "irrigation".into()];
            }
            FeatureOrigin::Join(name) => {
                lineage.fill_from_join(definitions, metrics, &definitions.joins[name]);
            }
        }
        lineage
    }

    /// Fills in what all features of a metric have in common. Returns the text for the value of a
    /// reading.
    fn fill_from_metric(
        &mut self,
        definitions: &FeatureDefinitions,
        metrics: &MetricTable,
        metric: &SmolStr,
    ) -> String {
        let derived = definitions.derived.get(metric);
        let measured = derived.map_or(metric, |derived| &derived.from);
        let metric_filter =
            definitions.metrics.get(measured).and_then(|metric| metric.filter.as_ref());
        let filters: Vec<String> = metric_filter
            .into_iter()
            .cloned()
            .chain(derived.into_iter().flat_map(describe_filters))
            .collect();
        self.filter = (!filters.is_empty()).then(|| filters.join("; "));
        let unit = metrics.get(measured).map(|metric| metric.unit.clone());
        self.unit = derived.and_then(|derived| derived.unit.clone()).or(unit);
        self.inputs = vec![measured.clone()];
        derived.map_or_else(|| metric.to_string(), DerivedMetric::formula_text)
    }

    fn fill_from_join(
        &mut self,
        definitions: &FeatureDefinitions,
        metrics: &MetricTable,
        join: &JoinDefinition,
    ) {
        self.inputs = join.inputs().to_vec();
        match join {
            JoinDefinition::Formula { formula, inputs } => {
                self.formula = format!("{}({})", formula.as_str(), inputs.join(", "));
                self.source = Some(formula.source().into());
                let first_input_unit = || {
                    let input = inputs.first()?;
                    trace_lineage(definitions, metrics, &[input]).pop()?.unit
                };
                self.unit = formula.unit().map(SmolStr::new_static).or_else(first_input_unit);
            }
            JoinDefinition::Sql { value, unit, .. } => {
                self.formula.clone_from(value);
                self.source = Some("SQL of the definitions, run by DuckDB".into());
                self.unit.clone_from(unit);
            }
        }
    }
}

const CALENDAR_SOURCE: &str =
    "IANA time zone database; sun by the NOAA Solar Calculator (J. Meeus, 1991)";
const DRYING_SOURCE: &str = "agronomy::drying: least squares since the last watering, FAO 56 terms";

impl DerivedMetric {
    /// Describes how a reading is derived.
    #[must_use]
    pub fn formula_text(&self) -> String {
        match (&self.value, self.below, self.above) {
            (Some(value), ..) => format!("{value} [value = {}]", self.from),
            (_, Some(below), _) => format!("max(0, {below} − {})", self.from),
            (.., Some(above)) => format!("max(0, {} − {above})", self.from),
            _ => self.from.to_string(),
        }
    }
}

fn describe_filters(derived: &DerivedMetric) -> impl Iterator<Item = String> {
    let when = derived.when.map(|when| match when {
        DaylightFilter::Day => "the sun is up".to_owned(),
        DaylightFilter::Night => "the sun is down".to_owned(),
    });
    when.into_iter().chain(derived.filter.clone())
}

/// Derives the unit from the name, as in `since_watering_h`.
fn unit_from_name(name: &str) -> SmolStr {
    const ENDS: [(&str, &str); 5] =
        [("_pct_min", "%/min"), ("_pct_h", "%/h"), ("_pct", "%"), ("_min", "min"), ("_h", "h")];
    let end = ENDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, unit)| *unit);
    SmolStr::new_static(if name.starts_with("hours_") { "h" } else { end.unwrap_or("1") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::AnyExpression;

    fn check(text: &str, feature: &str, expect: [&str; 4]) {
        let metrics = MetricTable::default();
        let read = FeatureDefinitions::parse(
            "t",
            &format!("version = 1\n{text}"),
            &metrics,
            &mut AnyExpression,
        )
        .unwrap();
        let [found] = &trace_lineage(&read, &metrics, &[feature])[..] else {
            panic!("no {feature}")
        };
        let found = [
            found.formula.clone(),
            found.filter.clone().unwrap_or_default(),
            found.unit.clone().unwrap_or_default().to_string(),
            found.inputs.join(" "),
        ];
        assert_eq!(found, expect, "{feature}");
    }

    #[test]
    fn a_feature_says_what_it_is_made_of() {
        let text = "
            calendar = ['is_day']
            drying = ['response_pct_min', 'hours_to_critical_low']
            windows.1h = ['mean', 'slope', 'coverage']
            metrics.co2.where = 'value > 0'
            [derived.light_day]
            from = 'light'
            when = 'day'
            where = 'value < 1e5'
            windows.24h = ['integral']
            [derived.chill]
            from = 'temperature'
            below = 18.5
            windows.1h = ['integral']
            [joins.rise]
            formula = 'difference'
            inputs = ['temperature_slope_1h', 'outdoor_temperature_slope_1h']
            [joins.twice]
            value = '2 * rise'
            unit = '°C/h'";
        let over = |what: &str, w: &str| format!("{what} over (t − {w}, t]");
        check(text, "co2_mean_1h", [&over("mean of co2", "1h"), "value > 0", "ppm", "co2"]);
        check(text, "co2_coverage_1h", [&over("coverage of co2", "1h"), "value > 0", "%", "co2"]);
        check(
            text,
            "temperature_age_s",
            ["time since the newest temperature", "", "s", "temperature"],
        );
        let night = "the sun is up; value < 1e5";
        check(
            text,
            "light_day_integral_24h",
            [&over("integral of light", "24h"), night, "lux·h", "light"],
        );
        let chill = over("integral of max(0, 18.5 − temperature)", "1h");
        check(text, "chill_integral_1h", [&chill, "", "°C·h", "temperature"]);
        let inputs = "temperature_slope_1h outdoor_temperature_slope_1h";
        let rise = "difference(temperature_slope_1h, outdoor_temperature_slope_1h)";
        check(text, "rise", [rise, "", "°C/h", inputs]);
        check(text, "twice", ["2 * rise", "", "°C/h", "rise"]);
        check(text, "is_day", ["is_day of the site's clock", "", "1", ""]);
        let probe = "of the drying trend of the driest probe";
        let soil = "soil_moisture irrigation";
        check(
            text,
            "drying_response_pct_min",
            [&format!("response_pct_min {probe}"), "", "%/min", soil],
        );
        check(
            text,
            "drying_hours_to_critical_low",
            [&format!("hours_to_critical_low {probe}"), "", "h", soil],
        );
    }

    #[test]
    fn every_built_in_feature_has_a_formula_and_a_unit() {
        for lineage in trace_lineage(&FeatureDefinitions::built_in(), &MetricTable::default(), &[])
        {
            assert!(!lineage.formula.is_empty() && lineage.unit.is_some(), "{lineage:?}");
        }
    }
}
