//! Tasmota: `tele/<device>/SENSOR` with an object for each sensor.
//!
//! Source: <https://tasmota.github.io/docs/MQTT/>,
//! <https://tasmota.github.io/docs/Commands/> (`TempUnit` is SetOption8,
//! `PressureUnit` SetOption24), and the payloads on each sensor's page.

use serde_json::{Map, Value};
use telemetry::{MetricTable, Reading, Reason, SmolStr, TimeParser, ZoneId};

use super::{
    Context, Convention, Refusal, Taken,
    pattern::Pattern,
    place::{Places, shorten, tidy},
    quantity::{Builtin, Found, Quantities, is, no},
    settings::Mapping,
    taken::Origin,
    value,
};
use crate::message::Message;

/// Names within a sensor's object, with Tasmota's unit.
const BUILTIN: &[Builtin] = &[
    is("Temperature", "temperature", Some("°C")),
    is("Humidity", "humidity", Some("%")),
    is("Pressure", "pressure", Some("hPa")),
    is("Illuminance", "light", Some("lx")),
    is("CarbonDioxide", "co2", Some("ppm")),
    is("Moisture", "soil_moisture", Some("%")),
    is("Fertility", "ec", Some("µS/cm")),
    is("pH", "ph", Some("pH")),
    is("EC", "ec", None),
    // Of the capacitance of a Chirp!, and of its light the less the brighter: both are raw.
    no(RAW_VALUE),
    no("Darkness"),
    // An analog input that is no sensor by itself.
    no("A#"),
    is("Temperature#", "temperature", Some("°C")),
    is("Illuminance#", "light", Some("lx")),
    no("Range#"),
    no("DewPoint"),
    no("HeatIndex"),
    no("SeaPressure"),
    no("QNH"),
    no("eCO2"),
    no("TVOC"),
    no("Gas"),
    // In per cent, of sensors over Bluetooth.
    no("Battery"),
    no("RSSI"),
    no("Id"),
    no("Address"),
    no("Range"),
    no("Counter"),
    // Its own processor, and the mains.
    no("ESP32"),
    no("ESP8266"),
    no("ENERGY"),
];

/// What a raw value is called here: no sensor can name it so.
const RAW_VALUE: &str = "(raw)";

/// Objects within objects, at most: `ANALOG`, `A0`, `Temperature`.
const DEPTH_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Tasmota {
    sensor: Pattern,
    /// The same topic with any other last level: `STATE`, `LWT`, `INFO1`.
    other: Pattern,
    places: Places,
    quantities: Quantities,
    time_parser: TimeParser,
}

impl Tasmota {
    pub(super) fn new(mapping: &Mapping, metrics: &MetricTable) -> Result<Self, String> {
        let topic = mapping.topic.as_deref().unwrap_or("tele/{device}/SENSOR");
        let pattern =
            |text: &str| Pattern::parse(text, &["device"]).map_err(|what| format!("topic: {what}"));
        let (Some(before), true) = (topic.strip_suffix("SENSOR"), topic.contains("{device}"))
        else {
            return Err(format!(
                "topic = \"{topic}\": expected the device's FullTopic with {{device}} in it and SENSOR at the end, as in \"tele/{{device}}/SENSOR\""
            ));
        };
        Ok(Self {
            sensor: pattern(topic)?,
            other: pattern(&format!("{before}*"))?,
            places: Places::new(mapping)?,
            quantities: Quantities::new(mapping, BUILTIN, metrics)?,
            time_parser: value::time_parser(mapping.time_zone.as_deref())?,
        })
    }

    fn readings(
        &self,
        zone: &ZoneId,
        device: &SmolStr,
        message: &Message,
        context: &Context<'_>,
    ) -> Result<Taken, Refusal> {
        context.check_size(&message.payload)?;
        let Value::Object(fields) = value::document(&message.payload)? else {
            let what = format!(
                "{} is not an object of sensors",
                shorten(&String::from_utf8_lossy(&message.payload))
            );
            return Err((Reason::NotAReading, what));
        };
        let event_ms = match fields.get("Time") {
            Some(stamp) => value::event_ms("Time", stamp, &self.time_parser, message)?,
            None => message.received_ms,
        };
        let unit = |key: &str| fields.get(key).and_then(Value::as_str);
        let mut reader = Reader {
            tasmota: self,
            units: [("Temperature", unit("TempUnit")), ("Pressure", unit("PressureUnit"))],
            zone,
            device,
            event_ms,
            message,
            context,
            taken: Taken::nothing(),
        };
        reader.object("", &fields, DEPTH_MAX);
        Ok(reader.taken)
    }
}

