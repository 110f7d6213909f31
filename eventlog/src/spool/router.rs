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

use super::store::Store;
use crate::{
    LogError, Record,
    kafka::{Producer, Queued},
    writer::{Outcome, Receipt},
};

/// A record and who waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) record: Record,
    pub(super) answer: oneshot::Sender<Outcome>,
    /// Its share of the queue, given back when it is durable.
    pub(super) room: OwnedSemaphorePermit,
}

/// A record in Kafka's hands.
struct Sent {
    pending: Pending,
    receipt: Receipt,
    since: Instant,
}

/// A producer that the drainer made when Kafka was there, for the router to use. What is said
/// of one lease says nothing of the next.
#[derive(Debug)]
pub(super) struct ProducerLease {
    pub(super) producer: Producer,
    /// Tells the drainer that this producer is of no more use.
    pub(super) lost: Notify,
}

/// The producer there is, if any.
pub(super) type ProducerState = Option<Arc<ProducerLease>>;

/// Decides where each record goes: to Kafka directly while Kafka keeps up and
/// the spool is empty, else through the spool.
pub(super) struct SpoolRouter {
    topic: Arc<str>,
    queue: UnboundedReceiver<Pending>,
    store: Arc<Store>,
    producer: watch::Receiver<ProducerState>,
    /// Kafka is away when a record has waited for so long.
    after: Duration,
}

impl SpoolRouter {
    pub(super) fn new(
        topic: &str,
        queue: UnboundedReceiver<Pending>,
        store: Arc<Store>,
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
                match self.direct(&lease.producer, next.take()).await {
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
            // Kafka may have come back while this one was waited for.
            if self.store.is_drained() && self.producer.borrow().is_some() {
                next = Some(pending);
            } else {
                self.spool(pending).await;
            }
        }
    }

    /// Sends to Kafka until it is away or refuses a record; returns what it did not acknowledge,
    /// in order, or `None` at the end of the queue.
    async fn direct(
        &mut self,
        producer: &Producer,
        mut stalled: Option<Pending>,
    ) -> Option<VecDeque<Sent>> {
        let mut sent = VecDeque::new();
        let mut clock = interval(self.after / 4);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_open = true;
        loop {
            if let Some(pending) = stalled.take() {
                match offer(producer, pending) {
                    Offer::Sent(record) => sent.push_back(record),
                    Offer::Full(pending) => stalled = Some(pending),
                    // It was not sent, so its sender knows best what to do with it.
                    Offer::Refused(pending, error) if error.is_of_one_record() => {
                        let _ = pending.answer.send(Err(error));
                    }
                    Offer::Refused(pending, error) => {
                        warn!(topic = %self.topic, %error, "Kafka's client takes no more records");
                        sent.push_back(unsent(pending));
                        return Some(sent);
                    }
                }
            }
            if !is_open && stalled.is_none() && sent.is_empty() {
                return None;
            }
            tokio::select! {
                biased;
                outcome = head(&mut sent) => match outcome {
                    Ok(at) => answer(&mut sent, at),
                    Err(error) => {
                        // Its receipt has answered and must not be asked again.
                        if let Some(Sent { pending, .. }) = sent.pop_front() {
                            sent.push_front(unsent(pending));
                        }
                        let rest = with(sent, stalled);
                        if error.is_of_one_record() {
                            // What came after it is not taken before it.
                            info!(topic = %self.topic, %error, "Kafka refuses a record: it is looked for");
                        } else {
                            warn!(topic = %self.topic, %error, "Kafka did not take a record");
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
                        return Some(with(sent, stalled));
                    }
                }
                // Asked again at the latest when a delivery makes room.
                () = producer.room(), if stalled.is_some() => {}
            }
        }
    }

    /// Takes back from the producer what it has not delivered, and spools it
    /// before anything newer.
    async fn fall_back(&mut self, lease: &Arc<ProducerLease>, rest: VecDeque<Sent>) {
        self.store.set_direct(false);
        lease.producer.purge();
        for Sent { pending, receipt, .. } in rest {
            match receipt.await {
                Ok(at) => {
                    let _ = pending.answer.send(Ok(at));
                }
                Err(_) => self.spool(pending).await,
            }
        }
        lease.lost.notify_one();
        // Not the same producer again.
        let gone =
            |state: &ProducerState| !state.as_ref().is_some_and(|now| Arc::ptr_eq(now, lease));
        let _ = self.producer.wait_for(gone).await;
    }

    async fn spool(&self, Pending { record, answer, room }: Pending) {
        self.store.append(record, answer).await;
        // From here the spool's own queue bounds it.
        drop(room);
    }
}

enum Offer {
    Sent(Sent),
    Full(Pending),
    Refused(Pending, LogError),
}

fn offer(producer: &Producer, pending: Pending) -> Offer {
    match producer.try_append(&pending.record) {
        Ok(Queued::Yes(receipt)) => Offer::Sent(Sent { pending, receipt, since: Instant::now() }),
        Ok(Queued::Full) => Offer::Full(pending),
        Err(error) => Offer::Refused(pending, error),
    }
}

/// A record that Kafka was never given, as one that it did not take.
fn unsent(pending: Pending) -> Sent {
    let (_, receipt) = Receipt::new("".into());
    Sent { pending, receipt, since: Instant::now() }
}

fn with(mut sent: VecDeque<Sent>, stalled: Option<Pending>) -> VecDeque<Sent> {
    sent.extend(stalled.map(unsent));
    sent
}

/// When Kafka has answered for the oldest record; never, if there is none.
async fn head(sent: &mut VecDeque<Sent>) -> Outcome {
    match sent.front_mut() {
        Some(sent) => (&mut sent.receipt).await,
        None => std::future::pending().await,
    }
}

fn answer(sent: &mut VecDeque<Sent>, at: (i32, i64)) {
    if let Some(Sent { pending, .. }) = sent.pop_front() {
        // Who dropped the receipt has nobody to tell.
        let _ = pending.answer.send(Ok(at));
    }
}
