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
//! - [`relay`]: decides where each record goes, in order
//! - [`store`]: the spool on disk: segments, bounded, and how far it is drained
//! - [`carrier`]: finds Kafka, and carries the spool to it
//! - [`status`]: what it holds at the moment

mod carrier;
mod relay;
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

pub use status::SpoolStatus;

use crate::{Faults, LogError, Record, Settings, kafka::Kafka, writer::Receipt};
use carrier::Carrier;
use relay::{Pending, Relay};
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
        let (link, linked) = watch::channel(None);
        let carrier = Carrier::new(kafka, topic, store.clone(), link);
        let (queue, pending) = mpsc::unbounded_channel();
        let after = Duration::from_millis(settings.spool.after_ms);
        let relay = Relay::new(topic, pending, store.clone(), linked, after);
        let tasks = [runtime.spawn(carrier.run()), runtime.spawn(relay.run())];
        Ok(Self {
            topic: topic.into(),
            queue,
            room: Arc::new(Semaphore::new(settings.queue_bytes_max)),
            record_bytes_max: settings.record_bytes_max,
            store,
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
