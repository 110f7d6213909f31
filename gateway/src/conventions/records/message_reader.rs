//! Reads one message by the layout of its topic.

use std::borrow::Cow;

use serde_json::Value;
use telemetry::{DeadLetterReason, SensorReading, SmolStr, ZoneId, payload, senml};

use super::{
    super::{
        DecodeContext, MappedMessage, ReadingRefusal,
        mapped_message::ReadingOrigin,
        name_template::name_part,
        payload_value,
        quantity::{self, BuiltinMatch, FoundValue, UserRule},
        settings::{MetricConversion, UnknownValuePolicy},
        zone_resolver::{sanitize_name, shorten_text},
    },
    FieldSelection, RecordConvention,
    layout::{MessageLayout, TopicCaptures},
    record_values::{LeafCollector, LeafValue, collect_records},
};
use crate::message::InboundMessage;

/// A possible reading of a record, before the choice between two names of one quantity (`tempc`
/// and `tempf`).
struct ReadingCandidate {
    /// The index of its name among the built-in ones, with the unit in that name; `None` for a
    /// user's rule.
    rank: Option<(usize, Option<&'static str>)>,
    /// The last level of its name.
    name: String,
    /// Which of several values of one metric it is.
    part: String,
    reading: SensorReading,
}

/// Reads one message.
pub(super) struct MessageReader<'a> {
    convention: &'a RecordConvention,
    layout: &'a MessageLayout,
    document: &'a Value,
    message: &'a InboundMessage,
    context: &'a DecodeContext<'a>,
    mapped: MappedMessage,
    /// Whether a user's rule matched a field.
    has_ruled: bool,
}

/// The device of a record.
struct RecordDevice {
    zone: ZoneId,
    /// The name as the layout gives it, for the names of values.
    device: String,
}

impl<'a> MessageReader<'a> {
    pub(super) fn new(
        convention: &'a RecordConvention,
        layout: &'a MessageLayout,
        document: &'a Value,
        message: &'a InboundMessage,
        context: &'a DecodeContext<'a>,
    ) -> Self {
        let mapped = MappedMessage::without_readings();
        Self { convention, layout, document, message, context, mapped, has_ruled: false }
    }

    /// Reads the message. `topic` holds the captures of its topic.
    pub(super) fn read_message(
        mut self,
        topic: TopicCaptures<'a>,
    ) -> Result<MappedMessage, ReadingRefusal> {
        self.read_records(topic)?;
        Ok(self.mapped)
    }

    fn read_records(&mut self, topic: TopicCaptures<'a>) -> Result<(), ReadingRefusal> {
        if self.layout.is_senml {
            return self.read_senml_pack(&topic);
        }
        let mut records = Vec::new();
        let is_ruled = self.convention.reading == FieldSelection::Ruled;
        if is_ruled && self.layout.records.is_empty() {
            // Pointers of rules may lead into a list.
            records.push((topic, self.document));
        } else {
            collect_records(&self.layout.records, self.document, &topic, &mut records);
        }
        let is_any = !records.is_empty();
        for (captured, record) in records {
            if let Err(refusal) = self.read_record(&captured, record) {
                self.mapped.rejected_readings.push(refusal);
            }
        }
        if is_ruled && !self.has_ruled && self.mapped.rejected_readings.is_empty() {
            return self.refuse_without_readings(is_any);
        }
        // A sequence number belongs to a single report.
        if let [report] = &mut self.mapped.reports[..] {
            let at = |at: &Option<String>| at.as_ref().and_then(|at| self.document.pointer(at));
            report.seq = at(&self.layout.sequence).and_then(payload::parse_count);
            report.boot =
                at(&self.layout.boot).and_then(name_part).map(|boot| sanitize_name(&boot));
        }
        Ok(())
    }

    /// Refuses a message that has none of the fields: it is about something else, or a mistake.
    fn refuse_without_readings(&self, has_records: bool) -> Result<(), ReadingRefusal> {
        if self.convention.quantities.unknown() == UnknownValuePolicy::Ignore {
            return Ok(());
        }
        let what = if has_records {
            let layout = self.layout;
            let names = match &layout.metric {
                Some(metric) => metric.clone(),
                None if layout.topic.has_capture("metric") => layout.value.clone(),
                None => self.convention.quantities.rule_names(),
            };
            format!("the message has none of `{}`", shorten_text(&names))
        } else {
            "the message has no record where `records` points".to_owned()
        };
        let hint = "set `unknown = \"ignore\"` in the mapping if messages without them are usual";
        Err((DeadLetterReason::NotAReading, format!("{what}; {hint}")))
    }

