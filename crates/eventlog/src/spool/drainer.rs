use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::Instant,
};
use tracing::{debug, error, info, warn};

use super::{
    refused_record::RefusedRecord,
    router::{ProducerLease, ProducerState},
    store::SpoolStore,
};
use crate::{
    LogError, Record, RecordRefusal, StoredRecord,
    kafka::{KafkaClient, KafkaProducer},
    writer::AppendReceipt,
};

/// Largest number of records sent at once.
const BATCH_RECORDS_MAX: usize = 8 * 1024;
/// Shortest interval between writes of the drained offset.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// First wait between attempts to reach Kafka. Each further one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A drain without progress for this long is restarted with a new producer. Each restart doubles
/// the time.
const STALL: Duration = Duration::from_secs(30);
const STALL_MAX: Duration = Duration::from_secs(600);
/// Interval at which the drain's progress is checked.
const STALL_CHECK_EVERY: Duration = Duration::from_secs(1);

/// The first shift of a record's time into the past after Kafka refuses it, ms. The factor and
/// the number of further shifts follow: from a quarter of an hour to nearly four years. A shift
/// is too large by a fifth of the clock's error at most, because a topic's retention depends on
/// these times.
const SHIFT_MIN_MS: i64 = 900_000;
const SHIFT_RATIO: f64 = 1.2;
const SHIFT_STEPS: i32 = 65;

/// Connects to Kafka, and drains the spool to it.
pub(super) struct SpoolDrainer {
    kafka: Arc<KafkaClient>,
    topic: Arc<str>,
    store: Arc<SpoolStore>,
    producer: watch::Sender<ProducerState>,
    /// The keeper of records that Kafka refuses.
    refused: watch::Receiver<Option<mpsc::Sender<RefusedRecord>>>,
}

impl SpoolDrainer {
    pub(super) fn new(
        kafka: Arc<KafkaClient>,
        topic: &str,
        store: Arc<SpoolStore>,
        producer: watch::Sender<ProducerState>,
        refused: watch::Receiver<Option<mpsc::Sender<RefusedRecord>>>,
    ) -> Self {
        Self { kafka, topic: topic.into(), store, producer, refused }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut patience = STALL;
        loop {
            let lease =
                ProducerLease { producer: self.connect_producer().await, lost: Notify::new() };
            let lease = Arc::new(lease);
            let drained_before = self.store.status().drained;
            self.producer.send_replace(Some(lease.clone()));
            tokio::select! {
                () = lease.lost.notified() => {}
                ended = self.drain_spool(&lease.producer) => {
                    if let Err(error) = ended {
                        self.store.note_failure(&error);
                        warn!(topic = %self.topic, %error, "draining the spool stopped; will retry");
                    }
                }
                stalled = self.wait_until_stalled(patience) => {
                    self.store.note_restart();
                    error!(
                        topic = %self.topic, stalled_s = stalled.as_secs(),
                        "Kafka accepts nothing from the spool; retrying with a new producer"
                    );
                }
            }
            let has_moved = self.store.status().drained > drained_before;
            patience = if has_moved { STALL } else { (patience * 2).min(STALL_MAX) };
            self.producer.send_replace(None);
            // Closing a client takes time.
            let closed = spawn_blocking(move || {
                lease.producer.purge_undelivered();
                drop(lease);
            });
            let _ = closed.await;
            tokio::time::sleep(BACKOFF_MIN).await;
        }
    }

