//! The way from message to acknowledgement. One task decodes and appends in the order of arrival.
//! Another waits for durability in the same order.
//!
//! **Invariant:** `done` is answered only after all of the message is durable, and never after a
//! write has failed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use eventlog::{
    AppendReceipt, EventLog, LogError, Record, RefusedRecord, TopicWriter, fault_injection,
};
use service::prometheus::TimeHistogram;
use telemetry::{DeadLetter, DeadLetterReason, ReportSource, SensorReport, SequenceCheck, topic};
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{self, UnboundedReceiver},
    oneshot, watch,
};
use tracing::{debug, error, warn};

use crate::{
    arrival_times::ArrivalTimes,
    dead_letters::RecentDeadLetters,
    duplicates::{DuplicateMessage, RecentDuplicates, payload_preview},
    ingest_queue::{DurableOutcome, IngestJob, IngestOrigin, IngestOutcome},
    ledger::{AccountId, Ledger, ReadingTally},
    log_records,
    message::{InboundMessage, now_ms},
    message_decoder::{DecodedMessage, MessageDecoder, message_fingerprint, topic_hash},
    retained_messages::RetainedMessages,
};

/// Largest number of messages between the two tasks.
const UNSETTLED_MAX: usize = 8 * 1024;

pub(crate) struct IngestPipeline {
    /// The newest decoder is used for each message.
    decoder: watch::Receiver<Arc<MessageDecoder>>,
    ledger: Arc<Ledger>,
    dead_letters: Arc<RecentDeadLetters>,
    duplicates: Arc<RecentDuplicates>,
    lag: Arc<TimeHistogram>,
    /// The retained messages, if messages come from a broker, which stores some.
    retained: Option<Mutex<RetainedMessages>>,
    /// Whether the log is embedded, so that receipts give its offsets.
    is_embedded: bool,
    /// Whether the log is Kafka without a spool. A record that is refused together with others is
    /// then sent again alone.
    sends_again: bool,
    /// Records from the spool that Kafka refuses.
    refused: Mutex<Option<mpsc::Receiver<RefusedRecord>>>,
    reading_writer: TopicWriter,
    dead_letter_writer: TopicWriter,
}

/// The parts that a gateway shares with its pipeline.
pub(crate) struct IngestPipelineParts {
    pub(crate) decoder: watch::Receiver<Arc<MessageDecoder>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dead_letters: Arc<RecentDeadLetters>,
    pub(crate) duplicates: Arc<RecentDuplicates>,
    pub(crate) lag: Arc<TimeHistogram>,
    pub(crate) retained: Option<RetainedMessages>,
}

struct UnsettledMessage {
    message: InboundMessage,
    account: AccountId,
    tally: ReadingTally,
    writes: Vec<PendingWrite>,
    letter: Option<DeadLetter>,
    /// Topic and content of a retained message.
    stored: Option<(u64, u64)>,
    origin: IngestOrigin,
    done: oneshot::Sender<IngestOutcome>,
    share: OwnedSemaphorePermit,
    since: Instant,
}

/// A record on its way to the log, with its number of readings.
struct PendingWrite {
    topic: &'static str,
    readings: u64,
    receipt: Result<AppendReceipt, LogError>,
    /// The record, to be sent again alone if Kafka refuses the records sent with it.
    again: Option<Record>,
}

