//! The table of known quantities, their units and plausible ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A named quantity with a unit and a plausible range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// The unit of its values, as people write it.
    pub unit: SmolStr,
    /// Smallest plausible value, in `unit`.
    pub min: f64,
    /// Largest plausible value, in `unit`.
    pub max: f64,
    /// The smallest step that sensors resolve, in `unit`. It is above 0 and at least a 20,000th
    /// of the range. Quantiles are exact to it; without it they are exact to 0.5 % of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<f64>,
}

impl MetricSpec {
    /// Whether a finite value is plausible. Both ends of the range are.
    #[must_use]
    pub fn is_plausible(&self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

/// Whether a metric is a direction, whose values wrap around. Such values have no arithmetic
/// mean: that of 350° and 10° would be south. The metric therefore has none of the windows of
/// other metrics.
#[must_use]
pub fn is_circular(metric: &str) -> bool {
    metric == "wind_direction"
}

/// Names with at least this Jaro-Winkler similarity are proposed for one another.
const LIKENESS_MIN: f64 = 0.75;

/// Whether two names differ only in case, or in spaces or hyphens in place of underscores.
fn is_alike(a: &str, b: &str) -> bool {
    let plain = |byte: u8| match byte {
        b' ' | b'-' => b'_',
        other => other.to_ascii_lowercase(),
    };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| plain(a) == plain(b))
}

/// Largest number of resolution steps between a metric's minimum and maximum.
const STEPS_MAX: f64 = 20_000.0;

/// The known metrics, by name.
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
    /// Builds the built-in table with a site's own metrics. A metric of the same name replaces
    /// the built-in one.
    ///
    /// # Errors
    /// Lists every metric whose range is empty or not finite, or whose resolution is not valid.
    pub fn with_site_metrics(
        site_metrics: impl IntoIterator<Item = (SmolStr, MetricSpec)>,
    ) -> Result<Self, String> {
        let mut table = Self::default();
        let mut wrong = Vec::new();
        for (name, metric) in site_metrics {
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

    /// Returns the metric with exactly this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&MetricSpec> {
        self.0.get(name)
    }

    /// Finds the metric that a sender means by a name, with the table's own spelling of it. An
    /// exact match wins. Otherwise it is the only metric whose name differs just in case, or in
    /// spaces or hyphens in place of underscores.
    ///
    /// ```
    /// let metrics = microclimate_telemetry::MetricTable::default();
    /// let (name, _) = metrics.resolve_name("Soil Moisture").unwrap();
    /// assert_eq!(name, "soil_moisture");
    /// assert!(metrics.resolve_name("warmth").is_none());
    /// ```
    #[must_use]
    pub fn resolve_name(&self, name: &str) -> Option<(&SmolStr, &MetricSpec)> {
        if let Some(found) = self.0.get_key_value(name) {
            return Some(found);
        }
        let mut alike = self.0.iter().filter(|(known, _)| is_alike(known, name));
        alike.next().filter(|_| alike.next().is_none())
    }

    /// Explains that no metric has this name, which one may have been meant, and what to do.
    #[must_use]
    pub fn explain_unknown(&self, name: &str) -> String {
        let shown_name: String =
            name.chars().filter(|c| !c.is_control()).take(crate::topic::MAX_LEVEL_BYTES).collect();
        let plain = shown_name.to_lowercase();
        let likeness = |known_name: &SmolStr| strsim::jaro_winkler(known_name, &plain);
        let nearest = self
            .0
            .keys()
            .filter(|known_name| likeness(known_name) >= LIKENESS_MIN)
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let suggestion =
            nearest.map(|known_name| format!("did you mean `{known_name}`? ")).unwrap_or_default();
        let known: Vec<&str> = self.0.keys().map(SmolStr::as_str).collect();
        format!(
            "metric `{shown_name}` is not known; {suggestion}add [metrics.{shown_name}] or use one of {}",
            known.join(", ")
        )
    }

    /// Iterates over names and metrics in the order of names.
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
        let spec = MetricSpec { unit: "dS/m".into(), min: 0.0, max: 20.0, resolution: None };
        let twice = [("Soil EC", spec.clone()), ("soil-ec", spec)];
        let table =
            MetricTable::with_site_metrics(twice.map(|(name, spec)| (name.into(), spec))).unwrap();
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
