//! Mappings of other systems' topics and payloads to the gateway's reports, by configuration: the
//! tables `[[mappings]]`.
//!
//! A message belongs to the first mapping that matches its topic. Its readings become reports.
//! Readings that cannot be decoded are rejected, each with its reason. A message may also contain
//! no readings: metadata and states are learned or skipped, and do not count as readings.
//!
//! **Invariant:** the state that is remembered between messages is bounded by `entities_max` of
//! its mapping, and a message is never refused because the metadata of another message cannot be
//! read.
//!
//! # Layout
//! - [`settings`]: the tables `[[mappings]]`, as the user writes them
//! - `name_pattern`: patterns of topics and device names
//! - `zone_resolver`: the zone of a device
//! - `quantity`: the metric and the unit of a value
//! - `device_value`: values about the device itself, and values that mean "no value"
//! - `payload_value`: numbers and times
//! - `ignore_list`: ignored topics, devices and values
//! - `name_template`: names made of a topic and a payload
//! - `entity_store`: state that is remembered between messages, with a limit
//! - `topic_index`: the announcements that a topic belongs to
//! - `mapped_message`: the decoded content of a message
//! - `records`: messages whose payloads are records, by tables of the user's own (`template`)
//!   or of `presets`: ChirpStack, The Things Stack, Shelly, rtl_433, OpenMQTTGateway, ESPHome,
//!   ThingsBoard, SenML
//! - `zigbee2mqtt`, `tasmota`, `home_assistant`, `homie`, `sparkplug`: the other conventions

use std::fmt;

use service::config::ConfigError;
use telemetry::{DeadLetterReason, MetricTable, payload};

use crate::message::InboundMessage;
pub use entity_store::EntityCounts;
pub(crate) use ignore_list::{IgnoreList, is_device_field};
pub(crate) use mapped_message::{MappedMessage, ReplyMessage};
use settings::{ConventionName, MappingSettings};

mod device_value;
mod entity_store;
mod home_assistant;
mod homie;
mod ignore_list;
mod mapped_message;
mod name_pattern;
mod name_template;
mod payload_value;
mod presets;
mod quantity;
mod records;
pub mod settings;
mod sparkplug;
mod tasmota;
mod template;
mod topic_index;
mod zigbee2mqtt;
mod zone_resolver;

/// Why a reading or a whole message was rejected: reason and detail.
type ReadingRefusal = (DeadLetterReason, String);

/// The context of decoding a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeContext<'a> {
    pub(crate) metrics: &'a MetricTable,
    pub(crate) limits: payload::PayloadLimits,
}

impl DecodeContext<'_> {
    /// Refuses a payload with readings that exceeds the limit. Metadata is limited only by the
    /// size of an MQTT packet.
    fn check_size(&self, payload: &[u8]) -> Result<(), ReadingRefusal> {
        let (len, max) = (payload.len(), self.limits.payload_bytes_max);
        if len <= max {
            return Ok(());
        }
        Err((DeadLetterReason::Oversized, format!("{len} bytes, expected at most {max}")))
    }
}

