//! Homie 3, 4 and 5: `homie/<device>/<node>/<property>` with a bare value. Retained attributes
//! (3, 4) or the device's `$description` (5) state type and unit.
//!
//! Source: <https://homieiot.github.io/specification/spec-core-v3_0_1>,
//! <https://homieiot.github.io/specification/spec-core-v4_0_0>,
//! <https://homieiot.github.io/specification/spec-core-v5_0_0>.

use std::collections::BTreeMap;

use serde::Deserialize;
use telemetry::{MetricTable, SensorReading, SmolStr};
use tracing::{info, warn};

use super::{
    Convention, DecodeContext, MappedMessage, ReadingRefusal,
    entity_store::{EntityCounts, EntityStore},
    mapped_message::ReadingOrigin,
    payload_value,
    quantity::{BuiltinName, FoundValue, QuantityRules, metric_named, not_a_reading},
    settings::MappingSettings,
    strip_base, topic_base,
    zone_resolver::{ZoneResolver, sanitize_name},
};
use crate::message::InboundMessage;

/// Common property ids; Homie does not fix any. If more than one unit is common, the device must
/// have announced it.
const BUILTIN: &[BuiltinName] = &[
    metric_named("temperature", "temperature", None),
    metric_named("humidity", "humidity", Some("%")),
    metric_named("co2", "co2", Some("ppm")),
    metric_named("illuminance", "light", Some("lx")),
    metric_named("light-level", "light", Some("lx")),
    metric_named("lux", "light", Some("lx")),
    metric_named("soil-moisture", "soil_moisture", Some("%")),
    metric_named("soil-temperature", "soil_temperature", None),
    metric_named("pressure", "pressure", None),
    metric_named("wind-speed", "wind_speed", None),
    metric_named("wind-direction", "wind_direction", Some("°")),
    metric_named("ec", "ec", None),
    metric_named("conductivity", "ec", None),
    metric_named("ph", "ph", Some("pH")),
    metric_named("par", "par", Some("µmol/m²/s")),
    metric_named("ppfd", "par", Some("µmol/m²/s")),
    metric_named("irradiance", "irradiance", Some("W/m²")),
    metric_named("solar-radiation", "irradiance", Some("W/m²")),
    metric_named("rain", "rain", None),
    metric_named("rain-rate", "rain_rate", None),
    metric_named("leaf-wetness", "leaf_wetness", Some("%")),
    metric_named("motion", "motion", Some("count")),
    not_a_reading("battery"),
    not_a_reading("battery-level"),
    not_a_reading("rssi"),
    not_a_reading("signal"),
    not_a_reading("uptime"),
    not_a_reading("interval"),
];

/// The announced attributes of a property.
#[derive(Clone, Debug, Default, PartialEq)]
struct HomieProperty {
    datatype: Option<SmolStr>,
    unit: Option<SmolStr>,
}

/// Longest stored unit, bytes.
const TEXT_BYTES_MAX: usize = 64;
/// Longest stored names of a device, its node and its property together, bytes.
const NAMES_BYTES_MAX: usize = 512;

/// Node and property.
type PropertyPath = (SmolStr, SmolStr);

#[derive(Debug)]
pub(super) struct HomieConvention {
    base: String,
    places: ZoneResolver,
    quantities: QuantityRules,
    /// The properties of each device.
    devices: EntityStore<BTreeMap<PropertyPath, HomieProperty>>,
    entities_max: usize,
}

