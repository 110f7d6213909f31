use std::{convert::Infallible, ops::Range, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::Instant,
};
use tracing::{error, info, warn};

use super::{
    refused::RefusedRecord,
    router::{ProducerLease, ProducerState},
    store::Store,
};
use crate::{
    Entry, LogError, Record, Refusal,
    kafka::{Kafka, Producer},
    writer::Receipt,
};

/// Records sent at once.
const BATCH_RECORDS_MAX: usize = 8 * 1024;
/// How far the spool is drained is written at most this often.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// Waits between attempts to find Kafka, each twice the one before.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A drain that has moved nothing for so long is begun again with a new producer; each time it
/// is given twice as long.
const STALL: Duration = Duration::from_secs(30);
const STALL_MAX: Duration = Duration::from_secs(600);
/// A producer asks for the topic's limits when it is made; they are taken to hold so long.
const FRESH: Duration = Duration::from_secs(10);
/// How often it is looked whether a drain stands still.
const STALL_CHECK_EVERY: Duration = Duration::from_secs(1);

/// How far a record's time is moved back at first where Kafka refuses it, and how often that is
/// doubled: from an hour, which Kafka allows, to nearly four years.
const SHIFT_MS: i64 = 3_600_000;
const SHIFT_DOUBLINGS: u32 = 15;

/// Finds Kafka, and drains the spool to it.
pub(super) struct SpoolDrainer {
    kafka: Arc<Kafka>,
    topic: Arc<str>,
    store: Arc<Store>,
    producer: watch::Sender<ProducerState>,
    /// Who keeps the records that Kafka refuses.
    refused: watch::Receiver<Option<mpsc::Sender<RefusedRecord>>>,
}

