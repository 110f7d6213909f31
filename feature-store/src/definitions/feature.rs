use std::collections::HashSet;

use telemetry::SmolStr;

use super::{Aggregate, Definitions, Join};
use crate::settings::Window;

/// The metric whose drying there are features of.
const DRYING_METRIC: &str = "soil_moisture";

/// A feature that definitions make, and what of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, which is that of its column.
    pub name: SmolStr,
    /// What it is.
    pub origin: Origin,
}

/// What a feature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
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
        window: Window,
    },
    /// Of the clock: a name of [`agronomy::calendar::Calendar::NAMES`].
    Calendar(SmolStr),
    /// Of the driest soil: a name of [`agronomy::drying::Trend::NAMES`].
    Drying(SmolStr),
    /// Of other features: the name of a join.
    Join(SmolStr),
}

impl Definitions {
    /// The features of a zone that measures these metrics: of the clock, of each metric
    /// and of those derived of it, of drying soil, and those joins that it has inputs for.
    #[must_use]
    pub fn features<'a>(&self, metrics: impl IntoIterator<Item = &'a str>) -> Vec<Feature> {
        let mut features = Vec::new();
        let mut add = |name: String, origin| features.push(Feature { name: name.into(), origin });
        for name in &self.calendar {
            add(name.to_string(), Origin::Calendar(name.clone()));
        }
        let mut dries = false;
        for metric in metrics {
            dries |= metric == DRYING_METRIC;
            let own = SmolStr::from(metric);
            add(format!("{metric}_last"), Origin::Newest { metric: own.clone() });
            add(format!("{metric}_age_s"), Origin::Age { metric: own.clone() });
            let derived = self.derived_from(metric).map(|(name, _)| name);
            for metric in std::iter::once(&own).chain(derived) {
                for (window, aggregates) in self.windows_of(metric) {
                    for aggregate in aggregates {
                        let name = format!("{metric}_{aggregate}_{window}");
                        add(name, Origin::Window { metric: metric.clone(), aggregate, window });
                    }
                }
            }
        }
        for name in self.drying.iter().filter(|_| dries) {
            add(format!("drying_{name}"), Origin::Drying(name.clone()));
        }
        let mut names: HashSet<SmolStr> = features.iter().map(|own| own.name.clone()).collect();
        for name in &self.join_order {
            let join = self.joins.get(name);
            if join.is_some_and(|join| join.is_there(|input| names.contains(input))) {
                names.insert(name.clone());
                features.push(Feature { name: name.clone(), origin: Origin::Join(name.clone()) });
            }
        }
        features
    }
}

impl Feature {
    /// The metric that it is of, measured or derived; none of the clock, of drying soil and
    /// of joins.
    #[must_use]
    pub fn metric(&self) -> Option<&SmolStr> {
        match &self.origin {
            Origin::Newest { metric } | Origin::Age { metric } | Origin::Window { metric, .. } => {
                Some(metric)
            }
            Origin::Calendar(_) | Origin::Drying(_) | Origin::Join(_) => None,
        }
    }
}

impl Join {
    /// The features that it is computed of.
    #[must_use]
    pub fn inputs(&self) -> &[SmolStr] {
        match self {
            Self::Formula { inputs, .. } | Self::Sql { inputs, .. } => inputs,
        }
    }

    /// Whether it can have a value where there are these features: a formula needs all
    /// of its inputs, SQL can do without some.
    fn is_there(&self, has: impl Fn(&SmolStr) -> bool) -> bool {
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
        let features = Definitions::built_in().features(metrics.iter().copied());
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
