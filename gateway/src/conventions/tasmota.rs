//! Tasmota: `tele/<device>/SENSOR` with an object for each sensor.
//!
//! Source: <https://tasmota.github.io/docs/MQTT/>, <https://tasmota.github.io/docs/Commands/>
//! (`TempUnit` is SetOption8, `PressureUnit` SetOption24), and the payloads on each sensor's
//! page.

use serde_json::{Map, Value};
use telemetry::{DeadLetterReason, MetricTable, SensorReading, SmolStr, TimeParser, ZoneId};

use super::{
    Convention, DecodeContext, MappedMessage, ReadingRefusal,
    mapped_message::ReadingOrigin,
    name_pattern::NamePattern,
    payload_value,
    quantity::{BuiltinName, FoundValue, QuantityRules, metric_named, not_a_reading},
    settings::MappingSettings,
    zone_resolver::{ZoneResolver, sanitize_name, shorten_text},
};
use crate::message::InboundMessage;

/// Names within a sensor's object, with Tasmota's unit.
const BUILTIN: &[BuiltinName] = &[
    metric_named("Temperature", "temperature", Some("°C")),
    metric_named("Humidity", "humidity", Some("%")),
    metric_named("Pressure", "pressure", Some("hPa")),
    metric_named("Illuminance", "light", Some("lx")),
    metric_named("CarbonDioxide", "co2", Some("ppm")),
    metric_named("Moisture", "soil_moisture", Some("%")),
    metric_named("Fertility", "ec", Some("µS/cm")),
    metric_named("pH", "ph", Some("pH")),
    metric_named("EC", "ec", None),
    // The capacitance of a Chirp!, and its light, which falls with brightness: both are raw.
    not_a_reading(RAW_VALUE),
    not_a_reading("Darkness"),
    // An analog input that is not a sensor by itself.
    not_a_reading("A#"),
    metric_named("Temperature#", "temperature", Some("°C")),
    metric_named("Illuminance#", "light", Some("lx")),
    not_a_reading("Range#"),
    not_a_reading("DewPoint"),
    not_a_reading("HeatIndex"),
    not_a_reading("SeaPressure"),
    not_a_reading("QNH"),
    not_a_reading("eCO2"),
    not_a_reading("TVOC"),
    not_a_reading("Gas"),
    // The charge of Bluetooth sensors, in percent.
    not_a_reading("Battery"),
    not_a_reading("RSSI"),
    not_a_reading("Id"),
    not_a_reading("Address"),
    not_a_reading("Range"),
    not_a_reading("Counter"),
    // The board's own processor, and the mains.
    not_a_reading("ESP32"),
    not_a_reading("ESP8266"),
    not_a_reading("ENERGY"),
];

/// The name of raw values here. No sensor can have it.
const RAW_VALUE: &str = "(raw)";

/// Largest nesting depth of objects: `ANALOG`, `A0`, `Temperature`.
const DEPTH_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct TasmotaConvention {
    sensor: NamePattern,
    /// The same topic with any other last level: `STATE`, `LWT`, `INFO1`.
    other: NamePattern,
    places: ZoneResolver,
    quantities: QuantityRules,
    time_parser: TimeParser,
}

impl TasmotaConvention {
    pub(super) fn new(mapping: &MappingSettings, metrics: &MetricTable) -> Result<Self, String> {
        let topic = mapping.topic.as_deref().unwrap_or("tele/{device}/SENSOR");
        let pattern = |text: &str| {
            NamePattern::parse(text, &["device"]).map_err(|what| format!("topic: {what}"))
        };
        let (Some(before), true) = (topic.strip_suffix("SENSOR"), topic.contains("{device}"))
        else {
            return Err(format!(
                "topic = \"{topic}\": expected the device's FullTopic with {{device}} in it and SENSOR at the end, as in \"tele/{{device}}/SENSOR\""
            ));
        };
        Ok(Self {
            sensor: pattern(topic)?,
            other: pattern(&format!("{before}*"))?,
            places: ZoneResolver::new(mapping)?,
            quantities: QuantityRules::new(mapping, BUILTIN, metrics)?,
            time_parser: payload_value::build_time_parser(mapping.time_zone.as_deref())?,
        })
    }

