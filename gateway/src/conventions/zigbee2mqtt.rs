//! Zigbee2MQTT: `zigbee2mqtt/<friendly name>` with a JSON object of properties;
//! `bridge/devices` tells their units.
//!
//! Source: <https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html>
//! and <https://www.zigbee2mqtt.io/guide/usage/exposes.html>, version 2; of version 1 what was
//! otherwise (<https://github.com/Koenkk/zigbee2mqtt/discussions/24198>).

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use telemetry::{MetricTable, Reading, SmolStr, TimeParser, TimeUsage};
use tracing::warn;

use super::{
    Context, Convention, Refusal, Taken, base, below,
    entity_store::{EntityCounts, EntityStore},
    place::{Places, tidy},
    quantity::{Builtin, Found, Quantities, is, no},
    settings::Mapping,
    taken::Origin,
    value,
};
use crate::message::Message;

/// Properties, with the unit that Zigbee2MQTT's converters give them where a
/// device does not say another.
const BUILTIN: &[Builtin] = &[
    is("temperature", "temperature", Some("°C")),
    is("local_temperature", "temperature", Some("°C")),
    is("soil_temperature", "soil_temperature", Some("°C")),
    is("humidity", "humidity", Some("%")),
    is("soil_moisture", "soil_moisture", Some("%")),
    is("co2", "co2", Some("ppm")),
    is("humidity_soil", "soil_moisture", Some("%")),
    is("temperature_soil", "soil_temperature", Some("°C")),
    // Since version 2, `illuminance` is in lux; before, `illuminance_lux` was.
    is("illuminance", "light", Some("lx")),
    is("illuminance_lux", "light", Some("lx")),
    no(RAW_ILLUMINANCE),
    is("soil_fertility", "ec", Some("µS/cm")),
    is("fertility", "ec", Some("µS/cm")),
    is("ec", "ec", Some("µS/cm")),
    is("ph", "ph", Some("pH")),
    is("external_temperature", "temperature", Some("°C")),
    is("temperature_external", "temperature", Some("°C")),
    is("temperature_probe", "temperature", Some("°C")),
    is("wind_direction", "wind_direction", Some("°")),
    is("precipitation", "rain", Some("mm")),
    is("rain_intensity", "rain_rate", None),
    is("leaf_wetness", "leaf_wetness", Some("%")),
    is("pressure", "pressure", Some("hPa")),
    is("occupancy", "motion", Some("count")),
    is("presence", "motion", Some("count")),
    is("wind_speed", "wind_speed", Some("m/s")),
    is("pi_heating_demand", "heater", Some("%")),
    // Of a battery in mV, of the mains in V: the unit must have been told.
    is("voltage", "battery", None),
    no(MAINS_VOLTAGE),
    // A share of the charge, not volts.
    no("battery"),
    no("linkquality"),
    no("device_temperature"),
    no("last_seen"),
    no("brightness"),
    no("color_temp"),
    no("color_temp_startup"),
    no("power"),
    no("power_factor"),
    no("current"),
    no("energy"),
    no("ac_frequency"),
    no("power_outage_count"),
    no("trigger_count"),
    no("position"),
    no("occupied_heating_setpoint"),
    no("occupied_cooling_setpoint"),
    no("current_heating_setpoint"),
    no("local_temperature_calibration"),
    no("temperature_calibration"),
    no("humidity_calibration"),
    no("occupancy_timeout"),
    no("illuminance_raw"),
    no("no_occupancy_since"),
    // Of the air, and of a pool; no metrics of ours.
    no("dew_point"),
    no("voc"),
    no("voc_index"),
    no("eco2"),
    no("formaldehyd"),
    no("pm1"),
    no("pm10"),
    no("pm25"),
    no("aqi"),
    no("uv_index"),
    no("tds"),
    no("orp"),
    no("salinity"),
    no("free_chlorine"),
    no("noise"),
    // Settings, and what devices count.
    no("action_duration"),
    no("battery_low"),
    no("countdown"),
    no("detection_distance"),
    no("detection_interval"),
    no("illuminance_calibration"),
    no("illuminance_sampling"),
    no("measurement_interval"),
    no("radar_sensitivity"),
    no("motion_sensitivity"),
    no("presence_timeout"),
    no("soil_calibration"),
    no("soil_sampling"),
    no("soil_warning"),
    no("target_distance"),
    no("temperature_sampling"),
    no("humidity_sampling"),
    no("temperature_sensitivity"),
    no("humidity_sensitivity"),
    no("min_temperature_limit"),
    no("max_temperature_limit"),
    no("valve_opening_degree"),
    no("running_time"),
    no("produced_energy"),
];

