//! The tables `[[mappings]]` of the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::SmolStr;

/// The convention of a mapping's topics and payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConventionName {
    /// Topics of the user's own design.
    Template,
    /// ChirpStack 4 and 3: `application/<id>/device/<EUI>/event/up`.
    Chirpstack,
    /// ESPHome without discovery: `<prefix>/sensor/<id>/state`.
    Esphome,
    /// OpenMQTTGateway and Theengs without discovery: `home/<gateway>/BTtoMQTT/<MAC>`.
    Openmqttgateway,
    /// rtl_433: `rtl_433/<host>/events`, `rtl_433/<host>/devices/…`.
    #[serde(rename = "rtl_433")]
    Rtl433,
    /// Sensor Measurement Lists (RFC 8428).
    Senml,
    /// Shelly of the second generation and later: `<id>/events/rpc`, `<id>/status/<component>`.
    Shelly,
    /// The Things Stack: `v3/<application>/devices/<device>/up`.
    TheThingsStack,
    /// ThingsBoard: `v1/devices/me/telemetry`, `v1/gateway/telemetry`.
    Thingsboard,
    /// Zigbee2MQTT: `zigbee2mqtt/<friendly name>`.
    Zigbee2mqtt,
    /// Tasmota: `tele/<device>/SENSOR`.
    Tasmota,
    /// Home Assistant's MQTT discovery.
    HomeAssistant,
    /// Homie 3, 4 and 5.
    Homie,
    /// Eclipse Sparkplug B: `spBv1.0/…`.
    Sparkplug,
}

/// One table `[[mappings]]`; `docs/conventions.md` explains each key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in docs/conventions.md
pub struct MappingSettings {
    pub convention: ConventionName,
    pub base: Option<String>,
    pub topic: Option<String>,
    pub site: SmolStr,
    pub zone: Option<SmolStr>,
    #[serde(default)]
    pub zones: Vec<ZoneRule>,
    #[serde(default)]
    pub metrics: BTreeMap<SmolStr, MetricRule>,
    #[serde(default)]
    pub unknown: Option<UnknownValuePolicy>,
    #[serde(default)]
    pub ignore: Vec<String>,
    pub time_zone: Option<String>,
    pub device: Option<String>,
    pub zone_at: Option<String>,
    pub records: Option<String>,
    #[serde(default)]
    pub fields: OneOrMany,
    #[serde(default)]
    pub timestamp: OneOrMany,
    pub sequence: Option<String>,
    pub boot: Option<String>,
    pub metric: Option<String>,
    pub value: Option<String>,
    pub unit: Option<String>,
    #[serde(default = "entities_max")]
    pub entities_max: usize,
}

/// One text, or several.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(from = "Texts")]
pub struct OneOrMany(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl From<Texts> for OneOrMany {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(text) => Self(vec![text]),
            Texts::Many(texts) => Self(texts),
        }
    }
}

/// A rule for the zone of a device. The first rule whose pattern matches applies.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneRule {
    /// A pattern of the device's names. `*` stands for anything within a level and `#` for any
    /// levels; `{zone}` and `{site}` capture a level.
    pub devices: String,
    /// The zone, if the pattern has no `{zone}`; `false` to ignore the devices.
    pub zone: Option<ZoneTarget>,
    /// The site, if it is not the mapping's.
    pub site: Option<SmolStr>,
}

/// The zone of a rule's devices.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a zone's name, or false")]
pub enum ZoneTarget {
    /// `false`: the devices are ignored.
    Ignored(bool),
    /// The zone.
    Zone(SmolStr),
}

/// A rule for a value.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a metric's name, a table with `metric`, or false")]
pub enum MetricRule {
    /// `false`: not a reading.
    Ignored(bool),
    /// A metric of the table. The value is in its unit, or in the one that the sender declares.
    Metric(SmolStr),
    /// A metric, and the conversion of the value.
    Full(MetricConversion),
}

/// The long form of a [`MetricRule`]: metric = value · scale + offset, in `unit`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // named by the struct's sentence
pub struct MetricConversion {
    pub metric: SmolStr,
    pub unit: Option<SmolStr>,
    #[serde(default = "one")]
    pub scale: f64,
    #[serde(default)]
    pub offset: f64,
}

/// The policy for a number that no rule and no built-in name knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownValuePolicy {
    /// It becomes a dead letter, which suggests a rule.
    #[default]
    DeadLetter,
    /// It is not a reading.
    Ignore,
}

/// Default limit of a mapping's remembered entries: discovered entities, birth metrics.
fn entities_max() -> usize {
    10_000
}

fn one() -> f64 {
    1.0
}