impl SpoolDrainer {
    pub(super) fn new(
        kafka: Arc<Kafka>,
        topic: &str,
        store: Arc<Store>,
        producer: watch::Sender<ProducerState>,
        refused: watch::Receiver<Option<mpsc::Sender<RefusedRecord>>>,
    ) -> Self {
        Self { kafka, topic: topic.into(), store, producer, refused }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut patience = STALL;
        loop {
            let lease = ProducerLease { producer: self.connect().await, lost: Notify::new() };
            let (lease, connected_at) = (Arc::new(lease), Instant::now());
            let drained_before = self.store.status().drained;
            self.producer.send_replace(Some(lease.clone()));
            tokio::select! {
                () = lease.lost.notified() => {}
                ended = self.drain(&lease.producer, connected_at) => {
                    let Err(error) = ended;
                    self.store.note_failure(&error);
                    warn!(topic = %self.topic, %error, "draining the spool stopped; trying again");
                }
                stalled = self.stalled(patience) => {
                    self.store.note_restart();
                    error!(
                        topic = %self.topic, stalled_s = stalled.as_secs(),
                        "Kafka takes nothing from the spool; trying again with a new producer"
                    );
                }
            }
            let has_moved = self.store.status().drained > drained_before;
            patience = if has_moved { STALL } else { (patience * 2).min(STALL_MAX) };
            self.producer.send_replace(None);
            // Closing a client takes its time.
            let closed = spawn_blocking(move || {
                lease.producer.purge();
                drop(lease);
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
                    self.store.note_failure(&error);
                    warn!(topic = %self.topic, %error, "no Kafka yet; the spool takes records");
                }
                Err(error) => error!(topic = %self.topic, %error, "looking for Kafka panicked"),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Returns when the spool has held records for `patience` and none of them moved.
    async fn stalled(&self, patience: Duration) -> Duration {
        let began = Instant::now();
        loop {
            tokio::time::sleep(STALL_CHECK_EVERY).await;
            if let Some(stalled) = self.store.stalled_since() {
                let stalled = stalled.elapsed().min(began.elapsed());
                if stalled >= patience {
                    return stalled;
                }
            }
        }
    }

    /// Brings what the spool holds and what comes, in order. Ends only where Kafka fails in a
    /// way that librdkafka does not mend: a slow Kafka is waited for, since the records are
    /// safe here.
    async fn drain(
        &self,
        producer: &Producer,
        connected_at: Instant,
    ) -> Result<Infallible, LogError> {
        let mut tail = self.store.tail()?;
        let mut settled = Instant::now();
        let mut drained = 0_u64;
        loop {
            let batch = tail.next_batch(BATCH_RECORDS_MAX, SETTLE_EVERY).await?;
            let mut delivery = Delivery::new(self, producer, &batch);
            delivery.is_fresh = connected_at.elapsed() < FRESH;
            delivery.run().await?;
            drained += batch.len() as u64;
            let is_drained = self.store.is_drained();
            if drained > 0 && (is_drained || settled.elapsed() >= SETTLE_EVERY) {
                let store = self.store.clone();
                let written = spawn_blocking(move || store.settle()).await;
                written.map_err(|_| LogError::Closed { topic: self.topic.to_string() })??;
                settled = Instant::now();
                if is_drained {
                    let records = std::mem::take(&mut drained);
                    info!(topic = %self.topic, records, "the spool is drained");
                }
            }
        }
    }

    /// Gives a record that Kafka refuses to who keeps such records, or keeps it in a file: it
    /// must not hold up the others, and must not be lost.
    async fn keep_refused(&self, record: &Record, cause: &LogError) -> Result<(), LogError> {
        let keeper = self.refused.borrow().clone();
        if let Some(keeper) = keeper {
            let (done, is_kept) = oneshot::channel();
            let cause = cause.to_string();
            let refused = RefusedRecord { record: record.clone(), cause, done };
            if keeper.send(refused).await.is_ok() && is_kept.await == Ok(true) {
                return Ok(());
            }
        }
        self.store.keep_refused(record.clone(), cause).await
    }
}

/// Records on their way to Kafka, in order.
struct Delivery<'a> {
    drainer: &'a SpoolDrainer,
    producer: &'a Producer,
    batch: &'a [Entry],
    /// The producer knows the limits that the topic has now.
    is_fresh: bool,
    /// Which of them Kafka has, or somebody else keeps.
    is_settled: Vec<bool>,
    /// Those before it are settled, and the spool knows.
    advanced: usize,
}

impl<'a> Delivery<'a> {
    fn new(drainer: &'a SpoolDrainer, producer: &'a Producer, batch: &'a [Entry]) -> Self {
        let is_settled = vec![false; batch.len()];
        Self { drainer, producer, batch, is_fresh: true, is_settled, advanced: 0 }
    }

    /// Returns when all of them are settled. Kafka refuses a whole request because of one
    /// record in it, and does not say which: it is found by halving what was refused.
    ///
    /// # Errors
    /// Where Kafka fails for another reason than a record's content.
    async fn run(mut self) -> Result<(), LogError> {
        // The part to be sent next is the last.
        let mut parts = vec![0..self.batch.len()];
        while let Some(part) = parts.pop() {
            let Some(refused) = self.send(part.clone()).await? else { continue };
            if !self.is_fresh {
                // The topic's limits may have changed: a new producer asks for them.
                return Err(refused);
            }
            let left = self.unsettled(&part);
            if left.len() > 1 {
                let middle = left[left.len() / 2];
                parts.push(middle..part.end);
                parts.push(left[0]..middle);
                continue;
            }
            let Some(&at) = left.first() else { continue };
            let record = &self.batch[at].record;
            let is_sent = match refused {
                LogError::Refused { refusal: Refusal::Timestamp, .. } => {
                    self.send_with_other_time(record).await?
                }
                // It stands alone, so there was no other record.
                LogError::Refused { refusal: Refusal::OtherRecord, .. } => return Err(refused),
                _ => false,
            };
            if !is_sent {
                warn!(
                    topic = %self.drainer.topic, key = record.key, error = %refused,
                    "Kafka refuses a record; the others go on"
                );
                self.drainer.keep_refused(record, &refused).await?;
                self.drainer.store.note_refused();
            }
            self.settle(at);
        }
        Ok(())
    }

    fn unsettled(&self, part: &Range<usize>) -> Vec<usize> {
        part.clone().filter(|at| !self.is_settled[*at]).collect()
    }

    /// Sends what is not settled of a part; why one of it was refused, if any was.
    async fn send(&mut self, part: Range<usize>) -> Result<Option<LogError>, LogError> {
        let mut sent: Vec<(usize, Receipt)> = Vec::with_capacity(part.len());
        let mut refused = None;
        for at in self.unsettled(&part) {
            match self.producer.append(&self.batch[at].record).await {
                Ok(receipt) => sent.push((at, receipt)),
                Err(error) if error.is_of_one_record() => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        let mut failed = None;
        for (at, receipt) in sent {
            match receipt.await {
                Ok(_) => self.settle(at),
                Err(error) if error.is_of_one_record() => refused = Some(error),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(refused), Err)
    }

    /// The spool moves on over all that are settled from its beginning.
    fn settle(&mut self, at: usize) {
        self.is_settled[at] = true;
        while self.is_settled.get(self.advanced) == Some(&true) {
            let Entry { offset, record, .. } = &self.batch[self.advanced];
            self.drainer.store.advance(*offset, record);
            self.advanced += 1;
        }
    }

    /// Sends a record whose time Kafka refuses: this machine's clock is ahead of the broker's,
    /// or the record has waited for longer than the broker allows. Whether some time will do.
    async fn send_with_other_time(&self, record: &Record) -> Result<bool, LogError> {
        let shift_ms = self.producer.time_shift_ms();
        let back = (0..SHIFT_DOUBLINGS).map(|n| shift_ms.min(0) - (SHIFT_MS << n));
        // Its own time is in a header, so readers see it as it was.
        let to_now_ms = now_ms().saturating_sub(record.timestamp_ms);
        for candidate_ms in back.chain([to_now_ms]) {
            let receipt = self.producer.append_shifted(record, candidate_ms).await?;
            match receipt.await {
                Ok(_) => {
                    if candidate_ms < 0 {
                        error!(
                            topic = %self.drainer.topic, behind_ms = -candidate_ms,
                            "this machine's clock is ahead of Kafka's: records are stamped earlier \
                             there, and have their own time in the header received_ms"
                        );
                        self.producer.set_time_shift_ms(candidate_ms);
                    }
                    return Ok(true);
                }
                Err(LogError::Refused { refusal: Refusal::Timestamp, .. }) => {}
                Err(error) if error.is_of_one_record() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
