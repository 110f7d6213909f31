use std::{collections::HashMap, sync::Arc};

use telemetry::SmolStr;

use crate::engine::catalog::Schema;

/// What is the same for every row of a schema: its names as JSON and where each is.
#[derive(Debug)]
pub(crate) struct Names {
    schema: Arc<Schema>,
    /// `"name":`, in the order of the values.
    keys: Vec<String>,
    places: HashMap<SmolStr, usize>,
    /// Each window, widest last, with the places of its coverages.
    coverages: Vec<(String, Vec<usize>)>,
}

impl Names {
    pub(super) fn new(schema: Arc<Schema>) -> Self {
        let keys = schema.names.iter().map(|name| format!("{}:", as_json(name))).collect();
        let places = schema.names.iter().cloned().zip(0..).collect();
        let mut coverages: Vec<(String, Vec<usize>)> = Vec::new();
        for (place, name) in schema.names.iter().enumerate() {
            let Some((_, window)) = name.rsplit_once("_coverage_") else { continue };
            match coverages.iter_mut().find(|(own, _)| own == window) {
                Some((_, places)) => places.push(place),
                None => coverages.push((window.to_owned(), vec![place])),
            }
        }
        Self { schema, keys, places, coverages }
    }

    pub(super) fn is_of(&self, schema: &Arc<Schema>) -> bool {
        Arc::ptr_eq(&self.schema, schema)
    }

    /// Where a feature is in a row.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Every name, in the order of the values.
    pub(crate) fn all(&self) -> &[SmolStr] {
        &self.schema.names
    }

    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The lowest coverage of any metric in each window, %; metrics that the zone
    /// has never measured have none.
    pub(super) fn coverages<'a>(
        &'a self,
        values: &'a [f64],
    ) -> impl Iterator<Item = (&'a str, Option<f64>)> + 'a {
        self.coverages.iter().map(|(window, places)| {
            let found = places.iter().filter_map(|place| values.get(*place));
            let lowest = found.copied().filter(|value| value.is_finite()).reduce(f64::min);
            (window.as_str(), lowest)
        })
    }
}

pub(super) fn as_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
