//! The table of known quantities, their units and plausible ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A named quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
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

impl MetricSpec {
    /// Whether a finite value is plausible; both ends are.
    #[must_use]
    pub fn is_plausible(&self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

/// Whether a metric is a direction, which comes round to where it began: its values have no
/// arithmetic mean (350° and 10° would be south), so that it has none of the windows of other
/// metrics.
#[must_use]
pub fn is_circular(metric: &str) -> bool {
    metric == "wind_direction"
}

/// Names at least so alike (Jaro-Winkler) are proposed for one another.
const LIKENESS_MIN: f64 = 0.75;

/// Whether two names differ in case, and in spaces or hyphens for underscores, only.
fn is_alike(a: &str, b: &str) -> bool {
    let plain = |byte: u8| match byte {
        b' ' | b'-' => b'_',
        other => other.to_ascii_lowercase(),
    };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| plain(a) == plain(b))
}

/// Steps of a metric's resolution between its ends at most.
const STEPS_MAX: f64 = 20_000.0;

/// The metrics that a site knows, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetricTable(BTreeMap<SmolStr, MetricSpec>);

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
    pub fn with_site_metrics(
        own: impl IntoIterator<Item = (SmolStr, MetricSpec)>,
    ) -> Result<Self, String> {
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
    pub fn get(&self, name: &str) -> Option<&MetricSpec> {
        self.0.get(name)
    }

    /// The metric that a sender means by a name, with the table's own name for
    /// it: the very name, else the only one that differs in case and in spaces or
    /// hyphens for underscores.
    ///
    /// ```
    /// let metrics = microclimate_telemetry::MetricTable::default();
    /// let (name, _) = metrics.resolve("Soil Moisture").unwrap();
    /// assert_eq!(name, "soil_moisture");
    /// assert!(metrics.resolve("warmth").is_none());
    /// ```
    #[must_use]
    pub fn resolve_name(&self, name: &str) -> Option<(&SmolStr, &MetricSpec)> {
        if let Some(found) = self.0.get_key_value(name) {
            return Some(found);
        }
        let mut alike = self.0.iter().filter(|(own, _)| is_alike(own, name));
        alike.next().filter(|_| alike.next().is_none())
    }

    /// Says that a name is of no metric, what may have been meant, and what to do.
    #[must_use]
    pub fn explain_unknown(&self, name: &str) -> String {
        let name: String =
            name.chars().filter(|c| !c.is_control()).take(crate::topic::MAX_LEVEL_BYTES).collect();
        let plain = name.to_lowercase();
        let likeness = |own: &SmolStr| strsim::jaro_winkler(own, &plain);
        let nearest = self
            .0
            .keys()
            .filter(|own| likeness(own) >= LIKENESS_MIN)
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let nearest = nearest.map(|own| format!("did you mean `{own}`? ")).unwrap_or_default();
        let known: Vec<&str> = self.0.keys().map(SmolStr::as_str).collect();
        format!(
            "metric `{name}` is not known; {nearest}add [metrics.{name}] or use one of {}",
            known.join(", ")
        )
    }

    /// Names and metrics in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&SmolStr, &MetricSpec)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_metrics_of_the_table() {
        let table = MetricTable::default();
        let circular: Vec<_> = table.iter().filter(|(name, _)| is_circular(name)).collect();
        let [(_, direction)] = &circular[..] else { panic!("{circular:?}") };
        assert_eq!((direction.min, direction.max, &*direction.unit), (0.0, 360.0, "°"));
    }

    #[test]
    fn names_that_are_meant_and_names_that_are_not_known() {
        let own = MetricSpec { unit: "dS/m".into(), min: 0.0, max: 20.0, resolution: None };
        let twice = [("Soil EC", own.clone()), ("soil-ec", own)];
        let table =
            MetricTable::with_site_metrics(twice.map(|(name, own)| (name.into(), own))).unwrap();
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(table.resolve_name(name).map(|(name, _)| name.as_str()), expect, "{name}");
        };
        check("temperature", Some("temperature"));
        check("Temperature", Some("temperature"));
        check("SOIL_MOISTURE", Some("soil_moisture"));
        check("soil-moisture", Some("soil_moisture"));
        check("Soil EC", Some("Soil EC"));
        check("soil_ec", None);
        check("temperature ", None);
        check("warmth", None);
        assert!(table.explain_unknown("temprature").contains("did you mean `temperature`?"));
        let unlike = table.explain_unknown("xyz");
        assert!(unlike.contains("[metrics.xyz]") && !unlike.contains("did you mean"), "{unlike}");
    }
}
