use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    Entry, LogError, Positions,
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

/// What comes next.
#[derive(Debug)]
pub enum Event {
    /// Records; none when nothing came in time.
    Entries(Vec<Entry>),
    /// The consumer group gave partitions to this reader.
    Assigned(Assigned),
    /// The consumer group takes partitions from this reader. All that it will
    /// hand out of them has been handed out.
    Revoked(Revoked),
}

/// Partitions that are this reader's from here on, once it is told where to
/// begin.
#[derive(Debug)]
pub struct Assigned {
    /// The partitions.
    pub partitions: Vec<i32>,
    pub(crate) start: oneshot::Sender<Positions>,
}

impl Assigned {
    /// Begins to read; partitions that `from` does not name start at their
    /// oldest record. Positions that the log no longer has end the reader with
    /// [`LogError::OutOfRange`].
    pub fn start(self, from: Positions) {
        // Where nobody waits, the group has changed once more, and says so.
        let _ = self.start.send(from);
    }
}

/// Partitions that another reader gets once this one lets them go.
#[derive(Debug)]
pub struct Revoked {
    /// The partitions.
    pub partitions: Vec<i32>,
    pub(crate) done: oneshot::Sender<()>,
}

impl Revoked {
    /// Lets them go. To drop this does the same.
    pub fn release(self) {
        let _ = self.done.send(());
    }
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
    /// is lost. Of a consumer group only [`Reader::next`] tells enough.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::Io`], [`LogError::Kafka`].
    pub async fn next_batch(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<Vec<Entry>, LogError> {
        match self.next(records_max, wait_max).await? {
            Event::Entries(entries) => Ok(entries),
            Event::Assigned(assigned) => {
                assigned.start(Positions::new());
                Ok(Vec::new())
            }
            Event::Revoked(_) => Ok(Vec::new()),
        }
    }

    /// What comes next: at most `records_max` records, none when nothing came
    /// within `wait_max`, or what the consumer group does. May be dropped while
    /// it waits: nothing is lost.
    ///
    /// # Errors
    /// As [`Reader::next_batch`]; in a consumer group [`LogError::OutOfRange`].
    pub async fn next(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<Event, LogError> {
        match &mut self.0 {
            Inner::Embedded(tail) => {
                tail.next_batch(records_max, wait_max).await.map(Event::Entries)
            }
            Inner::Kafka(consumer) => consumer.next(records_max, wait_max).await,
        }
    }

    /// Durable records that were not handed out yet; `None` while that is not
    /// known.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        match &self.0 {
            Inner::Embedded(tail) => Some(tail.lag()),
            Inner::Kafka(consumer) => consumer.lag(),
        }
    }

    /// Ends the reader, and its membership in a consumer group: its partitions
    /// go to others at once, not when it has been missed for long enough.
    pub async fn close(self) {
        if let Inner::Kafka(consumer) = self.0 {
            consumer.close().await;
        }
    }
}