    async fn connect_producer(&self) -> KafkaProducer {
        let mut backoff = BACKOFF_MIN;
        loop {
            let (kafka, topic) = (self.kafka.clone(), self.topic.clone());
            match spawn_blocking(move || kafka.open_producer(&topic)).await {
                Ok(Ok(producer)) => return producer,
                Ok(Err(error)) => {
                    self.store.note_failure(&error);
                    warn!(topic = %self.topic, %error, "cannot reach Kafka; records go to the spool");
                }
                Err(error) => error!(topic = %self.topic, %error, "connecting to Kafka panicked"),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Opens another producer after one that accepts nothing more. If `asks`, it queries the
    /// topic's limits again.
    async fn reconnect_producer(&self, asks: bool) -> Result<KafkaProducer, LogError> {
        let (kafka, topic) = (self.kafka.clone(), self.topic.clone());
        let opened = spawn_blocking(move || {
            if asks { kafka.open_producer(&topic) } else { kafka.reopen_producer(&topic) }
        })
        .await;
        opened.map_err(|_| LogError::Closed { topic: self.topic.to_string() })?
    }

    /// Closes a client in the background. That takes time and nobody needs to wait for it,
    /// because all its records have been answered.
    fn close_producer(producer: KafkaProducer) {
        spawn_blocking(move || {
            producer.purge_undelivered();
            drop(producer);
        });
    }

    /// Returns after the spool has held records for `patience` without draining any.
    async fn wait_until_stalled(&self, patience: Duration) -> Duration {
        let began = Instant::now();
        loop {
            tokio::time::sleep(STALL_CHECK_EVERY).await;
            if let Some(since) = self.store.stalled_since() {
                let stalled = since.elapsed().min(began.elapsed());
                if stalled >= patience {
                    return stalled;
                }
            }
        }
    }

    /// Drains the stored and the newly spooled records in order, until the producer is unusable.
    /// It waits for a slow Kafka, because the records are safe in the spool.
    async fn drain_spool(&self, producer: &KafkaProducer) -> Result<(), LogError> {
        let mut tail = self.store.open_tail()?;
        let mut settled = Instant::now();
        let mut drained = 0_u64;
        loop {
            let batch = tail.next_batch(BATCH_RECORDS_MAX, SETTLE_EVERY).await?;
            if !BatchDelivery::new(self, &batch).deliver_batch(producer).await? {
                return Ok(());
            }
            drained += batch.len() as u64;
            let is_drained = self.store.is_drained();
            if drained > 0 && (is_drained || settled.elapsed() >= SETTLE_EVERY) {
                let store = self.store.clone();
                let written = spawn_blocking(move || store.persist_drained()).await;
                written.map_err(|_| LogError::Closed { topic: self.topic.to_string() })??;
                settled = Instant::now();
                if is_drained {
                    let records = std::mem::take(&mut drained);
                    info!(topic = %self.topic, records, "the spool is drained");
                }
            }
        }
    }

    /// Hands a record that Kafka refuses to its keeper, or stores it in a file. It must neither
    /// hold up the others nor be lost.
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
///
/// Kafka refuses a whole request because of one record in it, and does not always name it. From
/// then on its producer accepts nothing more (`enable.gapless.guarantee`), so that later records
/// do not overtake the refused request. The record is searched for with a new producer each time:
/// fewer and fewer records are sent at once while some of them are refused, and more again when
/// they are not.
struct BatchDelivery<'a> {
    drainer: &'a SpoolDrainer,
    batch: &'a [StoredRecord],
    /// Whether each record is in Kafka or with its keeper.
    is_settled: Vec<bool>,
    /// Number of records from the start that are settled and reported to the spool.
    advanced: usize,
}

/// Factor by which fewer records are sent at once after a second refusal.
const FEWER: usize = 8;

impl<'a> BatchDelivery<'a> {
    fn new(drainer: &'a SpoolDrainer, batch: &'a [StoredRecord]) -> Self {
        Self { drainer, batch, is_settled: vec![false; batch.len()], advanced: 0 }
    }

    /// Sends all records until they are settled. Returns whether the producer is still usable.
    ///
    /// # Errors
    /// Returns an error if Kafka fails for a reason other than a record.
    async fn deliver_batch(mut self, producer: &KafkaProducer) -> Result<bool, LogError> {
        let Some(mut refused) = self.send_unsettled(producer, self.batch.len()).await? else {
            return Ok(true);
        };
        let all = self.batch.len();
        // If a record is refused for its size, it is the largest one.
        let mut count = self.before_largest(all);
        let mut is_first = true;
        while self.advanced < all {
            // The topic's limits may have changed, so the first new producer queries them.
            let producer = self.drainer.reconnect_producer(std::mem::take(&mut is_first)).await?;
            while self.advanced < all {
                let sent = self.send_unsettled(&producer, count).await?;
                let Some(error) = sent else {
                    // The records before the largest one were accepted. It comes next, alone.
                    count = if count == 1 { all } else { 1 };
                    continue;
                };
                refused = error;
                if count == 1 {
                    self.settle_refused(&refused).await?;
                    count = all;
                } else {
                    let before = self.before_largest(count);
                    count = if count == all { before } else { before.min(count.div_ceil(FEWER)) };
                }
                break;
            }
            SpoolDrainer::close_producer(producer);
        }
        debug!(topic = %self.drainer.topic, %refused, "continued after a refused record");
        Ok(false)
    }

    /// Counts how many of the first `count` unsettled records come before the largest of them; at
    /// least one.
    fn before_largest(&self, count: usize) -> usize {
        let unsettled = (self.advanced..self.batch.len()).filter(|at| !self.is_settled[*at]);
        let sizes = unsettled.take(count).map(|at| self.batch[at].record.content_bytes());
        let largest = sizes.enumerate().max_by_key(|(at, bytes)| (*bytes, std::cmp::Reverse(*at)));
        largest.map_or(1, |(at, _)| at.max(1))
    }

    /// Sends the first `count` unsettled records. Returns why one of them was refused, if any
    /// was. The producer is unusable then.
    async fn send_unsettled(
        &mut self,
        producer: &KafkaProducer,
        count: usize,
    ) -> Result<Option<LogError>, LogError> {
        let candidates = (self.advanced..self.batch.len()).filter(|at| !self.is_settled[*at]);
        let unsettled: Vec<usize> = candidates.take(count).collect();
        let mut sent: Vec<(usize, AppendReceipt)> = Vec::with_capacity(unsettled.len());
        let (mut refused, mut unsendable) = (None, Vec::new());
        for at in unsettled {
            match producer.append(&self.batch[at].record).await {
                Ok(receipt) => sent.push((at, receipt)),
                // The record is known to be too large, so it was not sent to Kafka.
                Err(error) if error.is_record_specific() => unsendable.push((at, error)),
                Err(error) => return Err(error),
            }
        }
        for (at, error) in unsendable {
            self.keep_refused(at, &error).await?;
            self.settle_record(at);
        }
        let mut failed = None;
        for (at, receipt) in sent {
            match receipt.await {
                Ok(_) => self.settle_record(at),
                Err(error) if error.is_record_specific() => {
                    if refused.is_none() {
                        // The records after it are no longer accepted.
                        producer.purge_undelivered();
                    }
                    refused.get_or_insert(error);
                }
                Err(error) => failed = Some(error),
            }
        }
        match (refused, failed) {
            (Some(refused), _) => Ok(Some(refused)),
            (None, Some(failed)) => Err(failed),
            (None, None) => Ok(None),
        }
    }

    /// Settles the first unsettled record, which was refused alone.
    async fn settle_refused(&mut self, refused: &LogError) -> Result<(), LogError> {
        let at = self.advanced;
        let record = &self.batch[at].record;
        let is_sent = match refused {
            LogError::Refused { refusal: RecordRefusal::Timestamp, .. } => {
                self.send_with_other_time(record).await?
            }
            // The record was sent alone, so there was no other record.
            LogError::Refused { refusal: RecordRefusal::OtherRecord, .. } => {
                return Err(refused.clone());
            }
            _ => false,
        };
        if !is_sent {
            self.keep_refused(at, refused).await?;
        }
        self.settle_record(at);
        Ok(())
    }

    async fn keep_refused(&self, at: usize, refused: &LogError) -> Result<(), LogError> {
        let record = &self.batch[at].record;
        warn!(
            topic = %self.drainer.topic, key = record.key, error = %refused,
            "Kafka refuses a record; the others continue"
        );
        self.drainer.keep_refused(record, refused).await?;
        self.drainer.store.note_refused();
        Ok(())
    }

    /// Settles a record, and advances the spool over all settled records from its beginning.
    fn settle_record(&mut self, at: usize) {
        self.is_settled[at] = true;
        while self.is_settled.get(self.advanced) == Some(&true) {
            let StoredRecord { offset, record, .. } = &self.batch[self.advanced];
            self.drainer.store.advance_drained(*offset, record);
            self.advanced += 1;
        }
    }

    /// Sends a record whose time Kafka refuses, because this machine's clock is ahead of the
    /// broker's or the record has waited for longer than the broker allows. Its own time goes
    /// into a header, so readers see it unchanged. Returns whether Kafka accepted another time.
    async fn send_with_other_time(&self, record: &Record) -> Result<bool, LogError> {
        let own_ms = record.timestamp_ms;
        let earlier = (0..SHIFT_STEPS).map(|n| {
            let back_ms = SHIFT_MIN_MS as f64 * SHIFT_RATIO.powi(n);
            own_ms.saturating_sub(back_ms as i64)
        });
        for stamp_ms in earlier.chain([now_ms()]) {
            let producer = self.drainer.reconnect_producer(false).await?;
            let receipt = producer.append_with_timestamp(record, stamp_ms).await?;
            let outcome = receipt.await;
            SpoolDrainer::close_producer(producer);
            match outcome {
                Ok(_) if stamp_ms < own_ms => {
                    let clock = self.drainer.kafka.broker_clock(&self.drainer.topic);
                    let ahead_ms = own_ms - stamp_ms;
                    error!(
                        topic = %self.drainer.topic, ahead_ms,
                        "this machine's clock is ahead of Kafka's by up to ahead_ms: records get \
                         an earlier timestamp there, and their own time in the header received_ms"
                    );
                    clock.note_accepted(stamp_ms);
                    return Ok(true);
                }
                Ok(_) => return Ok(true),
                Err(LogError::Refused { refusal: RecordRefusal::Timestamp, .. }) => {}
                Err(error) if error.is_record_specific() => return Ok(false),
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
