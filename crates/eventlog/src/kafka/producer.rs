use std::{fmt, sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, Message as _, Statistics,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
};
use tokio::sync::{Mutex, Notify, oneshot};

use super::{
    AcknowledgedOffsets, BrokerClock, KafkaClient, LoggingContext, statistics::LatestStatistics,
};
use crate::{
    Compression, LogError, Record, RecordRefusal, fault_injection,
    writer::{AppendReceipt, AppendResult},
};

/// Wait before another attempt on a full queue, even if no delivery made room.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// librdkafka's default size of a request, bytes.
const BATCH_BYTES: usize = 1_000_000;
/// Smallest overhead of a request with one record, bytes: the header of a record batch and the
/// length fields of a record (Kafka's message format, version 2).
const REQUEST_BYTES_MIN: usize = 61 + 7;

/// Name of the header with a record's own time, UTC ms, if its Kafka timestamp differs.
pub(super) const RECEIVED_MS: &str = "received_ms";

const STATISTICS_EVERY_MS: &str = "5000";

/// Produces to one topic, idempotently and in order.
pub(crate) struct KafkaProducer {
    inner: ThreadedProducer<DeliveryContext>,
    topic: Arc<str>,
    brokers: String,
    record_bytes_max: usize,
    /// The newest time that Kafka accepts, if this machine's clock is ahead.
    clock: BrokerClock,
    room: Arc<Notify>,
    /// Serialises appends: while the queue is full, no record overtakes the one that is retried.
    /// The lock is fair, so calls keep their order.
    append_order_lock: Mutex<()>,
}

impl KafkaProducer {
    /// Opens a producer. `topic_bytes_max` is the largest request that the topic accepts, if it
    /// is known.
    pub(super) fn open(
        kafka: &KafkaClient,
        topic: &str,
        topic_bytes_max: Option<usize>,
    ) -> Result<Self, LogError> {
        // The broker refuses a whole request that is too large.
        let wanted_bytes = topic_bytes_max.map_or(BATCH_BYTES, |bytes| bytes / 4 * 3);
        let batch_bytes = wanted_bytes.clamp(1, BATCH_BYTES);
        let room = Arc::new(Notify::new());
        let brokers = kafka.settings.brokers.clone();
        let statistics = kafka.statistics_for(topic);
        let acknowledged = kafka.acknowledged_for(topic);
        let delivery = DeliveryContext {
            brokers: brokers.clone(),
            room: room.clone(),
            statistics,
            acknowledged,
        };
        let config = kafka
            .client_config()
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // With a spool a refused request ends the producer, so that later records do not
            // overtake it. The spool then sends all of them again in order. Without a spool
            // nothing would.
            .set("enable.gapless.guarantee", kafka.has_spool.to_string())
            // Records never expire here. One that timed out may still have been written
            // (librdkafka#2188), and the records after it would be sent without it. The bounded
            // queue is the limit instead.
            .set("message.timeout.ms", "0")
            .set("linger.ms", "2")
            .set("compression.type", kafka.settings.compression.as_str())
            .set("partitioner", kafka.settings.partitioner.as_str())
            .set("statistics.interval.ms", STATISTICS_EVERY_MS)
            .set("queue.buffering.max.kbytes", (kafka.queue_bytes_max / 1024).max(1).to_string())
            .set("queue.buffering.max.messages", "100000")
            .set("message.max.bytes", (kafka.record_bytes_max + 64 * 1024).to_string())
            .set("batch.size", batch_bytes.to_string())
            .clone();
        let created = config.create_with_context(delivery);
        let inner = created.map_err(|e| kafka.kafka_error(topic, "make a producer", &e))?;
        // The size of compressed records is not known in advance.
        let is_known = kafka.settings.compression == Compression::None;
        let topic_record_bytes_max = topic_bytes_max
            .filter(|_| is_known)
            .map_or(usize::MAX, |bytes| bytes.saturating_sub(REQUEST_BYTES_MIN));
        Ok(Self {
            inner,
            topic: topic.into(),
            brokers,
            record_bytes_max: kafka.record_bytes_max.min(topic_record_bytes_max),
            clock: kafka.broker_clock(topic),
            room,
            append_order_lock: Mutex::new(()),
        })
    }

    /// Queues a record; waits while the queue is full.
    pub(crate) async fn append(&self, record: &Record) -> Result<AppendReceipt, LogError> {
        self.append_with_timestamp(record, self.stamp_ms(record)).await
    }