impl Convention for Tasmota {
    fn take(&mut self, message: &Message, context: &Context<'_>) -> Option<Taken> {
        let Some(found) = self.sensor.captures(&message.topic) else {
            return self.other.is_match(&message.topic).then(Taken::nothing);
        };
        if message.payload.is_empty() {
            return Some(Taken::nothing());
        }
        let device = found.name("device").map_or("", |level| level.as_str());
        let taken = self.places.zone(&[device]).map(|zone| {
            let Some(zone) = zone else { return Taken::nothing() };
            let device = tidy(device);
            let taken = self.readings(&zone, &device, message, context);
            taken.unwrap_or_else(Taken::refused).owned_by(&zone, &device)
        });
        Some(taken.unwrap_or_else(Taken::refused))
    }
}

struct Reader<'a> {
    tasmota: &'a Tasmota,
    units: [(&'static str, Option<&'a str>); 2],
    zone: &'a ZoneId,
    device: &'a SmolStr,
    event_ms: i64,
    message: &'a Message,
    context: &'a Context<'a>,
    taken: Taken,
}

impl Reader<'_> {
    /// Reads a sensor's object; `path` names it, as in `ANALOG.A1`.
    fn object(&mut self, path: &str, fields: &Map<String, Value>, depth: usize) {
        let identity = identity(path, fields);
        for (key, value) in fields {
            let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                Value::Object(fields) if depth > 0 => {
                    let found = Found { names: &[&full, key], builtin: key, unit: None };
                    // ENERGY, ESP32: all of it at once, where no rule names one.
                    let is_known = BUILTIN.iter().any(|builtin| builtin.name == key);
                    if is_known
                        && !self.tasmota.quantities.wants(&found)
                        && !self.is_ruled(&full, fields)
                    {
                        continue;
                    }
                    self.object(&full, fields, depth - 1);
                }
                value => self.value(path, identity.as_deref(), key, &full, value),
            }
        }
    }

    fn is_ruled(&self, path: &str, fields: &Map<String, Value>) -> bool {
        fields.keys().any(|key| {
            let full = format!("{path}.{key}");
            self.tasmota.quantities.is_ruled(&Found { names: &[&full], builtin: "", unit: None })
        })
    }

    /// A value of a sensor; `identity` names the sensor where it says who it is.
    fn value(
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
        // `CHIRP0`, `CHIRP1`: what it calls moisture is a capacitance.
        let is_raw = key == "Moisture" && sensor.starts_with("CHIRP");
        let builtin = if is_raw { RAW_VALUE } else { key };
        let found = Found { names: &names, builtin, unit };
        let quantities = &self.tasmota.quantities;
        // Names and states at the top (`"Switch1": "OFF"`) are no readings,
        // unless a rule says so.
        let is_wanted = if sensor.is_empty() {
            quantities.is_ruled(&found)
        } else {
            value.is_number() || quantities.wants(&found)
        };
        if !is_wanted {
            return;
        }
        let read = value::number_and_unit(full, value)
            .and_then(|value| quantities.read_with_unit(&found, value, self.context.metrics));
        // `ANALOG` has `Temperature1` and `Temperature2`: two probes.
        let known = quantities.builtin_of(key).filter(|own| own.unit().is_some());
        let channel = known.map_or("", |own| own.channel);
        match read {
            Ok(Some((metric, value))) => {
                // Each sensor is a device of its own: a board may have two
                // thermometers, and one of them may fail.
                let device = match identity.unwrap_or(sensor) {
                    "" => self.device.clone(),
                    sensor => tidy(&format!("{}.{sensor}{channel}", self.device)),
                };
                let origin = Origin::live(self.zone.clone(), device, self.message);
                let reading = Reading { metric, event_ms: self.event_ms, value };
                self.taken.add(&origin, reading, self.message, self.context.limits.readings_max);
            }
            Ok(None) => {}
            Err(refusal) => self.taken.left_out.push(refusal),
        }
    }
}

/// What a sensor goes by that says who it is: its kind and its own `Id`, as in
/// `DS18B20-3C01F0964F8D`. The number in `DS18B20-2` is a place in the order of the bus: when a
/// probe fails or is added, the ones behind it move
/// (<https://tasmota.github.io/docs/DS18x20/>).
fn identity(path: &str, fields: &Map<String, Value>) -> Option<String> {
    let id = ["Id", "ID"].into_iter().find_map(|key| fields.get(key)?.as_str());
    let id = id.map(str::trim).filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)?;
    let kind = match path.rsplit_once('-') {
        Some((kind, place)) if place.bytes().all(|b| b.is_ascii_digit()) => kind,
        _ => path,
    };
    (!kind.is_empty()).then(|| format!("{kind}-{id}"))
}

/// Longest `Id` that is taken for a name, bytes.
const ID_BYTES_MAX: usize = 32;
