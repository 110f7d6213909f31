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

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use telemetry::{MetricTable, Reading, Reason, SmolStr};
use tracing::{debug, warn};

use self::{
    discovery::{ConfigTopic, Entity},
    value_template::Outcome,
};
use super::{
    Context, Convention, Refusal, Taken, base, below, device_value,
    place::{Places, shorten, tidy},
    quantity::{Builtin, Found, Quantities, is, no},
    settings::Mapping,
    taken::Origin,
    value,
};
use crate::message::Message;

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

/// `<component>/<id>` of the discovery topic, and the entity's id: a device's
/// topic describes several.
type Key = (SmolStr, SmolStr);

#[derive(Debug)]
pub(super) struct HomeAssistant {
    base: String,
    places: Places,
    quantities: Quantities,
    entities: BTreeMap<Key, Entity>,
    /// Which entities a topic is of.
    by_topic: HashMap<SmolStr, BTreeSet<Key>>,
    entities_max: usize,
}

impl HomeAssistant {
    pub(super) fn new(mapping: &Mapping, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: base(mapping, "homeassistant")?,
            places: Places::new(mapping)?,
            quantities: Quantities::new(mapping, BUILTIN, metrics)?,
            entities: BTreeMap::new(),
            by_topic: HashMap::new(),
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
        self.forget(levels);
        for entity in entities {
            if self.entities.len() >= self.entities_max {
                warn!(
                    entities_max = self.entities_max,
                    id = %entity.id,
                    "more entities than entities_max: its states will be dead letters"
                );
                return;
            }
            debug!(component = %entity.component, id = %entity.id, state_topic = ?entity.state_topic, "discovered");
            let key = (SmolStr::new(levels), entity.id.clone());
            for topic in entity.state_topic.iter().chain(&entity.other_topics) {
                self.by_topic.entry(topic.clone()).or_default().insert(key.clone());
            }
            self.entities.insert(key, entity);
        }
    }

    fn forget(&mut self, levels: &str) {
        let first: Key = (SmolStr::new(levels), SmolStr::default());
        let entities = self.entities.range(first..).take_while(|((config, _), _)| config == levels);
        let gone: Vec<Key> = entities.map(|(key, _)| key.clone()).collect();
        for key in gone {
            let Some(entity) = self.entities.remove(&key) else { continue };
            for topic in entity.state_topic.iter().chain(&entity.other_topics) {
                if let Some(keys) = self.by_topic.get_mut(topic) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        self.by_topic.remove(topic);
                    }
                }
            }
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
        let found = Found {
            names: &[&entity.id, object, class],
            builtin: class,
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
        let value = match template.eval(text, json) {
            Outcome::Missing => return Ok(()),
            Outcome::Text(_) if !is_wanted => return Ok(()),
            Outcome::Number(number) if entity.payload_on.parse() == Ok(number) => 1.0,
            Outcome::Number(number) if entity.payload_off.parse() == Ok(number) => 0.0,
            Outcome::Number(number) => number,
            Outcome::Text(state) if state == entity.payload_on => 1.0,
            Outcome::Text(state) if state == entity.payload_off => 0.0,
            Outcome::Text(state) => value::words(&entity.id, &state)?,
        };
        if let Some((metric, value)) = self.quantities.read(&found, value, context.metrics)? {
            let names = std::iter::once(&entity.id).chain(&entity.names).map(SmolStr::as_str);
            let zone = self.places.zone(&names.collect::<Vec<_>>())?;
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
        let keys = self.by_topic.get(&message.topic)?;
        let states = keys.iter().filter_map(|key| self.entities.get(key));
        let states: Vec<&Entity> =
            states.filter(|entity| entity.state_topic.as_ref() == Some(&message.topic)).collect();
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

    #[cfg(fuzzing)]
    fn forget(&mut self) {
        self.entities.clear();
        self.by_topic.clear();
    }

    fn metadata_filters(&self) -> Vec<String> {
        vec![format!("{}/+/+/config", self.base), format!("{}/+/+/+/config", self.base)]
    }
}