    fn decode_readings(
        &self,
        zone: &ZoneId,
        device: &SmolStr,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Result<MappedMessage, ReadingRefusal> {
        context.check_size(&message.payload)?;
        let Value::Object(fields) = payload_value::parse_document(&message.payload)? else {
            let what = format!(
                "{} is not an object of sensors",
                shorten_text(&String::from_utf8_lossy(&message.payload))
            );
            return Err((DeadLetterReason::NotAReading, what));
        };
        let event_ms = match fields.get("Time") {
            Some(stamp) => payload_value::event_ms("Time", stamp, &self.time_parser, message)?,
            None => message.received_ms,
        };
        let unit = |key: &str| fields.get(key).and_then(Value::as_str);
        let mut reader = TasmotaReader {
            tasmota: self,
            units: [("Temperature", unit("TempUnit")), ("Pressure", unit("PressureUnit"))],
            zone,
            device,
            event_ms,
            message,
            context,
            mapped: MappedMessage::without_readings(),
        };
        reader.read_object("", &fields, DEPTH_MAX);
        Ok(reader.mapped)
    }
}

impl Convention for TasmotaConvention {
    fn decode_message(
        &mut self,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Option<MappedMessage> {
        let Some(found) = self.sensor.captures(&message.topic) else {
            return self.other.is_match(&message.topic).then(MappedMessage::without_readings);
        };
        if message.payload.is_empty() {
            return Some(MappedMessage::without_readings());
        }
        let device = found.name("device").map_or("", |level| level.as_str());
        let mapped = self.places.find_zone(&[device]).map(|zone| {
            let Some(zone) = zone else { return MappedMessage::without_readings() };
            let device = sanitize_name(device);
            let mapped = self.decode_readings(&zone, &device, message, context);
            mapped.unwrap_or_else(MappedMessage::from_refusal).with_owner(&zone, &device)
        });
        Some(mapped.unwrap_or_else(MappedMessage::from_refusal))
    }
}

struct TasmotaReader<'a> {
    tasmota: &'a TasmotaConvention,
    units: [(&'static str, Option<&'a str>); 2],
    zone: &'a ZoneId,
    device: &'a SmolStr,
    event_ms: i64,
    message: &'a InboundMessage,
    context: &'a DecodeContext<'a>,
    mapped: MappedMessage,
}

impl TasmotaReader<'_> {
    /// Reads a sensor's object. `path` is its name, such as `ANALOG.A1`.
    fn read_object(&mut self, path: &str, fields: &Map<String, Value>, depth: usize) {
        let identity = sensor_identity(path, fields);
        for (key, value) in fields {
            let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                Value::Object(fields) if depth > 0 => {
                    let found = FoundValue { names: &[&full, key], builtin: key, unit: None };
                    // ENERGY and ESP32 are skipped as a whole, unless a rule names one of their
                    // values.
                    let is_known = BUILTIN.iter().any(|builtin| builtin.name == key);
                    if is_known
                        && !self.tasmota.quantities.is_metric(&found)
                        && !self.is_ruled(&full, fields)
                    {
                        continue;
                    }
                    self.read_object(&full, fields, depth - 1);
                }
                value => self.read_value(path, identity.as_deref(), key, &full, value),
            }
        }
    }

    fn is_ruled(&self, path: &str, fields: &Map<String, Value>) -> bool {
        fields.keys().any(|key| {
            let full = format!("{path}.{key}");
            self.tasmota.quantities.is_ruled(&FoundValue {
                names: &[&full],
                builtin: "",
                unit: None,
            })
        })
    }

    /// Reads a value of a sensor. `identity` names the sensor if its object identifies it.
    fn read_value(
        &mut self,
        sensor: &str,
        identity: Option<&str>,
        key: &str,
        full: &str,
        value: &Value,
    ) {
        let kind = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let unit = self.units.iter().find(|(name, _)| *name == kind).and_then(|(_, unit)| *unit);
        let by_identity = identity.map(|identity| format!("{identity}.{key}"));
        let names = [by_identity.as_deref().unwrap_or(full), full, key];
        // `CHIRP0`, `CHIRP1`: its "Moisture" is a capacitance.
        let is_raw = key == "Moisture" && sensor.starts_with("CHIRP");
        let builtin = if is_raw { RAW_VALUE } else { key };
        let found = FoundValue { names: &names, builtin, unit };
        let quantities = &self.tasmota.quantities;
        // Names and states at the top level (`"Switch1": "OFF"`) are not readings, unless a rule
        // matches them.
        let is_wanted = if sensor.is_empty() {
            quantities.is_ruled(&found)
        } else {
            value.is_number() || quantities.is_metric(&found)
        };
        if !is_wanted {
            return;
        }
        let read = payload_value::parse_json_quantity(full, value)
            .and_then(|value| quantities.read_quantity(&found, value, self.context.metrics));
        // `ANALOG` has `Temperature1` and `Temperature2`: two probes.
        let known = quantities.find_builtin(key).filter(|builtin| builtin.unit().is_some());
        let channel = known.map_or("", |builtin| builtin.channel);
        match read {
            Ok(Some((metric, value))) => {
                // Each sensor is a device of its own: a board may have two thermometers, and one
                // of them may fail.
                let device = match identity.unwrap_or(sensor) {
                    "" => self.device.clone(),
                    sensor => sanitize_name(&format!("{}.{sensor}{channel}", self.device)),
                };
                let origin = ReadingOrigin::from_message(self.zone.clone(), device, self.message);
                let reading = SensorReading { metric, event_ms: self.event_ms, value };
                self.mapped.add_reading(
                    &origin,
                    reading,
                    self.message,
                    self.context.limits.readings_max,
                );
            }
            Ok(None) => {}
            Err(refusal) => self.mapped.rejected_readings.push(refusal),
        }
    }
}

/// Returns the name of a sensor that identifies itself: its kind and its `Id`, as in
/// `DS18B20-3C01F0964F8D`. The number in `DS18B20-2` is a position on the bus. When a probe fails
/// or is added, the following ones move (<https://tasmota.github.io/docs/DS18x20/>).
fn sensor_identity(path: &str, fields: &Map<String, Value>) -> Option<String> {
    let found = ["Id", "ID"].into_iter().find_map(|key| fields.get(key)?.as_str());
    let id = found.map(str::trim).filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)?;
    let kind = match path.rsplit_once('-') {
        Some((kind, place)) if place.bytes().all(|b| b.is_ascii_digit()) => kind,
        _ => path,
    };
    (!kind.is_empty()).then(|| format!("{kind}-{id}"))
}

/// Longest `Id` that counts as a name, bytes.
const ID_BYTES_MAX: usize = 32;
