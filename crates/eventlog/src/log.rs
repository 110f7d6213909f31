use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use crate::{
    EventLogConfig, EventLogKind, FaultInjector, LogError, PartitionOffsets, RefusedRecord,
    SpoolStatus, TopicReader, TopicStorage, TopicWriter,
    embedded::EmbeddedLog,
    kafka::{KafkaClient, KafkaStatistics},
    spool::TopicSpool,
};

/// The log: embedded, or Kafka. Clones share it.
#[derive(Clone, Debug)]
pub struct EventLog(LogBackend);

#[derive(Clone, Debug)]
enum LogBackend {
    Embedded(Arc<EmbeddedLog>),
    Kafka(Arc<SpooledKafka>),
}

/// Kafka, and the spools of the topics that are written.
#[derive(Debug)]
struct SpooledKafka {
    settings: EventLogConfig,
    kafka: Arc<KafkaClient>,
    faults: FaultInjector,
    spools: Mutex<BTreeMap<String, Arc<TopicSpool>>>,
}

impl EventLog {
    /// Opens the log; the embedded one takes its folder's lock.
    ///
    /// # Errors
    /// [`LogError::Setting`], [`LogError::Locked`] where another process has
    /// the folder, [`LogError::Io`].
    pub fn open(settings: &EventLogConfig) -> Result<Self, LogError> {
        Self::open_with_faults(settings, FaultInjector::default())
    }

