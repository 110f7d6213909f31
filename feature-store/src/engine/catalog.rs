//! Which features there are, in which column.

use std::{collections::HashMap, ops::Range, sync::Arc};

use sha2::{Digest, Sha256};
use telemetry::SmolStr;

use super::{MINUTE_MS, join, summary::Summary};
use crate::settings::{self, Window};

/// Changes with the meaning of a feature, so that a model refuses features
/// that it was not trained on.
const DEFINITIONS_VERSION: u32 = 1;

/// What is computed of every window.
pub const AGGREGATES: [&str; 8] =
    ["count", "mean", "std", "min", "max", "delta", "slope", "coverage"];

/// The names of the columns of a row, and their hash.
#[derive(Debug, PartialEq, Eq)]
pub struct Schema {
    /// In the order of the row's values.
    pub names: Vec<SmolStr>,
    /// SHA-256 over version and names, hexadecimal.
    pub hash: SmolStr,
}

/// Assigns columns to the features of metrics, in the order in which metrics
/// are first seen: a column never moves.
#[derive(Debug)]
pub struct Catalog {
    settings: settings::Engine,
    blocks: HashMap<SmolStr, Block>,
    order: Vec<SmolStr>,
    schema: Arc<Schema>,
}

/// The columns of one metric.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) columns: Range<usize>,
    pub(super) windows: Vec<Window>,
}

impl Catalog {
    /// The columns for these metrics, in this order.
    #[must_use]
    pub fn new(settings: &settings::Engine, metrics: &[SmolStr]) -> Self {
        let names: Vec<SmolStr> =
            join::NAMES.iter().map(|name| SmolStr::new_static(name)).collect();
        let schema = Arc::new(Schema { hash: hash(&names), names });
        let mut catalog =
            Self { settings: settings.clone(), blocks: HashMap::new(), order: Vec::new(), schema };
        metrics.iter().for_each(|metric| catalog.add(metric));
        catalog
    }

    /// The columns as they are now.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Metrics with features, in the order of their columns.
    #[must_use]
    pub fn metrics(&self) -> &[SmolStr] {
        &self.order
    }

    /// Makes columns for a metric, unless it has them.
    pub(super) fn add(&mut self, metric: &SmolStr) {
        if self.blocks.contains_key(metric) {
            return;
        }
        let windows = self.settings.windows_of(metric);
        let mut names = self.schema.names.clone();
        let start = names.len();
        names.extend(["last", "age_s"].map(|name| SmolStr::from(format!("{metric}_{name}"))));
        for window in &windows {
            names.extend(AGGREGATES.map(|name| SmolStr::from(format!("{metric}_{name}_{window}"))));
        }
        self.blocks.insert(metric.clone(), Block { columns: start..names.len(), windows });
        self.order.push(metric.clone());
        self.schema = Arc::new(Schema { hash: hash(&names), names });
    }

    pub(super) fn block(&self, metric: &str) -> Option<&Block> {
        self.blocks.get(metric)
    }
}

/// The values of [`AGGREGATES`] of a window, NaN where there is none.
pub(super) fn aggregates(
    window: Window,
    summary: &Summary,
    interval_s: u32,
) -> [f64; AGGREGATES.len()] {
    let or_nan = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let expected =
        (window.width_ms() / (i64::from(interval_s) * 1000).max(MINUTE_MS)).max(1) as f64;
    [
        f64::from(summary.count()),
        or_nan(summary.mean()),
        or_nan(summary.std()),
        or_nan(summary.min()),
        or_nan(summary.max()),
        or_nan(summary.delta()),
        or_nan(summary.slope_per_hour()),
        (100.0 * f64::from(summary.minutes()) / expected).min(100.0),
    ]
}

fn hash(names: &[SmolStr]) -> SmolStr {
    let mut hasher = Sha256::new();
    hasher.update(DEFINITIONS_VERSION.to_le_bytes());
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update([0]);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn columns_are_added_and_never_move() {
        let engine = Settings::default().engine;
        let mut catalog = Catalog::new(&engine, &["temperature".into()]);
        let before = catalog.schema().clone();
        catalog.add(&"soil_moisture".into());
        catalog.add(&"temperature".into());
        let after = catalog.schema();
        assert_eq!(after.names[..before.names.len()], before.names[..]);
        assert_ne!(after.hash, before.hash);
        for name in [
            "temperature_last",
            "temperature_slope_10m",
            "temperature_mean_7d",
            "soil_moisture_std_30m",
        ] {
            assert!(after.names.iter().any(|n| n == name), "{name}");
        }
        assert!(!after.names.iter().any(|n| n == "temperature_mean_30m"));
    }

    #[test]
    fn metrics_without_windows_have_their_newest_value() {
        let mut engine = Settings::default().engine;
        engine.without_windows = vec!["battery".into()];
        let catalog = Catalog::new(&engine, &["battery".into()]);
        let own = &catalog.schema().names[join::NAMES.len()..];
        assert_eq!(own, ["battery_last", "battery_age_s"]);
    }
}
