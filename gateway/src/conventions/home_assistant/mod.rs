//! Home Assistant's MQTT discovery: configurations announce the topics of values and their units.
//!
//! An entity is a device here, named after its discovery topic, so that two thermometers of one
//! board stay distinct.
//!
//! # Layout
//! - `discovery`: discovery messages
//! - `value_template`: extracts a value from a payload

mod discovery;
mod value_template;

use serde_json::Value;
use telemetry::{DeadLetterReason, MetricTable, SensorReading, SmolStr};
use tracing::{debug, warn};

use self::{
    discovery::{ConfigTopic, DiscoveredEntity},
    value_template::TemplateOutcome,
};
use super::{
    Convention, DecodeContext, MappedMessage, ReadingRefusal, device_value,
    entity_store::{EntityCounts, EntityStore},
    mapped_message::ReadingOrigin,
    payload_value,
    quantity::{BuiltinName, FoundValue, QuantityRules, metric_named, not_a_reading},
    settings::MappingSettings,
    strip_base, topic_base,
    topic_index::TopicIndex,
    zone_resolver::{ZoneResolver, sanitize_name, shorten_text},
};
use crate::{downlink::is_filter_match, message::InboundMessage};

/// Device classes of `sensor` and `binary_sensor`
/// (<https://www.home-assistant.io/integrations/sensor/#device-class>). A value without a
/// declared unit is not a quantity.
const BUILTIN: &[BuiltinName] = &[
    metric_named("temperature", "temperature", None),
    metric_named("humidity", "humidity", Some("%")),
    metric_named("moisture", "soil_moisture", Some("%")),
    metric_named("carbon_dioxide", "co2", Some("ppm")),
    metric_named("illuminance", "light", Some("lx")),
    metric_named("atmospheric_pressure", "pressure", None),
    metric_named("pressure", "pressure", None),
    metric_named("wind_speed", "wind_speed", None),
    metric_named("wind_direction", "wind_direction", Some("°")),
    metric_named("irradiance", "irradiance", None),
    metric_named("precipitation", "rain", None),
    metric_named("precipitation_intensity", "rain_rate", None),
    metric_named("conductivity", "ec", None),
    metric_named("ph", "ph", Some("pH")),
    // Theengs and OpenMQTTGateway announce these without a class: the end of the name identifies
    // the quantity.
    metric_named("moi", "soil_moisture", Some("%")),
    metric_named("fer", "ec", Some("µS/cm")),
    // Classes of binary sensors.
    metric_named("motion", "motion", Some("count")),
    metric_named("occupancy", "motion", Some("count")),
    metric_named("presence", "motion", Some("count")),
    // The charge in percent, not volts.
    not_a_reading("battery"),
    // The mains as often as a battery: a rule must decide.
    not_a_reading("voltage"),
    not_a_reading("apparent_power"),
    not_a_reading("aqi"),
    not_a_reading("current"),
    not_a_reading("data_rate"),
    not_a_reading("data_size"),
    not_a_reading("date"),
    not_a_reading("duration"),
    not_a_reading("energy"),
    not_a_reading("enum"),
    not_a_reading("frequency"),
    not_a_reading("gas"),
    not_a_reading("monetary"),
    not_a_reading("power"),
    not_a_reading("power_factor"),
    not_a_reading("reactive_power"),
    not_a_reading("signal_strength"),
    not_a_reading("timestamp"),
    not_a_reading("water"),
];

#[derive(Debug)]
pub(super) struct HomeAssistantConvention {
    base: String,
    places: ZoneResolver,
    quantities: QuantityRules,
    /// Entities by the levels of the discovery topic, because a device's topic describes several.
    entities: EntityStore<Vec<DiscoveredEntity>>,
    /// Index from topics to entities. State topics may have wildcards.
    by_topic: TopicIndex,
    entities_max: usize,
}

