use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::{LogError, Record, embedded::Topic, kafka::Producer, spool::Spool};

/// Appends to one topic. Clones append to the same one.
#[derive(Clone, Debug)]
pub struct Writer(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Embedded(Arc<Topic>),
    Kafka(Arc<Producer>),
    Spool(Arc<Spool>),
}

impl Writer {
    pub(crate) fn embedded(topic: Arc<Topic>) -> Self {
        Self(Inner::Embedded(topic))
    }

    pub(crate) fn kafka(producer: Producer) -> Self {
        Self(Inner::Kafka(Arc::new(producer)))
    }

    pub(crate) fn spool(spool: Arc<Spool>) -> Self {
        Self(Inner::Spool(spool))
    }

    /// Queues a record; waits while the queue is full. Records are in the log
    /// in the order of these calls. The receipt says when it is durable; who
    /// drops it does not take the record back.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Poisoned`], [`LogError::Closed`],
    /// [`LogError::Kafka`].
    pub async fn append(&self, record: Record) -> Result<Receipt, LogError> {
        match &self.0 {
            Inner::Embedded(topic) => topic.append(record).await,
            Inner::Kafka(producer) => producer.append(&record).await,
            Inner::Spool(spool) => spool.append(record).await,
        }
    }
}

/// The answer to a receipt's question.
pub(crate) type Outcome = Result<(i32, i64), LogError>;

/// Resolves to the record's partition and offset once it is durable: synced to
/// the local disk, or acknowledged by all of Kafka's in-sync replicas. Where it
/// went through the spool, the offset is that in the spool.
#[derive(Debug)]
pub struct Receipt {
    topic: Arc<str>,
    outcome: oneshot::Receiver<Outcome>,
}

impl Receipt {
    pub(crate) fn new(topic: Arc<str>) -> (oneshot::Sender<Outcome>, Self) {
        let (sender, outcome) = oneshot::channel();
        (sender, Self { topic, outcome })
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| {
            outcome.unwrap_or_else(|_| Err(LogError::Closed { topic: self.topic.to_string() }))
        })
    }
}
