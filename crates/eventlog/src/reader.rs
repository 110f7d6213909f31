use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    LogError, PartitionOffsets, StoredRecord,
    embedded::{EmbeddedTopic, TailReader},
    kafka::KafkaConsumer,
};

/// Reads one topic, each partition in order. Returns only durable records.
#[derive(Debug)]
pub struct TopicReader(ReaderBackend);

#[derive(Debug)]
enum ReaderBackend {
    Embedded(TailReader),
    Kafka(KafkaConsumer),
}

/// The next event of a reader.
#[derive(Debug)]
pub enum ReaderEvent {
    /// Records; empty if none arrived in time.
    Records(Vec<StoredRecord>),
    /// The consumer group assigned partitions to this reader.
    Assigned(PartitionsAssigned),
    /// The consumer group revokes partitions from this reader. All of their records that it will
    /// return have been returned.
    Revoked(PartitionsRevoked),
}

/// Partitions that are assigned to this reader. Reading begins when it is given the positions to
/// start from.
#[derive(Debug)]
pub struct PartitionsAssigned {
    /// The partitions.
    pub partitions: Vec<i32>,
    pub(crate) start: oneshot::Sender<PartitionOffsets>,
}

impl PartitionsAssigned {
    /// Begins to read. Partitions that `from` does not name start at their oldest record.
    /// Positions that the log no longer has end the reader with [`LogError::OutOfRange`].
    pub fn start_reading(self, from: PartitionOffsets) {
        // If nobody waits, the group has changed again and will report that.
        let _ = self.start.send(from);
    }
}

/// Partitions that another reader gets once this one releases them.
#[derive(Debug)]
pub struct PartitionsRevoked {
    /// The partitions.
    pub partitions: Vec<i32>,
    pub(crate) done: oneshot::Sender<()>,
}

impl PartitionsRevoked {
    /// Releases the partitions. Dropping this does the same.
    pub fn release_partitions(self) {
        let _ = self.done.send(());
    }
}

impl TopicReader {
    pub(crate) fn from_embedded(
        topic: Arc<EmbeddedTopic>,
        from: Option<i64>,
    ) -> Result<Self, LogError> {
        TailReader::open(topic, from).map(|tail| Self(ReaderBackend::Embedded(tail)))
    }

    pub(crate) fn from_consumer(consumer: KafkaConsumer) -> Self {
        Self(ReaderBackend::Kafka(consumer))
    }

    /// Returns the next records: at least one and at most `records_max`, or none if none arrived
    /// within `wait_max`. Cancel-safe: no records are lost. Readers of a consumer group need
    /// [`TopicReader::next_event`] instead.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::Io`], [`LogError::Kafka`].
    pub async fn next_batch(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<Vec<StoredRecord>, LogError> {
        match self.next_event(records_max, wait_max).await? {
            ReaderEvent::Records(entries) => Ok(entries),
            ReaderEvent::Assigned(assigned) => {
                assigned.start_reading(PartitionOffsets::new());
                Ok(Vec::new())
            }
            ReaderEvent::Revoked(_) => Ok(Vec::new()),
        }
    }

    /// Returns the next event: at most `records_max` records, none if none arrived within
    /// `wait_max`, or an event of the consumer group. Cancel-safe: no records are lost.
    ///
    /// # Errors
    /// As [`TopicReader::next_batch`]; in a consumer group also [`LogError::OutOfRange`].
    pub async fn next_event(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<ReaderEvent, LogError> {
        match &mut self.0 {
            ReaderBackend::Embedded(tail) => {
                tail.next_batch(records_max, wait_max).await.map(ReaderEvent::Records)
            }
            ReaderBackend::Kafka(consumer) => consumer.next_event(records_max, wait_max).await,
        }
    }

    /// Number of durable records that were not returned yet; `None` while it is not known.
    #[must_use]
    pub fn lag_records(&self) -> Option<u64> {
        match &self.0 {
            ReaderBackend::Embedded(tail) => Some(tail.lag_records()),
            ReaderBackend::Kafka(consumer) => consumer.lag_records(),
        }
    }

    /// Closes the reader and leaves its consumer group, so that its partitions are assigned to
    /// others at once and not only after the session timeout.
    pub async fn close(self) {
        if let ReaderBackend::Kafka(consumer) = self.0 {
            consumer.close().await;
        }
    }
}
