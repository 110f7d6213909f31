//! What is computed of every zone's readings: `features.toml`.
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

/// Of the form of the file.
const FORMAT_VERSION: u32 = 1;
/// Changes when the program computes something else by the same name.
const ENGINE_VERSION: u32 = 2;

/// A window's width, with what is computed of it.
pub type WindowAggregates = BTreeMap<WindowDuration, Vec<Aggregate>>;

/// What is computed of every zone's readings, checked: made by [`FeatureDefinitions::parse`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FeatureDefinitions {
    /// Of the form of the file.
    pub version: u32,
    /// What features are about.
    pub entity: FeatureEntity,
    /// Windows of every metric.
    pub windows: WindowAggregates,
    /// What is different for single metrics.
    pub metrics: BTreeMap<SmolStr, MetricDefinition>,
    /// Readings made of readings.
    pub derived: BTreeMap<SmolStr, DerivedMetric>,
    /// Which features of the clock there are: names of [`agronomy::calendar::Calendar::NAMES`].
    pub calendar: Vec<SmolStr>,
    /// Which features of the zone's driest soil there are, as `drying_<name>`: names of
    /// [`agronomy::drying::Trend::NAMES`].
    pub drying: Vec<SmolStr>,
    /// Features made of features.
    pub joins: BTreeMap<SmolStr, JoinDefinition>,
    /// Their names, each behind those of the joins that it is made of.
    #[serde(skip)]
    pub join_order: Vec<SmolStr>,
}

/// What features are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureEntity {
    /// A zone of a site: one row for each and for each time.
    #[default]
    Zone,
}

/// What is different for one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricDefinition {
    /// Whether it has the windows of every metric.
    pub inherit: bool,
    /// Windows that are different; without aggregates: that are not there.
    pub windows: WindowAggregates,
    /// SQL over a reading; where it is not true, the reading enters no feature.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// A metric made, reading by reading, of another. At most one of `value`, `below`,
/// `above` says how; without any it is the value itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DerivedMetric {
    /// The metric that it is made of.
    pub from: SmolStr,
    /// Only by day, or only by night; needs the site's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<DaylightFilter>,
    /// SQL over a reading; only readings for which it is true.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// SQL over a reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// max(0, below − value).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// max(0, value − above).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Where it is another than that of the metric it is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<SmolStr>,
    /// The windows that it has; it inherits none.
    pub windows: WindowAggregates,
}

/// Sun up, or sun down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DaylightFilter {
    /// From sunrise to sunset.
    Day,
    /// From sunset to sunrise.
    Night,
}

/// A feature made of others of the same row: by a formula of the program, or by SQL.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum JoinDefinition {
    /// By a formula of the program.
    Formula {
        /// Which one.
        formula: JoinFormula,
        /// The features that it is computed of, in the formula's order; joins by formula too.
        inputs: Vec<SmolStr>,
    },
    /// By SQL over the names of features, joins too.
    Sql {
        /// The expression.
        value: String,
        /// What its values are in.
        #[serde(skip_serializing_if = "Option::is_none")]
        unit: Option<SmolStr>,
        /// The features that it names, in the order of names.
        inputs: Vec<SmolStr>,
    },
}

impl FeatureDefinitions {
    /// The windows of a metric, derived ones too, narrowest first. A direction has those only
    /// that the file gives to it alone: an angle has no arithmetic mean.
    #[must_use]
    pub fn windows_of(&self, metric: &str) -> Vec<(WindowDuration, Vec<Aggregate>)> {
        if let Some(derived) = self.derived.get(metric) {
            return derived.windows.clone().into_iter().collect();
        }
        let own = self.metrics.get(metric);
        let mut windows = match own {
            Some(own) if !own.inherit => WindowAggregates::new(),
            _ if is_circular(metric) => WindowAggregates::new(),
            _ => self.windows.clone(),
        };
        windows.extend(own.map(|own| own.windows.clone()).unwrap_or_default());
        windows.retain(|_, aggregates| !aggregates.is_empty());
        windows.into_iter().collect()
    }

    /// The metrics that are made of this one, by name.
    pub fn derived_from(&self, metric: &str) -> impl Iterator<Item = (&SmolStr, &DerivedMetric)> {
        self.derived.iter().filter(move |(_, derived)| derived.from == metric)
    }

    /// The widest window of all, ms.
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

    /// SHA-256 over what is defined and how this program computes it, hexadecimal:
    /// equal for files that differ in comments and order only.
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
