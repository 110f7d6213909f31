use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use crate::{
    Faults, Kind, LogError, Positions, Reader, RefusedRecord, Settings, SpoolStatus, TopicStorage,
    Writer,
    embedded::Embedded,
    kafka::{Kafka, KafkaStatistics},
    spool::Spool,
};

/// The log: embedded, or Kafka. Clones share it.
#[derive(Clone, Debug)]
pub struct EventLog(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Embedded(Arc<Embedded>),
    Kafka(Arc<Spooled>),
}

/// Kafka, and the spools of the topics that are written.
#[derive(Debug)]
struct Spooled {
    settings: Settings,
    kafka: Arc<Kafka>,
    faults: Faults,
    spools: Mutex<BTreeMap<String, Arc<Spool>>>,
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

    /// Opens the log with faults to be injected into its local disk.
    ///
    /// # Errors
    /// As [`EventLog::open`].
    pub fn open_with(settings: &Settings, faults: Faults) -> Result<Self, LogError> {
        settings.check()?;
        Ok(Self(match settings.kind {
            Kind::Embedded => Inner::Embedded(Arc::new(Embedded::open(settings, faults)?)),
            Kind::Kafka => Inner::Kafka(Arc::new(Spooled {
                settings: settings.clone(),
                kafka: Arc::new(Kafka::new(settings)),
                faults,
                spools: Mutex::default(),
            })),
        }))
    }

    /// A writer of `topic`, which is created if need be. Kafka's brokers are
    /// asked here for the first time: this blocks for a moment. With a spool,
    /// they are looked for in the background, and may be away.
    ///
    /// # Errors
    /// [`LogError::BadTopic`]; embedded and spool: [`LogError::Locked`],
    /// [`LogError::Corrupt`], [`LogError::Io`], [`LogError::NoRuntime`]; Kafka
    /// without a spool: [`LogError::Unreachable`], [`LogError::Kafka`].
    pub fn writer(&self, topic: &str) -> Result<Writer, LogError> {
        check_topic(topic)?;
        match &self.0 {
            Inner::Embedded(log) => log.topic(topic).map(Writer::embedded),
            Inner::Kafka(log) if log.settings.spool.dir.as_os_str().is_empty() => {
                log.kafka.producer(topic).map(Writer::kafka)
            }
            Inner::Kafka(log) => log.spool(topic).map(Writer::spool),
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
            Inner::Kafka(log) => log.kafka.reader(topic, from).map(Reader::kafka),
        }
    }

