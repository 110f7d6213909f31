//! From message to acknowledgement: one task decodes and appends in the order
//! of arrival, another waits for durability in the same order.
//!
//! **Invariant:** `done` is answered only after everything of the message is
//! durable, and never after a write has failed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use eventlog::{EventLog, LogError, Receipt, Record, RefusedRecord, Writer, fault};
use service::prometheus::Histogram;
use telemetry::{DeadLetter, Reason, Report, SequenceCheck, Source, topic};
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{self, UnboundedReceiver},
    oneshot, watch,
};
use tracing::{debug, error, warn};

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
    /// Then receipts say how far the log is.
    is_embedded: bool,
    /// Kafka without a spool: then a record that is refused together with others is sent again
    /// alone from here.
    sends_again: bool,
    /// What Kafka refuses of what the spool had.
    refused: Mutex<Option<mpsc::Receiver<RefusedRecord>>>,
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
    message: Message,
    account: AccountId,
    tally: Tally,
    writes: Vec<Write>,
    letter: Option<DeadLetter>,
    /// Topic and content of a broker's stored message.
    stored: Option<(u64, u64)>,
    origin: Origin,
    done: oneshot::Sender<Done>,
    share: OwnedSemaphorePermit,
    since: Instant,
}

/// A record on its way to the log, with so many readings.
struct Write {
    topic: &'static str,
    readings: u64,
    receipt: Result<Receipt, LogError>,
    /// To be sent again alone, where Kafka refuses what it was sent with.
    again: Option<Record>,
}

impl Pipeline {
    pub(crate) fn open(log: &EventLog, parts: PipelineParts) -> Result<Self, LogError> {
        let (readings, letters) = (log.writer(topic::READINGS)?, log.writer(topic::DEAD_LETTERS)?);
        let PipelineParts { decoder, ledger, dead_letters, duplicates, lag, retained } = parts;
        let (retained, is_embedded) = (retained.map(Mutex::new), log.is_embedded());
        // Before the spool of an earlier process is drained.
        let (keeper, refused) = mpsc::channel(1);
        log.keep_refused(topic::READINGS, keeper)?;
        Ok(Self {
            decoder,
            ledger,
            dead_letters,
            duplicates,
            lag,
            retained,
            is_embedded,
            sends_again: !is_embedded && !log.has_spool(),
            refused: Mutex::new(Some(refused)),
            readings,
            letters,
        })
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
            let (tally, writes, letter) = match why.filter(|_| is_network) {
                Some((why, original_ms)) => {
                    let tally = Tally { duplicates: intake.readings(), ..Tally::default() };
                    self.duplicates.add(duplicate(&intake, &message, why, original_ms));
                    (tally, Vec::new(), None)
                }
                None => self.write(intake, origin, &message).await?,
            };
            let stored = stored.filter(|stored| !stored.is_known);
            let stored = stored.map(|stored| (stored.topic, stored.content));
            let next = Settling {
                message,
                account,
                tally,
                writes,
                letter,
                stored,
                origin,
                done,
                share,
                since,
            };
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
        message: &Message,
    ) -> Result<(Tally, Vec<Write>, Option<DeadLetter>), LogError> {
        let (logged, dead_lettered) = (intake.logged(), intake.dead_lettered);
        let tally = Tally { logged, dead_lettered, duplicates: 0 };
        let mut writes = Vec::with_capacity(1);
        for report in &intake.reports {
            let mut record = record::report(report, message.received_ms);
            if !self.is_embedded {
                record::describe(&mut record, report, dead_lettered == 0);
            }
            let again = self.sends_again.then(|| record.clone());
            let receipt = of_one_record(self.readings.append(record).await)?;
            let readings = report.readings.len() as u64;
            writes.push(Write { topic: topic::READINGS, readings, receipt, again });
        }
        // One that repeats others is counted: there is nothing new in it to be kept.
        let letter = intake.dead_letter.filter(|letter| !self.dead_letters.is_repeated(letter));
        if let Some(letter) = &letter {
            debug!(topic = %letter.topic, reason = %letter.reason, detail = %letter.detail, "dead letter");
            let receipt = self.append_dead_letter(letter, dead_lettered).await?;
            let topic = topic::DEAD_LETTERS;
            writes.push(Write { topic, readings: 0, receipt: Ok(receipt), again: None });
        }
        if let Origin::DeadLetter(id) = origin {
            let record = record::reinjected(id, now_ms());
            let receipt = Ok(self.letters.append(record).await?);
            writes.push(Write { topic: topic::DEAD_LETTERS, readings: 0, receipt, again: None });
        }
        Ok((tally, writes, letter))
    }

    /// Appends a dead letter; one that is too large, its beginning.
    async fn append_dead_letter(
        &self,
        letter: &DeadLetter,
        readings: u64,
    ) -> Result<Receipt, LogError> {
        match self.letters.append(record::dead_letter(letter, readings)).await {
            Err(error) if error.is_of_content() => {
                let record = record::cut_dead_letter(letter, readings, CUT_LETTER_BYTES);
                self.letters.append(record).await
            }
            appended => appended,
        }
    }