    /// Returns the value at a pointer in a record, or else in the message.
    fn find_value(&self, record: &'a Value, pointer: &str) -> Option<&'a Value> {
        record.pointer(pointer).or_else(|| self.document.pointer(pointer))
    }

    /// Finds the device of a record; `None` if it is ignored.
    fn find_device(
        &self,
        captured: &TopicCaptures<'a>,
        record: &'a Value,
    ) -> Result<Option<RecordDevice>, ReadingRefusal> {
        let layout = self.layout;
        let rendered =
            layout.device.render_name(|name| captured.get(name), |at| self.find_value(record, at));
        let device = rendered.ok_or_else(|| {
            (DeadLetterReason::NotAReading, "the message does not name its device".to_owned())
        })?;
        let texts = layout.names.iter().filter_map(|at| name_part(self.find_value(record, at)?));
        let names: Vec<String> = [device.clone(), sanitize_name(&device).to_string()]
            .into_iter()
            .chain(captured.get("device").map(str::to_owned))
            .chain(texts)
            .collect();
        Ok(self.find_zone(captured, record, &names)?.map(|zone| RecordDevice { zone, device }))
    }

    fn find_zone(
        &self,
        captured: &TopicCaptures<'a>,
        record: &'a Value,
        names: &[String],
    ) -> Result<Option<ZoneId>, ReadingRefusal> {
        let places = &self.convention.places;
        let zone_at = self.convention.zone_at.as_ref();
        let zone_field = zone_at.and_then(|at| name_part(self.find_value(record, at)?));
        let zone_name = captured.get("zone").map(str::to_owned).or(zone_field);
        let site = captured.get("site");
        if let Some(zone) = zone_name {
            let zone_site = site.map_or_else(|| places.site().clone(), sanitize_name);
            return Ok(Some(ZoneId::new(zone_site, sanitize_name(&zone))));
        }
        let name_refs: Vec<&str> = names.iter().map(String::as_str).collect();
        let zone = places.find_zone(&name_refs)?;
        Ok(zone.map(|zone| match site {
            Some(site) => ZoneId::new(sanitize_name(site), zone.zone),
            None => zone,
        }))
    }

    fn event_ms(&self, record: &'a Value) -> Result<i64, ReadingRefusal> {
        let parser = &self.convention.time_parser;
        for at in &self.layout.timestamp {
            let Some(stamp) = self.find_value(record, at) else { continue };
            // The time zone of this clock is not known, and the message has just been sent.
            if self.layout.is_local_time
                && !self.convention.has_time_zone
                && stamp.as_str().is_some_and(is_without_zone)
            {
                continue;
            }
            let received_ms = self.message.received_ms;
            if let Some(event_ms) = payload::parse_time(at, stamp, parser, Some(received_ms))? {
                return Ok(event_ms);
            }
        }
        // The device does not know the time yet.
        Ok(self.message.received_ms)
    }

    fn read_record(
        &mut self,
        captured: &TopicCaptures<'a>,
        record: &'a Value,
    ) -> Result<(), ReadingRefusal> {
        let Some(measurer) = self.find_device(captured, record)? else { return Ok(()) };
        let event_ms = self.event_ms(record)?;
        if self.mapped.owner.is_none() {
            self.mapped.owner = Some((measurer.zone.clone(), sanitize_name(&measurer.device)));
        }
        if let Some(name) = captured.get("metric") {
            let value = self.find_value(record, &self.layout.value);
            return self.read_single_value(
                &measurer,
                name,
                value,
                self.record_unit(record),
                event_ms,
            );
        }
        if let Some(at) = &self.layout.metric {
            let Some(name) = record.pointer(at).and_then(name_part) else { return Ok(()) };
            let value = record.pointer(&self.layout.value);
            return self.read_single_value(
                &measurer,
                &name,
                value,
                self.record_unit(record),
                event_ms,
            );
        }
        let fields = self.layout.fields.iter().find_map(|at| record.pointer(at));
        let Some(fields) = fields.filter(|fields| !fields.is_null()) else {
            return match &self.layout.undecoded {
                Some((at, what)) if record.pointer(at).is_some() => {
                    Err((DeadLetterReason::NotAReading, what.clone()))
                }
                _ => Ok(()),
            };
        };
        // ChirpStack 3 writes the object as a JSON text.
        let fields = match fields {
            Value::String(text) if !self.layout.fields.iter().all(String::is_empty) => {
                Cow::Owned(payload::parse_lenient_json(text)?)
            }
            fields => Cow::Borrowed(fields),
        };
        let RecordConvention { quantities, reading, .. } = self.convention;
        let collector = LeafCollector { layout: self.layout, quantities, reading: *reading };
        let leaves = collector.collect_leaves(&fields);
        let mut candidates = Vec::new();
        for leaf in &leaves {
            match self.build_candidate(&measurer, captured, leaf, event_ms) {
                Ok(candidate) => candidates.extend(candidate),
                Err(refusal) => self.mapped.rejected_readings.push(refusal),
            }
        }
        self.add_candidates(&measurer, candidates);
        Ok(())
    }

    fn record_unit(&self, record: &'a Value) -> Option<&'a str> {
        record.pointer(self.layout.unit.as_ref()?)?.as_str()
    }

    /// Reads a record with one value, whose name is in the topic or in the record.
    fn read_single_value(
        &mut self,
        measurer: &RecordDevice,
        name: &str,
        value: Option<&Value>,
        unit: Option<&str>,
        event_ms: i64,
    ) -> Result<(), ReadingRefusal> {
        let quantities = &self.convention.quantities;
        let full = format!("{}/{name}", measurer.device);
        let is_ruled = self.convention.reading == FieldSelection::Ruled;
        let names: &[&str] = if is_ruled { &[name] } else { &[&full, name] };
        let known = match self.convention.reading {
            FieldSelection::Ruled => None,
            FieldSelection::Known => quantities.find_builtin(name),
            FieldSelection::KnownByEnd => quantities.find_builtin_suffix(name),
        };
        let builtin = known
            .map_or(name, |builtin| name[builtin.before.len()..].trim_start_matches(['_', '-']));
        let found = FoundValue { names, builtin, unit };
        let Some(value) = value else {
            self.has_ruled |= quantities.user_rule(&found) == UserRule::NotAReading;
            return Ok(());
        };
        self.has_ruled = true;
        let is_wanted = self.is_wanted(&found);
        if !is_ruled && !is_wanted && !value.is_number() {
            return Ok(());
        }
        let Some((metric, value)) = self.read_quantity(&found, name, value)? else { return Ok(()) };
        let part = sensor_part("", known);
        let reading = SensorReading { metric, event_ms, value };
        self.add_candidates(
            measurer,
            vec![ReadingCandidate { rank: None, name: name.to_owned(), part, reading }],
        );
        Ok(())
    }

    /// Whether rules, built-in names or the metric table know a value by its name.
    fn is_wanted(&self, found: &FoundValue<'_>) -> bool {
        let quantities = &self.convention.quantities;
        let is_unknown = quantities.user_rule(found) == UserRule::Silent
            && quantities.find_builtin(found.builtin).is_none();
        quantities.is_metric(found)
            || (is_unknown && self.context.metrics.resolve_name(found.builtin).is_some())
    }

    /// Returns the metric of a value, and the value in its unit; `None` if it is not a reading.
    fn read_quantity(
        &self,
        found: &FoundValue<'_>,
        name: &str,
        value: &Value,
    ) -> Result<Option<(SmolStr, f64)>, ReadingRefusal> {
        let quantities = &self.convention.quantities;
        let metrics = self.context.metrics;
        match quantities.user_rule(found) {
            UserRule::NotAReading => return Ok(None),
            UserRule::Metric(rule) => return self.apply_rule(rule, found, name, value).map(Some),
            UserRule::Silent => {}
        }
        if quantities.find_builtin(found.builtin).is_none()
            && let Some((metric, _)) = metrics.resolve_name(found.builtin)
        {
            let named_metric = metric.clone();
            let rule =
                MetricConversion { metric: named_metric, unit: None, scale: 1.0, offset: 0.0 };
            let (metric, value) = self.apply_rule(&rule, found, name, value)?;
            let is_ruled = self.convention.reading == FieldSelection::Ruled;
            return Ok(Some(match is_ruled {
                true => (metric, value),
                false => quantity::replace_sentinel(metric, found.names, value),
            }));
        }
        quantities.read_quantity(found, payload_value::parse_json_quantity(name, value)?, metrics)
    }

    /// Applies a rule to a value. The result is in the unit of the metric.
    fn apply_rule(
        &self,
        rule: &MetricConversion,
        found: &FoundValue<'_>,
        name: &str,
        value: &Value,
    ) -> Result<(SmolStr, f64), ReadingRefusal> {
        // Some payload decoders write `30.11 °C`.
        let (number, unit) = payload_value::parse_json_quantity(name, value)?;
        let found = FoundValue { unit: unit.or(found.unit), ..*found };
        quantity::apply_rule(rule, &found, number, self.context.metrics)
    }

    /// Builds the candidate of a record's field.
    fn build_candidate(
        &mut self,
        measurer: &RecordDevice,
        captured: &TopicCaptures<'a>,
        leaf: &LeafValue<'_>,
        event_ms: i64,
    ) -> Result<Option<ReadingCandidate>, ReadingRefusal> {
        let quantities = &self.convention.quantities;
        let LeafValue { path, value, unit, stamp } = leaf;
        if self.convention.reading == FieldSelection::Ruled {
            let found = FoundValue { names: &[path], builtin: path, unit: *unit };
            let ruled = quantities.user_rule(&found);
            self.has_ruled |= ruled != UserRule::Silent;
            let UserRule::Metric(rule) = ruled else { return Ok(None) };
            let (metric, value) = self.apply_rule(rule, &found, path, value)?;
            let reading = SensorReading { metric, event_ms, value };
            let (name, part) = (String::new(), String::new());
            return Ok(Some(ReadingCandidate { rank: None, name, part, reading }));
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let (kind, channel) = (captured.get("kind"), captured.get("channel"));
        // `temperature:100/tC`, `temperature/tC`.
        let of_channel = match (kind, channel) {
            (Some(kind), Some(channel)) => format!("{kind}:{channel}/{path}"),
            _ => path.clone(),
        };
        let of_kind = kind.map_or_else(|| path.clone(), |kind| format!("{kind}/{path}"));
        let device = match channel {
            Some(_) => captured.get("device").unwrap_or(&measurer.device),
            None => &measurer.device,
        };
        let full = format!("{device}/{of_channel}");
        // A field of a component has its meaning for that component only.
        let candidates = [of_kind.as_str(), last];
        let named =
            candidates.iter().find_map(|name| Some((*name, quantities.find_builtin(name)?)));
        let builtin = named.map_or(last, |(name, _)| name);
        let known = named.map(|(_, known)| known);
        let names = [full.as_str(), &of_channel, &of_kind, path, last];
        let found = FoundValue { names: &names, builtin, unit: *unit };
        // A text or a state is not a reading, unless a rule or a built-in name matches it.
        if !value.is_number() && !self.is_wanted(&found) {
            return Ok(None);
        }
        let Some((metric, value)) = self.read_quantity(&found, &of_channel, value)? else {
            return Ok(None);
        };
        let event_ms = match stamp {
            None => event_ms,
            Some((name, stamp)) => {
                // The arrival does not show when a record in a list was measured.
                let parser = &self.convention.time_parser;
                let received_ms = Some(self.message.received_ms);
                payload::parse_time(name, stamp, parser, received_ms)?.ok_or_else(|| {
                    (
                        DeadLetterReason::BadTime,
                        format!("`{name}` of a record in a list is not set"),
                    )
                })?
            }
        };
        // The part of the path that belongs to the built-in name identifies the quantity, not the
        // sensor.
        let parent = match path.rsplit_once('/') {
            Some((parent, _)) if builtin == last => parent,
            _ => "",
        };
        let rank = match quantities.user_rule(&found) {
            UserRule::Metric(_) | UserRule::NotAReading => None,
            UserRule::Silent => {
                Some(known.map_or((usize::MAX, None), |builtin| (builtin.rank, builtin.unit())))
            }
        };
        let (name, part) = (last.to_owned(), sensor_part(parent, known));
        Ok(Some(ReadingCandidate {
            rank,
            name,
            part,
            reading: SensorReading { metric, event_ms, value },
        }))
    }

    /// Adds the readings of a record. Of one quantity in two units, the name that comes first
    /// among the built-in ones applies. Two names of one metric in one unit are two sensors.
    fn add_candidates(&mut self, measurer: &RecordDevice, mut candidates: Vec<ReadingCandidate>) {
        candidates.sort_by_key(|candidate| candidate.rank.map(|(rank, _)| rank));
        let mut selected: Vec<ReadingCandidate> = Vec::with_capacity(candidates.len());
        for mut candidate in candidates {
            let first = selected.iter().find(|earlier| {
                candidate.rank.is_some()
                    && earlier.part == candidate.part
                    && earlier.reading.metric == candidate.reading.metric
                    && earlier.reading.event_ms == candidate.reading.event_ms
            });
            if let Some(first) = first {
                let unit = |candidate: &ReadingCandidate| candidate.rank.map(|(_, unit)| unit);
                if unit(first) != unit(&candidate) {
                    continue;
                }
                candidate.part = join_parts(&[&candidate.part, &candidate.name]);
            }
            selected.push(candidate);
        }
        for ReadingCandidate { part, reading, .. } in selected {
            // Each of several thermometers of a device becomes a device of its own.
            let device = match part.as_str() {
                "" => sanitize_name(&measurer.device),
                part => sanitize_name(&format!("{}.{part}", measurer.device)),
            };
            let origin = ReadingOrigin::from_message(measurer.zone.clone(), device, self.message);
            self.mapped.add_reading(
                &origin,
                reading,
                self.message,
                self.context.limits.readings_max,
            );
        }
    }

    /// Reads the records of a SenML pack. If the topic does not name a device, it is the prefix
    /// of the records' names.
    fn read_senml_pack(&mut self, topic: &TopicCaptures<'a>) -> Result<(), ReadingRefusal> {
        let Value::Array(elements) = self.document else {
            return Err((
                DeadLetterReason::NotAReading,
                "not a list: expected a SenML pack".to_owned(),
            ));
        };
        for resolved in senml::resolve_records(elements, self.message.received_ms) {
            let read = resolved.and_then(|record| {
                let device = match record.device() {
                    "" => topic.get("device").unwrap_or_default(),
                    device => device,
                };
                if device.is_empty() {
                    let what = format!(
                        "`{}` does not name its device; add {{device}} to the topic",
                        shorten_text(&record.name)
                    );
                    return Err((DeadLetterReason::NotAReading, what));
                }
                let names = [device.to_owned()];
                let Some(zone) = self.find_zone(topic, self.document, &names)? else {
                    return Ok(());
                };
                let measurer = RecordDevice { zone, device: device.to_owned() };
                if self.mapped.owner.is_none() {
                    self.mapped.owner = Some((measurer.zone.clone(), sanitize_name(device)));
                }
                let value = Value::from(record.value);
                let unit = record.unit.as_deref();
                let event_ms = record.live_event_ms(self.message.received_ms);
                self.read_single_value(&measurer, record.quantity(), Some(&value), unit, event_ms)
            });
            self.mapped.rejected_readings.extend(read.err());
        }
        Ok(())
    }
}

/// Returns which of several values of one metric it is: its parent object, the prefix of its
/// name, the known sensor, and the digits in the name.
fn sensor_part(parent: &str, known: Option<BuiltinMatch<'_>>) -> String {
    let dotted_parent = parent.replace('/', ".");
    let before = known.map_or("", |builtin| builtin.before);
    let part = known.map_or("", |builtin| builtin.part);
    let channel = known.map_or("", |builtin| builtin.channel);
    join_parts(&[&dotted_parent, before, part, channel])
}

/// Whether a written time states neither its zone nor its offset from UTC.
fn is_without_zone(text: &str) -> bool {
    let trimmed = text.trim();
    match trimmed.split_once(['T', ' ']) {
        Some((_, clock)) => !clock.contains(['Z', 'z', '+', '-', '[']),
        // A number of seconds has no zone.
        None => trimmed.parse::<f64>().is_err(),
    }
}

fn join_parts(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_zone() {
        let check = |text: &str, expect: bool| assert_eq!(is_without_zone(text), expect, "{text}");
        check("2023-11-14 22:13:05", true);
        check("2023-11-14T22:13:05.123", true);
        check("2023-11-14T22:13:05Z", false);
        check("2023-11-14T22:13:05+0100", false);
        check("2023-11-14 22:13:05-05:00", false);
        check("2023-11-14T22:13:05[Europe/Berlin]", false);
        check("1700000000.5", false);
    }
}
