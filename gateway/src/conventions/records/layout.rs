//! The layout of a topic's messages.

use super::super::{name_pattern::NamePattern, name_template::NameTemplate};

/// The captures that topics and paths of records may have.
pub(in super::super) const CAPTURES: [&str; 6] =
    ["site", "zone", "device", "metric", "kind", "channel"];

/// The layout of a topic's messages, as it is written. Pointers are JSON pointers (RFC 6901) into
/// the record or, if there is nothing, into the message.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct LayoutText<'t> {
    /// The topic, with captures.
    pub(in super::super) topic: &'t str,
    /// The path of the records: levels of a JSON pointer, each a pattern with captures. A list at
    /// this path contains several records.
    pub(in super::super) records: &'t str,
    /// The paths of a record's fields. The first existing one applies.
    pub(in super::super) fields: &'t [&'t str],
    /// The template of the device's name.
    pub(in super::super) device: &'t str,
    /// Further names of the device, for zone rules.
    pub(in super::super) names: &'t [&'t str],
    /// The paths of a record's time. The first one that is set applies.
    pub(in super::super) timestamp: &'t [&'t str],
    /// The paths of the device's sequence number, and of the run that the numbers belong to.
    pub(in super::super) sequence: Option<&'t str>,
    pub(in super::super) boot: Option<&'t str>,
    /// The paths of the name, the value and the unit of a record with a single value.
    pub(in super::super) metric: Option<&'t str>,
    pub(in super::super) value: &'t str,
    pub(in super::super) unit: Option<&'t str>,
    /// Whether its times are local times if they state no zone.
    pub(in super::super) is_local_time: bool,
    /// Whether it is a SenML pack.
    pub(in super::super) is_senml: bool,
    /// The path of undecoded bytes, and a message that states what to do about them.
    pub(in super::super) undecoded: Option<(&'t str, &'t str)>,
}

impl LayoutText<'_> {
    pub(in super::super) const EMPTY: Self = Self {
        topic: "",
        records: "",
        fields: &[""],
        device: "{device}",
        names: &[],
        timestamp: &[],
        sequence: None,
        boot: None,
        metric: None,
        value: "",
        unit: None,
        is_local_time: false,
        is_senml: false,
        undecoded: None,
    };
}

/// The checked layout of a topic's messages.
#[derive(Debug)]
pub(super) struct MessageLayout {
    pub(super) topic: NamePattern,
    pub(super) records: Vec<NamePattern>,
    pub(super) fields: Vec<String>,
    pub(super) device: NameTemplate,
    pub(super) names: Vec<String>,
    pub(super) timestamp: Vec<String>,
    pub(super) sequence: Option<String>,
    pub(super) boot: Option<String>,
    pub(super) metric: Option<String>,
    pub(super) value: String,
    pub(super) unit: Option<String>,
    pub(super) is_local_time: bool,
    pub(super) is_senml: bool,
    pub(super) undecoded: Option<(String, String)>,
}

impl MessageLayout {
    pub(super) fn new(text: &LayoutText<'_>, topic: &str) -> Result<Self, String> {
        let topic =
            NamePattern::parse(topic, &CAPTURES).map_err(|what| format!("topic: {what}"))?;
        let pointers = |key: &str, texts: &[&str]| {
            texts.iter().map(|text| check_pointer(key, text)).collect::<Result<Vec<_>, _>>()
        };
        let optional =
            |key: &str, text: Option<&str>| text.map(|text| check_pointer(key, text)).transpose();
        let levels = check_pointer("records", text.records)?;
        let records = levels.split('/').skip(1).map(|level| {
            NamePattern::parse(&level.replace("~1", "/").replace("~0", "~"), &CAPTURES)
                .map_err(|what| format!("records: {what}"))
        });
        Ok(Self {
            topic,
            records: records.collect::<Result<_, _>>()?,
            fields: pointers("fields", text.fields)?,
            device: NameTemplate::parse(text.device, &CAPTURES)
                .map_err(|what| format!("device = {what}"))?,
            names: pointers("names", text.names)?,
            timestamp: pointers("timestamp", text.timestamp)?,
            sequence: optional("sequence", text.sequence)?,
            boot: optional("boot", text.boot)?,
            metric: optional("metric", text.metric)?,
            value: check_pointer("value", text.value)?,
            unit: optional("unit", text.unit)?,
            is_local_time: text.is_local_time,
            is_senml: text.is_senml,
            undecoded: text.undecoded.map(|(at, what)| (at.to_owned(), what.to_owned())),
        })
    }

    pub(super) fn has_capture(&self, name: &str) -> bool {
        self.topic.has_capture(name) || self.records.iter().any(|level| level.has_capture(name))
    }

    /// Whether a field of a record states the time, the device or the sensor, and is not a value.
    pub(super) fn is_envelope(&self, path: &str) -> bool {
        let is = |pointer: &String| pointer.strip_prefix('/') == Some(path);
        self.timestamp.iter().chain(&self.sequence).chain(&self.boot).any(is)
    }
}

/// Checks a JSON pointer that a user wrote.
pub(super) fn check_pointer(key: &str, text: &str) -> Result<String, String> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err(format!("{key} = \"{text}\": expected a JSON pointer, as in \"/{text}\""));
    }
    Ok(text.to_owned())
}

/// The captures of a topic, or of the path of a record.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicCaptures<'t>(Vec<(&'static str, &'t str)>);

impl<'t> TopicCaptures<'t> {
    pub(super) fn from_match(pattern: &NamePattern, text: &'t str) -> Option<Self> {
        let found = pattern.captures(text)?;
        let named = CAPTURES.iter().filter_map(|name| Some((*name, found.name(name)?.as_str())));
        Some(Self(named.collect()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// Merges these captures with those of a level of the path.
    pub(super) fn merged_with(&self, other: TopicCaptures<'t>) -> Self {
        Self(self.0.iter().copied().chain(other.0).collect())
    }
}
