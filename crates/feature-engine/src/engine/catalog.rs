//! Assignment of features to the columns of a row.

use std::{collections::HashMap, ops::Range, sync::Arc};

use sha2::{Digest, Sha256};
use telemetry::{MetricTable, SmolStr};

use super::{
    MINUTE_MS, calendar_columns::CalendarColumns, drying::DryingFeatures,
    formula_joins::FormulaJoins, quantiles::QuantileBins, sql_prefetch::SqlPrefetch,
};
use crate::definitions::{Aggregate, DerivedMetric, FeatureDefinitions};

/// Column names of a feature row, and their hash.
#[derive(Debug, PartialEq, Eq)]
pub struct FeatureRowSchema {
    /// Column names in the order of the row's values.
    pub names: Vec<SmolStr>,
    /// SHA-256 over the definitions and the names, hexadecimal. It changes with the meaning of a
    /// feature, so that a model refuses features that it was not trained on.
    pub hash: SmolStr,
}

/// Assigns columns to the features of each metric, in the order in which metrics are first seen.
/// A column never moves.
#[derive(Debug)]
pub struct FeatureCatalog {
    definitions: Arc<FeatureDefinitions>,
    metrics: MetricTable,
    interval_ms: i64,
    pub(super) clock: CalendarColumns,
    pub(super) drying: DryingFeatures,
    pub(super) joins: FormulaJoins,
    /// Present if the definitions have SQL over readings.
    pub(super) sql_prefetch: Option<SqlPrefetch>,
    numbers: HashMap<SmolStr, usize>,
    blocks: Vec<MetricColumns>,
    metric_order: Vec<SmolStr>,
    schema: Arc<FeatureRowSchema>,
}

/// The columns of one metric.
#[derive(Clone, Debug)]
pub(super) struct MetricColumns {
    pub(super) columns: Range<usize>,
    /// Whether the first two columns are the newest value and its age.
    pub(super) has_last: bool,
    /// Windows, narrowest first.
    pub(super) windows: Vec<WindowColumns>,
    pub(super) bins: QuantileBins,
    /// Metrics derived from this one, each with the number of its columns.
    pub(super) derived: Vec<(DerivedMetric, usize)>,
}

/// The columns of one window of a metric.
#[derive(Clone, Debug)]
pub(super) struct WindowColumns {
    pub(super) width_ms: i64,
    pub(super) aggregates: Vec<Aggregate>,
    /// Minutes of the window that have a reading when none is missing.
    pub(super) minutes_expected: f64,
    pub(super) has_quantiles: bool,
}

impl MetricColumns {
    pub(super) fn widest_ms(&self) -> i64 {
        self.windows.last().map_or(0, |window| window.width_ms)
    }
}

impl FeatureCatalog {
    /// Creates columns for these metrics, in this order. Readings are expected `interval_ms`
    /// milliseconds apart.
    #[must_use]
    pub fn new(
        definitions: Arc<FeatureDefinitions>,
        table: MetricTable,
        interval_ms: i64,
        metrics: &[SmolStr],
    ) -> Self {
        let mut names = Vec::new();
        let clock = CalendarColumns::new(&definitions.calendar, &mut names);
        let drying = DryingFeatures::new(&definitions.drying, &mut names);
        let joins = FormulaJoins::new(&definitions.joins, &mut names);
        let schema = Arc::new(FeatureRowSchema { hash: SmolStr::default(), names });
        let mut catalog = Self {
            definitions,
            metrics: table,
            interval_ms: interval_ms.max(MINUTE_MS),
            clock,
            drying,
            joins,
            sql_prefetch: None,
            numbers: HashMap::new(),
            blocks: Vec::new(),
            metric_order: Vec::new(),
            schema,
        };
        catalog.set_names(catalog.schema.names.clone());
        for metric in metrics {
            catalog.add_metric(metric);
        }
        catalog
    }

    /// Returns the present columns.
    #[must_use]
    pub fn schema(&self) -> &Arc<FeatureRowSchema> {
        &self.schema
    }

    /// Returns the feature definitions.
    #[must_use]
    pub fn definitions(&self) -> &Arc<FeatureDefinitions> {
        &self.definitions
    }

    /// Returns the metrics that have features, in the order of their columns. Derived metrics are
    /// not included.
    #[must_use]
    pub fn metrics(&self) -> &[SmolStr] {
        &self.metric_order
    }