/// What the illuminance of version 1 is called here: 10 000 · log₁₀(lux) + 1 (Zigbee cluster
/// library, 4.2.2.2.1).
const RAW_ILLUMINANCE: &str = "illuminance (raw)";

/// What the voltage of a plug is called here; a device cannot name it so.
const MAINS_VOLTAGE: &str = "voltage (mains)";

/// Exposed features within features, at most: a `composite` in a `light`.
const DEPTH_MAX: usize = 4;

/// Properties that a device exposes, with their units where they have one.
type ExposedUnits = HashMap<SmolStr, Option<SmolStr>>;

#[derive(Debug)]
pub(super) struct Zigbee2Mqtt {
    base: String,
    places: Places,
    quantities: Quantities,
    /// The units of properties that are exposed, by friendly name.
    units: EntityStore<ExposedUnits>,
    time_parser: TimeParser,
    entities_max: usize,
}

impl Zigbee2Mqtt {
    pub(super) fn new(mapping: &Mapping, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: base(mapping, "zigbee2mqtt")?,
            places: Places::new(mapping)?,
            quantities: Quantities::new(mapping, BUILTIN, metrics)?,
            units: EntityStore::new(mapping.entities_max),
            time_parser: TimeParser::new(TimeUsage::Live),
            entities_max: mapping.entities_max,
        })
    }

    fn learn(&mut self, payload: &[u8]) {
        let devices: Vec<Device> = match serde_json::from_slice(payload) {
            Ok(devices) => devices,
            Err(error) => {
                warn!(base = self.base, %error, "bridge/devices cannot be read; units stay as they were");
                return;
            }
        };
        // The list is always of all devices.
        let listed: HashSet<&SmolStr> = devices.iter().map(|own| &own.friendly_name).collect();
        let gone: Vec<SmolStr> =
            self.units.names().filter(|name| !listed.contains(name)).cloned().collect();
        gone.iter().for_each(|name| drop(self.units.remove(name)));
        for Device { friendly_name, definition } in devices {
            let mut units = HashMap::new();
            let mut left = self.entities_max;
            for exposed in definition.into_iter().flat_map(|definition| definition.exposes) {
                exposed.collect_units(DEPTH_MAX, &mut left, &mut units);
            }
            if !units.is_empty() {
                let weight = units.len();
                self.units.update(&friendly_name, units, weight);
            }
        }
    }

    /// The readings of one device.
    fn readings(
        &mut self,
        name: &str,
        properties: &Map<String, Value>,
        message: &Message,
        context: &Context<'_>,
    ) -> Result<Taken, Refusal> {
        let Some(zone) = self.places.zone(&[name])? else { return Ok(Taken::nothing()) };
        let device = tidy(name);
        let event_ms = match properties.get("last_seen") {
            None => message.received_ms,
            // `last_seen: ISO_8601_local` carries its offset.
            Some(stamp) => value::event_ms("last_seen", stamp, &self.time_parser, message)?,
        };
        let units = self.units.get(name).cloned();
        let mut taken = Taken::nothing().owned_by(&zone, &device);
        let origin = Origin::live(zone, device, message);
        for (property, value) in properties {
            let exposed = units.as_ref().and_then(|units| units.get(property.as_str()));
            let unit = exposed.and_then(|unit| unit.as_deref());
            // Version 1 tells no unit of what is raw, and has the lux beside it.
            let is_raw = property == "illuminance"
                && (properties.contains_key("illuminance_lux") || exposed == Some(&None));
            let builtin = match property.as_str() {
                "voltage" if unit == Some("V") => MAINS_VOLTAGE,
                "illuminance" if is_raw => RAW_ILLUMINANCE,
                property => property,
            };
            let path = format!("{name}/{property}");
            let found = Found { names: &[&path, property], builtin, unit };
            // A state (`"ON"`), an action, an update is no reading, unless a
            // rule or a built-in name says so.
            if !value.is_number() && !self.quantities.wants(&found) {
                continue;
            }
            let read = value::number_and_unit(property, value)
                .and_then(|value| self.quantities.read_with_unit(&found, value, context.metrics));
            match read {
                Ok(Some((metric, value))) => {
                    let reading = Reading { metric, event_ms, value };
                    taken.add(&origin, reading, message, context.limits.readings_max);
                }
                Ok(None) => {}
                Err(refusal) => taken.left_out.push(refusal),
            }
        }
        Ok(taken)
    }
}

