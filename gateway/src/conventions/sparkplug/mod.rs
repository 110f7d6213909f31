//! Eclipse Sparkplug B: `spBv1.0/<group>/<type>/<node>[/<device>]` with
//! Protocol Buffers; births tell names, types and units, later messages may
//! give aliases only.
//!
//! Source: Sparkplug specification 3.0.0, Eclipse Foundation, 2022.
//!
//! A gap in a node's numbering, data without a birth, or an alias that no birth
//! gave, ask the node for a rebirth. This is no Sparkplug *host application*:
//! it publishes no `STATE`, so that nodes that wait for a primary host must be
//! told another.
//!
//! # Layout
//! - `payload`: the Protocol Buffers
//! - `node`: what is known of an edge node

mod node;
mod payload;

use prost::Message as _;
use telemetry::{
    MetricTable, ParsedTime, Reading, Reason, SmolStr, Source, TimeParser, TimeUsage,
    time::EXPECTED_SET,
};
use tracing::info;

use self::{
    node::{Node, TEXT_BYTES_MAX},
    payload::{Metric, Payload, Value, datatype},
};
use super::{
    Context, Convention, Publication, Refusal, Taken, base, below,
    entity_store::{EntityCounts, EntityStore},
    place::{Places, shorten, tidy},
    quantity::{Builtin, Found, Quantities, is, no},
    settings::Mapping,
    taken::Origin,
    value,
};
use crate::message::Message;

/// Last levels of metric names that are common; Sparkplug fixes none of them.
const BUILTIN: &[Builtin] = &[
    is("temperature", "temperature", None),
    is("humidity", "humidity", Some("%")),
    is("co2", "co2", Some("ppm")),
    is("illuminance", "light", Some("lx")),
    is("soil_moisture", "soil_moisture", Some("%")),
    is("soil moisture", "soil_moisture", Some("%")),
    is("soil_temperature", "soil_temperature", None),
    is("soil temperature", "soil_temperature", None),
    is("pressure", "pressure", None),
    is("wind_speed", "wind_speed", None),
    is("wind_direction", "wind_direction", Some("°")),
    is("wind direction", "wind_direction", Some("°")),
    is("ec", "ec", None),
    is("conductivity", "ec", None),
    is("ph", "ph", Some("pH")),
    is("par", "par", Some("µmol/m²/s")),
    is("ppfd", "par", Some("µmol/m²/s")),
    is("irradiance", "irradiance", Some("W/m²")),
    is("rain", "rain", None),
    is("rain_rate", "rain_rate", None),
    is("leaf_wetness", "leaf_wetness", Some("%")),
    is("leaf wetness", "leaf_wetness", Some("%")),
    is("drain", "drain", Some("%")),
    is("motion", "motion", Some("count")),
    is("irrigation", "irrigation", Some("0/1")),
    no("bdSeq"),
];

/// First levels of metrics that describe or control the node or device.
const NOT_READINGS: [&str; 3] = ["Node Control/", "Device Control/", "Properties/"];

/// Least time between two requests for a rebirth of one node, milliseconds: a
/// node with a thousand metrics takes a while.
const REBIRTH_WAIT_MS: i64 = 30_000;

/// The metric by which a host asks for births.
const REBIRTH: &str = "Node Control/Rebirth";

#[derive(Debug)]
pub(super) struct Sparkplug {
    base: String,
    places: Places,
    quantities: Quantities,
    /// By `<group>/<node>`; each weighs as much as it has metrics, and at least one.
    nodes: EntityStore<Node>,
    /// When each was asked for its births, UTC milliseconds. It outlives the node itself, so
    /// that one that is forgotten for want of room is not asked at each of its messages.
    rebirths: EntityStore<i64>,
    entities_max: usize,
}

/// A Sparkplug topic after its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Topic<'t> {
    group: &'t str,
    /// `NBIRTH`, `NDATA`, …
    kind: &'t str,
    node: &'t str,
    /// Empty for the node's own.
    device: &'t str,
}

