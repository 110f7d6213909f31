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

/// The log, embedded or Kafka. Clones share it.
#[derive(Clone, Debug)]
pub struct EventLog(LogBackend);

#[derive(Clone, Debug)]
enum LogBackend {
    Embedded(Arc<EmbeddedLog>),
    Kafka(Arc<SpooledKafka>),
}

/// Kafka, and the spools of the written topics.
#[derive(Debug)]
struct SpooledKafka {
    settings: EventLogConfig,
    kafka: Arc<KafkaClient>,
    faults: FaultInjector,
    spools: Mutex<BTreeMap<String, Arc<TopicSpool>>>,
}

impl EventLog {
    /// Opens the log. The embedded one locks its folder. While another user of the folder is
    /// ending, this blocks for up to three seconds.
    ///
    /// # Errors
    /// [`LogError::InvalidSetting`], [`LogError::Locked`] if another process uses the folder,
    /// [`LogError::Io`].
    pub fn open(settings: &EventLogConfig) -> Result<Self, LogError> {
        Self::open_with_faults(settings, FaultInjector::default())
    }

    /// Opens the log with faults to inject into its local disk.
    ///
    /// # Errors
    /// As [`EventLog::open`].
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

    /// Opens a writer of `topic`, which is created if it does not exist. Without a spool this
    /// contacts Kafka's brokers for the first time and blocks for a moment. With a spool, the
    /// brokers are contacted in the background and may be away.
    ///
    /// # Errors
    /// [`LogError::InvalidTopicName`]; embedded and spool: [`LogError::Locked`],
    /// [`LogError::Corrupt`], [`LogError::Io`], [`LogError::NoRuntime`]; Kafka without a spool:
    /// [`LogError::Unreachable`], [`LogError::Kafka`].
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

    /// Opens a reader of `topic` that starts at `from`. Partitions that `from` does not name
    /// start at their oldest record.
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

    /// Whether the readers of this log share its partitions, as `log.kafka.group` states.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(&self.0, LogBackend::Kafka(log) if log.settings.is_shared())
    }

    /// Opens a reader of those partitions of `topic` that the consumer group assigns to it.
    /// [`TopicReader::next_event`] reports them.
    ///
    /// # Errors
    /// As [`EventLog::open_writer`]; [`LogError::InvalidSetting`] if no group is configured.
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

    /// Returns the available offsets of each partition: from the oldest record to one past the
    /// newest durable one. Blocks for a moment with Kafka.
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

    /// Reports to the embedded log that `consumer` has stored everything of `topic` below the
    /// positions, so that retention may remove it. Has no effect on Kafka, which applies its own
    /// retention.
    ///
    /// # Errors
    /// As [`EventLog::open_writer`]; [`LogError::InvalidTopicName`] for a name that a consumer
    /// cannot have.
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

    /// Applies the retention of each open topic of the embedded log. This also happens when a
    /// segment begins. Call it now and then for topics that grow slowly.
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

    /// Returns the disk usage of each open topic of the embedded log; nothing for Kafka.
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

    /// Whether nothing is acknowledged at the moment because a disk is full.
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

    /// Returns, for each partition of `topic`, the offset after the newest record that Kafka has
    /// acknowledged to this process; nothing for the embedded log.
    #[must_use]
    pub fn acknowledged_offsets(&self, topic: &str) -> BTreeMap<i32, i64> {
        match &self.0 {
            LogBackend::Embedded(_) => BTreeMap::new(),
            LogBackend::Kafka(log) => log.kafka.acknowledged_offsets(topic),
        }
    }

    /// Returns librdkafka's statistics of each written topic; nothing for the embedded log.
    #[must_use]
    pub fn kafka_statistics(&self) -> BTreeMap<String, KafkaStatistics> {
        match &self.0 {
            LogBackend::Embedded(_) => BTreeMap::new(),
            LogBackend::Kafka(log) => log.kafka.producer_statistics(),
        }
    }

    /// Sends `keeper` the records of `topic` that were durable in its spool and that Kafka
    /// refuses because of their content. Without a keeper they are stored in a file of the
    /// spool's folder. Without a spool the appender's receipt reports the refusal.
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

    /// Returns the status of the spool of each written topic; nothing if there is no spool.
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

/// Checks a topic name by Kafka's rule, with a shorter limit so that it fits a folder's name. The
/// embedded log applies the rule too, so that a log can move to Kafka.
fn check_topic_name(topic: &str) -> Result<(), LogError> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_name = (1..=200).contains(&topic.len()) && topic.bytes().all(known);
    if is_name && topic != "." && topic != ".." {
        Ok(())
    } else {
        Err(LogError::InvalidTopicName { topic: topic.chars().take(80).collect() })
    }
}
