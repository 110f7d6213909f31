use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::Instant,
};
use tracing::{error, info, warn};

use super::{
    relay::{Line, Link},
    store::Store,
};
use crate::{
    LogError,
    kafka::{Kafka, Producer},
};

/// Records carried at once.
const BATCH_RECORDS_MAX: usize = 8 * 1024;
/// How far the spool is drained is written at most this often.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// Waits between attempts to find Kafka, each twice the one before.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Finds Kafka, and carries the spool to it.
pub(super) struct Carrier {
    kafka: Arc<Kafka>,
    topic: Arc<str>,
    store: Arc<Store>,
    link: watch::Sender<Link>,
}

impl Carrier {
    pub(super) fn new(
        kafka: Arc<Kafka>,
        topic: &str,
        store: Arc<Store>,
        link: watch::Sender<Link>,
    ) -> Self {
        Self { kafka, topic: topic.into(), store, link }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        loop {
            let line = Arc::new(Line { producer: self.connect().await, lost: Notify::new() });
            self.link.send_replace(Some(line.clone()));
            tokio::select! {
                () = line.lost.notified() => {}
                ended = self.carry(&line.producer) => {
                    if let Err(error) = ended {
                        error!(topic = %self.topic, %error, "draining the spool stopped; trying again");
                    }
                }
            }
            self.link.send_replace(None);
            // Closing a client takes its time.
            let closed = spawn_blocking(move || {
                line.producer.purge();
                drop(line);
            });
            let _ = closed.await;
            tokio::time::sleep(BACKOFF_MIN).await;
        }
    }

    async fn connect(&self) -> Producer {
        let mut backoff = BACKOFF_MIN;
        loop {
            let (kafka, topic) = (self.kafka.clone(), self.topic.clone());
            match spawn_blocking(move || kafka.producer(&topic)).await {
                Ok(Ok(producer)) => return producer,
                Ok(Err(error)) => {
                    warn!(topic = %self.topic, %error, "no Kafka yet; the spool takes records");
                }
                Err(error) => error!(topic = %self.topic, %error, "looking for Kafka panicked"),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Carries what the spool holds and what comes, in order. Ends only where
    /// Kafka refuses a record: a slow Kafka is waited for, since the records
    /// are safe here.
    async fn carry(&self, producer: &Producer) -> Result<(), LogError> {
        let mut tail = self.store.tail()?;
        let mut settled = Instant::now();
        let mut carried = 0_u64;
        loop {
            let batch = tail.next_batch(BATCH_RECORDS_MAX, SETTLE_EVERY).await?;
            let mut receipts = Vec::with_capacity(batch.len());
            for entry in &batch {
                receipts.push(producer.append(&entry.record).await?);
            }
            for (entry, receipt) in batch.iter().zip(receipts) {
                receipt.await?;
                self.store.advance(entry.offset, &entry.record);
            }
            carried += batch.len() as u64;
            let is_drained = self.store.is_drained();
            if carried > 0 && (is_drained || settled.elapsed() >= SETTLE_EVERY) {
                let store = self.store.clone();
                let written = spawn_blocking(move || store.settle()).await;
                written.map_err(|_| LogError::Closed { topic: self.topic.to_string() })??;
                settled = Instant::now();
                if is_drained {
                    info!(topic = %self.topic, records = std::mem::take(&mut carried), "the spool is drained");
                }
            }
        }
    }
}