impl HomeAssistantConvention {
    pub(super) fn new(mapping: &MappingSettings, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: topic_base(mapping, "homeassistant")?,
            places: ZoneResolver::new(mapping)?,
            quantities: QuantityRules::new(mapping, BUILTIN, metrics)?,
            entities: EntityStore::new(mapping.entities_max),
            by_topic: TopicIndex::default(),
            entities_max: mapping.entities_max,
        })
    }

    /// Stores a configuration. `levels` are those of its topic.
    fn learn_entities(&mut self, levels: &str, topic: &ConfigTopic<'_>, payload: &[u8]) {
        let parsed = if payload.is_empty() {
            Vec::new() // The entity was removed, or the device with all its entities.
        } else {
            match discovery::parse_entities(topic, payload) {
                Ok(entities) => entities,
                Err(error) => {
                    warn!(
                        component = topic.component,
                        id = topic.id,
                        error,
                        "cannot parse a discovery message"
                    );
                    return;
                }
            }
        };
        let name = SmolStr::new(levels);
        if let Some(removed) = self.entities.remove(levels) {
            self.remove_topics(&name, &removed);
        }
        let mut entities = parsed;
        if entities.len() > self.entities_max {
            self.entities.count_refused(entities.len() - self.entities_max);
            entities.truncate(self.entities_max);
        }
        if entities.is_empty() {
            return;
        }
        for entity in &entities {
            debug!(component = %entity.component, id = %entity.id, state_topic = ?entity.state_topic, "discovered");
            for topic in entity.state_topic.iter().chain(&entity.other_topics) {
                self.by_topic.insert(topic, &name);
            }
        }
        let weight = entities.len();
        for (name, evicted) in self.entities.insert(&name, entities, weight) {
            self.remove_topics(&name, &evicted);
        }
    }

    fn remove_topics(&mut self, name: &SmolStr, entities: &[DiscoveredEntity]) {
        for topic in
            entities.iter().flat_map(|entity| entity.state_topic.iter().chain(&entity.other_topics))
        {
            self.by_topic.remove(topic, name);
        }
    }

    /// Adds the reading of one entity, if the message has one.
    fn read_entity(
        &self,
        entity: &DiscoveredEntity,
        text: &str,
        json: Option<&Value>,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
        mapped: &mut MappedMessage,
    ) -> Result<(), ReadingRefusal> {
        let class = entity.device_class.as_deref().unwrap_or_default();
        let object = entity.id.rsplit('/').next().unwrap_or_default();
        let at_end = object.rsplit(['-', '_']).next().unwrap_or_default();
        let found = FoundValue {
            names: &[&entity.id, object, class],
            builtin: if class.is_empty() { at_end } else { class },
            unit: entity.unit.as_deref(),
        };
        // Switches, lights and so on have states, which are ignored unless a rule names them. Of
        // binary sensors, those of presence count.
        let is_sensor = match &*entity.component {
            "sensor" => true,
            "binary_sensor" => matches!(class, "motion" | "occupancy" | "presence"),
            _ => false,
        };
        // Neither kind counts if it is about the device itself: a processor's temperature is not
        // the room's.
        let is_of_device = entity.is_about_device
            || [Some(object), entity.name.as_deref()]
                .into_iter()
                .flatten()
                .any(|name| device_value::is_of_device(name, class));
        if (!is_sensor || is_of_device) && !self.quantities.is_ruled(&found) {
            return Ok(());
        }
        let is_wanted = self.quantities.is_metric(&found);
        let template = match &entity.template {
            Ok(template) => template,
            Err(_) if !is_wanted => return Ok(()),
            Err(template) => {
                let what = format!(
                    "entity `{}`: value_template `{}` is not supported; give its state topic a mapping of convention \"template\", before this one",
                    entity.id,
                    shorten_text(template)
                );
                return Err((DeadLetterReason::NotAReading, what));
            }
        };
        let mut own_unit = None;
        let value = match template.evaluate(text, json) {
            TemplateOutcome::Missing => return Ok(()),
            TemplateOutcome::Text(_) if !is_wanted => return Ok(()),
            TemplateOutcome::Number(number) if entity.payload_on.parse() == Ok(number) => 1.0,
            TemplateOutcome::Number(number) if entity.payload_off.parse() == Ok(number) => 0.0,
            TemplateOutcome::Number(number) => number,
            TemplateOutcome::Text(state) if state == entity.payload_on => 1.0,
            TemplateOutcome::Text(state) if state == entity.payload_off => 0.0,
            TemplateOutcome::Text(state) => {
                let (value, unit) = payload_value::parse_text_quantity(&entity.id, &state)?;
                own_unit = unit.map(SmolStr::new);
                value
            }
        };
        let value = (value, own_unit.as_deref());
        if let Some((metric, value)) =
            self.quantities.read_quantity(&found, value, context.metrics)?
        {
            let names = std::iter::once(&entity.id).chain(&entity.names).map(SmolStr::as_str);
            let Some(zone) = self.places.find_zone(&names.collect::<Vec<_>>())? else {
                return Ok(());
            };
            let origin = ReadingOrigin::from_message(zone, sanitize_name(&entity.id), message);
            let reading = SensorReading { metric, event_ms: message.received_ms, value };
            mapped.add_reading(&origin, reading, message, context.limits.readings_max);
        }
        Ok(())
    }
}

impl Convention for HomeAssistantConvention {
    fn decode_message(
        &mut self,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Option<MappedMessage> {
        let levels = strip_base(&message.topic, &self.base);
        if let Some(levels) = levels
            && let Some(topic) = ConfigTopic::parse(levels)
        {
            self.learn_entities(levels, &topic, &message.payload);
            return Some(MappedMessage::without_readings());
        }
        if levels == Some("status") {
            return Some(MappedMessage::without_readings());
        }
        let names: Vec<SmolStr> =
            self.by_topic.find_keys(&message.topic).into_iter().cloned().collect();
        if names.is_empty() {
            return None;
        }
        // These entities are used now.
        for name in &names {
            self.entities.get(name);
        }
        let is_state = |entity: &&DiscoveredEntity| {
            entity
                .state_topic
                .as_ref()
                .is_some_and(|filter| is_filter_match(filter, &message.topic))
        };
        let known = names.iter().filter_map(|name| self.entities.peek(name)).flatten();
        let states: Vec<&DiscoveredEntity> = known.filter(is_state).collect();
        if states.is_empty() || message.payload.is_empty() {
            return Some(MappedMessage::without_readings());
        }
        let text = context
            .check_size(&message.payload)
            .and_then(|()| payload_value::payload_text(&message.payload));
        let text = match text {
            Ok(text) => text,
            Err(refusal) => return Some(MappedMessage::from_refusal(refusal)),
        };
        let json = serde_json::from_str(text).ok();
        let mut mapped = MappedMessage::without_readings();
        for entity in states {
            let read = self.read_entity(entity, text, json.as_ref(), message, context, &mut mapped);
            mapped.rejected_readings.extend(read.err());
        }
        Some(mapped)
    }

    fn entity_counts(&self) -> EntityCounts {
        self.entities.entity_counts()
    }

    #[cfg(fuzzing)]
    fn forget(&mut self) {
        self.entities.clear();
        self.by_topic.clear();
    }

    fn metadata_filters(&self) -> Vec<String> {
        vec![format!("{}/+/+/config", self.base), format!("{}/+/+/+/config", self.base)]
    }
}
