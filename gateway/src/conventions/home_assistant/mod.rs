//! Home Assistant's MQTT discovery: configurations tell which topics carry
//! what, in which unit.
//!
//! An entity is a device here, named as its discovery topic is: two
//! thermometers of one board stay two.
//!
//! # Layout
//! - `discovery`: configurations
//! - `value_template`: how a value stands in a payload

mod discovery;
mod value_template;

use serde_json::Value;
use telemetry::{MetricTable, Reading, Reason, SmolStr};
use tracing::{debug, warn};

use self::{
    discovery::{ConfigTopic, Entity},
    value_template::Outcome,
};
use super::{
    Context, Convention, Refusal, Taken, base, below, device_value,
    entity_store::{EntityCounts, EntityStore},
    place::{Places, shorten, tidy},
    quantity::{Builtin, Found, Quantities, is, no},
    settings::Mapping,
    taken::Origin,
    topic_index::TopicIndex,
    value,
};
use crate::{downlink::is_match, message::Message};

/// Device classes of `sensor` and `binary_sensor`
/// (<https://www.home-assistant.io/integrations/sensor/#device-class>); units
/// are declared, or the value is not a quantity.
const BUILTIN: &[Builtin] = &[
    is("temperature", "temperature", None),
    is("humidity", "humidity", Some("%")),
    is("moisture", "soil_moisture", Some("%")),
    is("carbon_dioxide", "co2", Some("ppm")),
    is("illuminance", "light", Some("lx")),
    is("atmospheric_pressure", "pressure", None),
    is("pressure", "pressure", None),
    is("wind_speed", "wind_speed", None),
    is("wind_direction", "wind_direction", Some("°")),
    is("irradiance", "irradiance", None),
    is("precipitation", "rain", None),
    is("precipitation_intensity", "rain_rate", None),
    is("conductivity", "ec", None),
    is("ph", "ph", Some("pH")),
    // What Theengs and OpenMQTTGateway announce without a class: the end of the name tells.
    is("moi", "soil_moisture", Some("%")),
    is("fer", "ec", Some("µS/cm")),
    // Of binary sensors.
    is("motion", "motion", Some("count")),
    is("occupancy", "motion", Some("count")),
    is("presence", "motion", Some("count")),
    // A share of the charge, not volts.
    no("battery"),
    // As often the mains as a battery: a rule says which.
    no("voltage"),
    no("apparent_power"),
    no("aqi"),
    no("current"),
    no("data_rate"),
    no("data_size"),
    no("date"),
    no("duration"),
    no("energy"),
    no("enum"),
    no("frequency"),
    no("gas"),
    no("monetary"),
    no("power"),
    no("power_factor"),
    no("reactive_power"),
    no("signal_strength"),
    no("timestamp"),
    no("water"),
];

#[derive(Debug)]
pub(super) struct HomeAssistant {
    base: String,
    places: Places,
    quantities: Quantities,
    /// By the levels of the discovery topic: a device's topic describes several.
    entities: EntityStore<Vec<Entity>>,
    /// Which of them a topic is of; state topics may have wildcards.
    by_topic: TopicIndex,
    entities_max: usize,
}

