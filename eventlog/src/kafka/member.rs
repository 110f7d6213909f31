//! What a consumer has to do when librdkafka calls: above all when its group
//! gives it partitions, or takes them.

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

use super::{Context, Kafka, consumer::Item};
use crate::{
    LogError, Positions,
    reader::{Assigned, Revoked},
};

/// Called on the polling thread, within `poll`.
#[derive(Debug)]
pub(super) struct Duties {
    topic: String,
    brokers: String,
    timeout: Duration,
    sender: Sender<Item>,
}

impl Duties {
    pub(super) fn new(kafka: &Kafka, topic: &str, sender: Sender<Item>) -> Self {
        let (topic, brokers) = (topic.to_owned(), kafka.settings.brokers.clone());
        Self { topic, brokers, timeout: kafka.timeout(), sender }
    }

    /// Asks the reader's owner where to begin, and begins there. Polling waits
    /// for the answer; heartbeats go on without it.
    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> Result<(), LogError> {
        let partitions = partitions(list);
        info!(topic = self.topic, ?partitions, "the group gave partitions");
        let (start, answer) = oneshot::channel();
        let asked = Assigned { partitions: partitions.clone(), start };
        let from = match self.sender.blocking_send(Item::Assigned(asked)) {
            Ok(()) => answer.blocking_recv().ok(),
            Err(_) => None,
        };
        // Nobody reads any more: this consumer is about to be closed.
        let Some(from) = from else { return self.begin(consumer, list) };
        let mut starts = Positions::new();
        for partition in partitions {
            let available = self.bounds(consumer, partition)?;
            let offset = from.get(&partition).copied().unwrap_or(available.start);
            if offset < available.start || offset > available.end {
                let topic = self.topic.clone();
                return Err(LogError::OutOfRange { topic, partition, offset, available });
            }
            starts.insert(partition, offset);
            list.set_partition_offset(&self.topic, partition, Offset::Offset(offset))
                .map_err(|e| self.failed("set the position", &e))?;
        }
        let _ = self.sender.blocking_send(Item::Started(starts));
        self.begin(consumer, list)
    }

    fn begin(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(), LogError> {
        consumer.incremental_assign(list).map_err(|e| self.failed("take partitions", &e))
    }

    /// Waits until the reader's owner has done with the partitions, so that
    /// their next owner does not begin before this one has ended.
    fn revoke(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(), LogError> {
        let partitions = partitions(list);
        info!(topic = self.topic, ?partitions, "the group takes partitions");
        let (done, answer) = oneshot::channel();
        if self.sender.blocking_send(Item::Revoked(Revoked { partitions, done })).is_ok() {
            let _ = answer.blocking_recv();
        }
        consumer.incremental_unassign(list).map_err(|e| self.failed("give partitions back", &e))
    }

    fn bounds(
        &self,
        consumer: &BaseConsumer<Self>,
        partition: i32,
    ) -> Result<Range<i64>, LogError> {
        let found = consumer.fetch_watermarks(&self.topic, partition, self.timeout);
        found.map(|(low, high)| low..high).map_err(|e| self.failed("read the bounds", &e))
    }

    fn failed(&self, doing: &'static str, error: &KafkaError) -> LogError {
        let (brokers, topic) = (self.brokers.clone(), self.topic.clone());
        LogError::Kafka { brokers, topic, doing, cause: error.to_string() }
    }
}

impl ClientContext for Duties {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is told as an error, and is none.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            Context.error(error, reason);
        }
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        // Records after the last stable offset are not handed out yet.
        let ends = topic.partitions.iter().filter(|(id, of)| **id >= 0 && of.ls_offset >= 0);
        let ends = ends.map(|(id, of)| (*id, of.ls_offset)).collect();
        // Where the reader is that far behind, it will hear the next ones.
        let _ = self.sender.try_send(Item::Ends(ends));
    }
}

impl ConsumerContext for Duties {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let result = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, list)
        } else {
            self.revoke(consumer, list)
        };
        if let Err(error) = result {
            let _ = self.sender.blocking_send(Item::Failed(error));
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}
