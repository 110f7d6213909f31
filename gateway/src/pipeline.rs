//! From message to acknowledgement: one task decodes and appends in the order
//! of arrival, another waits for durability in the same order.
//!
//! **Invariant:** `done` is answered only after everything of the message is
//! durable, and never after a write has failed.

use std::sync::Arc;

use eventlog::{EventLog, LogError, Receipt, Writer};
use telemetry::{DeadLetter, topic};
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, UnboundedReceiver, UnboundedSender},
    oneshot,
};
use tracing::{debug, error};

use crate::{
    dead_letters::DeadLetters,
    intake::{self, Decoder},
    ledger::{AccountId, Ledger, Tally},
    message::Message,
    sequence::Verdict,
};

/// Messages between the two tasks.
const SETTLING_MAX: usize = 8 * 1024;

/// What a message costs beside its topic and payload, bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// Where transports hand in messages. What is handed in and not durable yet is
/// bounded in bytes, whatever the log does and however often clients connect.
#[derive(Clone, Debug)]
pub(crate) struct Inlet {
    queue: UnboundedSender<Job>,
    budget: Arc<Semaphore>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
pub(crate) struct Job {
    message: Message,
    /// Resolves when everything of the message is durable.
    done: oneshot::Sender<()>,
    /// Its share of the budget, held until then.
    share: OwnedSemaphorePermit,
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
        (Self { queue, budget, ledger }, jobs)
    }

    /// Hands in a message, never waiting: the order of calls is the order in
    /// the log. The answer comes when the message may be acknowledged; an error
    /// of it means that it never may be.
    pub(crate) fn submit(&self, message: Message) -> Result<oneshot::Receiver<()>, Full> {
        let bytes = message.topic.len() + message.payload.len() + MESSAGE_OVERHEAD_BYTES;
        let bytes = u32::try_from(bytes).map_err(|_| Full)?;
        let share = self.budget.clone().try_acquire_many_owned(bytes).map_err(|_| Full)?;
        let (done, answer) = oneshot::channel();
        self.ledger.arrived();
        // A closed queue drops `done`, which is the answer then.
        let _ = self.queue.send(Job { message, done, share });
        Ok(answer)
    }
}

pub(crate) struct Pipeline {
    pub(crate) decoder: Decoder,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    readings: Writer,
    letters: Writer,
}

struct Settling {
    account: AccountId,
    tally: Tally,
    receipts: Vec<Receipt>,
    letter: Option<DeadLetter>,
    done: oneshot::Sender<()>,
    share: OwnedSemaphorePermit,
}

impl Pipeline {
    pub(crate) fn open(
        log: &EventLog,
        decoder: Decoder,
        ledger: Arc<Ledger>,
        dead_letters: Arc<DeadLetters>,
    ) -> Result<Self, LogError> {
        let (readings, letters) = (log.writer(topic::READINGS)?, log.writer(topic::DEAD_LETTERS)?);
        Ok(Self { decoder, ledger, dead_letters, readings, letters })
    }

    /// Runs until the log fails; then nothing more is acknowledged.
    pub(crate) async fn run(&self, jobs: UnboundedReceiver<Job>) -> Result<(), LogError> {
        let (settling, to_settle) = mpsc::channel(SETTLING_MAX);
        let ended = tokio::try_join!(self.append(jobs, settling), self.settle(to_settle));
        ended.map(|_| ()).inspect_err(|error| {
            error!(%error, "the log failed: from here on nothing is acknowledged");
        })
    }

    async fn append(
        &self,
        mut jobs: UnboundedReceiver<Job>,
        settling: mpsc::Sender<Settling>,
    ) -> Result<(), LogError> {
        while let Some(Job { message, done, share }) = jobs.recv().await {
            let intake = self.decoder.take(&message);
            let (account, verdict) = self.ledger.received(&intake);
            let next = if verdict == Verdict::Duplicate {
                let tally = Tally { duplicates: intake.readings(), ..Tally::default() };
                Settling { account, tally, receipts: Vec::new(), letter: None, done, share }
            } else {
                let (logged, dead_lettered) = (intake.logged(), intake.dead_lettered);
                let mut receipts = Vec::with_capacity(1);
                for report in &intake.reports {
                    receipts.push(self.readings.append(intake::report_record(report)).await?);
                }
                if let Some(letter) = &intake.dead_letter {
                    debug!(topic = %letter.topic, reason = %letter.reason, detail = %letter.detail, "dead letter");
                    receipts.push(self.letters.append(intake::dead_letter_record(letter)).await?);
                }
                let tally = Tally { logged, dead_lettered, duplicates: 0 };
                Settling { account, tally, receipts, letter: intake.dead_letter, done, share }
            };
            if settling.send(next).await.is_err() {
                break; // The other task ended, and says why.
            }
        }
        Ok(())
    }

    async fn settle(&self, mut to_settle: mpsc::Receiver<Settling>) -> Result<(), LogError> {
        while let Some(settling) = to_settle.recv().await {
            let Settling { account, tally, receipts, letter, done, share } = settling;
            for receipt in receipts {
                receipt.await?;
            }
            if let Some(letter) = &letter {
                self.dead_letters.add(letter);
            }
            self.ledger.settled(account, tally);
            // A connection that is gone gets no acknowledgement: the message
            // comes again, as a duplicate.
            let _ = done.send(());
            drop(share);
        }
        Ok(())
    }
}
