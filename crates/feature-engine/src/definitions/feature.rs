use std::collections::HashSet;

use telemetry::SmolStr;

use super::{Aggregate, FeatureDefinitions, JoinDefinition};
use crate::settings::WindowDuration;

/// Metric that has drying features.
const DRYING_METRIC: &str = "soil_moisture";

/// A feature of the definitions, and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinedFeature {
    /// Name of the feature and of its column.
    pub name: SmolStr,
    /// Origin of its values.
    pub origin: FeatureOrigin,
}

/// Origin of a feature's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureOrigin {
    /// The newest value of a metric.
    Newest {
        /// Name of the metric.
        metric: SmolStr,
    },
    /// Age of that value.
    Age {
        /// Name of the metric.
        metric: SmolStr,
    },
    /// An aggregate of the readings of a window.
    Window {
        /// Name of the metric, measured or derived.
        metric: SmolStr,
        /// Aggregate that is computed.
        aggregate: Aggregate,
        /// Window that it covers.
        window: WindowDuration,
    },
    /// Calendar feature: a name of [`agronomy::calendar::CalendarFeatures::NAMES`].
    Calendar(SmolStr),
    /// Drying feature of the driest soil: a name of [`agronomy::drying::DryingTrend::NAMES`].
    Drying(SmolStr),
    /// Join of other features: its name.
    Join(SmolStr),
}

impl FeatureDefinitions {
    /// Returns the features of a zone that measures these metrics: calendar features, features of
    /// each metric and its derived metrics, drying features, and the joins whose inputs exist.
    #[must_use]
    pub fn features_for_metrics<'a>(
        &self,
        metrics: impl IntoIterator<Item = &'a str>,
    ) -> Vec<DefinedFeature> {
        let mut features = Vec::new();
        let mut add =
            |name: String, origin| features.push(DefinedFeature { name: name.into(), origin });
        for name in &self.calendar {
            add(name.to_string(), FeatureOrigin::Calendar(name.clone()));
        }
        let mut dries = false;
        for metric in metrics {
            dries |= metric == DRYING_METRIC;
            let measured = SmolStr::from(metric);
            add(format!("{metric}_last"), FeatureOrigin::Newest { metric: measured.clone() });
            add(format!("{metric}_age_s"), FeatureOrigin::Age { metric: measured.clone() });
            let derived = self.derived_from(metric).map(|(name, _)| name);
            for metric in std::iter::once(&measured).chain(derived) {
                for (window, aggregates) in self.windows_of(metric) {
                    for aggregate in aggregates {
                        let name = format!("{metric}_{aggregate}_{window}");
                        add(
                            name,
                            FeatureOrigin::Window { metric: metric.clone(), aggregate, window },
                        );
                    }
                }
            }
        }
        for name in self.drying.iter().filter(|_| dries) {
            add(format!("drying_{name}"), FeatureOrigin::Drying(name.clone()));
        }
        let mut names: HashSet<SmolStr> =
            features.iter().map(|feature| feature.name.clone()).collect();
        for name in &self.join_order {
            let join = self.joins.get(name);
            if join.is_some_and(|join| join.has_required_inputs(|input| names.contains(input))) {
                names.insert(name.clone());
                features.push(DefinedFeature {
                    name: name.clone(),
                    origin: FeatureOrigin::Join(name.clone()),
                });
            }
        }
        features
    }
}

impl DefinedFeature {
    /// Returns the metric, measured or derived; `None` for calendar features, drying features and
    /// joins.
    #[must_use]
    pub fn metric(&self) -> Option<&SmolStr> {
        match &self.origin {
            FeatureOrigin::Newest { metric }
            | FeatureOrigin::Age { metric }
            | FeatureOrigin::Window { metric, .. } => Some(metric),
            FeatureOrigin::Calendar(_) | FeatureOrigin::Drying(_) | FeatureOrigin::Join(_) => None,
        }
    }
}

impl JoinDefinition {
    /// Returns the features that it is computed from.
    #[must_use]
    pub fn inputs(&self) -> &[SmolStr] {
        match self {
            Self::Formula { inputs, .. } | Self::Sql { inputs, .. } => inputs,
        }
    }

    /// Returns whether it can have a value with these features: a formula needs all its inputs,
    /// SQL can do without some.
    fn has_required_inputs(&self, has: impl Fn(&SmolStr) -> bool) -> bool {
        match self {
            Self::Formula { inputs, .. } => inputs.iter().all(has),
            Self::Sql { inputs, .. } => inputs.iter().any(has),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(metrics: &[&str]) -> Vec<SmolStr> {
        let features = FeatureDefinitions::built_in().features_for_metrics(metrics.iter().copied());
        features.into_iter().map(|feature| feature.name).collect()
    }

    #[test]
    fn a_zone_has_the_features_of_its_metrics() {
        let dry = names(&["temperature"]);
        let has = |names: &[SmolStr], name: &str| names.iter().any(|known| known == name);
        assert!(has(&dry, "temperature_last") && has(&dry, "temperature_mean_24h"));
        assert!(has(&dry, "heating_degrees_integral_24h") && has(&dry, "hour_sin"));
        assert!(!has(&dry, "vpd_kpa") && !has(&dry, "drying_slope_pct_h"));
        let wet = names(&["temperature", "humidity", "soil_moisture"]);
        assert!(has(&wet, "vpd_kpa") && has(&wet, "drying_slope_pct_h"));
        let unique: HashSet<_> = wet.iter().collect();
        assert_eq!(unique.len(), wet.len());
    }
}
