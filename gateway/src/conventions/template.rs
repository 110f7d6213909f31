//! Topics and payloads of the user's own design.
//!
//! ```toml
//! [[mappings]]
//! convention = "template"
//! topic = "plant/{zone}/{device}/state"
//! site = "farm"
//! timestamp = "/time"
//! metrics = { temp = "temperature", "/soil/0/vwc" = { metric = "soil_moisture", unit = "m³/m³" } }
//! ```

use serde_json::Value;
use telemetry::{MetricTable, Reading, Reason, SmolStr, TimeParser, ZoneId};

use super::{
    Context, Convention, Refusal, Taken,
    pattern::Pattern,
    place::{Places, shorten, tidy},
    quantity::{self, Found},
    settings::{FullRule, Mapping, Unknown},
    taken::Origin,
    value,
};
use crate::message::Message;

const CAPTURES: [&str; 4] = ["site", "zone", "device", "metric"];

/// One topic template.
#[derive(Debug)]
pub(super) struct Template {
    topic: Pattern,
    places: Places,
    /// By field name or JSON pointer; or, where the topic has a `{metric}`, by
    /// what it says there.
    rules: Vec<(String, Option<FullRule>)>,
    timestamp: Option<String>,
    sequence: Option<String>,
    /// Of the value, where the topic names its metric.
    value: String,
    time_parser: TimeParser,
    /// What becomes of messages that have none of the fields.
    unknown: Unknown,
}

impl Template {
    pub(super) fn new(mapping: &Mapping, metrics: &MetricTable) -> Result<Self, String> {
        let topic = mapping.topic.as_deref().ok_or(
            "`topic` is missing; a template names it, as in `topic = \"plant/{zone}/{device}/state\"`",
        )?;
        let pattern = Pattern::parse(topic, &CAPTURES).map_err(|what| format!("topic: {what}"))?;
        if !pattern.has("device") {
            return Err(format!(
                "topic = \"{topic}\" does not say the device; name it by {{device}}"
            ));
        }
        if !(pattern.has("zone") || mapping.zone.is_some() || !mapping.zones.is_empty()) {
            return Err(format!("topic = \"{topic}\" has no {{zone}}; set `zone` or `zones`"));
        }
        if mapping.metrics.is_empty() && !pattern.has("metric") {
            return Err("`metrics` is empty, and the topic has no {metric}".to_owned());
        }
        let rules = mapping
            .metrics
            .iter()
            .map(|(key, rule)| Ok((key.to_string(), quantity::rule(key, rule, metrics)?)));
        Ok(Self {
            places: Places::new(mapping)?,
            rules: rules.collect::<Result<_, String>>()?,
            timestamp: pointer("timestamp", mapping.timestamp.as_deref())?,
            sequence: pointer("sequence", mapping.sequence.as_deref())?,
            value: pointer("value", mapping.value.as_deref())?.unwrap_or_default(),
            time_parser: value::time_parser(mapping.time_zone.as_deref())?,
            topic: pattern,
            unknown: mapping.unknown,
        })
    }