impl HomeAssistant {
    pub(super) fn new(mapping: &Mapping, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: base(mapping, "homeassistant")?,
            places: Places::new(mapping)?,
            quantities: Quantities::new(mapping, BUILTIN, metrics)?,
            entities: EntityStore::new(mapping.entities_max),
            by_topic: TopicIndex::default(),
            entities_max: mapping.entities_max,
        })
    }

    /// Takes a configuration; `levels` are those of its topic.
    fn learn(&mut self, levels: &str, topic: &ConfigTopic<'_>, payload: &[u8]) {
        let entities = if payload.is_empty() {
            Vec::new() // The entity, or the device with all of its own, is gone.
        } else {
            match discovery::entities(topic, payload) {
                Ok(entities) => entities,
                Err(error) => {
                    warn!(
                        component = topic.component,
                        id = topic.id,
                        error,
                        "discovery message not understood"
                    );
                    return;
                }
            }
        };
        let name = SmolStr::new(levels);
        if let Some(gone) = self.entities.remove(levels) {
            self.remove_topics(&name, &gone);
        }
        let mut entities = entities;
        if entities.len() > self.entities_max {
            self.entities.refuse(entities.len() - self.entities_max);
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
        for (name, gone) in self.entities.insert(&name, entities, weight) {
            self.remove_topics(&name, &gone);
        }
    }

    fn remove_topics(&mut self, name: &SmolStr, entities: &[Entity]) {
        for topic in entities.iter().flat_map(|own| own.state_topic.iter().chain(&own.other_topics))
        {
            self.by_topic.remove(topic, name);
        }
    }

    /// Adds the reading of one entity, if the message has one.
    fn read(
        &self,
        entity: &Entity,
        text: &str,
        json: Option<&Value>,
        message: &Message,
        context: &Context<'_>,
        taken: &mut Taken,
    ) -> Result<(), Refusal> {
        let class = entity.device_class.as_deref().unwrap_or_default();
        let object = entity.id.rsplit('/').next().unwrap_or_default();
        let at_end = object.rsplit(['-', '_']).next().unwrap_or_default();
        let found = Found {
            names: &[&entity.id, object, class],
            builtin: if class.is_empty() { at_end } else { class },
            unit: entity.unit.as_deref(),
        };
        // Switches, lights and so on have states, unless a rule names them; of
        // two-state sensors those of presence count.
        let is_sensor = match &*entity.component {
            "sensor" => true,
            "binary_sensor" => matches!(class, "motion" | "occupancy" | "presence"),
            _ => false,
        };
        // Neither have values about the device itself: a processor's temperature is not the
        // room's.
        let is_of_device = entity.is_about_device
            || [Some(object), entity.name.as_deref()]
                .into_iter()
                .flatten()
                .any(|name| device_value::is_of_device(name, class));
        if (!is_sensor || is_of_device) && !self.quantities.is_ruled(&found) {
            return Ok(());
        }
        let is_wanted = self.quantities.wants(&found);
        let template = match &entity.template {
            Ok(template) => template,
            Err(_) if !is_wanted => return Ok(()),
            Err(template) => {
                let what = format!(
                    "entity `{}`: value_template `{}` is not understood; give its state topic a mapping of convention \"template\", before this one",
                    entity.id,
                    shorten(template)
                );
                return Err((Reason::NotAReading, what));
            }
        };
        let mut own_unit = None;
        let value = match template.eval(text, json) {
            Outcome::Missing => return Ok(()),
            Outcome::Text(_) if !is_wanted => return Ok(()),
            Outcome::Number(number) if entity.payload_on.parse() == Ok(number) => 1.0,
            Outcome::Number(number) if entity.payload_off.parse() == Ok(number) => 0.0,
            Outcome::Number(number) => number,
            Outcome::Text(state) if state == entity.payload_on => 1.0,
            Outcome::Text(state) if state == entity.payload_off => 0.0,
            Outcome::Text(state) => {
                let (value, unit) = value::words_and_unit(&entity.id, &state)?;
                own_unit = unit.map(SmolStr::new);
                value
            }
        };
        let value = (value, own_unit.as_deref());
        if let Some((metric, value)) =
            self.quantities.read_with_unit(&found, value, context.metrics)?
        {
            let names = std::iter::once(&entity.id).chain(&entity.names).map(SmolStr::as_str);
            let Some(zone) = self.places.zone(&names.collect::<Vec<_>>())? else {
                return Ok(());
            };
            let origin = Origin::live(zone, tidy(&entity.id), message);
            let reading = Reading { metric, event_ms: message.received_ms, value };
            taken.add(&origin, reading, message, context.limits.readings_max);
        }
        Ok(())
    }
}

impl Convention for HomeAssistant {
    fn take(&mut self, message: &Message, context: &Context<'_>) -> Option<Taken> {
        let levels = below(&message.topic, &self.base);
        if let Some(levels) = levels
            && let Some(topic) = ConfigTopic::parse(levels)
        {
            self.learn(levels, &topic, &message.payload);
            return Some(Taken::nothing());
        }
        if levels == Some("status") {
            return Some(Taken::nothing());
        }
        let names: Vec<SmolStr> = self.by_topic.find(&message.topic).into_iter().cloned().collect();
        if names.is_empty() {
            return None;
        }
        // These are used now.
        for name in &names {
            self.entities.get(name);
        }
        let is_state = |entity: &&Entity| {
            entity.state_topic.as_ref().is_some_and(|filter| is_match(filter, &message.topic))
        };
        let known = names.iter().filter_map(|name| self.entities.peek(name)).flatten();
        let states: Vec<&Entity> = known.filter(is_state).collect();
        if states.is_empty() || message.payload.is_empty() {
            return Some(Taken::nothing());
        }
        let text =
            context.check_size(&message.payload).and_then(|()| value::text(&message.payload));
        let text = match text {
            Ok(text) => text,
            Err(refusal) => return Some(Taken::refused(refusal)),
        };
        let json = serde_json::from_str(text).ok();
        let mut taken = Taken::nothing();
        for entity in states {
            let read = self.read(entity, text, json.as_ref(), message, context, &mut taken);
            taken.left_out.extend(read.err());
        }
        Some(taken)
    }

    fn entities(&self) -> EntityCounts {
        self.entities.counts()
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
