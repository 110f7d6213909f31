//! Homie 3, 4 and 5: `homie/<device>/<node>/<property>` with a bare value;
//! retained attributes (3, 4) or the device's `$description` (5) tell type and
//! unit.
//!
//! Source: <https://homieiot.github.io/specification/spec-core-v3_0_1>,
//! <https://homieiot.github.io/specification/spec-core-v4_0_0>,
//! <https://homieiot.github.io/specification/spec-core-v5_0_0>.

use std::collections::BTreeMap;

use serde::Deserialize;
use telemetry::{MetricTable, Reading, SmolStr};
use tracing::{info, warn};

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

/// Property ids that are common; Homie fixes none of them. Units must have
/// been told, where more than one is common.
const BUILTIN: &[Builtin] = &[
    is("temperature", "temperature", None),
    is("humidity", "humidity", Some("%")),
    is("co2", "co2", Some("ppm")),
    is("illuminance", "light", Some("lx")),
    is("light-level", "light", Some("lx")),
    is("lux", "light", Some("lx")),
    is("soil-moisture", "soil_moisture", Some("%")),
    is("soil-temperature", "soil_temperature", None),
    is("pressure", "pressure", None),
    is("wind-speed", "wind_speed", None),
    is("wind-direction", "wind_direction", Some("°")),
    is("ec", "ec", None),
    is("conductivity", "ec", None),
    is("ph", "ph", Some("pH")),
    is("par", "par", Some("µmol/m²/s")),
    is("ppfd", "par", Some("µmol/m²/s")),
    is("irradiance", "irradiance", Some("W/m²")),
    is("solar-radiation", "irradiance", Some("W/m²")),
    is("rain", "rain", None),
    is("rain-rate", "rain_rate", None),
    is("leaf-wetness", "leaf_wetness", Some("%")),
    is("motion", "motion", Some("count")),
    no("battery"),
    no("battery-level"),
    no("rssi"),
    no("signal"),
    no("uptime"),
    no("interval"),
];

/// What is known of a property.
#[derive(Clone, Debug, Default, PartialEq)]
struct Property {
    datatype: Option<SmolStr>,
    unit: Option<SmolStr>,
}

/// Longest unit that is kept, bytes.
const TEXT_BYTES_MAX: usize = 64;
/// Longest names of a device, its node and its property that are kept, bytes.
const NAMES_BYTES_MAX: usize = 512;

/// Node and property.
type Path = (SmolStr, SmolStr);

#[derive(Debug)]
pub(super) struct Homie {
    base: String,
    places: Places,
    quantities: Quantities,
    /// Properties by device.
    devices: EntityStore<BTreeMap<Path, Property>>,
    entities_max: usize,
}

