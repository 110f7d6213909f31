//! Messages whose payloads are records: their topics, the paths of the records, their devices and
//! times, and which of their fields are metrics. A convention of this kind is data: the user's
//! own (`template`), or one of `presets`.
//!
//! # Layout
//! - [`layout`]: the layout of a topic's messages
//! - [`record_values`]: the records of a message, and the values of a record
//! - [`message_reader`]: reads one message

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
    /// The fields that the user's rules name.
    Ruled,
    /// The fields that rules or built-in names know, or that have the name of a metric in the
    /// table.
    Known,
    /// The same, but the topic names the metric, and only the end of that name is looked up.
    KnownByEnd,
}

/// A convention of layouts.
#[derive(Debug)]
pub(super) struct RecordConvention {
    layouts: Vec<MessageLayout>,
    /// Topics without readings.
    silent: Vec<NamePattern>,
    zone_at: Option<String>,
    places: ZoneResolver,
    quantities: QuantityRules,
    time_parser: TimeParser,
    /// Whether the user states the zone of local times.
    has_time_zone: bool,
    reading: FieldSelection,
}

impl RecordConvention {
    /// Builds the convention. `topics` are those of the layouts.
    pub(super) fn new(
        mapping: &MappingSettings,
        (layouts, topics): (&[LayoutText<'_>], &[String]),
        silent: &[String],
        quantities: QuantityRules,
        reading: FieldSelection,
    ) -> Result<Self, String> {
        let parsed_layouts =
            layouts.iter().zip(topics).map(|(text, topic)| MessageLayout::new(text, topic));
        let layouts = parsed_layouts.collect::<Result<Vec<_>, _>>()?;
        let silent_topics = silent.iter().map(|topic| NamePattern::parse(topic, &[]));
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
            silent: silent_topics.collect::<Result<_, _>>()?,
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
            // An empty message clears a retained one.
            return Ok(MappedMessage::without_readings());
        }
        // A bare value of an ignored topic need not even be JSON.
        if let Some(metric) = topic.get("metric")
            && self.quantities.user_rule(&FoundValue { names: &[metric], builtin: "", unit: None })
                == UserRule::NotAReading
        {
            return Ok(MappedMessage::without_readings());
        }
        let document = match payload_value::parse_document(&message.payload) {
            Ok(document) => document,
            // A word, such as `ON`.
            Err(_) if topic.get("metric").is_some() && self.reading != FieldSelection::Ruled => {
                Value::String(payload_value::payload_text(&message.payload)?.to_owned())
            }
            // A word such as `Online`, on the topic of a status.
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
            let mapped = self.read_message(layout, topic, message, context);
            return Some(mapped.unwrap_or_else(MappedMessage::from_refusal));
        }
        let is_silent = self.silent.iter().any(|topic| topic.is_match(&message.topic));
        is_silent.then(MappedMessage::without_readings)
    }
}