    /// Returns the number of a metric's columns and adds them if they are missing.
    pub(super) fn add_metric(&mut self, metric: &SmolStr) -> usize {
        if let Some(number) = self.numbers.get(metric) {
            return *number;
        }
        self.metric_order.push(metric.clone());
        let mut names = self.schema.names.clone();
        let number = self.add_columns(metric, true, &mut names);
        let definitions = self.definitions.clone();
        for (name, derived) in definitions.derived_from(metric) {
            let own = self.add_columns(name, false, &mut names);
            self.blocks[number].derived.push((derived.clone(), own));
        }
        self.set_names(names);
        number
    }

    fn add_columns(&mut self, metric: &SmolStr, has_last: bool, names: &mut Vec<SmolStr>) -> usize {
        let start = names.len();
        if has_last {
            names.extend(["last", "age_s"].map(|name| SmolStr::from(format!("{metric}_{name}"))));
        }
        let mut windows = Vec::new();
        for (window, aggregates) in self.definitions.windows_of(metric) {
            names.extend(
                aggregates.iter().map(|name| SmolStr::from(format!("{metric}_{name}_{window}"))),
            );
            windows.push(WindowColumns {
                width_ms: window.width_ms(),
                minutes_expected: (window.width_ms() / self.interval_ms).max(1) as f64,
                has_quantiles: aggregates.iter().any(|aggregate| aggregate.quantile().is_some()),
                aggregates,
            });
        }
        let bins = QuantileBins::from_metric(self.metrics.get(metric));
        let number = self.blocks.len();
        let columns = start..names.len();
        self.blocks.push(MetricColumns { columns, has_last, windows, bins, derived: Vec::new() });
        self.numbers.insert(metric.clone(), number);
        number
    }

    fn set_names(&mut self, names: Vec<SmolStr>) {
        self.joins.find_inputs(&names);
        let hash = hash_schema(&self.definitions.compute_hash(), &names);
        self.schema = Arc::new(FeatureRowSchema { names, hash });
    }

    pub(super) fn metric_columns(&self, number: usize) -> &MetricColumns {
        &self.blocks[number]
    }
}

fn hash_schema(definitions: &str, names: &[SmolStr]) -> SmolStr {
    let mut hasher = Sha256::new();
    hasher.update(definitions.as_bytes());
    for name in names {
        hasher.update([0]);
        hasher.update(name.as_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(metrics: &[&str]) -> FeatureCatalog {
        let metrics: Vec<SmolStr> = metrics.iter().copied().map(SmolStr::from).collect();
        FeatureCatalog::new(
            FeatureDefinitions::built_in(),
            MetricTable::default(),
            60_000,
            &metrics,
        )
    }

    #[test]
    fn columns_are_added_and_never_move() {
        let mut catalog = catalog(&["temperature"]);
        let before = catalog.schema().clone();
        catalog.add_metric(&"soil_moisture".into());
        catalog.add_metric(&"temperature".into());
        let after = catalog.schema();
        assert_eq!(after.names[..before.names.len()], before.names[..]);
        assert_ne!(after.hash, before.hash);
        assert_eq!(catalog.metrics(), ["temperature", "soil_moisture"]);
        for name in [
            "hour_sin",
            "vpd_kpa",
            "drying_tau_h",
            "temperature_last",
            "temperature_slope_10m",
            "temperature_mean_7d",
            "soil_moisture_std_30m",
            "heating_degrees_integral_24h",
        ] {
            assert_eq!(after.names.iter().filter(|n| *n == name).count(), 1, "{name}");
        }
        assert!(!after.names.iter().any(|n| n == "heating_degrees_last"));
    }

    #[test]
    fn metrics_without_windows_have_their_newest_value() {
        let before = catalog(&[]).schema().names.len();
        let after = catalog(&["battery"]);
        assert_eq!(after.schema().names[before..], ["battery_last", "battery_age_s"]);
    }

    #[test]
    fn other_definitions_have_another_hash() {
        let mut other = (*FeatureDefinitions::built_in()).clone();
        other.derived.get_mut("heating_degrees").unwrap().below = Some(17.0);
        let other = FeatureCatalog::new(Arc::new(other), MetricTable::default(), 60_000, &[]);
        assert_eq!(other.schema().names, catalog(&[]).schema().names);
        assert_ne!(other.schema().hash, catalog(&[]).schema().hash);
    }
}
