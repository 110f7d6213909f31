use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc::UnboundedReceiver, oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::store::SpoolStore;
use crate::{
    LogError, Record,
    kafka::{KafkaProducer, QueueAttempt},
    writer::{AppendReceipt, AppendResult},
};

/// A record and its waiting sender.
#[derive(Debug)]
pub(super) struct UnroutedRecord {
    pub(super) record: Record,
    pub(super) answer: oneshot::Sender<AppendResult>,
    /// Its share of the queue, released when the record is durable.
    pub(super) room: OwnedSemaphorePermit,
}

/// A record that was given to Kafka's client.
struct InFlightRecord {
    pending: UnroutedRecord,
    receipt: AppendReceipt,
    since: Instant,
}

/// A producer that the drainer created while Kafka was available, for the router to use. The
/// signals of one lease do not concern the next.
#[derive(Debug)]
pub(super) struct ProducerLease {
    pub(super) producer: KafkaProducer,
    /// Reports to the drainer that this producer is unusable.
    pub(super) lost: Notify,
}

/// The current producer, if any.
pub(super) type ProducerState = Option<Arc<ProducerLease>>;

/// Decides where each record goes: directly to Kafka while Kafka keeps up and the spool is empty,
/// otherwise through the spool.
pub(super) struct SpoolRouter {
    topic: Arc<str>,
    queue: UnboundedReceiver<UnroutedRecord>,
    store: Arc<SpoolStore>,
    producer: watch::Receiver<ProducerState>,
    /// Kafka counts as away when a record has waited for this long.
    after: Duration,
}

impl SpoolRouter {
    pub(super) fn new(
        topic: &str,
        queue: UnboundedReceiver<UnroutedRecord>,
        store: Arc<SpoolStore>,
        producer: watch::Receiver<ProducerState>,
        after: Duration,
    ) -> Self {
        Self { topic: topic.into(), queue, store, producer, after }
    }

