use std::collections::HashSet;

use telemetry::SmolStr;

use super::{Aggregate, FeatureDefinitions, JoinDefinition};
use crate::settings::WindowDuration;

/// The metric whose drying there are features of.
const DRYING_METRIC: &str = "soil_moisture";

/// A feature that definitions make, and what of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinedFeature {
    /// Its name, which is that of its column.
    pub name: SmolStr,
    /// What it is.
    pub origin: FeatureOrigin,
}

/// What a feature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureOrigin {
    /// The newest value of a metric.
    Newest {
        /// Which metric.
        metric: SmolStr,
    },
    /// How old that value is.
    Age {
        /// Of which metric.
        metric: SmolStr,
    },
    /// An aggregate of the readings of a window.
    Window {
        /// Of which metric, measured or derived.
        metric: SmolStr,
        /// What is computed.
        aggregate: Aggregate,
        /// Of which window.
        window: WindowDuration,
    },
    /// Of the clock: a name of [`agronomy::calendar::Calendar::NAMES`].
    Calendar(SmolStr),
    /// Of the driest soil: a name of [`agronomy::drying::Trend::NAMES`].
    Drying(SmolStr),
    /// Of other features: the name of a join.
    Join(SmolStr),
}

impl FeatureDefinitions {
    /// The features of a zone that measures these metrics: of the clock, of each metric
    /// and of those derived of it, of drying soil, and those joins that it has inputs for.
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
            let own = SmolStr::from(metric);
            add(format!("{metric}_last"), FeatureOrigin::Newest { metric: own.clone() });
            add(format!("{metric}_age_s"), FeatureOrigin::Age { metric: own.clone() });
            let derived = self.derived_from(metric).map(|(name, _)| name);
            for metric in std::iter::once(&own).chain(derived) {
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
        let mut names: HashSet<SmolStr> = features.iter().map(|own| own.name.clone()).collect();
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
    /// The metric that it is of, measured or derived; none of the clock, of drying soil and
    /// of joins.
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
    /// The features that it is computed of.
    #[must_use]
    pub fn inputs(&self) -> &[SmolStr] {
        match self {
            Self::Formula { inputs, .. } | Self::Sql { inputs, .. } => inputs,
        }
    }

    /// Whether it can have a value where there are these features: a formula needs all
    /// of its inputs, SQL can do without some.
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
        let has = |names: &[SmolStr], name: &str| names.iter().any(|own| own == name);
        assert!(has(&dry, "temperature_last") && has(&dry, "temperature_mean_24h"));
        assert!(has(&dry, "heating_degrees_integral_24h") && has(&dry, "hour_sin"));
        assert!(!has(&dry, "vpd_kpa") && !has(&dry, "drying_slope_pct_h"));
        let wet = names(&["temperature", "humidity", "soil_moisture"]);
        assert!(has(&wet, "vpd_kpa") && has(&wet, "drying_slope_pct_h"));
        let unique: HashSet<_> = wet.iter().collect();
        assert_eq!(unique.len(), wet.len());
    }
}
