//! Feature definitions: the contents of `features.toml`.
//!
//! # Layout
//! - `features.toml`: the built-in definitions
//! - `aggregate`: what there is to compute of a window
//! - `formula`: what there is to compute of several features
//! - `read`: a file → [`Definitions`], or all of its mistakes
//! - `identifiers`: the names and functions in an SQL expression
//! - `feature`: which features a zone has by them
//! - `lineage`: what each feature is made of
//! - `diff`: what two definitions differ in

mod aggregate;
mod diagnostic;
mod diff;
mod feature;
mod formula;
pub(crate) mod identifiers;
mod lineage;
mod read;

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};
use telemetry::{SmolStr, metric::is_circular};

pub use aggregate::Aggregate;
pub use diagnostic::{DefinitionDiagnostic, DefinitionsError};
pub use diagnostic::{find_nearest_name, suggest_name};
pub use diff::{DefinitionsDiff, FeatureChange, diff_definitions};
pub use feature::{DefinedFeature, FeatureOrigin};
pub use formula::{FormulaContext, JoinFormula};
pub use lineage::{FeatureLineage, trace_lineage};

use crate::settings::WindowDuration;

/// The built-in definitions, as a file.
pub const BUILT_IN: &str = include_str!("features.toml");

/// Version of the file format.
const FORMAT_VERSION: u32 = 1;
/// Version of the computation. Changes when the program computes something else by the same name.
const ENGINE_VERSION: u32 = 2;

/// Aggregates by window width.
pub type WindowAggregates = BTreeMap<WindowDuration, Vec<Aggregate>>;

/// What is computed of every zone's readings, checked: made by [`FeatureDefinitions::parse`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FeatureDefinitions {
    /// Version of the file format.
    pub version: u32,
    /// Entity that features are about.
    pub entity: FeatureEntity,
    /// Windows of every metric.
    pub windows: WindowAggregates,
    /// Exceptions for single metrics.
    pub metrics: BTreeMap<SmolStr, MetricDefinition>,
    /// Derived metrics by name.
    pub derived: BTreeMap<SmolStr, DerivedMetric>,
    /// Calendar features: names of [`agronomy::calendar::CalendarFeatures::NAMES`].
    pub calendar: Vec<SmolStr>,
    /// Features of the zone's driest soil, as `drying_<name>`: names of
    /// [`agronomy::drying::DryingTrend::NAMES`].
    pub drying: Vec<SmolStr>,
    /// Joins by name.
    pub joins: BTreeMap<SmolStr, JoinDefinition>,
    /// Names of the joins, each after the joins that it depends on.
    #[serde(skip)]
    pub join_order: Vec<SmolStr>,
}

/// Entity that features are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureEntity {
    /// A zone of a site: one row for each zone and time.
    #[default]
    Zone,
}

/// Exceptions for one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricDefinition {
    /// Whether it has the windows of every metric.
    pub inherit: bool,
    /// Windows that differ; an empty list removes the window.
    pub windows: WindowAggregates,
    /// SQL over a reading; a reading for which it is not true enters no feature.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// A metric that is computed from each reading of another one. At most one of `value`, `below`
/// and `above` states how; without any, the value stays the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DerivedMetric {
    /// Metric from which it is derived.
    pub from: SmolStr,
    /// Only readings by day, or only by night; needs the site's location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<DaylightFilter>,
    /// SQL over a reading; only readings for which it is true count.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// SQL over a reading: the derived value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Derived value max(0, below − value).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Derived value max(0, value − above).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Unit, if it differs from that of the original metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<SmolStr>,
    /// Windows; none are inherited.
    pub windows: WindowAggregates,
}

/// Part of the day, by the sun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DaylightFilter {
    /// From sunrise to sunset.
    Day,
    /// From sunset to sunrise.
    Night,
}

/// A feature computed from others of the same row, by a built-in formula or by SQL.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum JoinDefinition {
    /// Computed by a built-in formula.
    Formula {
        /// The formula.
        formula: JoinFormula,
        /// Features it is computed from, in the formula's order; joins by formula are allowed.
        inputs: Vec<SmolStr>,
    },
    /// Computed by SQL over the names of features, including joins.
    Sql {
        /// The expression.
        value: String,
        /// Unit of the values.
        #[serde(skip_serializing_if = "Option::is_none")]
        unit: Option<SmolStr>,
        /// Features that it names, sorted by name.
        inputs: Vec<SmolStr>,
    },
}

impl FeatureDefinitions {
    /// Returns the windows of a metric, measured or derived, narrowest first. A direction has
    /// only the windows that the file gives to it explicitly: an angle has no arithmetic mean.
    #[must_use]
    pub fn windows_of(&self, metric: &str) -> Vec<(WindowDuration, Vec<Aggregate>)> {
        if let Some(derived) = self.derived.get(metric) {
            return derived.windows.clone().into_iter().collect();
        }
        let metric_definition = self.metrics.get(metric);
        let mut windows = match metric_definition {
            Some(definition) if !definition.inherit => WindowAggregates::new(),
            _ if is_circular(metric) => WindowAggregates::new(),
            _ => self.windows.clone(),
        };
        windows.extend(
            metric_definition.map(|definition| definition.windows.clone()).unwrap_or_default(),
        );
        windows.retain(|_, aggregates| !aggregates.is_empty());
        windows.into_iter().collect()
    }

    /// Iterates over the metrics that are derived from this one, by name.
    pub fn derived_from(&self, metric: &str) -> impl Iterator<Item = (&SmolStr, &DerivedMetric)> {
        self.derived.iter().filter(move |(_, derived)| derived.from == metric)
    }

    /// Returns the width of the widest window, ms.
    #[must_use]
    pub fn widest_ms(&self) -> i64 {
        let of_metrics = self.metrics.values().map(|metric| &metric.windows);
        let of_derived = self.derived.values().map(|derived| &derived.windows);
        let all = std::iter::once(&self.windows).chain(of_metrics).chain(of_derived);
        all.flat_map(|windows| windows.keys()).map(|window| window.width_ms()).max().unwrap_or(0)
    }

    /// What is defined, as JSON: what [`FeatureDefinitions::compute_hash`] is of, for people to read.
    ///
    /// # Panics
    /// Never: definitions have a JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("definitions have a JSON form")
    }

    /// Returns the SHA-256 over the definitions and the version of the computation, hexadecimal.
    /// It is equal for files that differ only in comments and order.
    #[must_use]
    pub fn compute_hash(&self) -> SmolStr {
        let mut hasher = Sha256::new();
        hasher.update(ENGINE_VERSION.to_le_bytes());
        hasher.update(self.to_json());
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_the_common_windows_and_its_own() {
        let built_in = FeatureDefinitions::built_in();
        let widths = |metric: &str| {
            let windows = built_in.windows_of(metric);
            windows.iter().map(|(window, _)| window.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(widths("co2"), "5m 10m 30m 1h 24h 7d");
        assert_eq!(widths("soil_moisture"), "30m 1h 6h 24h 7d");
        assert_eq!(widths("battery"), "");
        assert_eq!(widths("light_day"), "24h 48h");
        assert_eq!(widths("wind_direction"), "");
        assert_eq!(widths("wind_speed"), "10m 1h 24h 7d");
    }
}
