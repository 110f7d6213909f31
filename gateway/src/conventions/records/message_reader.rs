//! One message, read by the layout of its topic.

use std::borrow::Cow;

use serde_json::Value;
use telemetry::{Reading, Reason, SmolStr, ZoneId, payload, senml};

use super::{
    super::{
        Context, Refusal, Taken,
        name_template::text_of,
        place::{shorten, tidy},
        quantity::{self, BuiltinMatch, Found, UserRule},
        settings::{FullRule, Unknown},
        taken::Origin,
        value,
    },
    FieldReading, RecordConvention,
    layout::{Captured, MessageLayout},
    values::{Leaf, LeafCollector, collect_records},
};
use crate::message::Message;

/// What a record's value may become, before it is known which of two names of one quantity
/// counts (`tempc` and `tempf`).
struct Candidate {
    /// The place of its name among the built-in ones and the unit that is in it; `None` for a
    /// rule of the user's.
    rank: Option<(usize, Option<&'static str>)>,
    /// The last level of its name.
    name: String,
    /// Of several values of one metric, which one.
    part: String,
    reading: Reading,
}

/// Reads one message.
pub(super) struct MessageReader<'a> {
    convention: &'a RecordConvention,
    layout: &'a MessageLayout,
    document: &'a Value,
    message: &'a Message,
    context: &'a Context<'a>,
    taken: Taken,
    /// Whether there was a field that a rule of the user's names.
    has_ruled: bool,
}

/// Who measured a record.
struct Measurer {
    zone: ZoneId,
    /// As the layout says it, for the names of values.
    device: String,
}

impl<'a> MessageReader<'a> {
    pub(super) fn new(
        convention: &'a RecordConvention,
        layout: &'a MessageLayout,
        document: &'a Value,
        message: &'a Message,
        context: &'a Context<'a>,
    ) -> Self {
        let taken = Taken::nothing();
        Self { convention, layout, document, message, context, taken, has_ruled: false }
    }

    /// What the message says, whose topic says what was captured.
    pub(super) fn read(mut self, topic: Captured<'a>) -> Result<Taken, Refusal> {
        self.message(topic)?;
        Ok(self.taken)
    }

    fn message(&mut self, topic: Captured<'a>) -> Result<(), Refusal> {
        if self.layout.is_senml {
            return self.pack(&topic);
        }
        let mut records = Vec::new();
        let is_ruled = self.convention.reading == FieldReading::Ruled;
        if is_ruled && self.layout.records.is_empty() {
            // Pointers of rules may lead into a list.
            records.push((topic, self.document));
        } else {
            collect_records(&self.layout.records, self.document, &topic, &mut records);
        }
        let is_any = !records.is_empty();
        for (captured, record) in records {
            if let Err(refusal) = self.record(&captured, record) {
                self.taken.left_out.push(refusal);
            }
        }
        if is_ruled && !self.has_ruled && self.taken.left_out.is_empty() {
            return self.without_readings(is_any);
        }
        // One number is of one report.
        if let [report] = &mut self.taken.reports[..] {
            let at = |at: &Option<String>| at.as_ref().and_then(|at| self.document.pointer(at));
            report.seq = at(&self.layout.sequence).and_then(payload::count);
            report.boot = at(&self.layout.boot).and_then(text_of).map(|boot| tidy(&boot));
        }
        Ok(())
    }

    /// A message that has none of the fields: it is about something else, or a mistake.
    fn without_readings(&self, has_records: bool) -> Result<(), Refusal> {
        if self.convention.quantities.unknown() == Unknown::Ignore {
            return Ok(());
        }
        let what = if has_records {
            let layout = self.layout;
            let names = match &layout.metric {
                Some(metric) => metric.clone(),
                None if layout.topic.has("metric") => layout.value.clone(),
                None => self.convention.quantities.rule_names(),
            };
            format!("there is none of `{}` in the message", shorten(&names))
        } else {
            "there is no record in the message where `records` says".to_owned()
        };
        let hint = "set `unknown = \"ignore\"` in the mapping if messages without them are usual";
        Err((Reason::NotAReading, format!("{what}; {hint}")))
    }

