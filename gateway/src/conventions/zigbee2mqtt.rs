//! Zigbee2MQTT: `zigbee2mqtt/<friendly name>` with a JSON object of properties; `bridge/devices`
//! announces their units.
//!
//! Source: <https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html> and
//! <https://www.zigbee2mqtt.io/guide/usage/exposes.html>, version 2; the differences of version 1
//! (<https://github.com/Koenkk/zigbee2mqtt/discussions/24198>).

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use telemetry::{MetricTable, SensorReading, SmolStr, TimeParser, TimeUsage};
use tracing::warn;

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

/// Properties, with the unit of Zigbee2MQTT's converters if a device does not announce another.
const BUILTIN: &[BuiltinName] = &[
    metric_named("temperature", "temperature", Some("°C")),
    metric_named("local_temperature", "temperature", Some("°C")),
    metric_named("soil_temperature", "soil_temperature", Some("°C")),
    metric_named("humidity", "humidity", Some("%")),
    metric_named("soil_moisture", "soil_moisture", Some("%")),
    metric_named("co2", "co2", Some("ppm")),
    metric_named("humidity_soil", "soil_moisture", Some("%")),
    metric_named("temperature_soil", "soil_temperature", Some("°C")),
    // Since version 2, `illuminance` is in lux. Before that, `illuminance_lux` was.
    metric_named("illuminance", "light", Some("lx")),
    metric_named("illuminance_lux", "light", Some("lx")),
    not_a_reading(RAW_ILLUMINANCE),
    metric_named("soil_fertility", "ec", Some("µS/cm")),
    metric_named("fertility", "ec", Some("µS/cm")),
    metric_named("ec", "ec", Some("µS/cm")),
    metric_named("ph", "ph", Some("pH")),
    metric_named("external_temperature", "temperature", Some("°C")),
    metric_named("temperature_external", "temperature", Some("°C")),
    metric_named("temperature_probe", "temperature", Some("°C")),
    metric_named("wind_direction", "wind_direction", Some("°")),
    metric_named("precipitation", "rain", Some("mm")),
    metric_named("rain_intensity", "rain_rate", None),
    metric_named("leaf_wetness", "leaf_wetness", Some("%")),
    metric_named("pressure", "pressure", Some("hPa")),
    metric_named("occupancy", "motion", Some("count")),
    metric_named("presence", "motion", Some("count")),
    metric_named("wind_speed", "wind_speed", Some("m/s")),
    metric_named("pi_heating_demand", "heater", Some("%")),
    // The voltage of a battery in mV, or of the mains in V: the unit must have been announced.
    metric_named("voltage", "battery", None),
    not_a_reading(MAINS_VOLTAGE),
    // The charge in percent, not volts.
    not_a_reading("battery"),
    not_a_reading("linkquality"),
    not_a_reading("device_temperature"),
    not_a_reading("last_seen"),
    not_a_reading("brightness"),
    not_a_reading("color_temp"),
    not_a_reading("color_temp_startup"),
    not_a_reading("power"),
    not_a_reading("power_factor"),
    not_a_reading("current"),
    not_a_reading("energy"),
    not_a_reading("ac_frequency"),
    not_a_reading("power_outage_count"),
    not_a_reading("trigger_count"),
    not_a_reading("position"),
    not_a_reading("occupied_heating_setpoint"),
    not_a_reading("occupied_cooling_setpoint"),
    not_a_reading("current_heating_setpoint"),
    not_a_reading("local_temperature_calibration"),
    not_a_reading("temperature_calibration"),
    not_a_reading("humidity_calibration"),
    not_a_reading("occupancy_timeout"),
    not_a_reading("illuminance_raw"),
    not_a_reading("no_occupancy_since"),
    // Values of the air or of a pool that are not metrics here.
    not_a_reading("dew_point"),
    not_a_reading("voc"),
    not_a_reading("voc_index"),
    not_a_reading("eco2"),
    not_a_reading("formaldehyd"),
    not_a_reading("pm1"),
    not_a_reading("pm10"),
    not_a_reading("pm25"),
    not_a_reading("aqi"),
    not_a_reading("uv_index"),
    not_a_reading("tds"),
    not_a_reading("orp"),
    not_a_reading("salinity"),
    not_a_reading("free_chlorine"),
    not_a_reading("noise"),
    // Settings, and counters of devices.
    not_a_reading("action_duration"),
    not_a_reading("battery_low"),
    not_a_reading("countdown"),
    not_a_reading("detection_distance"),
    not_a_reading("detection_interval"),
    not_a_reading("illuminance_calibration"),
    not_a_reading("illuminance_sampling"),
    not_a_reading("measurement_interval"),
    not_a_reading("radar_sensitivity"),
    not_a_reading("motion_sensitivity"),
    not_a_reading("presence_timeout"),
    not_a_reading("soil_calibration"),
    not_a_reading("soil_sampling"),
    not_a_reading("soil_warning"),
    not_a_reading("target_distance"),
    not_a_reading("temperature_sampling"),
    not_a_reading("humidity_sampling"),
    not_a_reading("temperature_sensitivity"),
    not_a_reading("humidity_sensitivity"),
    not_a_reading("min_temperature_limit"),
    not_a_reading("max_temperature_limit"),
    not_a_reading("valve_opening_degree"),
    not_a_reading("running_time"),
    not_a_reading("produced_energy"),
];