/// A convention of topics and payloads.
trait Convention: fmt::Debug + Send {
    /// Decodes a message; `None` if its topic does not belong to this convention.
    fn decode_message(
        &mut self,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Option<MappedMessage>;

    /// Returns filters of the topics whose retained messages describe the values of other topics.
    /// They are needed again after each start.
    fn metadata_filters(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns how much state it remembers.
    fn entity_counts(&self) -> EntityCounts {
        EntityCounts::default()
    }

    /// Forgets the learned state, so that one input does not depend on earlier ones.
    #[cfg(fuzzing)]
    fn forget(&mut self) {}
}

/// All mappings in order, with their learned state.
#[derive(Debug, Default)]
pub(crate) struct Conventions(Vec<MappedConvention>);

#[derive(Debug)]
struct MappedConvention {
    convention: Box<dyn Convention>,
    ignore: IgnoreList,
}

impl Conventions {
    /// Builds the mappings of a configuration.
    ///
    /// # Errors
    /// Lists the invalid mappings with their positions and mistakes.
    pub(crate) fn new(
        mappings: &[MappingSettings],
        metrics: &MetricTable,
    ) -> Result<Self, ConfigError> {
        let built: Vec<_> =
            mappings.iter().map(|mapping| build_convention(mapping, metrics)).collect();
        let wrong: Vec<String> = built
            .iter()
            .enumerate()
            .filter_map(|(i, built)| Some(format!("[{i}]: {}", built.as_ref().err()?)))
            .collect();
        if !wrong.is_empty() {
            return Err(ConfigError::invalid("mappings", wrong.join("\nmappings")));
        }
        Ok(Self(built.into_iter().flatten().collect()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes a message; `None` if no mapping matches its topic.
    pub(crate) fn decode_message(
        &mut self,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Option<MappedMessage> {
        self.0.iter_mut().find_map(|MappedConvention { convention, ignore }| {
            if ignore.is_match(&message.topic) {
                return Some(MappedMessage::without_readings());
            }
            convention.decode_message(message, context)
        })
    }

    /// Returns how much state all of them remember.
    pub(crate) fn entity_counts(&self) -> EntityCounts {
        self.0.iter().map(|mapped| mapped.convention.entity_counts()).sum()
    }

    /// Forgets the learned state.
    #[cfg(fuzzing)]
    pub(crate) fn forget(&mut self) {
        self.0.iter_mut().for_each(|mapped| mapped.convention.forget());
    }

    /// Returns the filters that are subscribed to in addition to `mqtt.filters`.
    pub(crate) fn metadata_filters(&self) -> Vec<String> {
        let mut filters: Vec<String> =
            self.0.iter().flat_map(|mapped| mapped.convention.metadata_filters()).collect();
        filters.sort();
        filters.dedup();
        filters
    }
}

fn build_convention(
    mapping: &MappingSettings,
    metrics: &MetricTable,
) -> Result<MappedConvention, String> {
    refuse_foreign_keys(mapping)?;
    let ignore = IgnoreList::new(&mapping.ignore)?;
    let convention: Box<dyn Convention> = match mapping.convention {
        ConventionName::Template => Box::new(template::build_template(mapping, metrics)?),
        ConventionName::Zigbee2mqtt => {
            Box::new(zigbee2mqtt::Zigbee2MqttConvention::new(mapping, metrics)?)
        }
        ConventionName::Tasmota => Box::new(tasmota::TasmotaConvention::new(mapping, metrics)?),
        ConventionName::HomeAssistant => {
            Box::new(home_assistant::HomeAssistantConvention::new(mapping, metrics)?)
        }
        ConventionName::Homie => Box::new(homie::HomieConvention::new(mapping, metrics)?),
        ConventionName::Sparkplug => {
            Box::new(sparkplug::SparkplugConvention::new(mapping, metrics)?)
        }
        ConventionName::Chirpstack
        | ConventionName::Esphome
        | ConventionName::Openmqttgateway
        | ConventionName::Rtl433
        | ConventionName::Senml
        | ConventionName::Shelly
        | ConventionName::TheThingsStack
        | ConventionName::Thingsboard => Box::new(presets::build_preset(mapping, metrics)?),
    };
    Ok(MappedConvention { convention, ignore })
}

/// Refuses keys that the convention does not read, because they are mistakes.
fn refuse_foreign_keys(mapping: &MappingSettings) -> Result<(), String> {
    use ConventionName::{
        Chirpstack, Esphome, HomeAssistant, Homie, Openmqttgateway, Rtl433, Senml, Shelly,
        Sparkplug, Tasmota, Template, TheThingsStack, Thingsboard, Zigbee2mqtt,
    };
    let with_base: &[ConventionName] = &[
        Zigbee2mqtt,
        HomeAssistant,
        Homie,
        Sparkplug,
        Chirpstack,
        Esphome,
        Openmqttgateway,
        Rtl433,
        Shelly,
        TheThingsStack,
        Thingsboard,
    ];
    let of_records: &[ConventionName] = &[
        Template,
        Chirpstack,
        Esphome,
        Openmqttgateway,
        Rtl433,
        Senml,
        Shelly,
        TheThingsStack,
        Thingsboard,
    ];
    let with_time_zone: &[ConventionName] = &[Template, Tasmota, Rtl433, Thingsboard];
    let with_device: &[ConventionName] =
        &[Template, Chirpstack, Openmqttgateway, Rtl433, TheThingsStack, Thingsboard];
    let keys: [(&str, bool, &[ConventionName]); 13] = [
        ("base", mapping.base.is_some(), with_base),
        ("topic", mapping.topic.is_some(), &[Template, Tasmota, Senml]),
        ("time_zone", mapping.time_zone.is_some(), with_time_zone),
        ("device", mapping.device.is_some(), with_device),
        ("zone_at", mapping.zone_at.is_some(), of_records),
        ("records", mapping.records.is_some(), &[Template]),
        ("fields", !mapping.fields.0.is_empty(), &[Template]),
        ("timestamp", !mapping.timestamp.0.is_empty(), &[Template]),
        ("sequence", mapping.sequence.is_some(), &[Template]),
        ("boot", mapping.boot.is_some(), &[Template]),
        ("metric", mapping.metric.is_some(), &[Template]),
        ("value", mapping.value.is_some(), &[Template]),
        ("unit", mapping.unit.is_some(), &[Template]),
    ];
    let convention = mapping.convention;
    match keys.iter().find(|(_, is_set, conventions)| *is_set && !conventions.contains(&convention))
    {
        Some((key, ..)) => Err(format!("`{key}` is not a key of this convention")),
        None => Ok(()),
    }
}

/// Returns the levels after `base/`; `None` if the topic does not begin with it.
fn strip_base<'t>(topic: &'t str, base: &str) -> Option<&'t str> {
    topic.strip_prefix(base)?.strip_prefix('/')
}

/// Returns the `base` of a mapping, or the convention's default.
fn topic_base(mapping: &MappingSettings, usual: &str) -> Result<String, String> {
    let base = mapping.base.as_deref().unwrap_or(usual);
    let is_filter = base.contains(['+', '#']);
    if base.is_empty() || base.starts_with('/') || base.ends_with('/') || is_filter {
        return Err(format!("base = \"{base}\": expected levels of a topic, as in \"{usual}\""));
    }
    Ok(base.to_owned())
}

#[cfg(test)]
mod tests;
