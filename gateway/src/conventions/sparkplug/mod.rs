//! Eclipse Sparkplug B: `spBv1.0/<group>/<type>/<node>[/<device>]` with Protocol Buffers. Births
//! announce names, types and units; later messages may use aliases only.
//!
//! Source: Sparkplug specification 3.0.0, Eclipse Foundation, 2022.
//!
//! After a gap in a node's sequence numbers, data without a birth, or an unknown alias, the node
//! is asked for a rebirth. This is not a Sparkplug *host application*: it publishes no `STATE`,
//! so nodes that wait for a primary host must be configured for another.
//!
//! # Layout
//! - `payload`: the Protocol Buffers
//! - `edge_node`: the state of an edge node

mod edge_node;
mod payload;

use prost::Message as _;
use telemetry::{
    DeadLetterReason, MetricTable, ParsedTime, ReportSource, SensorReading, SmolStr, TimeParser,
    TimeUsage, time::EXPECTED_SET,
};
use tracing::info;

use self::{
    edge_node::{EdgeNode, TEXT_BYTES_MAX},
    payload::{SparkplugMetric, SparkplugPayload, Value, datatype},
};
use super::{
    Convention, DecodeContext, MappedMessage, ReadingRefusal, ReplyMessage,
    entity_store::{EntityCounts, EntityStore},
    mapped_message::ReadingOrigin,
    payload_value,
    quantity::{BuiltinName, FoundValue, QuantityRules, metric_named, not_a_reading},
    settings::MappingSettings,
    strip_base, topic_base,
    zone_resolver::{ZoneResolver, sanitize_name, shorten_text},
};
use crate::message::InboundMessage;

/// Common last levels of metric names; Sparkplug does not fix any.
const BUILTIN: &[BuiltinName] = &[
    metric_named("temperature", "temperature", None),
    metric_named("humidity", "humidity", Some("%")),
    metric_named("co2", "co2", Some("ppm")),
    metric_named("illuminance", "light", Some("lx")),
    metric_named("soil_moisture", "soil_moisture", Some("%")),
    metric_named("soil moisture", "soil_moisture", Some("%")),
    metric_named("soil_temperature", "soil_temperature", None),
    metric_named("soil temperature", "soil_temperature", None),
    metric_named("pressure", "pressure", None),
    metric_named("wind_speed", "wind_speed", None),
    metric_named("wind_direction", "wind_direction", Some("°")),
    metric_named("wind direction", "wind_direction", Some("°")),
    metric_named("ec", "ec", None),
    metric_named("conductivity", "ec", None),
    metric_named("ph", "ph", Some("pH")),
    metric_named("par", "par", Some("µmol/m²/s")),
    metric_named("ppfd", "par", Some("µmol/m²/s")),
    metric_named("irradiance", "irradiance", Some("W/m²")),
    metric_named("rain", "rain", None),
    metric_named("rain_rate", "rain_rate", None),
    metric_named("leaf_wetness", "leaf_wetness", Some("%")),
    metric_named("leaf wetness", "leaf_wetness", Some("%")),
    metric_named("drain", "drain", Some("%")),
    metric_named("motion", "motion", Some("count")),
    metric_named("irrigation", "irrigation", Some("0/1")),
    not_a_reading("bdSeq"),
];

/// First levels of metrics that describe or control the node or device.
const NOT_READINGS: [&str; 3] = ["Node Control/", "Device Control/", "Properties/"];

/// Shortest time between two rebirth requests to one node, milliseconds. A node with a thousand
/// metrics needs a while.
const REBIRTH_WAIT_MS: i64 = 30_000;

/// The metric by which a host requests births.
const REBIRTH: &str = "Node Control/Rebirth";

#[derive(Debug)]
pub(super) struct SparkplugConvention {
    base: String,
    places: ZoneResolver,
    quantities: QuantityRules,
    /// Nodes by `<group>/<node>`. The weight of each is its number of metrics, at least one.
    nodes: EntityStore<EdgeNode>,
    /// Time of the last rebirth request to each node, UTC milliseconds. It outlives the node
    /// itself, so that a node that was evicted is not asked at each of its messages.
    rebirths: EntityStore<i64>,
    entities_max: usize,
}

/// A Sparkplug topic after its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SparkplugTopic<'t> {
    group: &'t str,
    /// `NBIRTH`, `NDATA`, …
    kind: &'t str,
    node: &'t str,
    /// The device; empty for the node itself.
    device: &'t str,
}