/// The name of version 1's illuminance here: 10 000 · log₁₀(lux) + 1 (Zigbee cluster library,
/// 4.2.2.2.1).
const RAW_ILLUMINANCE: &str = "illuminance (raw)";

/// The name of a plug's voltage here. No device can have it.
const MAINS_VOLTAGE: &str = "voltage (mains)";

/// Largest nesting depth of exposed features: a `composite` in a `light`.
const DEPTH_MAX: usize = 4;

/// The properties that a device exposes, with their units if they have one.
type ExposedUnits = HashMap<SmolStr, Option<SmolStr>>;

#[derive(Debug)]
pub(super) struct Zigbee2MqttConvention {
    base: String,
    places: ZoneResolver,
    quantities: QuantityRules,
    /// The units of exposed properties, by friendly name.
    units: EntityStore<ExposedUnits>,
    time_parser: TimeParser,
    entities_max: usize,
}

impl Zigbee2MqttConvention {
    pub(super) fn new(mapping: &MappingSettings, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: topic_base(mapping, "zigbee2mqtt")?,
            places: ZoneResolver::new(mapping)?,
            quantities: QuantityRules::new(mapping, BUILTIN, metrics)?,
            units: EntityStore::new(mapping.entities_max),
            time_parser: TimeParser::new(TimeUsage::Live),
            entities_max: mapping.entities_max,
        })
    }

    fn learn_units(&mut self, payload: &[u8]) {
        let devices: Vec<Zigbee2MqttDevice> = match serde_json::from_slice(payload) {
            Ok(devices) => devices,
            Err(error) => {
                warn!(base = self.base, %error, "cannot read bridge/devices; units stay as they are");
                return;
            }
        };
        // The list always contains all devices.
        let listed: HashSet<&SmolStr> =
            devices.iter().map(|device| &device.friendly_name).collect();
        let removed: Vec<SmolStr> =
            self.units.names().filter(|name| !listed.contains(name)).cloned().collect();
        removed.iter().for_each(|name| drop(self.units.remove(name)));
        for Zigbee2MqttDevice { friendly_name, definition } in devices {
            let mut units = HashMap::new();
            let mut left = self.entities_max;
            for exposed in definition.into_iter().flat_map(|definition| definition.exposes) {
                exposed.collect_units(DEPTH_MAX, &mut left, &mut units);
            }
            if !units.is_empty() {
                let weight = units.len();
                self.units.insert_unused(&friendly_name, units, weight);
            }
        }
    }

    /// Decodes the readings of one device.
    fn decode_readings(
        &mut self,
        name: &str,
        properties: &Map<String, Value>,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Result<MappedMessage, ReadingRefusal> {
        let Some(zone) = self.places.find_zone(&[name])? else {
            return Ok(MappedMessage::without_readings());
        };
        let device = sanitize_name(name);
        let event_ms = match properties.get("last_seen") {
            None => message.received_ms,
            // `last_seen: ISO_8601_local` includes its offset.
            Some(stamp) => payload_value::event_ms("last_seen", stamp, &self.time_parser, message)?,
        };
        let units = self.units.get(name).cloned();
        let mut mapped = MappedMessage::without_readings().with_owner(&zone, &device);
        let origin = ReadingOrigin::from_message(zone, device, message);
        for (property, value) in properties {
            let exposed = units.as_ref().and_then(|units| units.get(property.as_str()));
            let unit = exposed.and_then(|unit| unit.as_deref());
            // Version 1 announces no unit of raw values, and sends lux in addition.
            let is_raw = property == "illuminance"
                && (properties.contains_key("illuminance_lux") || exposed == Some(&None));
            let builtin = match property.as_str() {
                "voltage" if unit == Some("V") => MAINS_VOLTAGE,
                "illuminance" if is_raw => RAW_ILLUMINANCE,
                property => property,
            };
            let path = format!("{name}/{property}");
            let found = FoundValue { names: &[&path, property], builtin, unit };
            // A state (`"ON"`), an action or an update is not a reading, unless a rule or a
            // built-in name matches it.
            if !value.is_number() && !self.quantities.is_metric(&found) {
                continue;
            }
            let read = payload_value::parse_json_quantity(property, value)
                .and_then(|value| self.quantities.read_quantity(&found, value, context.metrics));
            match read {
                Ok(Some((metric, value))) => {
                    let reading = SensorReading { metric, event_ms, value };
                    mapped.add_reading(&origin, reading, message, context.limits.readings_max);
                }
                Ok(None) => {}
                Err(refusal) => mapped.rejected_readings.push(refusal),
            }
        }
        Ok(mapped)
    }
}