    fn readings(
        &self,
        zone: ZoneId,
        device: &SmolStr,
        metric: Option<&str>,
        message: &Message,
        context: &Context<'_>,
    ) -> Result<Taken, Refusal> {
        context.check_size(&message.payload)?;
        if message.payload.is_empty() {
            // How a retained message is cleared.
            return Ok(Taken::nothing());
        }
        let of_topic = match metric {
            None => None,
            Some(metric) => match self.rule_of(metric, context.metrics)? {
                Some(rule) => Some((metric, rule)),
                None => return Ok(Taken::nothing()),
            },
        };
        let document = match value::document(&message.payload) {
            Ok(document) => document,
            // As `Online` on the topic of a status.
            Err(_) if self.unknown == Unknown::Ignore => return Ok(Taken::nothing()),
            Err(refusal) => return Err(refusal),
        };
        let stamp = self.timestamp.as_ref().and_then(|at| Some((at, document.pointer(at)?)));
        let event_ms = match stamp {
            Some((at, stamp)) => value::event_ms(at, stamp, &self.time_parser, message)?,
            None => message.received_ms,
        };
        let mut taken = Taken::nothing();
        let origin = Origin::live(zone, device.clone(), message);
        let mut add = |name: &str, value: &Value, rule: &FullRule| {
            let found = Found { names: &[name], builtin: name, unit: None };
            let read = value::number(name, value)
                .and_then(|value| quantity::apply(rule, &found, value, context.metrics));
            match read {
                Ok((metric, value)) => {
                    let reading = Reading { metric, event_ms, value };
                    taken.add(&origin, reading, message, context.limits.readings_max);
                }
                Err(refusal) => taken.left_out.push(refusal),
            }
        };
        if let Some((metric, rule)) = of_topic {
            match document.pointer(&self.value) {
                Some(value) => add(metric, value, &rule),
                None => return self.without_readings(&self.value),
            }
        } else {
            let mut is_any = false;
            for (at, rule) in &self.rules {
                let Some(value) = at_of(&document, at) else { continue };
                is_any = true;
                if let Some(rule) = rule {
                    add(at, value, rule);
                }
            }
            if !is_any {
                let names: Vec<&str> = self.rules.iter().map(|(at, _)| at.as_str()).collect();
                return self.without_readings(&names.join("`, `"));
            }
        }
        if let (Some(at), [report]) = (&self.sequence, &mut taken.reports[..]) {
            report.seq = document.pointer(at).and_then(Value::as_u64);
        }
        Ok(taken)
    }

    /// A message that has none of the fields: it is about something else, or a mistake.
    fn without_readings(&self, names: &str) -> Result<Taken, Refusal> {
        match self.unknown {
            Unknown::Ignore => Ok(Taken::nothing()),
            Unknown::DeadLetter => {
                let what = format!(
                    "there is none of `{}` in the message; set `unknown = \"ignore\"` in the mapping if messages without them are usual",
                    shorten(names)
                );
                Err((Reason::NotAReading, what))
            }
        }
    }

    /// The rule for what the topic calls a metric, or the metric of that name.
    fn rule_of(&self, name: &str, metrics: &MetricTable) -> Result<Option<FullRule>, Refusal> {
        if let Some((_, rule)) = self.rules.iter().find(|(key, _)| key == name) {
            return Ok(rule.clone());
        }
        if metrics.get(name).is_some() {
            let metric = SmolStr::new(name);
            return Ok(Some(FullRule { metric, unit: None, scale: 1.0, offset: 0.0 }));
        }
        let name = shorten(name);
        let what = format!(
            "no metric is known for `{name}`; add `\"{name}\" = \"<metric>\"` to the mapping's metrics, or `\"{name}\" = false` if it is not a reading"
        );
        Err((Reason::UnknownMetric, what))
    }
}

impl Convention for Template {
    fn take(&mut self, message: &Message, context: &Context<'_>) -> Option<Taken> {
        let found = self.topic.captures(&message.topic)?;
        let level = |name| found.name(name).map(|level| level.as_str());
        let device = level("device").unwrap_or_default();
        let zone = match (level("site"), level("zone")) {
            (site, Some(zone)) => {
                let site = site.map_or_else(|| self.places.site().clone(), tidy);
                Ok(ZoneId::new(site, tidy(zone)))
            }
            (site, None) => self.places.zone(&[device]).map(|zone| match site {
                Some(site) => ZoneId::new(tidy(site), zone.zone),
                None => zone,
            }),
        };
        let zone = match zone {
            Ok(zone) => zone,
            Err(refusal) => return Some(Taken::refused(refusal)),
        };
        let device = tidy(device);
        let taken = self.readings(zone.clone(), &device, level("metric"), message, context);
        Some(taken.unwrap_or_else(Taken::refused).owned_by(&zone, &device))
    }
}

/// A field by its name, or by a JSON pointer (RFC 6901); `""` is the whole.
fn at_of<'v>(document: &'v Value, at: &str) -> Option<&'v Value> {
    if at.is_empty() || at.starts_with('/') { document.pointer(at) } else { document.get(at) }
}

fn pointer(key: &str, text: Option<&str>) -> Result<Option<String>, String> {
    match text {
        Some(text) if !text.is_empty() && !text.starts_with('/') => {
            Err(format!("{key} = \"{text}\": expected a JSON pointer, as in \"/{text}\""))
        }
        text => Ok(text.map(str::to_owned)),
    }
}
