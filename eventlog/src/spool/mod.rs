//! Kafka with a spool: what Kafka does not take in time waits on the local
//! disk, and follows in order when Kafka is back.
//!
//! **Invariant:** a receipt resolves only when its record is acknowledged by
//! Kafka or synced in the spool.
//!
//! **Invariant:** first copies of records reach Kafka in the order of `append`:
//! while the spool holds any, new ones go behind them. What Kafka may already
//! have when it goes away is sent again: at least once.
//!
//! # Layout
//! - [`router`]: decides where each record goes, in order
//! - [`store`]: the spool on disk: segments, bounded, and how far it is drained
//! - [`drainer`]: finds Kafka, and drains the spool to it
//! - [`refused`]: a record that Kafka refuses, for who keeps it
//! - [`status`]: what it holds at the moment

mod drainer;
mod refused;
mod router;
mod status;
mod store;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};

pub use refused::RefusedRecord;
pub use status::SpoolStatus;

use crate::{Faults, LogError, Record, Settings, kafka::Kafka, writer::Receipt};
use drainer::SpoolDrainer;
use router::{Pending, SpoolRouter};
use store::Store;

/// Appends to one topic of Kafka, by way of the spool while Kafka is away.
#[derive(Debug)]
pub(crate) struct Spool {
    topic: Arc<str>,
    queue: mpsc::UnboundedSender<Pending>,
    /// Bounds the queue, and what is under way to Kafka, by bytes.
    room: Arc<Semaphore>,
    record_bytes_max: usize,
    store: Arc<Store>,
    /// Who keeps the records that Kafka refuses.
    refused: watch::Sender<Option<mpsc::Sender<RefusedRecord>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Spool {
    /// Opens the topic's spool and begins to look for Kafka, which may be away.
    pub(crate) fn open(
        kafka: Arc<Kafka>,
        settings: &Settings,
        topic: &str,
        faults: Faults,
    ) -> Result<Self, LogError> {
        let runtime = Handle::try_current().map_err(|_| LogError::NoRuntime)?;
        let store = Arc::new(Store::open(settings, topic, faults)?);
        let (lend, lent) = watch::channel(None);
        let refused = watch::Sender::new(None);
        let drainer = SpoolDrainer::new(kafka, topic, store.clone(), lend, refused.subscribe());
        let (queue, pending) = mpsc::unbounded_channel();
        let after = Duration::from_millis(settings.spool.after_ms);
        let router = SpoolRouter::new(topic, pending, store.clone(), lent, after);
        let tasks = [runtime.spawn(drainer.run()), runtime.spawn(router.run())];
        Ok(Self {
            topic: topic.into(),
            queue,
            room: Arc::new(Semaphore::new(settings.queue_bytes_max)),
            record_bytes_max: settings.record_bytes_max,
            store,
            refused,
            tasks,
        })
    }

    pub(crate) async fn append(&self, record: Record) -> Result<Receipt, LogError> {
        let found_bytes = record.len_bytes();
        if found_bytes > self.record_bytes_max {
            let (topic, max_bytes) = (self.topic.to_string(), self.record_bytes_max);
            return Err(LogError::TooLarge { topic, found_bytes, max_bytes });
        }
        let closed = || LogError::Closed { topic: self.topic.to_string() };
        let share = found_bytes.max(RECORD_SHARE_BYTES).min(self.record_bytes_max);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(share).await.map_err(|_| closed())?;
        let (answer, receipt) = Receipt::new(self.topic.clone());
        let pending = Pending { record, answer, room };
        self.queue.send(pending).map_err(|_| closed())?;
        Ok(receipt)
    }

    /// From here on records that Kafka refuses go to `keeper`.
    pub(crate) fn keep_refused(&self, keeper: mpsc::Sender<RefusedRecord>) {
        self.refused.send_replace(Some(keeper));
    }

    pub(crate) fn status(&self) -> SpoolStatus {
        self.store.status()
    }
}

/// What a record costs in memory beside its content, at least.
const RECORD_SHARE_BYTES: usize = 256;

impl Drop for Spool {
    /// What was not answered is not durable, and its sender knows.
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
