//! Discovery messages: what an entity is, and the topic of its states.
//!
//! Source: <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>;
//! abbreviations from `homeassistant/components/mqtt/abbreviations.py`.

use serde_json::{Map, Value};
use telemetry::SmolStr;

use super::value_template::ValueTemplate;

/// A discovery topic, `<base>/<component>/[<node>/]<object>/config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigTopic<'t> {
    /// `sensor`, `binary_sensor`, …, or `device` for several at once.
    pub(super) component: &'t str,
    /// `<object>`, or `<node>/<object>`.
    pub(super) id: &'t str,
}

impl<'t> ConfigTopic<'t> {
    /// Parses the levels after the base; `None` for any other topic.
    pub(super) fn parse(levels: &'t str) -> Option<Self> {
        let (component, id) = levels.strip_suffix("/config")?.split_once('/')?;
        let is_id = !id.is_empty() && id.split('/').count() <= 2;
        (!component.is_empty() && is_id).then_some(Self { component, id })
    }
}

/// The stored description of an entity.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DiscoveredEntity {
    pub(super) component: SmolStr,
    /// The id in its discovery topic: `<object>` or `<node>/<object>`, followed by `/<key>` for
    /// one of a device's entities.
    pub(super) id: SmolStr,
    pub(super) device_class: Option<SmolStr>,
    pub(super) unit: Option<SmolStr>,
    pub(super) state_topic: Option<SmolStr>,
    /// Topics without readings: availability, commands, attributes.
    pub(super) other_topics: Vec<SmolStr>,
    /// The parsed template, or its text if it is not supported.
    pub(super) template: Result<ValueTemplate, SmolStr>,
    pub(super) payload_on: SmolStr,
    pub(super) payload_off: SmolStr,
    /// Whether it is about the device itself and not about the zone, as its `entity_category`
    /// (`diagnostic`, `config`) states.
    pub(super) is_about_device: bool,
    /// Its own name, for people.
    pub(super) name: Option<SmolStr>,
    /// The names of the device: its name, identifiers and suggested area.
    pub(super) names: Vec<SmolStr>,
}

/// `origin.name` of Microclimate's own discovery messages.
const OWN_ORIGIN: &str = "microclimate";

/// Largest number of topics of one entity.
const TOPICS_MAX: usize = 16;
/// Longest stored text of a configuration, bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Parses the entities that a discovery message describes.
///
/// # Errors
/// Describes the mistake, for the log.
pub(super) fn parse_entities(
    topic: &ConfigTopic<'_>,
    payload: &[u8],
) -> Result<Vec<DiscoveredEntity>, String> {
    let config: Value = serde_json::from_slice(payload).map_err(|e| format!("not JSON: {e}"))?;
    let Value::Object(config) = config else { return Err("not a JSON object".to_owned()) };
    // The entities that this program announces are predictions. They must not come back as
    // readings.
    let origin = find_field(&config, "origin").and_then(Value::as_object);
    let maker = origin.and_then(|origin| origin.get("name")).and_then(Value::as_str);
    if maker.is_some_and(|maker| maker.eq_ignore_ascii_case(OWN_ORIGIN)) {
        return Ok(Vec::new());
    }
    if topic.component != "device" {
        return Ok(vec![build_entity(topic.component, topic.id, &config, &Map::new())]);
    }
    let Some(Value::Object(components)) = find_field(&config, "components") else {
        return Err("a device without `components`".to_owned());
    };
    let entities = components.iter().filter_map(|(key, component_value)| {
        let fields = component_value.as_object()?;
        // An entry with only `platform` removes the entity.
        if fields.len() <= 1 {
            return None;
        }
        let component = find_field(fields, "platform")?.as_str()?;
        Some(build_entity(component, &format!("{}/{key}", topic.id), fields, &config))
    });
    Ok(entities.collect())
}