    /// What stands at a pointer in a record, or else in the message.
    fn at(&self, record: &'a Value, pointer: &str) -> Option<&'a Value> {
        record.pointer(pointer).or_else(|| self.document.pointer(pointer))
    }

    /// Who measured a record; `None` for whom is not for us.
    fn measurer(
        &self,
        captured: &Captured<'a>,
        record: &'a Value,
    ) -> Result<Option<Measurer>, Refusal> {
        let layout = self.layout;
        let device = layout.device.render(|name| captured.get(name), |at| self.at(record, at));
        let device = device.ok_or_else(|| {
            (Reason::NotAReading, "the message does not say which device it is of".to_owned())
        })?;
        let texts = layout.names.iter().filter_map(|at| text_of(self.at(record, at)?));
        let names: Vec<String> = [device.clone(), tidy(&device).to_string()]
            .into_iter()
            .chain(captured.get("device").map(str::to_owned))
            .chain(texts)
            .collect();
        Ok(self.zone(captured, record, &names)?.map(|zone| Measurer { zone, device }))
    }

    fn zone(
        &self,
        captured: &Captured<'a>,
        record: &'a Value,
        names: &[String],
    ) -> Result<Option<ZoneId>, Refusal> {
        let places = &self.convention.places;
        let zone_at = self.convention.zone_at.as_ref();
        let said = zone_at.and_then(|at| text_of(self.at(record, at)?));
        let said = captured.get("zone").map(str::to_owned).or(said);
        let site = captured.get("site");
        if let Some(zone) = said {
            let site = site.map_or_else(|| places.site().clone(), tidy);
            return Ok(Some(ZoneId::new(site, tidy(&zone))));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let zone = places.zone(&names)?;
        Ok(zone.map(|zone| match site {
            Some(site) => ZoneId::new(tidy(site), zone.zone),
            None => zone,
        }))
    }

    fn event_ms(&self, record: &'a Value) -> Result<i64, Refusal> {
        let parser = &self.convention.time_parser;
        for at in &self.layout.timestamp {
            let Some(stamp) = self.at(record, at) else { continue };
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

    fn record(&mut self, captured: &Captured<'a>, record: &'a Value) -> Result<(), Refusal> {
        let Some(measurer) = self.measurer(captured, record)? else { return Ok(()) };
        let event_ms = self.event_ms(record)?;
        if self.taken.owner.is_none() {
            self.taken.owner = Some((measurer.zone.clone(), tidy(&measurer.device)));
        }
        if let Some(name) = captured.get("metric") {
            let value = self.at(record, &self.layout.value);
            return self.one(&measurer, name, value, self.unit_of(record), event_ms);
        }
        if let Some(at) = &self.layout.metric {
            let Some(name) = record.pointer(at).and_then(text_of) else { return Ok(()) };
            let value = record.pointer(&self.layout.value);
            return self.one(&measurer, &name, value, self.unit_of(record), event_ms);
        }
        let fields = self.layout.fields.iter().find_map(|at| record.pointer(at));
        let Some(fields) = fields.filter(|fields| !fields.is_null()) else {
            return match &self.layout.undecoded {
                Some((at, what)) if record.pointer(at).is_some() => {
                    Err((Reason::NotAReading, what.clone()))
                }
                _ => Ok(()),
            };
        };
        // ChirpStack 3 writes the object as a text of JSON.
        let fields = match fields {
            Value::String(text) if !self.layout.fields.iter().all(String::is_empty) => {
                Cow::Owned(payload::parse(text)?)
            }
            fields => Cow::Borrowed(fields),
        };
        let RecordConvention { quantities, reading, .. } = self.convention;
        let collector = LeafCollector { layout: self.layout, quantities, reading: *reading };
        let leaves = collector.leaves_of(&fields);
        let mut candidates = Vec::new();
        for leaf in &leaves {
            match self.candidate(&measurer, captured, leaf, event_ms) {
                Ok(candidate) => candidates.extend(candidate),
                Err(refusal) => self.taken.left_out.push(refusal),
            }
        }
        self.add(&measurer, candidates);
        Ok(())
    }

    fn unit_of(&self, record: &'a Value) -> Option<&'a str> {
        record.pointer(self.layout.unit.as_ref()?)?.as_str()
    }

    /// A record of one value, whose name stands in the topic or beside it.
    fn one(
        &mut self,
        measurer: &Measurer,
        name: &str,
        value: Option<&Value>,
        unit: Option<&str>,
        event_ms: i64,
    ) -> Result<(), Refusal> {
        let quantities = &self.convention.quantities;
        let full = format!("{}/{name}", measurer.device);
        let is_ruled = self.convention.reading == FieldReading::Ruled;
        let names: &[&str] = if is_ruled { &[name] } else { &[&full, name] };
        let known = match self.convention.reading {
            FieldReading::Ruled => None,
            FieldReading::Known => quantities.builtin_of(name),
            FieldReading::KnownByEnd => quantities.builtin_at_end_of(name),
        };
        let builtin =
            known.map_or(name, |own| name[own.before.len()..].trim_start_matches(['_', '-']));
        let found = Found { names, builtin, unit };
        let Some(value) = value else {
            self.has_ruled |= quantities.ruled(&found) == UserRule::NotAReading;
            return Ok(());
        };
        self.has_ruled = true;
        let is_wanted = self.is_wanted(&found);
        if !is_ruled && !is_wanted && !value.is_number() {
            return Ok(());
        }
        let Some((metric, value)) = self.quantity(&found, name, value)? else { return Ok(()) };
        let part = part_of("", known);
        let reading = Reading { metric, event_ms, value };
        self.add(measurer, vec![Candidate { rank: None, name: name.to_owned(), part, reading }]);
        Ok(())
    }

    /// Whether rules, built-in names or the table of metrics know a value by its name.
    fn is_wanted(&self, found: &Found<'_>) -> bool {
        let quantities = &self.convention.quantities;
        let is_unknown = quantities.ruled(found) == UserRule::Silent
            && quantities.builtin_of(found.builtin).is_none();
        quantities.wants(found)
            || (is_unknown && self.context.metrics.resolve(found.builtin).is_some())
    }

    /// The metric of a value, and the value in its unit; `None` where it is no reading.
    fn quantity(
        &self,
        found: &Found<'_>,
        name: &str,
        value: &Value,
    ) -> Result<Option<(SmolStr, f64)>, Refusal> {
        let quantities = &self.convention.quantities;
        let metrics = self.context.metrics;
        match quantities.ruled(found) {
            UserRule::NotAReading => return Ok(None),
            UserRule::Metric(rule) => return self.by_rule(rule, found, name, value).map(Some),
            UserRule::Silent => {}
        }
        if quantities.builtin_of(found.builtin).is_none()
            && let Some((metric, _)) = metrics.resolve(found.builtin)
        {
            let metric = metric.clone();
            let rule = FullRule { metric, unit: None, scale: 1.0, offset: 0.0 };
            let (metric, value) = self.by_rule(&rule, found, name, value)?;
            let is_ruled = self.convention.reading == FieldReading::Ruled;
            return Ok(Some(match is_ruled {
                true => (metric, value),
                false => quantity::without_sentinel(metric, found.names, value),
            }));
        }
        quantities.read_with_unit(found, value::number_and_unit(name, value)?, metrics)
    }

    /// A value by a rule, in the unit of its metric.
    fn by_rule(
        &self,
        rule: &FullRule,
        found: &Found<'_>,
        name: &str,
        value: &Value,
    ) -> Result<(SmolStr, f64), Refusal> {
        // `30.11 °C`, as some payload decoders write it.
        let (number, unit) = value::number_and_unit(name, value)?;
        let found = Found { unit: unit.or(found.unit), ..*found };
        quantity::apply(rule, &found, number, self.context.metrics)
    }

    /// What a field of a record becomes.
    fn candidate(
        &mut self,
        measurer: &Measurer,
        captured: &Captured<'a>,
        leaf: &Leaf<'_>,
        event_ms: i64,
    ) -> Result<Option<Candidate>, Refusal> {
        let quantities = &self.convention.quantities;
        let Leaf { path, value, unit, stamp } = leaf;
        if self.convention.reading == FieldReading::Ruled {
            let found = Found { names: &[path], builtin: path, unit: *unit };
            let ruled = quantities.ruled(&found);
            self.has_ruled |= ruled != UserRule::Silent;
            let UserRule::Metric(rule) = ruled else { return Ok(None) };
            let (metric, value) = self.by_rule(rule, &found, path, value)?;
            let reading = Reading { metric, event_ms, value };
            let (name, part) = (String::new(), String::new());
            return Ok(Some(Candidate { rank: None, name, part, reading }));
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
        let known = candidates.iter().find_map(|name| Some((*name, quantities.builtin_of(name)?)));
        let builtin = known.map_or(last, |(name, _)| name);
        let known = known.map(|(_, known)| known);
        let names = [full.as_str(), &of_channel, &of_kind, path, last];
        let found = Found { names: &names, builtin, unit: *unit };
        // A text, a state is no reading, unless something knows it by its name.
        if !value.is_number() && !self.is_wanted(&found) {
            return Ok(None);
        }
        let Some((metric, value)) = self.quantity(&found, &of_channel, value)? else {
            return Ok(None);
        };
        let event_ms = match stamp {
            None => event_ms,
            Some((name, stamp)) => {
                // The arrival says nothing of when a record in a list was measured.
                let parser = &self.convention.time_parser;
                let received_ms = Some(self.message.received_ms);
                payload::parse_time(name, stamp, parser, received_ms)?.ok_or_else(|| {
                    (Reason::BadTime, format!("`{name}` of a record in a list is not set"))
                })?
            }
        };
        // What is part of the built-in name says what it is, and not which.
        let parent = match path.rsplit_once('/') {
            Some((parent, _)) if builtin == last => parent,
            _ => "",
        };
        let rank = match quantities.ruled(&found) {
            UserRule::Metric(_) | UserRule::NotAReading => None,
            UserRule::Silent => {
                Some(known.map_or((usize::MAX, None), |own| (own.rank, own.unit())))
            }
        };
        let (name, part) = (last.to_owned(), part_of(parent, known));
        Ok(Some(Candidate { rank, name, part, reading: Reading { metric, event_ms, value } }))
    }

    /// Adds the readings of a record. Of one quantity in two units the name that comes first
    /// among the built-in ones counts; two names of one metric in one unit are two sensors.
    fn add(&mut self, measurer: &Measurer, mut candidates: Vec<Candidate>) {
        candidates.sort_by_key(|own| own.rank.map(|(rank, _)| rank));
        let mut kept: Vec<Candidate> = Vec::with_capacity(candidates.len());
        for mut candidate in candidates {
            let first = kept.iter().find(|own| {
                candidate.rank.is_some()
                    && own.part == candidate.part
                    && own.reading.metric == candidate.reading.metric
                    && own.reading.event_ms == candidate.reading.event_ms
            });
            if let Some(first) = first {
                let unit = |own: &Candidate| own.rank.map(|(_, unit)| unit);
                if unit(first) != unit(&candidate) {
                    continue;
                }
                candidate.part = joined(&[&candidate.part, &candidate.name]);
            }
            kept.push(candidate);
        }
        for Candidate { part, reading, .. } in kept {
            // One of several thermometers of a device is a device of its own.
            let device = match part.as_str() {
                "" => tidy(&measurer.device),
                part => tidy(&format!("{}.{part}", measurer.device)),
            };
            let origin = Origin::live(measurer.zone.clone(), device, self.message);
            self.taken.add(&origin, reading, self.message, self.context.limits.readings_max);
        }
    }

    /// The records of a pack of SenML. A device that the topic does not name is what the names
    /// begin with.
    fn pack(&mut self, topic: &Captured<'a>) -> Result<(), Refusal> {
        let Value::Array(elements) = self.document else {
            return Err((Reason::NotAReading, "not a list, which a pack of SenML is".to_owned()));
        };
        for resolved in senml::resolve(elements, self.message.received_ms) {
            let read = resolved.and_then(|record| {
                let device = match record.device() {
                    "" => topic.get("device").unwrap_or_default(),
                    device => device,
                };
                if device.is_empty() {
                    let what = format!(
                        "`{}` does not say of which device it is; add {{device}} to the topic",
                        shorten(&record.name)
                    );
                    return Err((Reason::NotAReading, what));
                }
                let names = [device.to_owned()];
                let Some(zone) = self.zone(topic, self.document, &names)? else { return Ok(()) };
                let measurer = Measurer { zone, device: device.to_owned() };
                if self.taken.owner.is_none() {
                    self.taken.owner = Some((measurer.zone.clone(), tidy(device)));
                }
                let value = Value::from(record.value);
                let unit = record.unit.as_deref();
                let event_ms = record.live_event_ms(self.message.received_ms);
                self.one(&measurer, record.quantity(), Some(&value), unit, event_ms)
            });
            self.taken.left_out.extend(read.err());
        }
        Ok(())
    }
}

/// Which one of several values of one metric: the object that it stands in, what its name
/// begins with, the sensor that it is known by, and the digits in it.
fn part_of(parent: &str, known: Option<BuiltinMatch<'_>>) -> String {
    let parent = parent.replace('/', ".");
    let before = known.map_or("", |own| own.before);
    let part = known.map_or("", |own| own.part);
    let channel = known.map_or("", |own| own.channel);
    joined(&[&parent, before, part, channel])
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

fn joined(parts: &[&str]) -> String {
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
