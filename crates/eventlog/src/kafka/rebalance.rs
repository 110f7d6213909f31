//! librdkafka's consumer callbacks, above all for partitions that the group assigns or revokes.

use std::{ops::Range, time::Duration};

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use tokio::sync::{mpsc::Sender, oneshot};
use tracing::info;

use super::{KafkaClient, LoggingContext, consumer::PollerMessage};
use crate::{
    LogError, PartitionOffsets,
    reader::{PartitionsAssigned, PartitionsRevoked},
};

/// The callbacks, which run on the polling thread within `poll`.
#[derive(Debug)]
pub(super) struct GroupConsumerContext {
    topic: String,
    brokers: String,
    timeout: Duration,
    sender: Sender<PollerMessage>,
}

impl GroupConsumerContext {
    pub(super) fn new(kafka: &KafkaClient, topic: &str, sender: Sender<PollerMessage>) -> Self {
        let (topic, brokers) = (topic.to_owned(), kafka.settings.brokers.clone());
        Self { topic, brokers, timeout: kafka.connect_timeout(), sender }
    }

    /// Asks the reader's owner for the start positions and begins there. Polling waits for the
    /// answer; heartbeats continue.
    fn assign_partitions(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> Result<(), LogError> {
        let partitions = partition_ids(list);
        info!(topic = self.topic, ?partitions, "the group assigned partitions");
        let (start, answer) = oneshot::channel();
        let assigned = PartitionsAssigned { partitions: partitions.clone(), start };
        let from = match self.sender.blocking_send(PollerMessage::Assigned(assigned)) {
            Ok(()) => answer.blocking_recv().ok(),
            Err(_) => None,
        };
        // Nobody reads any more, so this consumer is about to be closed.
        let Some(from) = from else { return self.begin_fetching(consumer, list) };
        let mut starts = PartitionOffsets::new();
        for partition in partitions {
            let available = self.fetch_bounds(consumer, partition)?;
            let offset = from.get(&partition).copied().unwrap_or(available.start);
            if offset < available.start || offset > available.end {
                let topic = self.topic.clone();
                return Err(LogError::OutOfRange { topic, partition, offset, available });
            }
            starts.insert(partition, offset);
            list.set_partition_offset(&self.topic, partition, Offset::Offset(offset))
                .map_err(|e| self.kafka_error("set the position", &e))?;
        }
        let _ = self.sender.blocking_send(PollerMessage::Started(starts));
        self.begin_fetching(consumer, list)
    }

    fn begin_fetching(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(), LogError> {
        consumer.incremental_assign(list).map_err(|e| self.kafka_error("take partitions", &e))
    }

    /// Waits until the reader's owner has finished with the partitions, so that their next owner
    /// does not begin before.
    fn revoke_partitions(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(), LogError> {
        let partitions = partition_ids(list);
        info!(topic = self.topic, ?partitions, "the group revoked partitions");
        let (done, answer) = oneshot::channel();
        if self
            .sender
            .blocking_send(PollerMessage::Revoked(PartitionsRevoked { partitions, done }))
            .is_ok()
        {
            let _ = answer.blocking_recv();
        }
        consumer
            .incremental_unassign(list)
            .map_err(|e| self.kafka_error("give partitions back", &e))
    }

    fn fetch_bounds(
        &self,
        consumer: &BaseConsumer<Self>,
        partition: i32,
    ) -> Result<Range<i64>, LogError> {
        let found = consumer.fetch_watermarks(&self.topic, partition, self.timeout);
        found.map(|(low, high)| low..high).map_err(|e| self.kafka_error("read the bounds", &e))
    }

    fn kafka_error(&self, doing: &'static str, error: &KafkaError) -> LogError {
        let (brokers, topic) = (self.brokers.clone(), self.topic.clone());
        LogError::Kafka { brokers, topic, doing, cause: error.to_string() }
    }
}

impl ClientContext for GroupConsumerContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        LoggingContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka reports the end of a partition as an error, although it is not one.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            LoggingContext.error(error, reason);
        }
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        // Records after the last stable offset are not returned yet.
        let stable =
            topic.partitions.iter().filter(|(id, partition)| **id >= 0 && partition.ls_offset >= 0);
        let ends = stable.map(|(id, partition)| (*id, partition.ls_offset)).collect();
        // If the channel is full, the next statistics will do.
        let _ = self.sender.try_send(PollerMessage::Ends(ends));
    }
}

impl ConsumerContext for GroupConsumerContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let result = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign_partitions(consumer, list)
        } else {
            self.revoke_partitions(consumer, list)
        };
        if let Err(error) = result {
            let _ = self.sender.blocking_send(PollerMessage::Failed(error));
        }
    }
}

fn partition_ids(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}