/// Builds an entity from its own keys and those that its device shares.
fn build_entity(
    component: &str,
    id: &str,
    fields: &Map<String, Value>,
    shared: &Map<String, Value>,
) -> DiscoveredEntity {
    let field = |name| find_field(fields, name).or_else(|| find_field(shared, name));
    let text = |name| field(name).and_then(Value::as_str).map(truncate_text);
    let root = text("~").unwrap_or_default();
    let topic = |text: &str| expand_topic(text, &root);
    let state_topic = find_field(fields, "state_topic")
        .or_else(|| find_field(shared, "state_topic"))
        .and_then(Value::as_str)
        .map(topic);
    let template = match field("value_template").and_then(Value::as_str) {
        None => Ok(ValueTemplate::pass_through()),
        Some(text) => ValueTemplate::parse(text).ok_or_else(|| truncate_text(text)),
    };
    let topic_texts =
        fields.iter().chain(shared).flat_map(|(key, value)| collect_topics(key, value));
    let topics = topic_texts.map(|text| expand_topic(text, &root));
    let other_topics = topics.filter(|other| Some(other) != state_topic.as_ref());
    let device = field("device").and_then(Value::as_object);
    let names = device.into_iter().flat_map(|device| {
        let texts_of = |name| find_field(device, name).into_iter().flat_map(collect_texts);
        texts_of("name").chain(texts_of("identifiers")).chain(texts_of("suggested_area"))
    });
    DiscoveredEntity {
        component: truncate_text(component),
        id: truncate_text(id),
        device_class: text("device_class"),
        is_about_device: text("entity_category").is_some(),
        name: find_field(fields, "name").and_then(Value::as_str).map(truncate_text),
        unit: text("unit_of_measurement"),
        other_topics: other_topics.take(TOPICS_MAX).collect(),
        state_topic,
        template,
        payload_on: text("payload_on").unwrap_or_else(|| "ON".into()),
        payload_off: text("payload_off").unwrap_or_else(|| "OFF".into()),
        names: names.map(truncate_text).take(TOPICS_MAX).collect(),
    }
}

/// Finds a key by its full name or its abbreviation.
fn find_field<'v>(fields: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    const ABBREVIATIONS: &[(&str, &str)] = &[
        ("components", "cmps"),
        ("device", "dev"),
        ("device_class", "dev_cla"),
        ("entity_category", "ent_cat"),
        ("identifiers", "ids"),
        ("origin", "o"),
        ("payload_off", "pl_off"),
        ("payload_on", "pl_on"),
        ("platform", "p"),
        ("state_topic", "stat_t"),
        ("suggested_area", "sa"),
        ("unit_of_measurement", "unit_of_meas"),
        ("value_template", "val_tpl"),
    ];
    let short = ABBREVIATIONS.iter().find(|(full, _)| *full == name).map(|(_, short)| *short);
    fields.get(name).or_else(|| fields.get(short?))
}

/// Collects topics under a key such as `availability_topic`, `avty_t`, `cmd_t`, or in the list
/// `availability`.
fn collect_topics<'v>(key: &str, value: &'v Value) -> Vec<&'v str> {
    let is_topic =
        |key: &str| matches!(key, "topic" | "t") || key.ends_with("_topic") || key.ends_with("_t");
    match value {
        Value::String(text) if is_topic(key) => vec![text],
        Value::Array(items) if matches!(key, "availability" | "avty") => {
            let fields = items.iter().filter_map(Value::as_object).flatten();
            fields.filter(|(key, _)| is_topic(key)).filter_map(|(_, v)| v.as_str()).collect()
        }
        _ => Vec::new(),
    }
}

fn collect_texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Replaces `~` at either end of a topic by the base of the message.
fn expand_topic(topic: &str, root: &str) -> SmolStr {
    if let Some(rest) = topic.strip_prefix('~') {
        truncate_text(&format!("{root}{rest}"))
    } else if let Some(rest) = topic.strip_suffix('~') {
        truncate_text(&format!("{rest}{root}"))
    } else {
        truncate_text(topic)
    }
}

fn truncate_text(text: &str) -> SmolStr {
    SmolStr::new(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
}
