//! The tables `[[mappings]]`, as the user writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::SmolStr;

/// Whose topics and payloads a mapping understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// Topics of the user's own design.
    Template,
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
pub struct Mapping {
    pub convention: Name,
    pub base: Option<String>,
    pub topic: Option<String>,
    pub site: SmolStr,
    pub zone: Option<SmolStr>,
    #[serde(default)]
    pub zones: Vec<ZoneRule>,
    #[serde(default)]
    pub metrics: BTreeMap<SmolStr, MetricRule>,
    #[serde(default)]
    pub unknown: Unknown,
    #[serde(default)]
    pub ignore: Vec<String>,
    pub time_zone: Option<String>,
    pub timestamp: Option<String>,
    pub sequence: Option<String>,
    pub value: Option<String>,
    #[serde(default = "entities_max")]
    pub entities_max: usize,
}

/// Which zone a device belongs to: the first rule whose pattern it matches.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneRule {
    /// A pattern over the names of the device: `*` stands for anything within
    /// a level, `#` for any levels, `{zone}` and `{site}` for a level that is
    /// taken.
    pub devices: String,
    /// The zone, where the pattern has no `{zone}`.
    pub zone: Option<SmolStr>,
    /// The site, where it is not the mapping's.
    pub site: Option<SmolStr>,
}

/// What a value of theirs is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a metric's name, a table with `metric`, or false")]
pub enum MetricRule {
    /// `false`: not a reading.
    Ignored(bool),
    /// A metric of the table; the value is in its unit, or in the one that the
    /// sender declares.
    Metric(SmolStr),
    /// A metric, and how the value becomes one.
    Full(FullRule),
}

/// The long form of a [`MetricRule`]: metric = value · scale + offset, in
/// `unit`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // named by the struct's sentence
pub struct FullRule {
    pub metric: SmolStr,
    pub unit: Option<SmolStr>,
    #[serde(default = "one")]
    pub scale: f64,
    #[serde(default)]
    pub offset: f64,
}

/// What becomes of a number that no rule and no built-in name knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// Kept among the dead letters, with the rule to add.
    #[default]
    DeadLetter,
    /// Not a reading.
    Ignore,
}

/// What a mapping remembers at most: discovered entities, birth metrics.
fn entities_max() -> usize {
    10_000
}

fn one() -> f64 {
    1.0
}
