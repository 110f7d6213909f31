//! The bounded queue from transports to the pipeline, and the outcome of each message.

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

/// Overhead of a message beside its topic and payload, bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// The queue to which transports submit messages. Submitted messages that are not durable yet are
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
    /// Its share of the budget, held until the message is settled.
    pub(crate) share: OwnedSemaphorePermit,
    /// When the message was submitted.
    pub(crate) since: Instant,
}

/// The origin of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IngestOrigin {
    /// From the network, now.
    Network,
    /// A reinjected dead letter, with its id.
    DeadLetter(u64),
}

/// The outcome of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IngestOutcome {
    /// All of it is durable, so it may be acknowledged.
    Durable(DurableOutcome),
    /// It is a dead letter that still cannot be decoded; nothing was written.
    StillDead(DeadLetterReason, String),
}

/// The durable parts of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DurableOutcome {
    /// Its readings.
    pub(crate) tally: ReadingTally,
    /// Why the message, or a part of it, is a dead letter.
    pub(crate) dead_letter: Option<(DeadLetterReason, String)>,
}

/// The error when the log is so far behind that a message is not accepted. The transport closes
/// the connection, so that the sender stores the message and sends it again.
#[derive(Debug, thiserror::Error)]
#[error("limits.in_flight_bytes_max reached: the log is too slow or has stopped")]
pub(crate) struct QueueFull;

impl IngestQueue {
    /// Creates a queue for at most `bytes_max` bytes of messages at once.
    pub(crate) fn new(ledger: Arc<Ledger>, bytes_max: u32) -> (Self, UnboundedReceiver<IngestJob>) {
        // The budget bounds the queue.
        let (queue, jobs) = mpsc::unbounded_channel();
        let budget = Arc::new(Semaphore::new(bytes_max as usize));
        (Self { queue, budget, bytes_max: bytes_max as usize, ledger }, jobs)
    }

    /// Whether more than half of the budget is used. A sender with messages in the queue then
    /// waits before it submits more, so that the rest is available to others.
    pub(crate) fn is_crowded(&self) -> bool {
        self.budget.available_permits() < self.bytes_max / 2
    }

    /// Submits a message without waiting. The order of calls is the order in the log. The
    /// receiver resolves when the message may be acknowledged. Its error means that the message
    /// must never be acknowledged.
    pub(crate) fn submit_message(
        &self,
        message: InboundMessage,
    ) -> Result<oneshot::Receiver<IngestOutcome>, QueueFull> {
        self.submit_from(IngestOrigin::Network, message)
    }

    /// Waits until there is room for a message of this size.
    pub(crate) async fn wait_for_room(&self, message: &InboundMessage) {
        // The budget is never closed, and it is larger than any message
        // (`GatewaySettings::check_values`).
        let _ = self.budget.acquire_many(message_cost_bytes(message)).await;
    }

    /// Submits a message of any origin.
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
        // A closed queue drops `done`, so the receiver gets an error.
        let _ = self.queue.send(IngestJob { message, origin, done, share, since: Instant::now() });
        Ok(answer)
    }
}

/// Returns the share of the budget that a message needs, bytes.
fn message_cost_bytes(message: &InboundMessage) -> u32 {
    let bytes = message.topic.len() + message.payload.len() + MESSAGE_OVERHEAD_BYTES;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
