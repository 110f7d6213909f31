//! The records of a message, and the values of a record.

use serde_json::Value;

use super::{
    super::{name_pattern::NamePattern, quantity::QuantityRules},
    FieldSelection,
    layout::{MessageLayout, TopicCaptures},
};

/// Largest nesting depth of objects and lists within a record.
const DEPTH_MAX: usize = 6;
/// Names of the time in a list of records within a record.
const TIME_NAMES: [&str; 5] = ["timestamp", "time", "ts", "datetime", "date"];

/// A value of a record, or of a list in it.
pub(super) struct LeafValue<'v> {
    /// The names of its levels, joined by `/`.
    pub(super) path: String,
    pub(super) value: &'v Value,
    /// The unit in the same object.
    pub(super) unit: Option<&'v str>,
    /// Its own time, if it is in a list of records with times.
    pub(super) stamp: Option<(&'v str, &'v Value)>,
}

/// Collects the values of a record.
pub(super) struct LeafCollector<'c> {
    pub(super) layout: &'c MessageLayout,
    pub(super) quantities: &'c QuantityRules,
    pub(super) reading: FieldSelection,
}

impl LeafCollector<'_> {
    /// Returns the values of a record.
    pub(super) fn collect_leaves<'v>(&self, fields: &'v Value) -> Vec<LeafValue<'v>> {
        let mut leaves = Vec::new();
        self.collect_below(fields, String::new(), DEPTH_MAX, &mut leaves);
        leaves
    }

    /// Adds the values below a path.
    fn collect_below<'v>(
        &self,
        value: &'v Value,
        path: String,
        depth: usize,
        leaves: &mut Vec<LeafValue<'v>>,
    ) {
        let is_ruled = self.reading == FieldSelection::Ruled;
        let is_container = value.is_object() || value.is_array();
        if !is_container || depth == 0 || self.quantities.has_exact_rule(&path) {
            if !self.layout.is_envelope(&path) {
                leaves.push(LeafValue { path, value, unit: None, stamp: None });
            }
            return;
        }
        let below = |name: &str| match path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}/{name}"),
        };
        match value {
            Value::Object(fields) => {
                // A value with its unit, as in `{"value": 21.5, "unit": "°C"}`.
                if !is_ruled
                    && !path.is_empty()
                    && let Some(value) = fields.get("value").filter(|inner| !inner.is_object())
                {
                    let unit = fields.get("unit").and_then(Value::as_str);
                    leaves.push(LeafValue { path, value, unit, stamp: None });
                    return;
                }
                for (name, value) in fields {
                    self.collect_below(value, below(name), depth - 1, leaves);
                }
            }
            Value::Array(elements) => {
                for (i, element) in elements.iter().enumerate() {
                    let stamp = element.as_object().filter(|_| !is_ruled).and_then(|fields| {
                        TIME_NAMES.iter().find_map(|name| Some((*name, fields.get(*name)?)))
                    });
                    let Some((name, stamp)) = stamp else {
                        self.collect_below(element, below(&i.to_string()), depth - 1, leaves);
                        continue;
                    };
                    // Values that a device has buffered are records of their own.
                    let first = leaves.len();
                    self.collect_below(element, String::new(), depth - 1, leaves);
                    let mut buffered = leaves.split_off(first);
                    buffered.retain(|leaf| leaf.path != name);
                    leaves.extend(buffered.into_iter().map(|leaf| LeafValue {
                        stamp: leaf.stamp.or(Some((name, stamp))),
                        ..leaf
                    }));
                }
            }
            _ => {}
        }
    }
}

/// Returns the records at a path, with the captures of its levels. A list at the path contains
/// several records.
pub(super) fn collect_records<'v>(
    levels: &[NamePattern],
    value: &'v Value,
    captured: &TopicCaptures<'v>,
    records: &mut Vec<(TopicCaptures<'v>, &'v Value)>,
) {
    let Some((level, deeper)) = levels.split_first() else {
        match value {
            Value::Array(elements) => {
                records.extend(elements.iter().map(|element| (captured.clone(), element)));
            }
            value => records.push((captured.clone(), value)),
        }
        return;
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(found) = TopicCaptures::from_match(level, name) {
                    collect_records(deeper, value, &captured.merged_with(found), records);
                }
            }
        }
        Value::Array(elements) => {
            for (i, element) in elements.iter().enumerate() {
                if level.is_match(&i.to_string()) {
                    collect_records(deeper, element, captured, records);
                }
            }
        }
        _ => {}
    }
}
