use std::{sync::Arc, time::Duration};

use crate::{
    Entry, LogError,
    embedded::{Tail, Topic},
    kafka::Consumer,
};

/// Reads one topic in order, each partition by itself. Sees only what is
/// durable.
#[derive(Debug)]
pub struct Reader(Inner);

#[derive(Debug)]
enum Inner {
    Embedded(Tail),
    Kafka(Consumer),
}

impl Reader {
    pub(crate) fn embedded(topic: Arc<Topic>, from: Option<i64>) -> Result<Self, LogError> {
        Tail::open(topic, from).map(|tail| Self(Inner::Embedded(tail)))
    }

    pub(crate) fn kafka(consumer: Consumer) -> Self {
        Self(Inner::Kafka(consumer))
    }

    /// The next records: at least one and at most `records_max`, or none when
    /// nothing came within `wait_max`. May be dropped while it waits: nothing
    /// is lost.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::Io`], [`LogError::Kafka`].
    pub async fn next_batch(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<Vec<Entry>, LogError> {
        match &mut self.0 {
            Inner::Embedded(tail) => tail.next_batch(records_max, wait_max).await,
            Inner::Kafka(consumer) => consumer.next_batch(records_max, wait_max).await,
        }
    }
}