impl HomieConvention {
    pub(super) fn new(mapping: &MappingSettings, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: topic_base(mapping, "homie")?,
            places: ZoneResolver::new(mapping)?,
            quantities: QuantityRules::new(mapping, BUILTIN, metrics)?,
            devices: EntityStore::new(mapping.entities_max),
            entities_max: mapping.entities_max,
        })
    }

    /// Stores the properties of a Homie 5 device, which announces all of them at once.
    fn learn_description(&mut self, device: &str, payload: &[u8]) {
        self.devices.remove(device);
        if payload.is_empty() {
            return; // The device was removed.
        }
        let description: HomieDescription = match serde_json::from_slice(payload) {
            Ok(description) => description,
            Err(error) => {
                warn!(device, %error, "cannot read $description: units are unknown");
                return;
            }
        };
        for (node, DescribedNode { properties }) in description.nodes {
            for (property, described) in properties {
                let DescribedProperty { datatype, unit } = described;
                let path = (node.clone(), property);
                self.learn_property(device, path, |known| {
                    *known = HomieProperty {
                        datatype: datatype.map(truncate_text),
                        unit: unit.map(truncate_text),
                    };
                });
            }
        }
    }

    /// Stores an attribute of Homie 3 or 4, which has a topic of its own.
    fn learn_attribute(
        &mut self,
        device: &str,
        path: PropertyPath,
        attribute: &str,
        payload: &[u8],
    ) {
        if !matches!(attribute, "$datatype" | "$unit") {
            return;
        }
        let Ok(text) = payload_value::payload_text(payload) else { return };
        let text = (!text.is_empty()).then(|| truncate_text(text));
        self.learn_property(device, path, |known| match attribute {
            "$datatype" => known.datatype = text,
            _ => known.unit = text,
        });
    }

    /// Notes an announcement about a property.
    fn learn_property(
        &mut self,
        device: &str,
        path: PropertyPath,
        note: impl FnOnce(&mut HomieProperty),
    ) {
        if device.len() + path.0.len() + path.1.len() > NAMES_BYTES_MAX {
            return;
        }
        let device = SmolStr::new(device);
        if self.devices.peek(&device).is_none() {
            self.devices.insert(&device, BTreeMap::new(), 0);
        }
        let Some(properties) = self.devices.get(&device) else { return };
        if !properties.contains_key(&path) && properties.len() >= self.entities_max {
            return self.devices.count_refused(1);
        }
        note(properties.entry(path).or_default());
        let weight = properties.len();
        self.devices.update_weight(&device, weight);
    }

    fn decode_reading(
        &mut self,
        device: &str,
        path: &PropertyPath,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Result<MappedMessage, ReadingRefusal> {
        context.check_size(&message.payload)?;
        let (node, property) = path;
        let known = self.devices.get(device).and_then(|known| known.get(path)).cloned();
        let datatype = known.as_ref().and_then(|known| known.datatype.as_deref());
        let in_node = format!("{node}/{property}");
        let full = format!("{device}/{in_node}");
        let found = FoundValue {
            names: &[&full, &in_node, property],
            builtin: property,
            unit: known.as_ref().and_then(|known| known.unit.as_deref()),
        };
        let is_number = match datatype {
            Some(datatype) => {
                matches!(datatype, "integer" | "float" | "percent")
                    || (datatype == "boolean" && self.quantities.is_metric(&found))
            }
            // Its attributes have not arrived, or it has none.
            None => self.quantities.is_metric(&found),
        };
        if !is_number && !self.quantities.is_ruled(&found) {
            return Ok(MappedMessage::without_readings());
        }
        let Some(zone) = self.places.find_zone(&[&format!("{device}/{node}"), device])? else {
            return Ok(MappedMessage::without_readings());
        };
        let owner = sanitize_name(device);
        let mut mapped = MappedMessage::without_readings().with_owner(&zone, &owner);
        let read = payload_value::payload_text(&message.payload)
            .and_then(|text| payload_value::parse_text_quantity(&full, text))
            .and_then(|value| self.quantities.read_quantity(&found, value, context.metrics));
        match read {
            Ok(Some((metric, value))) => {
                // A node may be one of several thermometers of its device.
                let origin = ReadingOrigin::from_message(
                    zone,
                    sanitize_name(&format!("{device}.{node}")),
                    message,
                );
                let reading = SensorReading { metric, event_ms: message.received_ms, value };
                mapped.add_reading(&origin, reading, message, context.limits.readings_max);
            }
            Ok(None) => {}
            Err(refusal) => mapped.rejected_readings.push(refusal),
        }
        Ok(mapped)
    }
}

impl Convention for HomieConvention {
    fn decode_message(
        &mut self,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Option<MappedMessage> {
        let levels = strip_base(&message.topic, &self.base)?;
        // Version 5 is a level of its own; no device id in it may be just "5".
        let device_levels = levels.strip_prefix("5/").unwrap_or(levels);
        let levels: Vec<&str> = device_levels.split('/').take(5).collect();
        let payload = &message.payload;
        match levels[..] {
            [device, "$description"] => self.learn_description(device, payload),
            // Versions 3 and 4 announce a device with this topic. An empty message removes it.
            [device, "$homie"] if payload.is_empty() => {
                info!(device, "removed");
                self.devices.remove(device);
            }
            [device, node, property, attribute] if attribute.starts_with('$') => {
                let path = (SmolStr::new(node), SmolStr::new(property));
                self.learn_attribute(device, path, attribute, payload);
            }
            [device, node, property]
                if ![device, node, property].iter().any(|level| level.starts_with('$'))
                    && !payload.is_empty() =>
            {
                let path = (SmolStr::new(node), SmolStr::new(property));
                let mapped = self.decode_reading(device, &path, message, context);
                return Some(mapped.unwrap_or_else(MappedMessage::from_refusal));
            }
            // These topics carry no readings: `$state`, `$nodes`, `$stats/…`, `$broadcast/…`,
            // `…/set`.
            _ => {}
        }
        Some(MappedMessage::without_readings())
    }

    fn entity_counts(&self) -> EntityCounts {
        self.devices.entity_counts()
    }

    #[cfg(fuzzing)]
    fn forget(&mut self) {
        self.devices.clear();
    }

    fn metadata_filters(&self) -> Vec<String> {
        let base = &self.base;
        vec![
            format!("{base}/+/+/+/$datatype"),
            format!("{base}/+/+/+/$unit"),
            format!("{base}/5/+/$description"),
        ]
    }
}

/// The relevant parts of a device's `$description`.
#[derive(Debug, Deserialize)]
struct HomieDescription {
    #[serde(default)]
    nodes: BTreeMap<SmolStr, DescribedNode>,
}

#[derive(Debug, Deserialize)]
struct DescribedNode {
    #[serde(default)]
    properties: BTreeMap<SmolStr, DescribedProperty>,
}

#[derive(Debug, Deserialize)]
struct DescribedProperty {
    datatype: Option<SmolStr>,
    unit: Option<SmolStr>,
}

fn truncate_text(text: impl AsRef<str>) -> SmolStr {
    let text = text.as_ref();
    SmolStr::new(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
}
