//! From message to acknowledgement: one task decodes and appends in the order
//! of arrival, another waits for durability in the same order.
//!
//! **Invariant:** `done` is answered only after everything of the message is
//! durable, and never after a write has failed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use eventlog::{EventLog, LogError, Receipt, Writer, fault};
use service::prometheus::Histogram;
use telemetry::{DeadLetter, SequenceCheck, Source, topic};
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{self, UnboundedReceiver},
    oneshot, watch,
};
use tracing::{debug, error};

use crate::{
    arrival::ArrivalTimes,
    dead_letters::DeadLetters,
    duplicates::{DuplicateMessage, Duplicates, beginning},
    inlet::{Done, DurableOutcome, Job, Origin},
    intake::{Decoder, Intake, fingerprint, topic_hash},
    ledger::{AccountId, Ledger, Tally},
    message::{Message, now_ms},
    record,
    retained::RetainedMessages,
};

/// Messages between the two tasks.
const SETTLING_MAX: usize = 8 * 1024;

pub(crate) struct Pipeline {
    /// The newest is taken before each message.
    decoder: watch::Receiver<Arc<Decoder>>,
    ledger: Arc<Ledger>,
    dead_letters: Arc<DeadLetters>,
    duplicates: Arc<Duplicates>,
    lag: Arc<Histogram>,
    /// There where messages come from a broker, which stores some.
    retained: Option<Mutex<RetainedMessages>>,
    readings: Writer,
    letters: Writer,
}

/// What the parts of a gateway share with its pipeline.
pub(crate) struct PipelineParts {
    pub(crate) decoder: watch::Receiver<Arc<Decoder>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    pub(crate) duplicates: Arc<Duplicates>,
    pub(crate) lag: Arc<Histogram>,
    pub(crate) retained: Option<RetainedMessages>,
}

struct Settling {
    account: AccountId,
    tally: Tally,
    receipts: Vec<Receipt>,
    letter: Option<DeadLetter>,
    /// Topic and content of a broker's stored message.
    stored: Option<(u64, u64)>,
    origin: Origin,
    done: oneshot::Sender<Done>,
    share: OwnedSemaphorePermit,
    since: Instant,
}

impl Pipeline {
    pub(crate) fn open(log: &EventLog, parts: PipelineParts) -> Result<Self, LogError> {
        let (readings, letters) = (log.writer(topic::READINGS)?, log.writer(topic::DEAD_LETTERS)?);
        let PipelineParts { decoder, ledger, dead_letters, duplicates, lag, retained } = parts;
        let retained = retained.map(Mutex::new);
        Ok(Self { decoder, ledger, dead_letters, duplicates, lag, retained, readings, letters })
    }

    /// Keeps what the next start is to know.
    pub(crate) fn save(&self) {
        if let Some(mut retained) = self.retained() {
            retained.save();
        }
    }

    fn retained(&self) -> Option<MutexGuard<'_, RetainedMessages>> {
        self.retained.as_ref().map(|own| own.lock().unwrap_or_else(PoisonError::into_inner))
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
        let mut arrivals = ArrivalTimes::default();
        while let Some(Job { mut message, origin, done, share, since }) = jobs.recv().await {
            let topic = topic_hash(&message);
            if origin == Origin::Network {
                message.received_ms = arrivals.next_ms(topic, message.received_ms);
            }
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
            let (account, check) = self.ledger.received(&intake, &message);
            // A dead letter's number was noted when it came.
            let is_network = origin == Origin::Network;
            let stored = (is_network && intake.readings() > 0).then_some(topic);
            let stored = stored.and_then(|topic| self.look_up_retained(topic, &message));
            let why = match (check, &stored) {
                (Some(SequenceCheck::Copy { evidence, original_ms }), _) => {
                    Some((evidence.as_str(), Some(original_ms)))
                }
                (_, Some(Stored { is_known: true, .. })) => {
                    Some(("a value that the broker has stored, and that was taken before", None))
                }
                _ => None,
            };
            let (tally, receipts, letter) = match why.filter(|_| is_network) {
                Some((why, original_ms)) => {
                    let tally = Tally { duplicates: intake.readings(), ..Tally::default() };
                    self.duplicates.add(duplicate(&intake, &message, why, original_ms));
                    (tally, Vec::new(), None)
                }
                None => self.write(intake, origin, message.received_ms).await?,
            };
            let stored = stored.filter(|stored| !stored.is_known);
            let stored = stored.map(|stored| (stored.topic, stored.content));
            let next =
                Settling { account, tally, receipts, letter, stored, origin, done, share, since };
            if settling.send(next).await.is_err() {
                break; // The other task ended, and says why.
            }
        }
        Ok(())
    }

    /// What is known of a broker's stored message; of a live one, which the broker may store,
    /// it is remembered.
    fn look_up_retained(&self, topic: u64, message: &Message) -> Option<Stored> {
        let mut retained = self.retained()?;
        let content = fingerprint(message);
        if !message.is_retained {
            retained.note_live(topic, content);
            return None;
        }
        Some(Stored { topic, content, is_known: retained.knows(topic, content) })
    }

    async fn write(
        &self,
        intake: Intake,
        origin: Origin,
        received_ms: i64,
    ) -> Result<(Tally, Vec<Receipt>, Option<DeadLetter>), LogError> {
        let (logged, dead_lettered) = (intake.logged(), intake.dead_lettered);
        let mut receipts = Vec::with_capacity(1);
        for report in &intake.reports {
            receipts.push(self.readings.append(record::report(report, received_ms)).await?);
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
            let Settling { account, tally, receipts, letter, stored, origin, done, share, since } =
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
            if let Some((topic, content)) = stored
                && let Some(mut retained) = self.retained()
            {
                retained.note_stored(topic, content);
            }
            self.ledger.settled(account, tally);
            self.lag.note(since.elapsed());
            fault::point("ack");
            // A connection that is gone gets no acknowledgement: the message
            // comes again, as a duplicate.
            let dead_letter = letter.map(|letter| (letter.reason, letter.detail));
            let _ = done.send(Done::Durable(DurableOutcome { tally, dead_letter }));
            drop(share);
        }
        Ok(())
    }
}

/// A broker's stored message.
struct Stored {
    topic: u64,
    content: u64,
    /// Whether it was taken before.
    is_known: bool,
}

/// A message that is not logged, for people.
fn duplicate(
    intake: &Intake,
    message: &Message,
    why: &str,
    original_ms: Option<i64>,
) -> DuplicateMessage {
    let address = intake.address.as_ref();
    let stamp = intake.stamp.as_ref();
    DuplicateMessage {
        received_ms: message.received_ms,
        original_ms,
        zone: address.map(|address| address.zone.clone()),
        device: address.map(|address| address.device.clone()),
        boot: stamp.and_then(|stamp| stamp.boot.clone()),
        seq: stamp.map(|stamp| stamp.seq),
        why: why.to_owned(),
        readings: intake.readings(),
        topic: message.topic.clone(),
        payload: beginning(&message.payload),
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
