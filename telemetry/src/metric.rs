//! The table of known quantities, their units and plausible ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A named quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// The unit that values are in, as people write it.
    pub unit: SmolStr,
    /// Smallest plausible value, in `unit`.
    pub min: f64,
    /// Largest plausible value, in `unit`.
    pub max: f64,
    /// The step between values that sensors can tell apart, in `unit`, above 0,
    /// at least a 20,000th of its range: quantiles are exact to it. Without one
    /// they are exact to 0.5 % of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<f64>,
}

impl Metric {
    /// Whether a finite value is plausible; both ends are.
    #[must_use]
    pub fn is_plausible(&self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

/// Steps of a metric's resolution between its ends at most.
const STEPS_MAX: f64 = 20_000.0;

/// The metrics that a site knows, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetricTable(BTreeMap<SmolStr, Metric>);

impl Default for MetricTable {
    /// The built-in table.
    fn default() -> Self {
        toml::from_str(include_str!("metrics.toml")).expect("the built-in table is well-formed")
    }
}

impl MetricTable {
    /// The built-in table with a site's own metrics added, or in place of the
    /// built-in ones of the same name.
    ///
    /// # Errors
    /// Names every metric whose range is empty or not finite, or whose resolution
    /// is not one.
    pub fn extended(own: impl IntoIterator<Item = (SmolStr, Metric)>) -> Result<Self, String> {
        let mut table = Self::default();
        let mut wrong = Vec::new();
        for (name, metric) in own {
            if !(metric.min.is_finite() && metric.max.is_finite() && metric.min < metric.max) {
                wrong.push(format!(
                    "metrics.{name}: min {} must be below max {}, both finite",
                    metric.min, metric.max
                ));
            }
            let coarsest = metric.max - metric.min;
            if let Some(step) = metric.resolution
                && !(step > 0.0 && step <= coarsest && coarsest / step <= STEPS_MAX)
            {
                wrong.push(format!(
                    "metrics.{name}: resolution {step} must be above 0, and at most {STEPS_MAX} of it \
                     from min to max"
                ));
            }
            table.0.insert(name, metric);
        }
        if wrong.is_empty() { Ok(table) } else { Err(wrong.join("; ")) }
    }

    /// The metric of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.0.get(name)
    }

    /// Names and metrics in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&SmolStr, &Metric)> {
        self.0.iter()
    }
}