    /// Waits until a dead letter is durable; one that the log refuses is cut.
    async fn settle_dead_letter(
        &self,
        letter: &DeadLetter,
        readings: u64,
    ) -> Result<i64, LogError> {
        match self.append_dead_letter(letter, readings).await?.await {
            Err(error) if error.is_of_content() => {
                let record = record::cut_dead_letter(letter, readings, CUT_LETTER_BYTES);
                Ok(self.letters.append(record).await?.await?.1)
            }
            settled => Ok(settled?.1),
        }
    }

    async fn settle(&self, mut to_settle: mpsc::Receiver<Settling>) -> Result<(), LogError> {
        while let Some(settling) = to_settle.recv().await {
            let Settling { message, account, mut tally, writes, letter, stored, origin, .. } =
                settling;
            let (mut refused, mut written) = (None, Vec::with_capacity(writes.len()));
            for Write { topic, readings, receipt, again } in writes {
                let mut settled = match receipt {
                    Ok(receipt) => receipt.await,
                    Err(error) => Err(error),
                };
                if let (Err(error), Some(record)) = (&settled, again)
                    && error.is_of_one_record()
                {
                    settled = self.readings.append(record).await?.await;
                }
                match settled {
                    Ok((_, offset)) => written.push((topic, offset)),
                    Err(error) if error.is_of_content() && topic == topic::READINGS => {
                        tally.logged -= readings;
                        tally.dead_lettered += readings;
                        let (count, _) = refused.get_or_insert((0, error));
                        *count += readings;
                    }
                    Err(error) if error.is_of_content() => {
                        let Some(letter) = &letter else { return Err(error) };
                        let offset = self.settle_dead_letter(letter, tally.dead_lettered).await?;
                        written.push((topic, offset));
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some((readings, error)) = refused {
                let letter = refused_letter(&message, &error);
                warn!(topic = %letter.topic, detail = letter.detail, "the log refuses a record: it is a dead letter");
                let offset = self.settle_dead_letter(&letter, readings).await?;
                written.push((topic::DEAD_LETTERS, offset));
                self.dead_letters.add(&letter);
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
            if !self.is_embedded {
                // Kafka's offsets and the spool's are not told apart here.
                written.clear();
            }
            self.ledger.settled(account, tally, &written);
            self.lag.note(settling.since.elapsed());
            fault::point("ack");
            // A connection that is gone gets no acknowledgement: the message
            // comes again, as a duplicate.
            let dead_letter = letter.map(|letter| (letter.reason, letter.detail));
            let outcome = DurableOutcome { tally, dead_letter };
            let _ = settling.done.send(Done::Durable(outcome));
            drop(settling.share);
        }
        Ok(())
    }

    /// Keeps as dead letters what Kafka refuses of what was acknowledged when the spool had it.
    /// Never ends.
    pub(crate) async fn keep_refused(&self) {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut refused) = refused else { return std::future::pending().await };
        while let Some(RefusedRecord { record, cause, done }) = refused.recv().await {
            let letter = DeadLetter {
                reason: Reason::Refused,
                detail: cause,
                topic: record.key.clone(),
                payload: record.payload.to_vec(),
                received_ms: record.timestamp_ms,
            };
            let report = Report::from_json(&record.payload).ok();
            let readings = report.as_ref().map_or(1, |report| report.readings.len() as u64);
            let letter = match &report {
                // As the gateway's own convention names it, so that it can be handed in again.
                Some(Report { zone, device, .. }) => {
                    DeadLetter { topic: format!("sensors/{zone}/{device}"), ..letter }
                }
                None => letter,
            };
            match self.settle_dead_letter(&letter, readings).await {
                Ok(_) => {
                    self.dead_letters.add(&letter);
                    if let Some(Report { zone, device, .. }) = &report {
                        self.ledger.refused(zone, device, readings);
                    }
                    let _ = done.send(true);
                }
                Err(error) => {
                    error!(%error, "what Kafka refuses cannot become a dead letter");
                    let _ = done.send(false);
                }
            }
        }
        std::future::pending::<()>().await;
    }
}

/// A dead letter that the log refuses is cut to so many bytes of payload.
const CUT_LETTER_BYTES: usize = 1024;

/// A failure of one record is settled with the others; any other ends the pipeline.
fn of_one_record(
    appended: Result<Receipt, LogError>,
) -> Result<Result<Receipt, LogError>, LogError> {
    match appended {
        Err(error) if !error.is_of_content() => Err(error),
        appended => Ok(appended),
    }
}

/// A message of which the log refuses a record.
fn refused_letter(message: &Message, error: &LogError) -> DeadLetter {
    DeadLetter {
        reason: Reason::Refused,
        detail: error.to_string(),
        topic: message.topic.to_string(),
        payload: message.payload.to_vec(),
        received_ms: message.received_ms,
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
