//! Messages whose payloads are records: which topics, where the records stand, who measured
//! them, when, and which of their fields are metrics. A convention of this kind is data: the
//! user's own (`template`), or one of `presets`.
//!
//! # Layout
//! - [`layout`]: how messages of one topic are laid out
//! - [`values`]: the records of a message, and the values of a record
//! - [`message_reader`]: one message, read

mod layout;
mod message_reader;
mod record_values;

use serde_json::Value;
use telemetry::TimeParser;

pub(super) use layout::LayoutText;
use layout::{CAPTURES, MessageLayout, TopicCaptures, check_pointer};
use message_reader::MessageReader;

use super::{
    Convention, DecodeContext, MappedMessage, ReadingRefusal,
    name_pattern::NamePattern,
    payload_value,
    quantity::{FoundValue, QuantityRules, UserRule},
    settings::{MappingSettings, UnknownValuePolicy},
    zone_resolver::ZoneResolver,
};
use crate::message::InboundMessage;

/// Which fields of a record are metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldSelection {
    /// Those that the user's rules name.
    Ruled,
    /// Those that rules or built-in names know, or that are called as a metric of the table.
    Known,
    /// Likewise; of what a topic calls a metric, the end of the name counts.
    KnownByEnd,
}

/// A convention of layouts.
#[derive(Debug)]
pub(super) struct RecordConvention {
    layouts: Vec<MessageLayout>,
    /// Topics that carry no readings.
    silent: Vec<NamePattern>,
    zone_at: Option<String>,
    places: ZoneResolver,
    quantities: QuantityRules,
    time_parser: TimeParser,
    /// Whether the user says of which zone local times are.
    has_time_zone: bool,
    reading: FieldSelection,
}

impl RecordConvention {
    /// `topics` are those of the layouts.
    pub(super) fn new(
        mapping: &MappingSettings,
        (layouts, topics): (&[LayoutText<'_>], &[String]),
        silent: &[String],
        quantities: QuantityRules,
        reading: FieldSelection,
    ) -> Result<Self, String> {
        let layouts =
            layouts.iter().zip(topics).map(|(text, topic)| MessageLayout::new(text, topic));
        let layouts = layouts.collect::<Result<Vec<_>, _>>()?;
        let silent = silent.iter().map(|topic| NamePattern::parse(topic, &[]));
        for layout in &layouts {
            let missing = CAPTURES
                .iter()
                .find(|name| layout.device.uses_capture(name) && !layout.has_capture(name));
            if let Some(name) = missing {
                return Err(format!(
                    "the device is named by {{{name}}}, which the topic does not have; add it there, or name the device by a JSON pointer into the message, as in device = \"{{/id}}\""
                ));
            }
            let has_zone = layout.has_capture("zone")
                || mapping.zone_at.is_some()
                || mapping.zone.is_some()
                || !mapping.zones.is_empty();
            if !has_zone {
                return Err("the topic has no {zone}; set `zone` or `zones`".to_owned());
            }
        }
        Ok(Self {
            layouts,
            silent: silent.collect::<Result<_, _>>()?,
            zone_at: mapping
                .zone_at
                .as_deref()
                .map(|at| check_pointer("zone_at", at))
                .transpose()?,
            places: ZoneResolver::new(mapping)?,
            quantities,
            time_parser: payload_value::build_time_parser(mapping.time_zone.as_deref())?,
            has_time_zone: mapping.time_zone.is_some(),
            reading,
        })
    }

    fn read_message(
        &self,
        layout: &MessageLayout,
        topic: TopicCaptures<'_>,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Result<MappedMessage, ReadingRefusal> {
        context.check_size(&message.payload)?;
        if message.payload.is_empty() {
            // How a retained message is cleared.
            return Ok(MappedMessage::without_readings());
        }
        // A bare value of a topic that is not for us need not even be JSON.
        if let Some(metric) = topic.get("metric")
            && self.quantities.user_rule(&FoundValue { names: &[metric], builtin: "", unit: None })
                == UserRule::NotAReading
        {
            return Ok(MappedMessage::without_readings());
        }
        let document = match payload_value::parse_document(&message.payload) {
            Ok(document) => document,
            // A word, as in `ON`.
            Err(_) if topic.get("metric").is_some() && self.reading != FieldSelection::Ruled => {
                Value::String(payload_value::payload_text(&message.payload)?.to_owned())
            }
            // As `Online` on the topic of a status.
            Err(_) if self.quantities.unknown() == UnknownValuePolicy::Ignore => {
                return Ok(MappedMessage::without_readings());
            }
            Err(refusal) => return Err(refusal),
        };
        let reader = MessageReader::new(self, layout, &document, message, context);
        reader.read_message(topic)
    }
}

impl Convention for RecordConvention {
    fn decode_message(
        &mut self,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Option<MappedMessage> {
        for layout in &self.layouts {
            let Some(topic) = TopicCaptures::from_match(&layout.topic, &message.topic) else {
                continue;
            };
            let taken = self.read_message(layout, topic, message, context);
            return Some(taken.unwrap_or_else(MappedMessage::from_refusal));
        }
        let is_silent = self.silent.iter().any(|topic| topic.is_match(&message.topic));
        is_silent.then(MappedMessage::without_readings)
    }
}