impl IngestPipeline {
    pub(crate) fn open(log: &EventLog, parts: IngestPipelineParts) -> Result<Self, LogError> {
        let (readings, letters) =
            (log.open_writer(topic::READINGS)?, log.open_writer(topic::DEAD_LETTERS)?);
        let IngestPipelineParts { decoder, ledger, dead_letters, duplicates, lag, retained } =
            parts;
        let (retained, is_embedded) = (retained.map(Mutex::new), log.is_embedded());
        // The keeper is set before the spool of an earlier process is drained.
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
            reading_writer: readings,
            dead_letter_writer: letters,
        })
    }

    /// Stores the retained messages for the next start.
    pub(crate) fn save_retained(&self) {
        if let Some(mut retained) = self.lock_retained() {
            retained.save_all();
        }
    }

    fn lock_retained(&self) -> Option<MutexGuard<'_, RetainedMessages>> {
        self.retained
            .as_ref()
            .map(|retained| retained.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs until the log fails. After that nothing is acknowledged.
    pub(crate) async fn run(&self, jobs: UnboundedReceiver<IngestJob>) -> Result<(), LogError> {
        let (settling, to_settle) = mpsc::channel(UNSETTLED_MAX);
        let ended =
            tokio::try_join!(self.append_messages(jobs, settling), self.settle_messages(to_settle));
        ended.map(|_| ()).inspect_err(|error| {
            error!(%error, "the log failed: from here on nothing is acknowledged");
        })
    }

    async fn append_messages(
        &self,
        mut jobs: UnboundedReceiver<IngestJob>,
        settling: mpsc::Sender<UnsettledMessage>,
    ) -> Result<(), LogError> {
        let mut arrivals = ArrivalTimes::default();
        while let Some(IngestJob { mut message, origin, done, share, since }) = jobs.recv().await {
            let topic = topic_hash(&message);
            if origin == IngestOrigin::Network {
                message.received_ms = arrivals.next_ms(topic, message.received_ms);
            }
            let decoder = self.decoder.borrow().clone();
            let decoded = match decode_for_ingest(&decoder, &message, origin) {
                Ok(decoded) => decoded,
                Err(DeadLetter { reason, detail, .. }) => {
                    self.ledger.end_message();
                    // The receiver may have ended.
                    let _ = done.send(IngestOutcome::StillDead(reason, detail));
                    continue;
                }
            };
            let (account, check) = self.ledger.count_received(&decoded, &message);
            // The sequence number of a dead letter was noted at its arrival.
            let is_network = origin == IngestOrigin::Network;
            let stored_topic = (is_network && decoded.reading_count() > 0).then_some(topic);
            let stored = stored_topic.and_then(|topic| self.look_up_retained(topic, &message));
            let why = match (check, &stored) {
                (Some(SequenceCheck::Copy { evidence, original_ms }), _) => {
                    Some((evidence.as_str(), Some(original_ms)))
                }
                (_, Some(RetainedLookup { is_known: true, .. })) => {
                    Some(("a retained message that was logged before", None))
                }
                _ => None,
            };
            let (tally, writes, letter) = match why.filter(|_| is_network) {
                Some((why, original_ms)) => {
                    let tally = ReadingTally {
                        duplicates: decoded.reading_count(),
                        ..ReadingTally::default()
                    };
                    self.duplicates.add_duplicate(build_duplicate_message(
                        &decoded,
                        &message,
                        why,
                        original_ms,
                    ));
                    (tally, Vec::new(), None)
                }
                None => self.write_message(decoded, origin, &message).await?,
            };
            let new_stored = stored.filter(|stored| !stored.is_known);
            let stored = new_stored.map(|stored| (stored.topic, stored.content));
            let next = UnsettledMessage {
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
                break; // The other task ended and returns the error.
            }
        }
        Ok(())
    }

    /// Looks up a retained message. A live message is remembered instead, because the broker may
    /// store it.
    fn look_up_retained(&self, topic: u64, message: &InboundMessage) -> Option<RetainedLookup> {
        let mut retained = self.lock_retained()?;
        let content = message_fingerprint(message);
        if !message.is_retained {
            retained.note_live(topic, content);
            return None;
        }
        Some(RetainedLookup { topic, content, is_known: retained.is_known(topic, content) })
    }

    async fn write_message(
        &self,
        decoded: DecodedMessage,
        origin: IngestOrigin,
        message: &InboundMessage,
    ) -> Result<(ReadingTally, Vec<PendingWrite>, Option<DeadLetter>), LogError> {
        let (logged, dead_lettered) = (decoded.logged_count(), decoded.dead_lettered);
        let tally = ReadingTally { logged, dead_lettered, duplicates: 0 };
        let mut writes = Vec::with_capacity(1);
        for report in &decoded.reports {
            let mut record = log_records::report_record(report, message.received_ms);
            if !self.is_embedded {
                log_records::add_report_headers(&mut record, report, dead_lettered == 0);
            }
            let again = self.sends_again.then(|| record.clone());
            let receipt = defer_content_error(self.reading_writer.append(record).await)?;
            let readings = report.readings.len() as u64;
            writes.push(PendingWrite { topic: topic::READINGS, readings, receipt, again });
        }
        // A dead letter that repeats others is only counted, because it contains nothing new.
        let letter = decoded.dead_letter.filter(|letter| !self.dead_letters.is_repeated(letter));
        if let Some(letter) = &letter {
            debug!(topic = %letter.topic, reason = %letter.reason, detail = %letter.detail, "dead letter");
            let receipt = self.append_dead_letter(letter, dead_lettered).await?;
            let topic = topic::DEAD_LETTERS;
            writes.push(PendingWrite { topic, readings: 0, receipt: Ok(receipt), again: None });
        }
        if let IngestOrigin::DeadLetter(id) = origin {
            let record = log_records::reinjected_record(id, now_ms());
            let receipt = Ok(self.dead_letter_writer.append(record).await?);
            writes.push(PendingWrite {
                topic: topic::DEAD_LETTERS,
                readings: 0,
                receipt,
                again: None,
            });
        }
        Ok((tally, writes, letter))
    }

    /// Appends a dead letter, or only its beginning if it is too large.
    async fn append_dead_letter(
        &self,
        letter: &DeadLetter,
        readings: u64,
    ) -> Result<AppendReceipt, LogError> {
        match self
            .dead_letter_writer
            .append(log_records::dead_letter_record(letter, readings))
            .await
        {
            Err(error) if error.is_content_error() => {
                let record =
                    log_records::cut_dead_letter_record(letter, readings, CUT_PAYLOAD_BYTES);
                self.dead_letter_writer.append(record).await
            }
            appended => appended,
        }
    }

    /// Waits until a dead letter is durable. One that the log refuses is truncated.
    async fn settle_dead_letter(
        &self,
        letter: &DeadLetter,
        readings: u64,
    ) -> Result<i64, LogError> {
        match self.append_dead_letter(letter, readings).await?.await {
            Err(error) if error.is_content_error() => {
                let record =
                    log_records::cut_dead_letter_record(letter, readings, CUT_PAYLOAD_BYTES);
                Ok(self.dead_letter_writer.append(record).await?.await?.1)
            }
            settled => Ok(settled?.1),
        }
    }

    async fn settle_messages(
        &self,
        mut to_settle: mpsc::Receiver<UnsettledMessage>,
    ) -> Result<(), LogError> {
        while let Some(settling) = to_settle.recv().await {
            let UnsettledMessage {
                message,
                account,
                mut tally,
                writes,
                letter,
                stored,
                origin,
                ..
            } = settling;
            let (mut refused, mut written) = (None, Vec::with_capacity(writes.len()));
            for PendingWrite { topic, readings, receipt, again } in writes {
                let mut settled = match receipt {
                    Ok(receipt) => receipt.await,
                    Err(error) => Err(error),
                };
                if let (Err(error), Some(record)) = (&settled, again)
                    && error.is_record_specific()
                {
                    settled = self.reading_writer.append(record).await?.await;
                }
                match settled {
                    Ok((_, offset)) => written.push((topic, offset)),
                    Err(error) if error.is_content_error() && topic == topic::READINGS => {
                        tally.logged -= readings;
                        tally.dead_lettered += readings;
                        let (count, _) = refused.get_or_insert((0, error));
                        *count += readings;
                    }
                    Err(error) if error.is_content_error() => {
                        let Some(letter) = &letter else { return Err(error) };
                        let offset = self.settle_dead_letter(letter, tally.dead_lettered).await?;
                        written.push((topic, offset));
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some((readings, error)) = refused {
                let letter = refused_dead_letter(&message, &error);
                warn!(topic = %letter.topic, detail = letter.detail, "the log refuses a record: it becomes a dead letter");
                let offset = self.settle_dead_letter(&letter, readings).await?;
                written.push((topic::DEAD_LETTERS, offset));
                self.dead_letters.add_dead_letter(&letter);
            }
            if let Some(letter) = &letter {
                self.dead_letters.add_dead_letter(letter);
            }
            if let IngestOrigin::DeadLetter(id) = origin {
                self.dead_letters.mark_reinjected(id);
            }
            if let Some((topic, content)) = stored
                && let Some(mut retained) = self.lock_retained()
            {
                retained.note_stored(topic, content);
            }
            if !self.is_embedded {
                // Kafka's offsets and the spool's cannot be distinguished here.
                written.clear();
            }
            self.ledger.settle_message(account, tally, &written);
            self.lag.observe_duration(settling.since.elapsed());
            fault_injection::kill_point("ack");
            // A closed connection gets no acknowledgement. Its message is delivered again, as a
            // duplicate.
            let dead_letter = letter.map(|letter| (letter.reason, letter.detail));
            let outcome = DurableOutcome { tally, dead_letter };
            let _ = settling.done.send(IngestOutcome::Durable(outcome));
            drop(settling.share);
        }
        Ok(())
    }

    /// Turns records into dead letters that were acknowledged when the spool had them, and that
    /// Kafka refuses. Never ends.
    pub(crate) async fn dead_letter_refused_records(&self) {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut refused) = refused else { return std::future::pending().await };
        while let Some(RefusedRecord { record, cause, done }) = refused.recv().await {
            let letter = DeadLetter {
                reason: DeadLetterReason::Refused,
                detail: cause,
                topic: record.key.clone(),
                payload: record.payload.to_vec(),
                received_ms: record.timestamp_ms,
            };
            let report = SensorReport::from_json(&record.payload).ok();
            let readings = report.as_ref().map_or(1, |report| report.readings.len() as u64);
            let letter = match &report {
                // The topic of the gateway's own convention, so that the dead letter can be
                // reinjected.
                Some(SensorReport { zone, device, .. }) => {
                    DeadLetter { topic: format!("sensors/{zone}/{device}"), ..letter }
                }
                None => letter,
            };
            match self.settle_dead_letter(&letter, readings).await {
                Ok(_) => {
                    self.dead_letters.add_dead_letter(&letter);
                    if let Some(SensorReport { zone, device, .. }) = &report {
                        self.ledger.move_refused_readings(zone, device, readings);
                    }
                    let _ = done.send(true);
                }
                Err(error) => {
                    error!(%error, "cannot write a dead letter for a record that Kafka refuses");
                    let _ = done.send(false);
                }
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Payload size to which a refused dead letter is truncated, bytes.
const CUT_PAYLOAD_BYTES: usize = 1024;

/// Defers a failure that concerns one record. Any other failure ends the pipeline.
fn defer_content_error(
    appended: Result<AppendReceipt, LogError>,
) -> Result<Result<AppendReceipt, LogError>, LogError> {
    match appended {
        Err(error) if !error.is_content_error() => Err(error),
        appended => Ok(appended),
    }
}

/// Builds the dead letter of a message with a record that the log refuses.
fn refused_dead_letter(message: &InboundMessage, error: &LogError) -> DeadLetter {
    DeadLetter {
        reason: DeadLetterReason::Refused,
        detail: error.to_string(),
        topic: message.topic.to_string(),
        payload: message.payload.to_vec(),
        received_ms: message.received_ms,
    }
}

/// A retained message of a broker.
struct RetainedLookup {
    topic: u64,
    content: u64,
    /// Whether it was logged before.
    is_known: bool,
}

/// Describes a message that is not logged, for people.
fn build_duplicate_message(
    decoded: &DecodedMessage,
    message: &InboundMessage,
    why: &str,
    original_ms: Option<i64>,
) -> DuplicateMessage {
    let address = decoded.address.as_ref();
    let stamp = decoded.stamp.as_ref();
    DuplicateMessage {
        received_ms: message.received_ms,
        original_ms,
        zone: address.map(|address| address.zone.clone()),
        device: address.map(|address| address.device.clone()),
        boot: stamp.and_then(|stamp| stamp.boot.clone()),
        seq: stamp.map(|stamp| stamp.seq),
        why: why.to_owned(),
        readings: decoded.reading_count(),
        topic: message.topic.clone(),
        payload: payload_preview(&message.payload),
    }
}

/// Decodes a message. Returns an error for a reinjected dead letter that still is one, wholly or
/// in part.
fn decode_for_ingest(
    decoder: &MessageDecoder,
    message: &InboundMessage,
    origin: IngestOrigin,
) -> Result<DecodedMessage, DeadLetter> {
    let mut decoded = decoder.decode_message(message);
    if origin == IngestOrigin::Network {
        return Ok(decoded);
    }
    if let Some(letter) = decoded.dead_letter {
        return Err(letter);
    }
    for report in decoded.reports.iter_mut().filter(|report| report.source == ReportSource::Live) {
        // The reading was measured then, but is known only now.
        (report.source, report.arrival_ms) = (ReportSource::Backfill, now_ms());
    }
    Ok(decoded)
}
