use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::{LogError, Record, embedded::EmbeddedTopic, kafka::KafkaProducer, spool::TopicSpool};

/// Appends to one topic. Clones append to the same one.
#[derive(Clone, Debug)]
pub struct TopicWriter(WriterBackend);

#[derive(Clone, Debug)]
enum WriterBackend {
    Embedded(Arc<EmbeddedTopic>),
    Kafka(Arc<KafkaProducer>),
    Spool(Arc<TopicSpool>),
}

impl TopicWriter {
    pub(crate) fn from_embedded(topic: Arc<EmbeddedTopic>) -> Self {
        Self(WriterBackend::Embedded(topic))
    }

    pub(crate) fn from_producer(producer: KafkaProducer) -> Self {
        Self(WriterBackend::Kafka(Arc::new(producer)))
    }

    pub(crate) fn from_spool(spool: Arc<TopicSpool>) -> Self {
        Self(WriterBackend::Spool(spool))
    }

    /// Queues a record, and waits while the queue is full. Records are in the log in the order of
    /// these calls. The receipt resolves when the record is durable. Dropping it does not
    /// withdraw the record.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Poisoned`], [`LogError::Closed`], [`LogError::Kafka`].
    pub async fn append(&self, record: Record) -> Result<AppendReceipt, LogError> {
        match &self.0 {
            WriterBackend::Embedded(topic) => topic.append(record).await,
            WriterBackend::Kafka(producer) => producer.append(&record).await,
            WriterBackend::Spool(spool) => spool.append(record).await,
        }
    }
}

/// The result of a receipt: partition and offset, or the error.
pub(crate) type AppendResult = Result<(i32, i64), LogError>;

/// Resolves to the record's partition and offset once it is durable: synced to the local disk, or
/// acknowledged by all of Kafka's in-sync replicas. If the record went through the spool, the
/// offset is that in the spool.
#[derive(Debug)]
pub struct AppendReceipt {
    topic: Arc<str>,
    outcome: oneshot::Receiver<AppendResult>,
}

impl AppendReceipt {
    pub(crate) fn new(topic: Arc<str>) -> (oneshot::Sender<AppendResult>, Self) {
        let (sender, outcome) = oneshot::channel();
        (sender, Self { topic, outcome })
    }
}

impl Future for AppendReceipt {
    type Output = AppendResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<AppendResult> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| {
            outcome.unwrap_or_else(|_| Err(LogError::Closed { topic: self.topic.to_string() }))
        })
    }
}
