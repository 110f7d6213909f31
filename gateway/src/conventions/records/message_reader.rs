//! One message, read by the layout of its topic.

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

/// What a record's value may become, before it is known which of two names of one quantity
/// counts (`tempc` and `tempf`).
struct ReadingCandidate {
    /// The place of its name among the built-in ones and the unit that is in it; `None` for a
    /// rule of the user's.
    rank: Option<(usize, Option<&'static str>)>,
    /// The last level of its name.
    name: String,
    /// Of several values of one metric, which one.
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
    taken: MappedMessage,
    /// Whether there was a field that a rule of the user's names.
    has_ruled: bool,
}

/// Who measured a record.
struct RecordDevice {
    zone: ZoneId,
    /// As the layout says it, for the names of values.
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
        let taken = MappedMessage::without_readings();
        Self { convention, layout, document, message, context, taken, has_ruled: false }
    }

    /// What the message says, whose topic says what was captured.
    pub(super) fn read_message(
        mut self,
        topic: TopicCaptures<'a>,
    ) -> Result<MappedMessage, ReadingRefusal> {
        self.read_records(topic)?;
        Ok(self.taken)
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
                self.taken.rejected_readings.push(refusal);
            }
        }
        if is_ruled && !self.has_ruled && self.taken.rejected_readings.is_empty() {
            return self.refuse_without_readings(is_any);
        }
        // One number is of one report.
        if let [report] = &mut self.taken.reports[..] {
            let at = |at: &Option<String>| at.as_ref().and_then(|at| self.document.pointer(at));
            report.seq = at(&self.layout.sequence).and_then(payload::parse_count);
            report.boot =
                at(&self.layout.boot).and_then(name_part).map(|boot| sanitize_name(&boot));
        }
        Ok(())
    }

    /// A message that has none of the fields: it is about something else, or a mistake.
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
            format!("there is none of `{}` in the message", shorten_text(&names))
        } else {
            "there is no record in the message where `records` says".to_owned()
        };
        let hint = "set `unknown = \"ignore\"` in the mapping if messages without them are usual";
        Err((DeadLetterReason::NotAReading, format!("{what}; {hint}")))
    }

    /// What stands at a pointer in a record, or else in the message.
    fn find_value(&self, record: &'a Value, pointer: &str) -> Option<&'a Value> {
        record.pointer(pointer).or_else(|| self.document.pointer(pointer))
    }

    /// Who measured a record; `None` for whom is not for us.
    fn find_device(
        &self,
        captured: &TopicCaptures<'a>,
        record: &'a Value,
    ) -> Result<Option<RecordDevice>, ReadingRefusal> {
        let layout = self.layout;
        let device =
            layout.device.render_name(|name| captured.get(name), |at| self.find_value(record, at));
        let device = device.ok_or_else(|| {
            (
                DeadLetterReason::NotAReading,
                "the message does not say which device it is of".to_owned(),
            )
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
        let said = zone_at.and_then(|at| name_part(self.find_value(record, at)?));
        let said = captured.get("zone").map(str::to_owned).or(said);
        let site = captured.get("site");
        if let Some(zone) = said {
            let site = site.map_or_else(|| places.site().clone(), sanitize_name);
            return Ok(Some(ZoneId::new(site, sanitize_name(&zone))));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let zone = places.find_zone(&names)?;
        Ok(zone.map(|zone| match site {
            Some(site) => ZoneId::new(sanitize_name(site), zone.zone),
            None => zone,
        }))
    }

    fn event_ms(&self, record: &'a Value) -> Result<i64, ReadingRefusal> {
        let parser = &self.convention.time_parser;
        for at in &self.layout.timestamp {
            let Some(stamp) = self.find_value(record, at) else { continue };
            // A clock on the wall of nobody knows where; the message has just been sent.
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
        // A device that does not know the time yet.
        Ok(self.message.received_ms)
    }

    fn read_record(
        &mut self,
        captured: &TopicCaptures<'a>,
        record: &'a Value,
    ) -> Result<(), ReadingRefusal> {
        let Some(measurer) = self.find_device(captured, record)? else { return Ok(()) };
        let event_ms = self.event_ms(record)?;
        if self.taken.owner.is_none() {
            self.taken.owner = Some((measurer.zone.clone(), sanitize_name(&measurer.device)));
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
        // ChirpStack 3 writes the object as a text of JSON.
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
                Err(refusal) => self.taken.rejected_readings.push(refusal),
            }
        }
        self.add_candidates(&measurer, candidates);
        Ok(())
    }

    fn record_unit(&self, record: &'a Value) -> Option<&'a str> {
        record.pointer(self.layout.unit.as_ref()?)?.as_str()
    }

    /// A record of one value, whose name stands in the topic or beside it.
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
        let builtin =
            known.map_or(name, |own| name[own.before.len()..].trim_start_matches(['_', '-']));
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

    /// Whether rules, built-in names or the table of metrics know a value by its name.
    fn is_wanted(&self, found: &FoundValue<'_>) -> bool {
        let quantities = &self.convention.quantities;
        let is_unknown = quantities.user_rule(found) == UserRule::Silent
            && quantities.find_builtin(found.builtin).is_none();
        quantities.is_metric(found)
            || (is_unknown && self.context.metrics.resolve_name(found.builtin).is_some())
    }

    /// The metric of a value, and the value in its unit; `None` where it is no reading.
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
            let metric = metric.clone();
            let rule = MetricConversion { metric, unit: None, scale: 1.0, offset: 0.0 };
            let (metric, value) = self.apply_rule(&rule, found, name, value)?;
            let is_ruled = self.convention.reading == FieldSelection::Ruled;
            return Ok(Some(match is_ruled {
                true => (metric, value),
                false => quantity::replace_sentinel(metric, found.names, value),
            }));
        }
        quantities.read_quantity(found, payload_value::parse_json_quantity(name, value)?, metrics)
    }

    /// A value by a rule, in the unit of its metric.
    fn apply_rule(
        &self,
        rule: &MetricConversion,
        found: &FoundValue<'_>,
        name: &str,
        value: &Value,
    ) -> Result<(SmolStr, f64), ReadingRefusal> {
        // `30.11 °C`, as some payload decoders write it.
        let (number, unit) = payload_value::parse_json_quantity(name, value)?;
        let found = FoundValue { unit: unit.or(found.unit), ..*found };
        quantity::apply_rule(rule, &found, number, self.context.metrics)
    }

    /// What a field of a record becomes.
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
        // A field of a component is what it is of that component only.
        let candidates = [of_kind.as_str(), last];
        let known =
            candidates.iter().find_map(|name| Some((*name, quantities.find_builtin(name)?)));
        let builtin = known.map_or(last, |(name, _)| name);
        let known = known.map(|(_, known)| known);
        let names = [full.as_str(), &of_channel, &of_kind, path, last];
        let found = FoundValue { names: &names, builtin, unit: *unit };
        // A text, a state is no reading, unless something knows it by its name.
        if !value.is_number() && !self.is_wanted(&found) {
            return Ok(None);
        }
        let Some((metric, value)) = self.read_quantity(&found, &of_channel, value)? else {
            return Ok(None);
        };
        let event_ms = match stamp {
            None => event_ms,
            Some((name, stamp)) => {
                // The arrival says nothing of when a record in a list was measured.
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
        // What is part of the built-in name says what it is, and not which.
        let parent = match path.rsplit_once('/') {
            Some((parent, _)) if builtin == last => parent,
            _ => "",
        };
        let rank = match quantities.user_rule(&found) {
            UserRule::Metric(_) | UserRule::NotAReading => None,
            UserRule::Silent => {
                Some(known.map_or((usize::MAX, None), |own| (own.rank, own.unit())))
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

    /// Adds the readings of a record. Of one quantity in two units the name that comes first
    /// among the built-in ones counts; two names of one metric in one unit are two sensors.
    fn add_candidates(&mut self, measurer: &RecordDevice, mut candidates: Vec<ReadingCandidate>) {
        candidates.sort_by_key(|own| own.rank.map(|(rank, _)| rank));
        let mut kept: Vec<ReadingCandidate> = Vec::with_capacity(candidates.len());
        for mut candidate in candidates {
            let first = kept.iter().find(|own| {
                candidate.rank.is_some()
                    && own.part == candidate.part
                    && own.reading.metric == candidate.reading.metric
                    && own.reading.event_ms == candidate.reading.event_ms
            });
            if let Some(first) = first {
                let unit = |own: &ReadingCandidate| own.rank.map(|(_, unit)| unit);
                if unit(first) != unit(&candidate) {
                    continue;
                }
                candidate.part = join_parts(&[&candidate.part, &candidate.name]);
            }
            kept.push(candidate);
        }
        for ReadingCandidate { part, reading, .. } in kept {
            // One of several thermometers of a device is a device of its own.
            let device = match part.as_str() {
                "" => sanitize_name(&measurer.device),
                part => sanitize_name(&format!("{}.{part}", measurer.device)),
            };
            let origin = ReadingOrigin::from_message(measurer.zone.clone(), device, self.message);
            self.taken.add_reading(
                &origin,
                reading,
                self.message,
                self.context.limits.readings_max,
            );
        }
    }

    /// The records of a pack of SenML. A device that the topic does not name is what the names
    /// begin with.
    fn read_senml_pack(&mut self, topic: &TopicCaptures<'a>) -> Result<(), ReadingRefusal> {
        let Value::Array(elements) = self.document else {
            return Err((
                DeadLetterReason::NotAReading,
                "not a list, which a pack of SenML is".to_owned(),
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
                        "`{}` does not say of which device it is; add {{device}} to the topic",
                        shorten_text(&record.name)
                    );
                    return Err((DeadLetterReason::NotAReading, what));
                }
                let names = [device.to_owned()];
                let Some(zone) = self.find_zone(topic, self.document, &names)? else {
                    return Ok(());
                };
                let measurer = RecordDevice { zone, device: device.to_owned() };
                if self.taken.owner.is_none() {
                    self.taken.owner = Some((measurer.zone.clone(), sanitize_name(device)));
                }
                let value = Value::from(record.value);
                let unit = record.unit.as_deref();
                let event_ms = record.live_event_ms(self.message.received_ms);
                self.read_single_value(&measurer, record.quantity(), Some(&value), unit, event_ms)
            });
            self.taken.rejected_readings.extend(read.err());
        }
        Ok(())
    }
}

/// Which one of several values of one metric: the object that it stands in, what its name
/// begins with, the sensor that it is known by, and the digits in it.
fn sensor_part(parent: &str, known: Option<BuiltinMatch<'_>>) -> String {
    let parent = parent.replace('/', ".");
    let before = known.map_or("", |own| own.before);
    let part = known.map_or("", |own| own.part);
    let channel = known.map_or("", |own| own.channel);
    join_parts(&[&parent, before, part, channel])
}

/// Whether a written time says neither its zone nor its offset from UTC.
fn is_without_zone(text: &str) -> bool {
    let text = text.trim();
    match text.split_once(['T', ' ']) {
        Some((_, clock)) => !clock.contains(['Z', 'z', '+', '-', '[']),
        // A number of seconds.
        None => text.parse::<f64>().is_err(),
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
