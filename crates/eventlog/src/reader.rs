use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    LogError, PartitionOffsets, StoredRecord,
    embedded::{EmbeddedTopic, TailReader},
    kafka::KafkaConsumer,
};

/// Reads one topic in order, each partition by itself. Sees only what is
/// durable.
#[derive(Debug)]
pub struct TopicReader(ReaderBackend);

#[derive(Debug)]
enum ReaderBackend {
    Embedded(TailReader),
    Kafka(KafkaConsumer),
}

/// What comes next.
#[derive(Debug)]
pub enum ReaderEvent {
    /// Records; none when nothing came in time.
    Records(Vec<StoredRecord>),
    /// The consumer group gave partitions to this reader.
    Assigned(PartitionsAssigned),
    /// The consumer group takes partitions from this reader. All that it will
    /// hand out of them has been handed out.
    Revoked(PartitionsRevoked),
}

/// Partitions that are this reader's from here on, once it is told where to
/// begin.
#[derive(Debug)]
pub struct PartitionsAssigned {
    /// The partitions.
    pub partitions: Vec<i32>,
    pub(crate) start: oneshot::Sender<PartitionOffsets>,
}

impl PartitionsAssigned {
    /// Begins to read; partitions that `from` does not name start at their
    /// oldest record. Positions that the log no longer has end the reader with
    /// [`LogError::OutOfRange`].
    pub fn start_reading(self, from: PartitionOffsets) {
        // Where nobody waits, the group has changed once more, and says so.
        let _ = self.start.send(from);
    }
}

/// Partitions that another reader gets once this one lets them go.
#[derive(Debug)]
pub struct PartitionsRevoked {
    /// The partitions.
    pub partitions: Vec<i32>,
    pub(crate) done: oneshot::Sender<()>,
}

impl PartitionsRevoked {
    /// Lets them go. To drop this does the same.
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

    /// The next records: at least one and at most `records_max`, or none when
    /// nothing came within `wait_max`. May be dropped while it waits: nothing
    /// is lost. Of a consumer group only [`TopicReader::next`] tells enough.
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

    /// What comes next: at most `records_max` records, none when nothing came
    /// within `wait_max`, or what the consumer group does. May be dropped while
    /// it waits: nothing is lost.
    ///
    /// # Errors
    /// As [`TopicReader::next_batch`]; in a consumer group [`LogError::OutOfRange`].
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

    /// Durable records that were not handed out yet; `None` while that is not
    /// known.
    #[must_use]
    pub fn lag_records(&self) -> Option<u64> {
        match &self.0 {
            ReaderBackend::Embedded(tail) => Some(tail.lag_records()),
            ReaderBackend::Kafka(consumer) => consumer.lag_records(),
        }
    }

    /// Ends the reader, and its membership in a consumer group: its partitions
    /// go to others at once, not when it has been missed for long enough.
    pub async fn close(self) {
        if let ReaderBackend::Kafka(consumer) = self.0 {
            consumer.close().await;
        }
    }
}
