use std::{collections::BTreeMap, ops::Range, sync::Arc};

use crate::{
    Faults, Kind, LogError, Positions, Reader, Settings, Writer, embedded::Embedded, kafka::Kafka,
};

/// The log: embedded, or Kafka. Clones share it.
#[derive(Clone, Debug)]
pub struct EventLog(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Embedded(Arc<Embedded>),
    Kafka(Arc<Kafka>),
}

impl EventLog {
    /// Opens the log; the embedded one takes its folder's lock.
    ///
    /// # Errors
    /// [`LogError::Setting`], [`LogError::Locked`] where another process has
    /// the folder, [`LogError::Io`].
    pub fn open(settings: &Settings) -> Result<Self, LogError> {
        Self::open_with(settings, Faults::default())
    }

    /// Opens the log with faults to be injected; Kafka has none of them.
    ///
    /// # Errors
    /// As [`EventLog::open`].
    pub fn open_with(settings: &Settings, faults: Faults) -> Result<Self, LogError> {
        settings.check()?;
        Ok(Self(match settings.kind {
            Kind::Embedded => Inner::Embedded(Arc::new(Embedded::open(settings, faults)?)),
            Kind::Kafka => Inner::Kafka(Arc::new(Kafka::new(settings))),
        }))
    }

    /// A writer of `topic`, which is created if need be. Kafka's brokers are
    /// asked here for the first time: this blocks for a moment.
    ///
    /// # Errors
    /// [`LogError::BadTopic`]; embedded: [`LogError::Corrupt`], [`LogError::Io`];
    /// Kafka: [`LogError::Unreachable`], [`LogError::Kafka`].
    pub fn writer(&self, topic: &str) -> Result<Writer, LogError> {
        check_topic(topic)?;
        match &self.0 {
            Inner::Embedded(log) => log.topic(topic).map(Writer::embedded),
            Inner::Kafka(log) => log.writer(topic).map(Writer::kafka),
        }
    }

    /// A reader of `topic` that starts at `from`; partitions that `from` does
    /// not name start at their oldest record.
    ///
    /// # Errors
    /// As [`EventLog::writer`], and [`LogError::OutOfRange`].
    pub fn reader(&self, topic: &str, from: &Positions) -> Result<Reader, LogError> {
        check_topic(topic)?;
        match &self.0 {
            Inner::Embedded(log) => Reader::embedded(log.topic(topic)?, from.get(&0).copied()),
            Inner::Kafka(log) => log.reader(topic, from).map(Reader::kafka),
        }
    }

    /// For each partition, the offsets that are there: from the oldest to one
    /// past the newest durable one. Blocks for a moment with Kafka.
    ///
    /// # Errors
    /// As [`EventLog::writer`].
    pub fn bounds(&self, topic: &str) -> Result<BTreeMap<i32, Range<i64>>, LogError> {
        check_topic(topic)?;
        match &self.0 {
            Inner::Embedded(log) => Ok(BTreeMap::from([(0, log.topic(topic)?.bounds())])),
            Inner::Kafka(log) => log.bounds(topic),
        }
    }

    /// Drops whole old segments of the embedded log whose every record is
    /// below `below_offset` and was passed by every open reader, as long as
    /// `keep_bytes_min` stay. Returns the oldest offset left. Kafka has a
    /// retention of its own: there this changes nothing.
    ///
    /// # Errors
    /// As [`EventLog::writer`].
    pub fn trim(&self, topic: &str, below_offset: i64) -> Result<i64, LogError> {
        check_topic(topic)?;
        match &self.0 {
            Inner::Embedded(log) => log.topic(topic)?.trim(below_offset),
            Inner::Kafka(_) => Ok(0),
        }
    }
}

/// Kafka's rule for names, shortened so that a folder's name has room; the
/// embedded log keeps to it too, so that a log can move.
fn check_topic(topic: &str) -> Result<(), LogError> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_name = (1..=200).contains(&topic.len()) && topic.bytes().all(known);
    if is_name && topic != "." && topic != ".." {
        Ok(())
    } else {
        Err(LogError::BadTopic { topic: topic.chars().take(80).collect() })
    }
}
