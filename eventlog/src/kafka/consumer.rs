use std::{thread, time::Duration};

use bytes::Bytes;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::timeout,
};
use tracing::warn;

use super::{Context, Kafka, is_passing};
use crate::{Entry, LogError, Positions, Record};

/// Entries read ahead.
const AHEAD_MAX: usize = 8 * 1024;
/// How often the polling thread looks whether it is still wanted.
const POLL_TIME_MAX: Duration = Duration::from_millis(100);

/// Reads all partitions of one topic; a thread of its own polls librdkafka.
#[derive(Debug)]
pub(crate) struct Consumer {
    topic: String,
    ahead: Receiver<Result<Entry, LogError>>,
    /// Came after entries that had to be handed out first.
    failed: Option<LogError>,
}

impl Consumer {
    pub(super) fn open(kafka: &Kafka, topic: &str, from: &Positions) -> Result<Self, LogError> {
        let mut config = kafka.config();
        config
            // Named only because librdkafka wants one: no group is joined and
            // nothing is committed. Offsets are stored with what was made of
            // the records, in one transaction.
            .set("group.id", "microclimate")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", "16384");
        let consumer: BaseConsumer<Context> = config
            .create_with_context(Context)
            .map_err(|e| kafka.failed(topic, "make a consumer", &e))?;
        let mut assignment = TopicPartitionList::new();
        for (&partition, &offset) in from {
            assignment
                .add_partition_offset(topic, partition, Offset::Offset(offset))
                .map_err(|e| kafka.failed(topic, "set the position", &e))?;
        }
        consumer.assign(&assignment).map_err(|e| kafka.failed(topic, "assign partitions", &e))?;
        let (sender, ahead) = channel(AHEAD_MAX);
        let poller = Poller { consumer, brokers: kafka.settings.brokers.clone(), sender };
        thread::Builder::new()
            .name(format!("consume {topic}"))
            .spawn(move || poller.run())
            .map_err(|e| kafka.failed(topic, "start the consumer thread", &e))?;
        Ok(Self { topic: topic.to_owned(), ahead, failed: None })
    }

    pub(crate) async fn next_batch(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<Vec<Entry>, LogError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let mut came = Vec::new();
        match timeout(wait_max, self.ahead.recv_many(&mut came, records_max.max(1))).await {
            Ok(0) => return Err(LogError::Closed { topic: self.topic.clone() }),
            Ok(_) => {}
            Err(_) => return Ok(Vec::new()),
        }
        let mut entries = Vec::with_capacity(came.len());
        for item in came {
            match item {
                Ok(entry) => entries.push(entry),
                Err(error) => self.failed = Some(error),
            }
        }
        match &self.failed {
            Some(failed) if entries.is_empty() => Err(failed.clone()),
            _ => Ok(entries),
        }
    }
}

struct Poller {
    consumer: BaseConsumer<Context>,
    brokers: String,
    sender: Sender<Result<Entry, LogError>>,
}

impl Poller {
    /// Until nobody reads any more, or Kafka refuses for good.
    fn run(self) {
        while !self.sender.is_closed() {
            let (item, is_last) = match self.consumer.poll(POLL_TIME_MAX) {
                None => continue,
                Some(Ok(message)) => (Ok(entry(&message)), false),
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_passing) => {
                    warn!(%error, "Kafka does not answer; trying again");
                    continue;
                }
                Some(Err(error)) => (Err(self.failed(&error)), true),
            };
            if self.sender.blocking_send(item).is_err() || is_last {
                break;
            }
        }
    }

    fn failed(&self, error: &KafkaError) -> LogError {
        let assigned = self.consumer.assignment().ok();
        let topic = assigned
            .as_ref()
            .and_then(|list| list.elements().first().map(|element| element.topic().to_owned()));
        LogError::Kafka {
            brokers: self.brokers.clone(),
            topic: topic.unwrap_or_default(),
            doing: "read",
            cause: error.to_string(),
        }
    }
}

fn entry(message: &BorrowedMessage<'_>) -> Entry {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        let pairs =
            headers.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()));
        pairs.collect()
    });
    Entry {
        partition: message.partition(),
        offset: message.offset(),
        record: Record {
            key: message.key().map(text).unwrap_or_default(),
            payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        },
    }
}
