use std::{collections::HashMap, sync::Arc};

use telemetry::SmolStr;

use crate::engine::catalog::FeatureRowSchema;

/// Data that all rows of a schema share: the names as JSON, and the column of each.
#[derive(Debug)]
pub(crate) struct FeatureIndex {
    schema: Arc<FeatureRowSchema>,
    /// `"name":` of each feature, in the order of the values.
    keys: Vec<String>,
    places: HashMap<SmolStr, usize>,
    /// For each window, pairs of columns: a metric's coverage and its newest value.
    coverages: Vec<(String, Vec<(usize, usize)>)>,
}

impl FeatureIndex {
    pub(super) fn new(schema: Arc<FeatureRowSchema>) -> Self {
        let keys =
            schema.names.iter().map(|name| format!("{}:", encode_json_string(name))).collect();
        let places: HashMap<SmolStr, usize> = schema.names.iter().cloned().zip(0..).collect();
        let mut coverages: Vec<(String, Vec<(usize, usize)>)> = Vec::new();
        for (place, name) in schema.names.iter().enumerate() {
            let Some((metric, window)) = name.rsplit_once("_coverage_") else { continue };
            // Derived metrics have no newest value; their coverage adds no information.
            let Some(last) = places.get(format!("{metric}_last").as_str()) else { continue };
            match coverages.iter_mut().find(|(known, _)| known == window) {
                Some((_, places)) => places.push((place, *last)),
                None => coverages.push((window.to_owned(), vec![(place, *last)])),
            }
        }
        Self { schema, keys, places, coverages }
    }

    pub(super) fn is_for_schema(&self, schema: &Arc<FeatureRowSchema>) -> bool {
        Arc::ptr_eq(&self.schema, schema)
    }

    /// Returns the column of a feature.
    pub(crate) fn find_column(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Returns all names, in the order of the values.
    pub(crate) fn feature_names(&self) -> &[SmolStr] {
        &self.schema.names
    }

    pub(super) fn json_keys(&self) -> &[String] {
        &self.keys
    }

    /// Returns the lowest coverage of any metric in each window, %; ignores metrics that the zone
    /// does not measure.
    pub(super) fn lowest_coverages<'a>(
        &'a self,
        values: &'a [f64],
    ) -> impl Iterator<Item = (&'a str, Option<f64>)> + 'a {
        self.coverages.iter().map(|(window, places)| {
            let value = |place: usize| values.get(place).copied().filter(|value| value.is_finite());
            let found =
                places.iter().filter_map(|(coverage, last)| value(*last).and(value(*coverage)));
            let lowest = found.reduce(f64::min);
            (window.as_str(), lowest)
        })
    }
}

pub(super) fn encode_json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