    /// Queues a record with the time `stamp_ms`. If the record's own time differs, it goes into
    /// the header [`RECEIVED_MS`]. Waits while the queue is full.
    pub(crate) async fn append_with_timestamp(
        &self,
        record: &Record,
        stamp_ms: i64,
    ) -> Result<AppendReceipt, LogError> {
        let _turn = self.append_order_lock.lock().await;
        loop {
            match self.try_append_with_timestamp(record, stamp_ms)? {
                QueueAttempt::Queued(receipt) => return Ok(receipt),
                QueueAttempt::Full => self.wait_for_room().await,
            }
        }
    }

    /// Queues a record if there is room.
    pub(crate) fn try_append(&self, record: &Record) -> Result<QueueAttempt, LogError> {
        self.try_append_with_timestamp(record, self.stamp_ms(record))
    }

    /// Returns the record's own time, or the newest time that Kafka accepts.
    fn stamp_ms(&self, record: &Record) -> i64 {
        self.clock.newest_ms().map_or(record.timestamp_ms, |ms| record.timestamp_ms.min(ms))
    }

    fn try_append_with_timestamp(
        &self,
        record: &Record,
        stamp_ms: i64,
    ) -> Result<QueueAttempt, LogError> {
        let found_bytes = record.content_bytes();
        if found_bytes > self.record_bytes_max {
            let (topic, max_bytes) = (self.topic.to_string(), self.record_bytes_max);
            return Err(LogError::TooLarge { topic, found_bytes, max_bytes });
        }
        fault_injection::kill_point("enqueue");
        let (answer, receipt) = AppendReceipt::new(self.topic.clone());
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        if stamp_ms != record.timestamp_ms && record.header_value(RECEIVED_MS).is_none() {
            let own_ms = record.timestamp_ms.to_string();
            headers = headers.insert(Header { key: RECEIVED_MS, value: Some(&own_ms) });
        }
        let queued = BaseRecord::with_opaque_to(&self.topic, Box::new(answer))
            .key(&record.key)
            .payload(&record.payload[..])
            .timestamp(stamp_ms)
            .headers(headers);
        match self.inner.send(queued) {
            Ok(()) => Ok(QueueAttempt::Queued(receipt)),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Ok(QueueAttempt::Full)
            }
            Err((error, _)) => Err(LogError::Kafka {
                brokers: self.brokers.clone(),
                topic: self.topic.to_string(),
                doing: "queue a record",
                cause: error.to_string(),
            }),
        }
    }

    /// Waits until a delivery may have made room.
    pub(crate) async fn wait_for_room(&self) {
        // The timeout covers a delivery just before this line.
        let _ = tokio::time::timeout(RETRY_AFTER, self.room.notified()).await;
    }

    /// Withdraws all undelivered records; their receipts report it. Records that were sent to a
    /// broker may have been written nevertheless.
    pub(crate) fn purge_undelivered(&self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }
}

/// The result of an attempt to queue a record.
pub(crate) enum QueueAttempt {
    Queued(AppendReceipt),
    Full,
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Classifies why a broker refuses a record; `None` for errors that do not concern a record.
fn classify_refusal(error: &KafkaError) -> Option<RecordRefusal> {
    use RDKafkaErrorCode as Code;
    let KafkaError::MessageProduction(code) = error else { return None };
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidRecord
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat => Some(RecordRefusal::Content),
        Code::InvalidTimestamp => Some(RecordRefusal::Timestamp),
        Code::InvalidDifferentRecord => Some(RecordRefusal::OtherRecord),
        _ => None,
    }
}

/// Receives each record's result from librdkafka.
struct DeliveryContext {
    brokers: String,
    room: Arc<Notify>,
    statistics: LatestStatistics,
    acknowledged: AcknowledgedOffsets,
}

impl ClientContext for DeliveryContext {
    fn stats(&self, statistics: Statistics) {
        self.statistics.set(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        LoggingContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        LoggingContext.error(error, reason);
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = Box<oneshot::Sender<AppendResult>>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Self::DeliveryOpaque) {
        let outcome = match result {
            Ok(message) => {
                fault_injection::kill_point("report");
                self.acknowledged.note_acknowledged(message.partition(), message.offset());
                Ok((message.partition(), message.offset()))
            }
            Err((error, message)) => {
                let (topic, cause) = (message.topic().to_owned(), error.to_string());
                Err(match classify_refusal(error) {
                    Some(refusal) => LogError::Refused { topic, refusal, cause },
                    None => LogError::Kafka {
                        brokers: self.brokers.clone(),
                        topic,
                        doing: "write a record",
                        cause,
                    },
                })
            }
        };
        self.room.notify_one();
        // Nobody waits for a dropped receipt.
        let _ = answer.send(outcome);
    }
}
