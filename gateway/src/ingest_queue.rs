//! Where transports hand in messages, and what they are told.

use std::{sync::Arc, time::Instant};

use eventlog::fault_injection;
use telemetry::DeadLetterReason;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, UnboundedReceiver, UnboundedSender},
    oneshot,
};

use crate::{
    ledger::{Ledger, ReadingTally},
    message::InboundMessage,
};

/// What a message costs beside its topic and payload, bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// Where transports hand in messages. What is handed in and not durable yet is
/// bounded in bytes, whatever the log does and however often clients connect.
#[derive(Clone, Debug)]
pub(crate) struct IngestQueue {
    queue: UnboundedSender<IngestJob>,
    budget: Arc<Semaphore>,
    bytes_max: usize,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
pub(crate) struct IngestJob {
    pub(crate) message: InboundMessage,
    pub(crate) origin: IngestOrigin,
    pub(crate) done: oneshot::Sender<IngestOutcome>,
    /// Its share of the budget, held until then.
    pub(crate) share: OwnedSemaphorePermit,
    /// When it was handed in.
    pub(crate) since: Instant,
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IngestOrigin {
    /// From the network, now.
    Network,
    /// From the dead letters, once more; with the letter's id.
    DeadLetter(u64),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IngestOutcome {
    /// Everything of it is durable: it may be acknowledged.
    Durable(DurableOutcome),
    /// A dead letter that still cannot be decoded; nothing was written.
    StillDead(DeadLetterReason, String),
}

/// As what a message is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DurableOutcome {
    /// Its readings.
    pub(crate) tally: ReadingTally,
    /// Why it, or a part of it, is a dead letter.
    pub(crate) dead_letter: Option<(DeadLetterReason, String)>,
}

/// The log is so far behind that the message was not taken. Whoever brought it
/// closes the connection, so that the sender keeps the message and sends it
/// again.
#[derive(Debug, thiserror::Error)]
#[error("limits.in_flight_bytes_max reached: the log is too slow or has stopped")]
pub(crate) struct QueueFull;

impl IngestQueue {
    /// An inlet for at most `bytes_max` bytes of messages at once.
    pub(crate) fn new(ledger: Arc<Ledger>, bytes_max: u32) -> (Self, UnboundedReceiver<IngestJob>) {
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
    pub(crate) fn submit_message(
        &self,
        message: InboundMessage,
    ) -> Result<oneshot::Receiver<IngestOutcome>, QueueFull> {
        self.submit_from(IngestOrigin::Network, message)
    }

    /// Waits until there is room for a message of this size.
    pub(crate) async fn wait_for_room(&self, message: &InboundMessage) {
        // The budget is never closed, and is larger than any message (`GatewaySettings::check`).
        let _ = self.budget.acquire_many(message_cost_bytes(message)).await;
    }

    /// Hands in a message of any origin.
    pub(crate) fn submit_from(
        &self,
        origin: IngestOrigin,
        message: InboundMessage,
    ) -> Result<oneshot::Receiver<IngestOutcome>, QueueFull> {
        let bytes = message_cost_bytes(&message);
        let share = self.budget.clone().try_acquire_many_owned(bytes).map_err(|_| QueueFull)?;
        let (done, answer) = oneshot::channel();
        fault_injection::kill_point("receive");
        self.ledger.begin_message();
        // A closed queue drops `done`, which is the answer then.
        let _ = self.queue.send(IngestJob { message, origin, done, share, since: Instant::now() });
        Ok(answer)
    }
}

/// What a message takes of the budget.
fn message_cost_bytes(message: &InboundMessage) -> u32 {
    let bytes = message.topic.len() + message.payload.len() + MESSAGE_OVERHEAD_BYTES;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
