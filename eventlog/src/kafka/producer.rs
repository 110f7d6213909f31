use std::{fmt, sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, Message as _, Statistics,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
};
use tokio::sync::{Mutex, Notify, oneshot};

use super::{Context, Kafka, statistics::Latest};
use crate::{
    LogError, Record, fault,
    writer::{Outcome, Receipt},
};

/// The queue is asked again after this even if no delivery made room.
const RETRY_AFTER: Duration = Duration::from_millis(100);

const STATISTICS_EVERY_MS: &str = "5000";

/// Produces to one topic, idempotently and in order.
pub(crate) struct Producer {
    inner: ThreadedProducer<Delivery>,
    topic: Arc<str>,
    brokers: String,
    record_bytes_max: usize,
    room: Arc<Notify>,
    /// One record at a time: while the queue is full, none overtakes the
    /// record that is being retried. Fair, so calls keep their order.
    turn: Mutex<()>,
}

impl Producer {
    pub(super) fn open(kafka: &Kafka, topic: &str) -> Result<Self, LogError> {
        let room = Arc::new(Notify::new());
        let brokers = kafka.settings.brokers.clone();
        let statistics = kafka.statistics_of(topic);
        let delivery = Delivery { brokers: brokers.clone(), room: room.clone(), statistics };
        let config = kafka
            .config()
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // Never expire a record here: one that timed out may still have
            // been written (librdkafka#2188), and the records after it would
            // go on without it. The bounded queue is the limit instead.
            .set("message.timeout.ms", "0")
            .set("linger.ms", "2")
            .set("statistics.interval.ms", STATISTICS_EVERY_MS)
            .set("queue.buffering.max.kbytes", (kafka.queue_bytes_max / 1024).max(1).to_string())
            .set("queue.buffering.max.messages", "100000")
            .set("message.max.bytes", (kafka.record_bytes_max + 64 * 1024).to_string())
            .clone();
        let inner = config.create_with_context(delivery);
        let inner = inner.map_err(|e| kafka.failed(topic, "make a producer", &e))?;
        let record_bytes_max = kafka.record_bytes_max;
        let turn = Mutex::new(());
        Ok(Self { inner, topic: topic.into(), brokers, record_bytes_max, room, turn })
    }

    /// Queues a record; waits while the queue is full.
    pub(crate) async fn append(&self, record: &Record) -> Result<Receipt, LogError> {
        let _turn = self.turn.lock().await;
        loop {
            match self.try_append(record)? {
                Queued::Yes(receipt) => return Ok(receipt),
                Queued::Full => self.room().await,
            }
        }
    }

    /// Queues a record if there is room.
    pub(crate) fn try_append(&self, record: &Record) -> Result<Queued, LogError> {
        let found_bytes = record.len_bytes();
        if found_bytes > self.record_bytes_max {
            let (topic, max_bytes) = (self.topic.to_string(), self.record_bytes_max);
            return Err(LogError::TooLarge { topic, found_bytes, max_bytes });
        }
        fault::point("enqueue");
        let (answer, receipt) = Receipt::new(self.topic.clone());
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let queued = BaseRecord::with_opaque_to(&self.topic, Box::new(answer))
            .key(&record.key)
            .payload(&record.payload[..])
            .timestamp(record.timestamp_ms)
            .headers(headers);
        match self.inner.send(queued) {
            Ok(()) => Ok(Queued::Yes(receipt)),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Ok(Queued::Full)
            }
            Err((error, _)) => Err(LogError::Kafka {
                brokers: self.brokers.clone(),
                topic: self.topic.to_string(),
                doing: "queue a record",
                cause: error.to_string(),
            }),
        }
    }

    /// Returns when a delivery may have made room.
    pub(crate) async fn room(&self) {
        // A delivery just before this line is the timeout's case.
        let _ = tokio::time::timeout(RETRY_AFTER, self.room.notified()).await;
    }

    /// Takes back everything that is not delivered: the receipts say so. What
    /// was sent to a broker may have been written all the same.
    pub(crate) fn purge(&self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }
}

/// Whether a record was queued.
pub(crate) enum Queued {
    Yes(Receipt),
    Full,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Told by librdkafka what became of each record.
struct Delivery {
    brokers: String,
    room: Arc<Notify>,
    statistics: Latest,
}

impl ClientContext for Delivery {
    fn stats(&self, statistics: Statistics) {
        self.statistics.set(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Context.error(error, reason);
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = Box<oneshot::Sender<Outcome>>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Self::DeliveryOpaque) {
        let outcome = match result {
            Ok(message) => {
                fault::point("report");
                Ok((message.partition(), message.offset()))
            }
            Err((error, message)) => Err(LogError::Kafka {
                brokers: self.brokers.clone(),
                topic: message.topic().to_owned(),
                doing: "write a record",
                cause: error.to_string(),
            }),
        };
        self.room.notify_one();
        // A receipt that was dropped has nobody to tell.
        let _ = answer.send(outcome);
    }
}
