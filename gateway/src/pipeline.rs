//! From message to acknowledgement: one task decodes and appends in the order
//! of arrival, another waits for durability in the same order.
//!
//! **Invariant:** `done` is answered only after everything of the message is
//! durable, and never after a write has failed.

use std::{sync::Arc, time::Instant};

use eventlog::{EventLog, LogError, Receipt, Writer, fault};
use service::prometheus::Histogram;
use telemetry::{DeadLetter, Source, topic};
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{self, UnboundedReceiver},
    oneshot, watch,
};
use tracing::{debug, error};

use crate::{
    dead_letters::DeadLetters,
    inlet::{Done, Job, Origin},
    intake::{Decoder, Intake},
    ledger::{AccountId, Ledger, Tally},
    message::{Message, now_ms},
    record,
    sequence::Verdict,
};

/// Messages between the two tasks.
const SETTLING_MAX: usize = 8 * 1024;

pub(crate) struct Pipeline {
    /// The newest is taken before each message.
    decoder: watch::Receiver<Arc<Decoder>>,
    ledger: Arc<Ledger>,
    dead_letters: Arc<DeadLetters>,
    lag: Arc<Histogram>,
    readings: Writer,
    letters: Writer,
}

struct Settling {
    account: AccountId,
    tally: Tally,
    receipts: Vec<Receipt>,
    letter: Option<DeadLetter>,
    origin: Origin,
    done: oneshot::Sender<Done>,
    share: OwnedSemaphorePermit,
    since: Instant,
}

impl Pipeline {
    pub(crate) fn open(
        log: &EventLog,
        decoder: watch::Receiver<Arc<Decoder>>,
        ledger: Arc<Ledger>,
        dead_letters: Arc<DeadLetters>,
        lag: Arc<Histogram>,
    ) -> Result<Self, LogError> {
        let (readings, letters) = (log.writer(topic::READINGS)?, log.writer(topic::DEAD_LETTERS)?);
        Ok(Self { decoder, ledger, dead_letters, lag, readings, letters })
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
        while let Some(Job { message, origin, done, share, since }) = jobs.recv().await {
            let decoder = self.decoder.borrow().clone();
            let intake = match take(&decoder, &message, origin) {
                Ok(intake) => intake,
                Err(DeadLetter { reason, detail, .. }) => {
                    self.ledger.left();
                    // Who asked may be gone.
                    let _ = done.send(Done::StillDead(reason, detail));
                    continue;
                }
            };
            let (account, verdict) = self.ledger.received(&intake, message.received_ms);
            // A dead letter's number was noted when it came.
            let is_again = verdict == Verdict::Duplicate && origin == Origin::Network;
            let (tally, receipts, letter) = if is_again {
                let tally = Tally { duplicates: intake.readings(), ..Tally::default() };
                (tally, Vec::new(), None)
            } else {
                self.write(intake, origin).await?
            };
            let next = Settling { account, tally, receipts, letter, origin, done, share, since };
            if settling.send(next).await.is_err() {
                break; // The other task ended, and says why.
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        intake: Intake,
        origin: Origin,
    ) -> Result<(Tally, Vec<Receipt>, Option<DeadLetter>), LogError> {
        let (logged, dead_lettered) = (intake.logged(), intake.dead_lettered);
        let mut receipts = Vec::with_capacity(1);
        for report in &intake.reports {
            receipts.push(self.readings.append(record::report(report)).await?);
        }
        if let Some(letter) = &intake.dead_letter {
            debug!(topic = %letter.topic, reason = %letter.reason, detail = %letter.detail, "dead letter");
            receipts.push(self.letters.append(record::dead_letter(letter)).await?);
        }
        if let Origin::DeadLetter(id) = origin {
            let record = record::reinjected(id, now_ms());
            receipts.push(self.letters.append(record).await?);
        }
        let tally = Tally { logged, dead_lettered, duplicates: 0 };
        Ok((tally, receipts, intake.dead_letter))
    }

    async fn settle(&self, mut to_settle: mpsc::Receiver<Settling>) -> Result<(), LogError> {
        while let Some(settling) = to_settle.recv().await {
            let Settling { account, tally, receipts, letter, origin, done, share, since } =
                settling;
            for receipt in receipts {
                receipt.await?;
            }
            if let Some(letter) = &letter {
                self.dead_letters.add(letter);
            }
            if let Origin::DeadLetter(id) = origin {
                self.dead_letters.reinjected(id);
            }
            self.ledger.settled(account, tally);
            self.lag.note(since.elapsed());
            fault::point("ack");
            // A connection that is gone gets no acknowledgement: the message
            // comes again, as a duplicate.
            let _ = done.send(Done::Durable);
            drop(share);
        }
        Ok(())
    }
}

/// What a message says; an error for a dead letter that still is one, or in
/// part.
fn take(decoder: &Decoder, message: &Message, origin: Origin) -> Result<Intake, DeadLetter> {
    let mut intake = decoder.take(message);
    if origin == Origin::Network {
        return Ok(intake);
    }
    if let Some(letter) = intake.dead_letter {
        return Err(letter);
    }
    for report in intake.reports.iter_mut().filter(|report| report.source == Source::Live) {
        // Measured then, known only now.
        (report.source, report.arrival_ms) = (Source::Backfill, now_ms());
    }
    Ok(intake)
}