impl Homie {
    pub(super) fn new(mapping: &Mapping, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: base(mapping, "homie")?,
            places: Places::new(mapping)?,
            quantities: Quantities::new(mapping, BUILTIN, metrics)?,
            devices: EntityStore::new(mapping.entities_max),
            entities_max: mapping.entities_max,
        })
    }

    /// Homie 5: a device tells all of its properties at once.
    fn learn_description(&mut self, device: &str, payload: &[u8]) {
        self.devices.remove(device);
        if payload.is_empty() {
            return; // The device is gone.
        }
        let description: Description = match serde_json::from_slice(payload) {
            Ok(description) => description,
            Err(error) => {
                warn!(device, %error, "$description cannot be read: units are not known");
                return;
            }
        };
        for (node, Node { properties }) in description.nodes {
            for (property, described) in properties {
                let Described { datatype, unit } = described;
                let path = (node.clone(), property);
                self.learn(device, path, |known| {
                    *known = Property { datatype: datatype.map(short), unit: unit.map(short) };
                });
            }
        }
    }

    /// Homie 3 and 4: an attribute has a topic of its own.
    fn learn_attribute(&mut self, device: &str, path: Path, attribute: &str, payload: &[u8]) {
        if !matches!(attribute, "$datatype" | "$unit") {
            return;
        }
        let Ok(text) = value::text(payload) else { return };
        let text = (!text.is_empty()).then(|| short(text));
        self.learn(device, path, |known| match attribute {
            "$datatype" => known.datatype = text,
            _ => known.unit = text,
        });
    }

    /// Notes what a message says of a property.
    fn learn(&mut self, device: &str, path: Path, note: impl FnOnce(&mut Property)) {
        if device.len() + path.0.len() + path.1.len() > NAMES_BYTES_MAX {
            return;
        }
        let device = SmolStr::new(device);
        if self.devices.peek(&device).is_none() {
            self.devices.insert(&device, BTreeMap::new(), 0);
        }
        let Some(properties) = self.devices.get(&device) else { return };
        if !properties.contains_key(&path) && properties.len() >= self.entities_max {
            return self.devices.refuse(1);
        }
        note(properties.entry(path).or_default());
        let weight = properties.len();
        self.devices.reweigh(&device, weight);
    }

    fn reading(
        &mut self,
        device: &str,
        path: &Path,
        message: &Message,
        context: &Context<'_>,
    ) -> Result<Taken, Refusal> {
        context.check_size(&message.payload)?;
        let (node, property) = path;
        let known = self.devices.get(device).and_then(|known| known.get(path)).cloned();
        let datatype = known.as_ref().and_then(|known| known.datatype.as_deref());
        let in_node = format!("{node}/{property}");
        let full = format!("{device}/{in_node}");
        let found = Found {
            names: &[&full, &in_node, property],
            builtin: property,
            unit: known.as_ref().and_then(|known| known.unit.as_deref()),
        };
        let is_number = match datatype {
            Some(datatype) => {
                matches!(datatype, "integer" | "float" | "percent")
                    || (datatype == "boolean" && self.quantities.wants(&found))
            }
            // Its attributes have not come, or it has none.
            None => self.quantities.wants(&found),
        };
        if !is_number && !self.quantities.is_ruled(&found) {
            return Ok(Taken::nothing());
        }
        let Some(zone) = self.places.zone(&[&format!("{device}/{node}"), device])? else {
            return Ok(Taken::nothing());
        };
        let owner = tidy(device);
        let mut taken = Taken::nothing().owned_by(&zone, &owner);
        let read = value::text(&message.payload)
            .and_then(|text| value::words_and_unit(&full, text))
            .and_then(|value| self.quantities.read_with_unit(&found, value, context.metrics));
        match read {
            Ok(Some((metric, value))) => {
                // A node may be one of several thermometers of its device.
                let origin = Origin::live(zone, tidy(&format!("{device}.{node}")), message);
                let reading = Reading { metric, event_ms: message.received_ms, value };
                taken.add(&origin, reading, message, context.limits.readings_max);
            }
            Ok(None) => {}
            Err(refusal) => taken.left_out.push(refusal),
        }
        Ok(taken)
    }
}

impl Convention for Homie {
    fn take(&mut self, message: &Message, context: &Context<'_>) -> Option<Taken> {
        let levels = below(&message.topic, &self.base)?;
        // Version 5 is a level of its own; no device id of it may be "5" alone.
        let levels = levels.strip_prefix("5/").unwrap_or(levels);
        let levels: Vec<&str> = levels.split('/').take(5).collect();
        let payload = &message.payload;
        match levels[..] {
            [device, "$description"] => self.learn_description(device, payload),
            // Version 3 and 4 say when a device is there; an empty one, that
            // it is not any more.
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
                let taken = self.reading(device, &path, message, context);
                return Some(taken.unwrap_or_else(Taken::refused));
            }
            // `$state`, `$nodes`, `$stats/…`, `$broadcast/…`, `…/set`.
            _ => {}
        }
        Some(Taken::nothing())
    }

    fn entities(&self) -> EntityCounts {
        self.devices.counts()
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

/// A device's `$description`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Description {
    #[serde(default)]
    nodes: BTreeMap<SmolStr, Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(default)]
    properties: BTreeMap<SmolStr, Described>,
}

#[derive(Debug, Deserialize)]
struct Described {
    datatype: Option<SmolStr>,
    unit: Option<SmolStr>,
}

fn short(text: impl AsRef<str>) -> SmolStr {
    let text = text.as_ref();
    SmolStr::new(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
}