impl<'t> Topic<'t> {
    /// Reads the levels after the namespace; `None` where it has no readings:
    /// commands, and the state of hosts.
    fn parse(levels: &'t str) -> Result<Option<Self>, Refusal> {
        let bad = || {
            let what = format!(
                "`{}` is not `<group>/<type>/<node>[/<device>]` with a type that it can have",
                shorten(levels)
            );
            (Reason::BadTopic, what)
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

impl Sparkplug {
    pub(super) fn new(mapping: &Mapping, metrics: &MetricTable) -> Result<Self, String> {
        Ok(Self {
            base: base(mapping, "spBv1.0")?,
            places: Places::new(mapping)?,
            quantities: Quantities::new(mapping, BUILTIN, metrics)?,
            nodes: EntityStore::new(mapping.entities_max),
            rebirths: EntityStore::new(mapping.entities_max),
            entities_max: mapping.entities_max,
        })
    }

    fn message(
        &mut self,
        topic: Topic<'_>,
        message: &Message,
        context: &Context<'_>,
    ) -> Result<Taken, Refusal> {
        let Topic { group, kind, node, device } = topic;
        if kind.ends_with("DATA") {
            context.check_size(&message.payload)?;
        }
        let payload = Payload::decode(message.payload.clone())
            .map_err(|e| (Reason::Malformed, format!("not a Sparkplug B payload: {e}")))?;
        let key = SmolStr::new(format!("{group}/{node}"));
        let entities_max = self.entities_max;
        if self.nodes.peek(&key).is_none() {
            self.nodes.insert(&key, Node::default(), 1);
        }
        let Some(state) = self.nodes.get(&key) else {
            let what = "entities_max = 0: no edge node can be remembered".to_owned();
            return Err((Reason::NotAReading, what));
        };
        let mut is_incomplete = match kind {
            "NBIRTH" => {
                state.born(&payload);
                self.rebirths.remove(&key);
                false
            }
            "NDEATH" => {
                if state.died(&payload) {
                    info!(node = %key, "edge node died");
                }
                return Ok(Taken::nothing());
            }
            _ => state.note(&payload),
        };
        if kind.ends_with("BIRTH") || kind == "DDEATH" {
            state.forget(device);
            let left = entities_max.saturating_sub(state.len());
            let refused = match kind {
                "DDEATH" => 0,
                _ => state.define(device, &payload.metrics, left),
            };
            let weight = state.len().max(1);
            self.nodes.refuse(refused);
            self.nodes.reweigh(&key, weight);
        }
        let mut taken = Taken::nothing();
        if !kind.ends_with("DEATH") {
            is_incomplete |= self.readings(topic, &key, &payload, message, context, &mut taken);
        }
        if is_incomplete && self.may_ask_for_rebirth(&key, message.received_ms) {
            info!(node = %key, "messages are missing; asking for a rebirth");
            taken.publish.push(rebirth(&self.base, group, node, message.received_ms));
        }
        Ok(taken)
    }

    /// Whether to ask a node for its births now, or a request is under way.
    fn may_ask_for_rebirth(&mut self, key: &SmolStr, now_ms: i64) -> bool {
        let asked_ms = self.rebirths.get(key).copied();
        let may = asked_ms.is_none_or(|asked_ms| {
            // A clock that was set back does not silence it.
            now_ms.saturating_sub(asked_ms) >= REBIRTH_WAIT_MS || now_ms < asked_ms
        });
        if may {
            self.rebirths.insert(key, now_ms, 1);
        }
        may
    }

    /// Adds the readings of a birth or of data. Returns whether there was a
    /// metric that no birth has named.
    fn readings(
        &self,
        topic: Topic<'_>,
        key: &SmolStr,
        payload: &Payload,
        message: &Message,
        context: &Context<'_>,
        taken: &mut Taken,
    ) -> bool {
        let Topic { node, device, .. } = topic;
        let (full, name) = match device {
            "" => (key.to_string(), tidy(node)),
            device => (format!("{key}/{device}"), tidy(&format!("{node}.{device}"))),
        };
        let zone = match self.places.zone(&[&full]) {
            Ok(Some(zone)) => zone,
            Ok(None) => return false,
            Err(refusal) => {
                taken.left_out.push(refusal);
                return false;
            }
        };
        taken.owner = Some((zone.clone(), name.clone()));
        let mut has_unnamed = false;
        for metric in &payload.metrics {
            let definition = self.nodes.peek(key).and_then(|node| node.definition(device, metric));
            let Some(definition) = definition else {
                has_unnamed = true;
                let alias =
                    metric.alias.map_or("no alias".to_owned(), |alias| format!("alias {alias}"));
                let what = format!(
                    "a metric of `{}` with {alias} that no birth has named",
                    shorten(&full)
                );
                taken.left_out.push((Reason::UnknownMetric, what));
                continue;
            };
            let path = definition.name.as_str();
            if NOT_READINGS.iter().any(|first| path.starts_with(first)) {
                continue;
            }
            let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
            let in_device = format!("{full}/{path}");
            let found = Found {
                names: &[&in_device, path, last],
                builtin: last,
                unit: definition.unit.as_deref(),
            };
            let value = match (metric.number(definition.datatype), &metric.value) {
                (Some(number), _) => Ok((number, None)),
                (None, Some(Value::Text(text))) if self.quantities.wants(&found) => {
                    value::words_and_unit(path, text)
                }
                _ => continue, // A text, a date, a file, a data set.
            };
            let read = value.and_then(|value| {
                let event_ms = event_ms(metric, payload, message)?;
                let read = self.quantities.read_with_unit(&found, value, context.metrics)?;
                Ok(read.map(|(metric, value)| Reading { metric, event_ms, value }))
            });
            match read {
                Ok(Some(reading)) => {
                    // `Bench 1/Temperature` and `Bench 2/Temperature` are two.
                    let device = match folder {
                        "" => name.clone(),
                        folder => tidy(&format!("{name}.{folder}")),
                    };
                    let mut origin = Origin::live(zone.clone(), device, message);
                    if metric.is_historical == Some(true) {
                        origin.source = Source::Backfill;
                    }
                    taken.add(&origin, reading, message, context.limits.readings_max);
                }
                Ok(None) => {}
                Err(refusal) => taken.left_out.push(refusal),
            }
        }
        has_unnamed
    }
}

impl Convention for Sparkplug {
    fn take(&mut self, message: &Message, context: &Context<'_>) -> Option<Taken> {
        let levels = below(&message.topic, &self.base)?;
        let taken = match Topic::parse(levels) {
            Ok(None) => Ok(Taken::nothing()),
            Ok(Some(topic)) => self.message(topic, message, context),
            Err(refusal) => Err(refusal),
        };
        Some(taken.unwrap_or_else(Taken::refused))
    }

    fn entities(&self) -> EntityCounts {
        self.nodes.counts()
    }

    #[cfg(fuzzing)]
    fn forget(&mut self) {
        self.nodes.clear();
        self.rebirths.clear();
    }
}

/// When a metric was measured: its own time, the message's, or its arrival
/// where neither says one.
fn event_ms(metric: &Metric, payload: &Payload, message: &Message) -> Result<i64, Refusal> {
    let parser = TimeParser::new(TimeUsage::Live);
    for stamp in [metric.timestamp, payload.timestamp].into_iter().flatten() {
        match parser.parse_integer(i128::from(stamp)) {
            Ok(ParsedTime::Instant(ms)) => return Ok(ms),
            Ok(ParsedTime::Unset) => {}
            Err(error) => {
                let what = format!("timestamp {stamp}: expected {}", error.expected);
                return Err((Reason::BadTime, what));
            }
        }
    }
    if metric.is_historical == Some(true) {
        // The arrival says nothing of when it was measured.
        let what = format!("a historical value without a timestamp: expected {EXPECTED_SET}");
        return Err((Reason::BadTime, what));
    }
    Ok(message.received_ms)
}

/// The command that makes a node publish its births again (specification 3.0,
/// 6.4.20 and 5.11).
fn rebirth(base: &str, group: &str, node: &str, now_ms: i64) -> Publication {
    let timestamp = u64::try_from(now_ms).ok();
    let command = Metric {
        name: Some(REBIRTH.to_owned()),
        timestamp,
        datatype: Some(datatype::BOOLEAN),
        value: Some(Value::Boolean(true)),
        ..Metric::default()
    };
    let payload = Payload { timestamp, metrics: vec![command], seq: None };
    Publication { topic: format!("{base}/{group}/NCMD/{node}"), payload: payload.encode_to_vec() }
}
