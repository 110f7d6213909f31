//! Kafka with a spool: records that Kafka does not accept in time wait on the local disk, and
//! follow in order when Kafka is back.
//!
//! **Invariant:** a receipt resolves only when its record is acknowledged by Kafka or synced in
//! the spool.
//!
//! **Invariant:** first copies of records reach Kafka in the order of `append`. While the spool
//! holds records, new ones are queued behind them. Records that Kafka may already have when it
//! goes away are sent again: at least once.
//!
//! # Layout
//! - [`router`]: decides where each record goes, in order
//! - [`store`]: the spool on disk: segments, a size limit, and the drained offset
//! - [`drainer`]: connects to Kafka, and drains the spool to it
//! - [`refused_record`]: a record that Kafka refuses, for its keeper
//! - [`status`]: the spool's content at the moment

mod drainer;
mod refused_record;
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

pub use refused_record::RefusedRecord;
pub use status::SpoolStatus;

use crate::{
    EventLogConfig, FaultInjector, LogError, Record, kafka::KafkaClient, writer::AppendReceipt,
};
use drainer::SpoolDrainer;
use router::{SpoolRouter, UnroutedRecord};
use store::SpoolStore;

/// Appends to one topic of Kafka, through the spool while Kafka is away.
#[derive(Debug)]
pub(crate) struct TopicSpool {
    topic: Arc<str>,
    queue: mpsc::UnboundedSender<UnroutedRecord>,
    /// Bounds the queue, and the records in flight to Kafka, by bytes.
    room: Arc<Semaphore>,
    record_bytes_max: usize,
    store: Arc<SpoolStore>,
    /// The keeper of records that Kafka refuses.
    refused: watch::Sender<Option<mpsc::Sender<RefusedRecord>>>,
    tasks: [JoinHandle<()>; 2],
}

impl TopicSpool {
    /// Opens the topic's spool and begins to connect to Kafka, which may be away.
    pub(crate) fn open(
        kafka: Arc<KafkaClient>,
        settings: &EventLogConfig,
        topic: &str,
        faults: FaultInjector,
    ) -> Result<Self, LogError> {
        let runtime = Handle::try_current().map_err(|_| LogError::NoRuntime)?;
        let store = Arc::new(SpoolStore::open(settings, topic, faults)?);
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

    pub(crate) async fn append(&self, record: Record) -> Result<AppendReceipt, LogError> {
        let found_bytes = record.content_bytes();
        if found_bytes > self.record_bytes_max {
            let (topic, max_bytes) = (self.topic.to_string(), self.record_bytes_max);
            return Err(LogError::TooLarge { topic, found_bytes, max_bytes });
        }
        let closed = || LogError::Closed { topic: self.topic.to_string() };
        let share = found_bytes.max(RECORD_SHARE_BYTES).min(self.record_bytes_max);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(share).await.map_err(|_| closed())?;
        let (answer, receipt) = AppendReceipt::new(self.topic.clone());
        let pending = UnroutedRecord { record, answer, room };
        self.queue.send(pending).map_err(|_| closed())?;
        Ok(receipt)
    }

    /// Sends records that Kafka refuses to `keeper` from now on.
    pub(crate) fn keep_refused(&self, keeper: mpsc::Sender<RefusedRecord>) {
        self.refused.send_replace(Some(keeper));
    }

    pub(crate) fn status(&self) -> SpoolStatus {
        self.store.status()
    }
}

/// Smallest memory that a record takes beside its content, bytes.
const RECORD_SHARE_BYTES: usize = 256;

impl Drop for TopicSpool {
    /// Unanswered records are not durable, and their senders know that.
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