    /// Whether the readers of this log share its partitions, as
    /// `log.kafka.group` says.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(&self.0, Inner::Kafka(log) if log.settings.is_shared())
    }

    /// A reader of those partitions of `topic` that the consumer group gives
    /// it: [`Reader::next`] says which.
    ///
    /// # Errors
    /// As [`EventLog::writer`]; [`LogError::Setting`] where there is no group.
    pub fn member(&self, topic: &str) -> Result<Reader, LogError> {
        check_topic(topic)?;
        match &self.0 {
            Inner::Kafka(log) if log.settings.is_shared() => {
                log.kafka.member(topic).map(Reader::kafka)
            }
            _ => Err(LogError::Setting {
                key: "kafka.group",
                found: "\"\"".to_owned(),
                expected: "the name of a consumer group".to_owned(),
            }),
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
            Inner::Kafka(log) => log.kafka.bounds(topic),
        }
    }

    /// Tells the embedded log that `consumer` has everything of `topic` below the positions, so
    /// that retention may let it go. Kafka keeps records as its own retention says: there this
    /// changes nothing.
    ///
    /// # Errors
    /// As [`EventLog::writer`]; [`LogError::BadTopic`] for a name that no consumer can have.
    pub fn commit(
        &self,
        topic: &str,
        consumer: &str,
        positions: &Positions,
    ) -> Result<(), LogError> {
        check_topic(topic)?;
        check_topic(consumer)?;
        match &self.0 {
            Inner::Embedded(log) => {
                log.topic(topic)?.commit(consumer, positions.get(&0).copied().unwrap_or(0))
            }
            Inner::Kafka(_) => Ok(()),
        }
    }

    /// Lets go what the retention of each open topic of the embedded log says. It is done too
    /// when a segment begins; calling this now and then is for topics that grow slowly.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn apply_retention(&self) -> Result<(), LogError> {
        match &self.0 {
            Inner::Embedded(log) => {
                log.topics().iter().try_for_each(|topic| topic.apply_retention())
            }
            Inner::Kafka(_) => Ok(()),
        }
    }

    /// What each open topic of the embedded log has on disk; nothing for Kafka.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn storage(&self) -> Result<BTreeMap<String, TopicStorage>, LogError> {
        match &self.0 {
            Inner::Embedded(log) => {
                let topics = log.topics();
                let each = topics.iter().map(|topic| Ok((topic.name(), topic.storage()?)));
                each.collect()
            }
            Inner::Kafka(_) => Ok(BTreeMap::new()),
        }
    }

    /// Whether a disk has no room, so that nothing is acknowledged for now.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match &self.0 {
            Inner::Embedded(log) => log.topics().iter().any(|topic| topic.is_full()),
            Inner::Kafka(_) => self.spools().values().any(|spool| spool.is_disk_full),
        }
    }

    /// Whether records are in local files.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(&self.0, Inner::Embedded(_))
    }

    /// Whether local files take records while Kafka is away.
    #[must_use]
    pub fn has_spool(&self) -> bool {
        matches!(&self.0, Inner::Kafka(log) if !log.settings.spool.dir.as_os_str().is_empty())
    }

    /// For each partition of `topic` the offset after the newest record that Kafka has
    /// acknowledged to this process; nothing for the embedded log.
    #[must_use]
    pub fn acknowledged(&self, topic: &str) -> BTreeMap<i32, i64> {
        match &self.0 {
            Inner::Embedded(_) => BTreeMap::new(),
            Inner::Kafka(log) => log.kafka.acknowledged(topic),
        }
    }

    /// What librdkafka says of each topic that is written; nothing for the
    /// embedded log.
    #[must_use]
    pub fn kafka_statistics(&self) -> BTreeMap<String, KafkaStatistics> {
        match &self.0 {
            Inner::Embedded(_) => BTreeMap::new(),
            Inner::Kafka(log) => log.kafka.statistics(),
        }
    }

    /// From here on records of `topic` that were durable in its spool, and that Kafka refuses
    /// for what they are, go to `keeper`. Without one they are kept in a file of the spool's
    /// folder. Where there is no spool, who appended them is told.
    ///
    /// # Errors
    /// As [`EventLog::writer`].
    pub fn keep_refused(
        &self,
        topic: &str,
        keeper: mpsc::Sender<RefusedRecord>,
    ) -> Result<(), LogError> {
        check_topic(topic)?;
        if let Inner::Kafka(log) = &self.0
            && !log.settings.spool.dir.as_os_str().is_empty()
        {
            log.spool(topic)?.keep_refused(keeper);
        }
        Ok(())
    }

    /// What the spool of each topic that is written holds; nothing where there
    /// is no spool.
    #[must_use]
    pub fn spools(&self) -> BTreeMap<String, SpoolStatus> {
        let Inner::Kafka(log) = &self.0 else { return BTreeMap::new() };
        let spools = log.spools.lock().unwrap_or_else(PoisonError::into_inner);
        spools.iter().map(|(topic, spool)| (topic.clone(), spool.status())).collect()
    }
}

impl Spooled {
    fn spool(&self, topic: &str) -> Result<Arc<Spool>, LogError> {
        let mut spools = self.spools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spool) = spools.get(topic) {
            return Ok(spool.clone());
        }
        let spool = Spool::open(self.kafka.clone(), &self.settings, topic, self.faults.clone())?;
        let spool = Arc::new(spool);
        spools.insert(topic.to_owned(), spool.clone());
        Ok(spool)
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
