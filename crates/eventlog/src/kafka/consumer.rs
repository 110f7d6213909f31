use std::{
    collections::{BTreeMap, VecDeque},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tracing::warn;

use super::{KafkaClient, is_transient, producer::RECEIVED_MS, rebalance::GroupConsumerContext};
use crate::{
    LogError, PartitionOffsets, ReaderEvent, Record, StoredRecord, reader::PartitionsAssigned,
    reader::PartitionsRevoked,
};

/// Number of events that are read ahead.
const AHEAD_MAX: usize = 8 * 1024;
/// Interval at which the polling thread checks whether to stop.
const POLL_TIME_MAX: Duration = Duration::from_millis(100);
/// Interval at which librdkafka reports the ends of the partitions, ms.
const STATISTICS_INTERVAL_MS: &str = "5000";
/// Longest time that the new owner of partitions may take to prepare for them, ms.
const REBALANCE_TIME_MAX_MS: &str = "600000";

/// Reads partitions of one topic: all of them, or those that a consumer group assigns. A
/// dedicated thread polls librdkafka.
#[derive(Debug)]
pub(crate) struct KafkaConsumer {
    topic: String,
    ahead: Receiver<PollerMessage>,
    thread: Option<JoinHandle<()>>,
    /// Received messages that were not returned yet.
    received: VecDeque<PollerMessage>,
    /// The partitions that are read.
    progress: BTreeMap<i32, PartitionProgress>,
    failed: Option<LogError>,
}

/// A message of the polling thread, in order.
#[derive(Debug)]
pub(super) enum PollerMessage {
    Entry(StoredRecord),
    Assigned(PartitionsAssigned),
    /// The assigned partitions are read from these positions on.
    Started(PartitionOffsets),
    Revoked(PartitionsRevoked),
    /// The end of the partition was reached.
    End(i32),
    /// The ends of the partitions on the brokers.
    Ends(PartitionOffsets),
    Failed(LogError),
}

/// The reading position of a partition.
#[derive(Clone, Copy, Debug)]
struct PartitionProgress {
    next: i64,
    /// One past the partition's newest record.
    end: Option<i64>,
}

impl KafkaConsumer {
    /// Reads all partitions from the positions in `from`.
    pub(super) fn open_partitions(
        kafka: &KafkaClient,
        topic: &str,
        from: &PartitionOffsets,
    ) -> Result<Self, LogError> {
        let this = Self::start_polling(kafka, topic, None, |consumer| {
            let mut assignment = TopicPartitionList::new();
            for (&partition, &offset) in from {
                assignment.add_partition_offset(topic, partition, Offset::Offset(offset))?;
            }
            consumer.assign(&assignment)
        })?;
        let places = from
            .iter()
            .map(|(p, next)| (*p, PartitionProgress { next: *next, end: None }))
            .collect();
        Ok(Self { progress: places, ..this })
    }

    /// Joins the configured consumer group.
    pub(super) fn join_group(kafka: &KafkaClient, topic: &str) -> Result<Self, LogError> {
        let group = kafka.settings.group.clone();
        Self::start_polling(kafka, topic, Some(&group), |consumer| consumer.subscribe(&[topic]))
    }

    fn start_polling(
        kafka: &KafkaClient,
        topic: &str,
        group: Option<&str>,
        begin: impl FnOnce(&BaseConsumer<GroupConsumerContext>) -> Result<(), KafkaError>,
    ) -> Result<Self, LogError> {
        let mut config = kafka.client_config();
        config
            // Without a group the name is set only because librdkafka requires one. Nothing is
            // committed to Kafka: offsets are stored together with the results of the records, in
            // one transaction.
            .set("group.id", group.unwrap_or("microclimate"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS)
            .set("queued.max.messages.kbytes", "16384");
        if group.is_some() {
            config
                // A rebalance does not touch partitions that stay with their reader.
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", kafka.settings.session_timeout_ms.to_string())
                .set("max.poll.interval.ms", REBALANCE_TIME_MAX_MS);
            if !kafka.settings.member.is_empty() {
                config.set("group.instance.id", &kafka.settings.member);
            }
        }
        let (sender, ahead) = channel(AHEAD_MAX);
        let duties = GroupConsumerContext::new(kafka, topic, sender.clone());
        let consumer: BaseConsumer<GroupConsumerContext> = config
            .create_with_context(duties)
            .map_err(|e| kafka.kafka_error(topic, "make a consumer", &e))?;
        begin(&consumer).map_err(|e| kafka.kafka_error(topic, "ask for partitions", &e))?;
        let brokers = kafka.settings.brokers.clone();
        let poller = ConsumerPoller { consumer, topic: topic.to_owned(), brokers, sender };
        let thread = thread::Builder::new()
            .name(format!("consume {topic}"))
            .spawn(move || poller.run())
            .map_err(|e| kafka.kafka_error(topic, "start the consumer thread", &e))?;
        Ok(Self {
            topic: topic.to_owned(),
            ahead,
            thread: Some(thread),
            received: VecDeque::new(),
            progress: BTreeMap::new(),
            failed: None,
        })
    }

    /// Returns the next event of the polling thread; no records if it reports nothing within
    /// `wait_max`.
    pub(crate) async fn next_event(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<ReaderEvent, LogError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        // Ends and starts of partitions are only noted. Records, or the end of the given time,
        // end the wait.
        let deadline = Instant::now() + wait_max;
        loop {
            if self.received.is_empty() {
                let mut arrived = Vec::new();
                let receiving = self.ahead.recv_many(&mut arrived, records_max.max(1));
                match timeout_at(deadline, receiving).await {
                    Ok(0) => return Err(LogError::Closed { topic: self.topic.clone() }),
                    Ok(_) => self.received.extend(arrived),
                    Err(_) => return Ok(ReaderEvent::Records(Vec::new())),
                }
            }
            match self.drain_received()? {
                ReaderEvent::Records(entries) if entries.is_empty() => {}
                event => return Ok(event),
            }
        }
    }

    /// Collects the received records up to the next message that is not a record.
    fn drain_received(&mut self) -> Result<ReaderEvent, LogError> {
        let mut entries = Vec::with_capacity(self.received.len());
        while let Some(item) = self.received.pop_front() {
            match item {
                PollerMessage::Entry(entry) => {
                    if let Some(place) = self.progress.get_mut(&entry.partition) {
                        place.next = entry.offset + 1;
                    }
                    entries.push(entry);
                }
                PollerMessage::Started(positions) => {
                    let places = positions
                        .into_iter()
                        .map(|(p, next)| (p, PartitionProgress { next, end: None }));
                    self.progress.extend(places);
                }
                PollerMessage::End(partition) => {
                    if let Some(place) = self.progress.get_mut(&partition) {
                        place.end = Some(place.next);
                    }
                }
                PollerMessage::Ends(ends) => {
                    for (partition, end) in ends {
                        if let Some(place) = self.progress.get_mut(&partition) {
                            place.end = Some(place.end.unwrap_or(end).max(end));
                        }
                    }
                }
                // The records before this message are returned first.
                other if !entries.is_empty() => {
                    self.received.push_front(other);
                    break;
                }
                PollerMessage::Assigned(assigned) => return Ok(ReaderEvent::Assigned(assigned)),
                PollerMessage::Revoked(revoked) => {
                    revoked.partitions.iter().for_each(|partition| {
                        self.progress.remove(partition);
                    });
                    return Ok(ReaderEvent::Revoked(revoked));
                }
                PollerMessage::Failed(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(ReaderEvent::Records(entries))
    }

    /// Number of available records that were not returned; `None` while it is unknown for a
    /// partition.
    pub(crate) fn lag_records(&self) -> Option<u64> {
        let partition_lag = |place: &PartitionProgress| {
            place.end.map(|end| u64::try_from(end - place.next).unwrap_or_default())
        };
        self.progress.values().map(partition_lag).sum()
    }

    /// Ends the polling thread, and leaves the group if there is one.
    pub(crate) async fn close(mut self) {
        self.ahead.close();
        // Dropping these ends the waits for answers to messages that were not returned.
        drop(self.ahead);
        drop(self.received);
        if let Some(thread) = self.thread.take() {
            let _ = spawn_blocking(move || thread.join()).await;
        }
    }
}

struct ConsumerPoller {
    consumer: BaseConsumer<GroupConsumerContext>,
    topic: String,
    brokers: String,
    sender: Sender<PollerMessage>,
}

impl ConsumerPoller {
    /// Polls until nobody reads any more, or Kafka refuses permanently.
    fn run(self) {
        while !self.sender.is_closed() {
            let (item, is_last) = match self.consumer.poll(POLL_TIME_MAX) {
                None => continue,
                Some(Ok(message)) => (PollerMessage::Entry(record_from_message(&message)), false),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    (PollerMessage::End(partition), false)
                }
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_transient) => {
                    warn!(%error, "Kafka does not answer; will retry");
                    continue;
                }
                Some(Err(error)) => (PollerMessage::Failed(self.kafka_error(&error)), true),
            };
            if self.sender.blocking_send(item).is_err() || is_last {
                break;
            }
        }
    }

    fn kafka_error(&self, error: &KafkaError) -> LogError {
        LogError::Kafka {
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            doing: "read",
            cause: error.to_string(),
        }
    }
}

fn record_from_message(message: &BorrowedMessage<'_>) -> StoredRecord {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        let pairs =
            headers.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()));
        pairs.collect()
    });
    let mut record = Record {
        key: message.key().map(text).unwrap_or_default(),
        payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        headers: headers.unwrap_or_default(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
    };
    // The record's own time, which differs from Kafka's timestamp if Kafka refused it.
    let own_ms = record.header_value(RECEIVED_MS).and_then(|value| std::str::from_utf8(value).ok());
    if let Some(own_ms) = own_ms.and_then(|text| text.parse().ok()) {
        record.timestamp_ms = own_ms;
    }
    StoredRecord { partition: message.partition(), offset: message.offset(), record }
}