impl Convention for Zigbee2MqttConvention {
    fn decode_message(
        &mut self,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Option<MappedMessage> {
        let name = strip_base(&message.topic, &self.base)?;
        if name == "bridge/devices" {
            self.learn_units(&message.payload);
            return Some(MappedMessage::without_readings());
        }
        if is_not_a_reading(name) || message.payload.is_empty() {
            return Some(MappedMessage::without_readings());
        }
        let mapped = context.check_size(&message.payload).and_then(|()| {
            match payload_value::parse_document(&message.payload)? {
                Value::Object(properties) => {
                    self.decode_readings(name, &properties, message, context)
                }
                // With `advanced.output: attribute` each property has its own topic.
                value => match name.rsplit_once('/') {
                    Some((name, property)) => {
                        let properties = Map::from_iter([(property.to_owned(), value)]);
                        self.decode_readings(name, &properties, message, context)
                    }
                    None => Ok(MappedMessage::without_readings()),
                },
            }
        });
        Some(mapped.unwrap_or_else(MappedMessage::from_refusal))
    }

    fn entity_counts(&self) -> EntityCounts {
        self.units.entity_counts()
    }

    #[cfg(fuzzing)]
    fn forget(&mut self) {
        self.units.clear();
    }

    fn metadata_filters(&self) -> Vec<String> {
        vec![format!("{}/bridge/devices", self.base)]
    }
}

/// Whether a topic carries no readings: `bridge/…`, `<name>/availability`, and commands:
/// `<name>/set`, `<name>/set/<property>`, `<name>/get`, `<name>/get/<property>`.
fn is_not_a_reading(name: &str) -> bool {
    let mut from_last = name.rsplit('/');
    let (last, before) = (from_last.next(), from_last.next());
    let is_command = |level| matches!(level, Some("set" | "get"));
    name == "bridge"
        || name.starts_with("bridge/")
        || (before.is_some() && (last == Some("availability") || is_command(last)))
        || (from_last.next().is_some() && is_command(before))
}

/// An entry of the list in `bridge/devices`.
#[derive(Debug, Deserialize)]
struct Zigbee2MqttDevice {
    friendly_name: SmolStr,
    /// `None` for a device that Zigbee2MQTT does not know.
    definition: Option<Zigbee2MqttDefinition>,
}

#[derive(Debug, Deserialize)]
struct Zigbee2MqttDefinition {
    #[serde(default)]
    exposes: Vec<ExposedFeature>,
}

/// A capability, or several of them.
#[derive(Debug, Deserialize)]
struct ExposedFeature {
    property: Option<SmolStr>,
    unit: Option<SmolStr>,
    #[serde(default)]
    features: Vec<ExposedFeature>,
}

impl ExposedFeature {
    fn collect_units(self, depth: usize, left: &mut usize, units: &mut ExposedUnits) {
        if let Some(property) = self.property
            && (self.unit.is_some() || property == "illuminance")
            && *left > 0
            && units.insert(property, self.unit).is_none()
        {
            *left -= 1;
        }
        if depth > 0 {
            for feature in self.features {
                feature.collect_units(depth - 1, left, units);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_without_readings() {
        let check = |name: &str, expect: bool| assert_eq!(is_not_a_reading(name), expect, "{name}");
        check("probe", false);
        check("kitchen/probe", false);
        check("kitchen/set/probe", true);
        check("bridge/state", true);
        check("bridge", true);
        check("bridges", false);
        check("probe/availability", true);
        check("kitchen/probe/set", true);
        check("probe/set/state", true);
        check("probe/get", true);
        // A device may have this name.
        check("set", false);
        check("availability", false);
    }
}