    /// Opens the log with faults to be injected into its local disk.
    ///
    /// # Errors
    /// As [`EventLog::open_partitions`].
    pub fn open_with_faults(
        settings: &EventLogConfig,
        faults: FaultInjector,
    ) -> Result<Self, LogError> {
        settings.check_values()?;
        Ok(Self(match settings.kind {
            EventLogKind::Embedded => {
                LogBackend::Embedded(Arc::new(EmbeddedLog::open(settings, faults)?))
            }
            EventLogKind::Kafka => LogBackend::Kafka(Arc::new(SpooledKafka {
                settings: settings.clone(),
                kafka: Arc::new(KafkaClient::new(settings)),
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
    pub fn open_writer(&self, topic: &str) -> Result<TopicWriter, LogError> {
        check_topic_name(topic)?;
        match &self.0 {
            LogBackend::Embedded(log) => log.open_topic(topic).map(TopicWriter::from_embedded),
            LogBackend::Kafka(log) if log.settings.spool.dir.as_os_str().is_empty() => {
                log.kafka.open_producer(topic).map(TopicWriter::from_producer)
            }
            LogBackend::Kafka(log) => log.open_spool(topic).map(TopicWriter::from_spool),
        }
    }

    /// A reader of `topic` that starts at `from`; partitions that `from` does
    /// not name start at their oldest record.
    ///
    /// # Errors
    /// As [`EventLog::open_writer`], and [`LogError::OutOfRange`].
    pub fn open_reader(
        &self,
        topic: &str,
        from: &PartitionOffsets,
    ) -> Result<TopicReader, LogError> {
        check_topic_name(topic)?;
        match &self.0 {
            LogBackend::Embedded(log) => {
                TopicReader::from_embedded(log.open_topic(topic)?, from.get(&0).copied())
            }
            LogBackend::Kafka(log) => {
                log.kafka.open_reader(topic, from).map(TopicReader::from_consumer)
            }
        }
    }

    /// Whether the readers of this log share its partitions, as
    /// `log.kafka.group` says.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(&self.0, LogBackend::Kafka(log) if log.settings.is_shared())
    }

    /// A reader of those partitions of `topic` that the consumer group gives
    /// it: [`TopicReader::next`] says which.
    ///
    /// # Errors
    /// As [`EventLog::open_writer`]; [`LogError::Setting`] where there is no group.
    pub fn open_group_reader(&self, topic: &str) -> Result<TopicReader, LogError> {
        check_topic_name(topic)?;
        match &self.0 {
            LogBackend::Kafka(log) if log.settings.is_shared() => {
                log.kafka.open_group_reader(topic).map(TopicReader::from_consumer)
            }
            _ => Err(LogError::InvalidSetting {
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
    /// As [`EventLog::open_writer`].
    pub fn offset_bounds(&self, topic: &str) -> Result<BTreeMap<i32, Range<i64>>, LogError> {
        check_topic_name(topic)?;
        match &self.0 {
            LogBackend::Embedded(log) => {
                Ok(BTreeMap::from([(0, log.open_topic(topic)?.offset_bounds())]))
            }
            LogBackend::Kafka(log) => log.kafka.fetch_bounds(topic),
        }
    }

    /// Tells the embedded log that `consumer` has everything of `topic` below the positions, so
    /// that retention may let it go. Kafka keeps records as its own retention says: there this
    /// changes nothing.
    ///
    /// # Errors
    /// As [`EventLog::open_writer`]; [`LogError::BadTopic`] for a name that no consumer can have.
    pub fn commit_offsets(
        &self,
        topic: &str,
        consumer: &str,
        positions: &PartitionOffsets,
    ) -> Result<(), LogError> {
        check_topic_name(topic)?;
        check_topic_name(consumer)?;
        match &self.0 {
            LogBackend::Embedded(log) => log
                .open_topic(topic)?
                .commit_offset(consumer, positions.get(&0).copied().unwrap_or(0)),
            LogBackend::Kafka(_) => Ok(()),
        }
    }

    /// Lets go what the retention of each open topic of the embedded log says. It is done too
    /// when a segment begins; calling this now and then is for topics that grow slowly.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn apply_retention(&self) -> Result<(), LogError> {
        match &self.0 {
            LogBackend::Embedded(log) => {
                log.opened_topics().iter().try_for_each(|topic| topic.apply_retention())
            }
            LogBackend::Kafka(_) => Ok(()),
        }
    }

    /// What each open topic of the embedded log has on disk; nothing for Kafka.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn topic_storage(&self) -> Result<BTreeMap<String, TopicStorage>, LogError> {
        match &self.0 {
            LogBackend::Embedded(log) => {
                let topics = log.opened_topics();
                let each = topics.iter().map(|topic| Ok((topic.name(), topic.storage_stats()?)));
                each.collect()
            }
            LogBackend::Kafka(_) => Ok(BTreeMap::new()),
        }
    }

    /// Whether a disk has no room, so that nothing is acknowledged for now.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match &self.0 {
            LogBackend::Embedded(log) => log.opened_topics().iter().any(|topic| topic.is_full()),
            LogBackend::Kafka(_) => self.spool_statuses().values().any(|spool| spool.is_disk_full),
        }
    }

    /// Whether records are in local files.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(&self.0, LogBackend::Embedded(_))
    }

    /// Whether local files take records while Kafka is away.
    #[must_use]
    pub fn has_spool(&self) -> bool {
        matches!(&self.0, LogBackend::Kafka(log) if !log.settings.spool.dir.as_os_str().is_empty())
    }

    /// For each partition of `topic` the offset after the newest record that Kafka has
    /// acknowledged to this process; nothing for the embedded log.
    #[must_use]
    pub fn acknowledged_offsets(&self, topic: &str) -> BTreeMap<i32, i64> {
        match &self.0 {
            LogBackend::Embedded(_) => BTreeMap::new(),
            LogBackend::Kafka(log) => log.kafka.acknowledged_offsets(topic),
        }
    }

    /// What librdkafka says of each topic that is written; nothing for the
    /// embedded log.
    #[must_use]
    pub fn kafka_statistics(&self) -> BTreeMap<String, KafkaStatistics> {
        match &self.0 {
            LogBackend::Embedded(_) => BTreeMap::new(),
            LogBackend::Kafka(log) => log.kafka.producer_statistics(),
        }
    }

    /// From here on records of `topic` that were durable in its spool, and that Kafka refuses
    /// for what they are, go to `keeper`. Without one they are kept in a file of the spool's
    /// folder. Where there is no spool, who appended them is told.
    ///
    /// # Errors
    /// As [`EventLog::open_writer`].
    pub fn keep_refused(
        &self,
        topic: &str,
        keeper: mpsc::Sender<RefusedRecord>,
    ) -> Result<(), LogError> {
        check_topic_name(topic)?;
        if let LogBackend::Kafka(log) = &self.0
            && !log.settings.spool.dir.as_os_str().is_empty()
        {
            log.open_spool(topic)?.keep_refused(keeper);
        }
        Ok(())
    }

    /// What the spool of each topic that is written holds; nothing where there
    /// is no spool.
    #[must_use]
    pub fn spool_statuses(&self) -> BTreeMap<String, SpoolStatus> {
        let LogBackend::Kafka(log) = &self.0 else { return BTreeMap::new() };
        let spools = log.spools.lock().unwrap_or_else(PoisonError::into_inner);
        spools.iter().map(|(topic, spool)| (topic.clone(), spool.status())).collect()
    }
}

impl SpooledKafka {
    fn open_spool(&self, topic: &str) -> Result<Arc<TopicSpool>, LogError> {
        let mut spools = self.spools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spool) = spools.get(topic) {
            return Ok(spool.clone());
        }
        let spool =
            TopicSpool::open(self.kafka.clone(), &self.settings, topic, self.faults.clone())?;
        let spool = Arc::new(spool);
        spools.insert(topic.to_owned(), spool.clone());
        Ok(spool)
    }
}

/// Kafka's rule for names, shortened so that a folder's name has room; the
/// embedded log keeps to it too, so that a log can move.
fn check_topic_name(topic: &str) -> Result<(), LogError> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_name = (1..=200).contains(&topic.len()) && topic.bytes().all(known);
    if is_name && topic != "." && topic != ".." {
        Ok(())
    } else {
        Err(LogError::InvalidTopicName { topic: topic.chars().take(80).collect() })
    }
}
