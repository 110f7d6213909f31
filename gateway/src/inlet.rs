//! Where transports hand in messages, and what they are told.

use std::{sync::Arc, time::Instant};

use eventlog::fault;
use telemetry::Reason;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, UnboundedReceiver, UnboundedSender},
    oneshot,
};

use crate::{
    ledger::{Ledger, Tally},
    message::Message,
};

/// What a message costs beside its topic and payload, bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// Where transports hand in messages. What is handed in and not durable yet is
/// bounded in bytes, whatever the log does and however often clients connect.
#[derive(Clone, Debug)]
pub(crate) struct Inlet {
    queue: UnboundedSender<Job>,
    budget: Arc<Semaphore>,
    bytes_max: usize,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) message: Message,
    pub(crate) origin: Origin,
    pub(crate) done: oneshot::Sender<Done>,
    /// Its share of the budget, held until then.
    pub(crate) share: OwnedSemaphorePermit,
    /// When it was handed in.
    pub(crate) since: Instant,
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From the network, now.
    Network,
    /// From the dead letters, once more; with the letter's id.
    DeadLetter(u64),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Everything of it is durable: it may be acknowledged.
    Durable(DurableOutcome),
    /// A dead letter that still cannot be decoded; nothing was written.
    StillDead(Reason, String),
}

/// As what a message is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DurableOutcome {
    /// Its readings.
    pub(crate) tally: Tally,
    /// Why it, or a part of it, is a dead letter.
    pub(crate) dead_letter: Option<(Reason, String)>,
}

/// The log is so far behind that the message was not taken. Whoever brought it
/// closes the connection, so that the sender keeps the message and sends it
/// again.
#[derive(Debug, thiserror::Error)]
#[error("limits.in_flight_bytes_max reached: the log is too slow or has stopped")]
pub(crate) struct Full;

impl Inlet {
    /// An inlet for at most `bytes_max` bytes of messages at once.
    pub(crate) fn new(ledger: Arc<Ledger>, bytes_max: u32) -> (Self, UnboundedReceiver<Job>) {
        // The budget bounds the queue.
        let (queue, jobs) = mpsc::unbounded_channel();
        let budget = Arc::new(Semaphore::new(bytes_max as usize));
        (Self { queue, budget, bytes_max: bytes_max as usize, ledger }, jobs)
    }

    /// Whether more than half of the budget is taken: who has messages in it waits before it
    /// brings more, so that the rest is there for others.
    pub(crate) fn is_crowded(&self) -> bool {
        self.budget.available_permits() < self.bytes_max / 2
    }

    /// Hands in a message, never waiting: the order of calls is the order in
    /// the log. The answer comes when the message may be acknowledged; an error
    /// of it means that it never may be.
    pub(crate) fn submit(&self, message: Message) -> Result<oneshot::Receiver<Done>, Full> {
        self.submit_from(Origin::Network, message)
    }

    /// Waits until there is room for a message of this size.
    pub(crate) async fn wait_for_room(&self, message: &Message) {
        // The budget is never closed, and is larger than any message (`Settings::check`).
        let _ = self.budget.acquire_many(message_cost_bytes(message)).await;
    }

    /// Hands in a message of any origin.
    pub(crate) fn submit_from(
        &self,
        origin: Origin,
        message: Message,
    ) -> Result<oneshot::Receiver<Done>, Full> {
        let bytes = message_cost_bytes(&message);
        let share = self.budget.clone().try_acquire_many_owned(bytes).map_err(|_| Full)?;
        let (done, answer) = oneshot::channel();
        fault::point("receive");
        self.ledger.arrived();
        // A closed queue drops `done`, which is the answer then.
        let _ = self.queue.send(Job { message, origin, done, share, since: Instant::now() });
        Ok(answer)
    }
}

/// What a message takes of the budget.
fn message_cost_bytes(message: &Message) -> u32 {
    let bytes = message.topic.len() + message.payload.len() + MESSAGE_OVERHEAD_BYTES;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