impl<'t> SparkplugTopic<'t> {
    /// Parses the levels after the namespace; `None` for topics without readings: commands, and
    /// the state of hosts.
    fn parse(levels: &'t str) -> Result<Option<Self>, ReadingRefusal> {
        let bad = || {
            let what = format!(
                "`{}` is not `<group>/<type>/<node>[/<device>]` with a type that it can have",
                shorten_text(levels)
            );
            (DeadLetterReason::BadTopic, what)
        };
        let all: Vec<&str> = levels.split('/').take(5).collect();
        let (group, kind, node, device) = match all[..] {
            ["STATE", ..] => return Ok(None),
            [group, kind, node] => (group, kind, node, ""),
            [group, kind, node, device] if !device.is_empty() => (group, kind, node, device),
            _ => return Err(bad()),
        };
        if [group, node].iter().any(|level| level.is_empty())
            || [group, node, device].iter().any(|level| level.len() > TEXT_BYTES_MAX)
        {
            return Err(bad());
        }
        match (kind, device.is_empty()) {
            ("NCMD", true) | ("DCMD", false) => Ok(None),
            ("NBIRTH" | "NDATA" | "NDEATH", true) | ("DBIRTH" | "DDATA" | "DDEATH", false) => {
                Ok(Some(Self { group, kind, node, device }))
            }
            _ => Err(bad()),
        }
    }
}

impl SparkplugConvention {
    pub(super) fn new(mapping: &MappingSettings, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: topic_base(mapping, "spBv1.0")?,
            places: ZoneResolver::new(mapping)?,
            quantities: QuantityRules::new(mapping, BUILTIN, metrics)?,
            nodes: EntityStore::new(mapping.entities_max),
            rebirths: EntityStore::new(mapping.entities_max),
            entities_max: mapping.entities_max,
        })
    }

    fn decode_payload(
        &mut self,
        topic: SparkplugTopic<'_>,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Result<MappedMessage, ReadingRefusal> {
        let SparkplugTopic { group, kind, node, device } = topic;
        if kind.ends_with("DATA") {
            context.check_size(&message.payload)?;
        }
        let payload = SparkplugPayload::decode(message.payload.clone()).map_err(|e| {
            (DeadLetterReason::Malformed, format!("not a Sparkplug B payload: {e}"))
        })?;
        let key = SmolStr::new(format!("{group}/{node}"));
        let entities_max = self.entities_max;
        if self.nodes.peek(&key).is_none() {
            self.nodes.insert(&key, EdgeNode::default(), 1);
        }
        let Some(state) = self.nodes.get(&key) else {
            let what = "entities_max = 0: no edge node can be remembered".to_owned();
            return Err((DeadLetterReason::NotAReading, what));
        };
        let mut is_incomplete = match kind {
            "NBIRTH" => {
                state.begin_session(&payload);
                self.rebirths.remove(&key);
                false
            }
            "NDEATH" => {
                if state.end_session(&payload) {
                    info!(node = %key, "edge node died");
                }
                return Ok(MappedMessage::without_readings());
            }
            _ => state.note_sequence(&payload),
        };
        if kind.ends_with("BIRTH") || kind == "DDEATH" {
            state.forget_device(device);
            let left = entities_max.saturating_sub(state.len());
            let refused = match kind {
                "DDEATH" => 0,
                _ => state.define_metrics(device, &payload.metrics, left),
            };
            let weight = state.len().max(1);
            self.nodes.count_refused(refused);
            self.nodes.update_weight(&key, weight);
        }
        let mut mapped = MappedMessage::without_readings();
        if !kind.ends_with("DEATH") {
            is_incomplete |=
                self.add_readings(topic, &key, &payload, message, context, &mut mapped);
        }
        if is_incomplete && self.may_ask_for_rebirth(&key, message.received_ms) {
            info!(node = %key, "messages are missing: requesting a rebirth");
            mapped.publish.push(rebirth_command(&self.base, group, node, message.received_ms));
        }
        Ok(mapped)
    }

    /// Whether a node may be asked for its births now. If so, the request is noted.
    fn may_ask_for_rebirth(&mut self, key: &SmolStr, now_ms: i64) -> bool {
        let requested_ms = self.rebirths.get(key).copied();
        let may = requested_ms.is_none_or(|requested_ms| {
            // A clock that was set back must not block requests.
            now_ms.saturating_sub(requested_ms) >= REBIRTH_WAIT_MS || now_ms < requested_ms
        });
        if may {
            self.rebirths.insert(key, now_ms, 1);
        }
        may
    }

    /// Adds the readings of a birth or of data. Returns whether there was an unknown metric.
    fn add_readings(
        &self,
        topic: SparkplugTopic<'_>,
        key: &SmolStr,
        payload: &SparkplugPayload,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
        mapped: &mut MappedMessage,
    ) -> bool {
        let SparkplugTopic { node, device, .. } = topic;
        let (full, name) = match device {
            "" => (key.to_string(), sanitize_name(node)),
            device => (format!("{key}/{device}"), sanitize_name(&format!("{node}.{device}"))),
        };
        let zone = match self.places.find_zone(&[&full]) {
            Ok(Some(zone)) => zone,
            Ok(None) => return false,
            Err(refusal) => {
                mapped.rejected_readings.push(refusal);
                return false;
            }
        };
        mapped.owner = Some((zone.clone(), name.clone()));
        let mut has_unnamed = false;
        for metric in &payload.metrics {
            let definition =
                self.nodes.peek(key).and_then(|node| node.find_definition(device, metric));
            let Some(definition) = definition else {
                has_unnamed = true;
                let alias =
                    metric.alias.map_or("no alias".to_owned(), |alias| format!("alias {alias}"));
                let what = format!(
                    "a metric of `{}` with {alias} that no birth has named",
                    shorten_text(&full)
                );
                mapped.rejected_readings.push((DeadLetterReason::UnknownMetric, what));
                continue;
            };
            let path = definition.name.as_str();
            if NOT_READINGS.iter().any(|first| path.starts_with(first)) {
                continue;
            }
            let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
            let in_device = format!("{full}/{path}");
            let found = FoundValue {
                names: &[&in_device, path, last],
                builtin: last,
                unit: definition.unit.as_deref(),
            };
            let value = match (metric.to_number(definition.datatype), &metric.value) {
                (Some(number), _) => Ok((number, None)),
                (None, Some(Value::Text(text))) if self.quantities.is_metric(&found) => {
                    payload_value::parse_text_quantity(path, text)
                }
                _ => continue, // a text, a date, a file or a data set
            };
            let read = value.and_then(|value| {
                let event_ms = event_ms(metric, payload, message)?;
                let read = self.quantities.read_quantity(&found, value, context.metrics)?;
                Ok(read.map(|(metric, value)| SensorReading { metric, event_ms, value }))
            });
            match read {
                Ok(Some(reading)) => {
                    // `Bench 1/Temperature` and `Bench 2/Temperature` are two sensors.
                    let device = match folder {
                        "" => name.clone(),
                        folder => sanitize_name(&format!("{name}.{folder}")),
                    };
                    let mut origin = ReadingOrigin::from_message(zone.clone(), device, message);
                    if metric.is_historical == Some(true) {
                        origin.source = ReportSource::Backfill;
                    }
                    mapped.add_reading(&origin, reading, message, context.limits.readings_max);
                }
                Ok(None) => {}
                Err(refusal) => mapped.rejected_readings.push(refusal),
            }
        }
        has_unnamed
    }
}