impl Convention for Zigbee2Mqtt {
    fn take(&mut self, message: &Message, context: &Context<'_>) -> Option<Taken> {
        let name = below(&message.topic, &self.base)?;
        if name == "bridge/devices" {
            self.learn(&message.payload);
            return Some(Taken::nothing());
        }
        if is_not_a_reading(name) || message.payload.is_empty() {
            return Some(Taken::nothing());
        }
        let taken = context.check_size(&message.payload).and_then(|()| {
            match value::document(&message.payload)? {
                Value::Object(properties) => self.readings(name, &properties, message, context),
                // `advanced.output: attribute`: a property a topic.
                value => match name.rsplit_once('/') {
                    Some((name, property)) => {
                        let properties = Map::from_iter([(property.to_owned(), value)]);
                        self.readings(name, &properties, message, context)
                    }
                    None => Ok(Taken::nothing()),
                },
            }
        });
        Some(taken.unwrap_or_else(Taken::refused))
    }

    fn entities(&self) -> EntityCounts {
        self.units.counts()
    }

    #[cfg(fuzzing)]
    fn forget(&mut self) {
        self.units.clear();
    }

    fn metadata_filters(&self) -> Vec<String> {
        vec![format!("{}/bridge/devices", self.base)]
    }
}

/// `bridge/…`, `<name>/availability`, and commands: `<name>/set`,
/// `<name>/set/<property>`, `<name>/get`, `<name>/get/<property>`.
fn is_not_a_reading(name: &str) -> bool {
    let mut from_last = name.rsplit('/');
    let (last, before) = (from_last.next(), from_last.next());
    let is_command = |level| matches!(level, Some("set" | "get"));
    name == "bridge"
        || name.starts_with("bridge/")
        || (before.is_some() && (last == Some("availability") || is_command(last)))
        || (from_last.next().is_some() && is_command(before))
}

/// One of the list in `bridge/devices`.
#[derive(Debug, Deserialize)]
struct Device {
    friendly_name: SmolStr,
    /// None for a device that Zigbee2MQTT does not know.
    definition: Option<Definition>,
}

#[derive(Debug, Deserialize)]
struct Definition {
    #[serde(default)]
    exposes: Vec<Exposed>,
}

/// A capability, or several of them.
#[derive(Debug, Deserialize)]
struct Exposed {
    property: Option<SmolStr>,
    unit: Option<SmolStr>,
    #[serde(default)]
    features: Vec<Exposed>,
}

impl Exposed {
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
        // A device may be called so.
        check("set", false);
        check("availability", false);
    }
}
