//! Topics and payloads of the user's own design.
//!
//! ```toml
//! [[mappings]]
//! convention = "template"
//! topic = "plant/{zone}/{device}/state"
//! site = "farm"
//! timestamp = "/time"
//! metrics = { temp = "temperature", "/soil/0/vwc" = { metric = "soil_moisture", unit = "m³/m³" } }
//! ```

use telemetry::MetricTable;

use super::{
    quantity::QuantityRules,
    records::{FieldSelection, LayoutText, RecordConvention},
    settings::MappingSettings,
};

/// Builds the convention of a mapping that defines everything itself.
pub(super) fn build_template(
    mapping: &MappingSettings,
    metrics: &MetricTable,
) -> Result<RecordConvention, String> {
    let topic = mapping.topic.as_deref().ok_or(
        "`topic` is missing; a template names it, as in `topic = \"plant/{zone}/{device}/state\"`",
    )?;
    let names_metric = topic.contains("{metric}") || mapping.metric.is_some();
    let fields: Vec<&str> = mapping.fields.0.iter().map(String::as_str).collect();
    let timestamp: Vec<&str> = mapping.timestamp.0.iter().map(String::as_str).collect();
    let layout = LayoutText {
        topic,
        records: mapping.records.as_deref().unwrap_or_default(),
        fields: if fields.is_empty() { LayoutText::EMPTY.fields } else { &fields },
        device: mapping.device.as_deref().unwrap_or(LayoutText::EMPTY.device),
        timestamp: &timestamp,
        sequence: mapping.sequence.as_deref(),
        boot: mapping.boot.as_deref(),
        metric: mapping.metric.as_deref(),
        value: mapping.value.as_deref().unwrap_or_default(),
        unit: mapping.unit.as_deref(),
        ..LayoutText::EMPTY
    };
    let quantities = QuantityRules::new(mapping, &[], metrics)?;
    let topics = [topic.to_owned()];
    let layouts = (&[layout][..], &topics[..]);
    let convention =
        RecordConvention::new(mapping, layouts, &[], quantities, FieldSelection::Ruled)?;
    if mapping.metrics.is_empty() && !names_metric {
        return Err(
            "`metrics` is empty; it says which fields are which metrics, unless the topic has a {metric} or `metric` points to its name".to_owned(),
        );
    }
    Ok(convention)
}