impl Convention for SparkplugConvention {
    fn decode_message(
        &mut self,
        message: &InboundMessage,
        context: &DecodeContext<'_>,
    ) -> Option<MappedMessage> {
        let levels = strip_base(&message.topic, &self.base)?;
        let mapped = match SparkplugTopic::parse(levels) {
            Ok(None) => Ok(MappedMessage::without_readings()),
            Ok(Some(topic)) => self.decode_payload(topic, message, context),
            Err(refusal) => Err(refusal),
        };
        Some(mapped.unwrap_or_else(MappedMessage::from_refusal))
    }

    fn entity_counts(&self) -> EntityCounts {
        self.nodes.entity_counts()
    }

    #[cfg(fuzzing)]
    fn forget(&mut self) {
        self.nodes.clear();
        self.rebirths.clear();
    }
}

/// Returns the event time of a metric: its own time, the message's, or else the arrival time.
fn event_ms(
    metric: &SparkplugMetric,
    payload: &SparkplugPayload,
    message: &InboundMessage,
) -> Result<i64, ReadingRefusal> {
    let parser = TimeParser::new(TimeUsage::Live);
    for stamp in [metric.timestamp, payload.timestamp].into_iter().flatten() {
        match parser.parse_integer(i128::from(stamp)) {
            Ok(ParsedTime::Instant(ms)) => return Ok(ms),
            Ok(ParsedTime::Unset) => {}
            Err(error) => {
                let what = format!("timestamp {stamp}: expected {}", error.expected);
                return Err((DeadLetterReason::BadTime, what));
            }
        }
    }
    if metric.is_historical == Some(true) {
        // The arrival does not show when it was measured.
        let what = format!("a historical value without a timestamp: expected {EXPECTED_SET}");
        return Err((DeadLetterReason::BadTime, what));
    }
    Ok(message.received_ms)
}

/// Builds the command that makes a node publish its births again (specification 3.0, 6.4.20 and
/// 5.11).
fn rebirth_command(base: &str, group: &str, node: &str, now_ms: i64) -> ReplyMessage {
    let timestamp = u64::try_from(now_ms).ok();
    let command = SparkplugMetric {
        name: Some(REBIRTH.to_owned()),
        timestamp,
        datatype: Some(datatype::BOOLEAN),
        value: Some(Value::Boolean(true)),
        ..SparkplugMetric::default()
    };
    let payload = SparkplugPayload { timestamp, metrics: vec![command], seq: None };
    ReplyMessage { topic: format!("{base}/{group}/NCMD/{node}"), payload: payload.encode_to_vec() }
}