    /// Runs until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        let mut next = None;
        loop {
            let lease = self.producer.borrow().clone();
            if let Some(lease) = lease.filter(|_| self.store.is_drained()) {
                self.store.set_direct(true);
                match self.send_direct(&lease.producer, next.take()).await {
                    Some(rest) => self.fall_back(&lease, rest).await,
                    None => return,
                }
                continue;
            }
            let pending = match next.take() {
                Some(pending) => pending,
                None => match self.queue.recv().await {
                    Some(pending) => pending,
                    None => return,
                },
            };
            // Kafka may have come back while waiting for this record.
            if self.store.is_drained() && self.producer.borrow().is_some() {
                next = Some(pending);
            } else {
                self.spool_record(pending).await;
            }
        }
    }

    /// Sends to Kafka until it is away or refuses a record. Returns the unacknowledged records in
    /// order, or `None` at the end of the queue.
    async fn send_direct(
        &mut self,
        producer: &KafkaProducer,
        mut stalled: Option<UnroutedRecord>,
    ) -> Option<VecDeque<InFlightRecord>> {
        let mut sent = VecDeque::new();
        let mut clock = interval(self.after / 4);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_open = true;
        loop {
            if let Some(pending) = stalled.take() {
                match offer_record(producer, pending) {
                    OfferOutcome::Sent(record) => sent.push_back(record),
                    OfferOutcome::Full(pending) => stalled = Some(pending),
                    // The record was not sent, so its sender decides what to do with it.
                    OfferOutcome::Refused(pending, error) if error.is_record_specific() => {
                        let _ = pending.answer.send(Err(error));
                    }
                    OfferOutcome::Refused(pending, error) => {
                        warn!(topic = %self.topic, %error, "Kafka's client accepts no more records");
                        sent.push_back(as_unsent(pending));
                        return Some(sent);
                    }
                }
            }
            if !is_open && stalled.is_none() && sent.is_empty() {
                return None;
            }
            tokio::select! {
                biased;
                outcome = oldest_outcome(&mut sent) => match outcome {
                    Ok(at) => answer_oldest(&mut sent, at),
                    Err(error) => {
                        // Its receipt has resolved and must not be polled again.
                        if let Some(InFlightRecord { pending, .. }) = sent.pop_front() {
                            sent.push_front(as_unsent(pending));
                        }
                        let rest = with_stalled(sent, stalled);
                        if error.is_record_specific() {
                            // Later records must not be accepted before it.
                            info!(topic = %self.topic, %error, "Kafka refuses a record: searching for it");
                        } else {
                            warn!(topic = %self.topic, %error, "Kafka did not accept a record");
                        }
                        return Some(rest);
                    }
                },
                pending = self.queue.recv(), if is_open && stalled.is_none() => match pending {
                    Some(pending) => stalled = Some(pending),
                    None => is_open = false,
                },
                _ = clock.tick() => {
                    let waits = sent.front().map_or(Duration::ZERO, |sent| sent.since.elapsed());
                    if waits > self.after {
                        let waits_ms = waits.as_millis() as u64;
                        warn!(topic = %self.topic, waits_ms, "Kafka does not acknowledge");
                        return Some(with_stalled(sent, stalled));
                    }
                }
                // Offered again at the latest when a delivery makes room.
                () = producer.wait_for_room(), if stalled.is_some() => {}
            }
        }
    }

    /// Withdraws all undelivered records from the producer, and spools them before anything
    /// newer.
    async fn fall_back(&mut self, lease: &Arc<ProducerLease>, rest: VecDeque<InFlightRecord>) {
        self.store.set_direct(false);
        lease.producer.purge_undelivered();
        for InFlightRecord { pending, receipt, .. } in rest {
            match receipt.await {
                Ok(at) => {
                    let _ = pending.answer.send(Ok(at));
                }
                Err(_) => self.spool_record(pending).await,
            }
        }
        lease.lost.notify_one();
        // Waits until the drainer has dropped this producer.
        let is_replaced =
            |state: &ProducerState| !state.as_ref().is_some_and(|now| Arc::ptr_eq(now, lease));
        let _ = self.producer.wait_for(is_replaced).await;
    }

    async fn spool_record(&self, UnroutedRecord { record, answer, room }: UnroutedRecord) {
        self.store.append(record, answer).await;
        // From here on the spool's own queue bounds it.
        drop(room);
    }
}

enum OfferOutcome {
    Sent(InFlightRecord),
    Full(UnroutedRecord),
    Refused(UnroutedRecord, LogError),
}

fn offer_record(producer: &KafkaProducer, pending: UnroutedRecord) -> OfferOutcome {
    match producer.try_append(&pending.record) {
        Ok(QueueAttempt::Queued(receipt)) => {
            OfferOutcome::Sent(InFlightRecord { pending, receipt, since: Instant::now() })
        }
        Ok(QueueAttempt::Full) => OfferOutcome::Full(pending),
        Err(error) => OfferOutcome::Refused(pending, error),
    }
}

/// Treats a record that was never given to Kafka as one that Kafka did not accept.
fn as_unsent(pending: UnroutedRecord) -> InFlightRecord {
    let (_, receipt) = AppendReceipt::new("".into());
    InFlightRecord { pending, receipt, since: Instant::now() }
}

fn with_stalled(
    mut sent: VecDeque<InFlightRecord>,
    stalled: Option<UnroutedRecord>,
) -> VecDeque<InFlightRecord> {
    sent.extend(stalled.map(as_unsent));
    sent
}

/// Waits for Kafka's answer for the oldest record; for ever if there is none.
async fn oldest_outcome(sent: &mut VecDeque<InFlightRecord>) -> AppendResult {
    match sent.front_mut() {
        Some(sent) => (&mut sent.receipt).await,
        None => std::future::pending().await,
    }
}

fn answer_oldest(sent: &mut VecDeque<InFlightRecord>, at: (i32, i64)) {
    if let Some(InFlightRecord { pending, .. }) = sent.pop_front() {
        // Nobody waits for a dropped receipt.
        let _ = pending.answer.send(Ok(at));
    }
}
