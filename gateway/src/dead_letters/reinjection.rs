use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use eventlog::{EventLog, LogError};
use serde::{Deserialize, Serialize};
use telemetry::{DeadLetter, DeadLetterReason};
use utoipa::ToSchema;

use crate::{
    downlink::is_filter_match,
    ingest_queue::{IngestOrigin, IngestOutcome, IngestQueue},
    log_records::{DeadLetterRecord, dead_letter_id},
    message::InboundMessage,
};

/// Default number of dead letters of one call.
const LIMIT_DEFAULT: usize = 10_000;
/// Wait before a dead letter is submitted again after the queue was full.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// A selection of dead letters. An absent condition selects all.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterSelection {
    /// The reason.
    #[schema(value_type = Option<String>, pattern = "^(bad_topic|oversized|empty|malformed|not_a_reading|bad_time|unknown_metric|unknown_unit|refused)$")]
    pub reason: Option<DeadLetterReason>,
    /// An MQTT filter that matches the topic.
    pub topic: Option<String>,
    /// Earliest arrival, UTC milliseconds.
    pub from_ms: Option<i64>,
    /// End of the arrivals, UTC milliseconds, which is excluded.
    pub to_ms: Option<i64>,
    /// Largest number of dead letters, oldest first.
    pub limit: Option<usize>,
    /// Whether to only report what would happen.
    pub dry_run: bool,
}

/// The result of a reinjection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReinjectOutcome {
    /// Number of selected dead letters that had not become readings before.
    pub selected: u64,
    /// Number of dead letters that are readings now; 0 in a dry run.
    pub reinjected: u64,
    /// Number of dead letters that still cannot be decoded, by their current reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub still_dead: BTreeMap<DeadLetterReason, u64>,
    /// The details of one of these, for a person.
    pub example: Option<String>,
}

impl DeadLetterSelection {
    fn is_selected(&self, letter: &DeadLetter) -> bool {
        let Self { reason, topic, from_ms, to_ms, .. } = self;
        reason.is_none_or(|reason| reason == letter.reason)
            && topic.as_ref().is_none_or(|filter| is_filter_match(filter, &letter.topic))
            && from_ms.is_none_or(|from| letter.received_ms >= from)
            && to_ms.is_none_or(|to| letter.received_ms < to)
    }

    /// Submits the selected dead letters again, in the order of their arrival.
    pub(crate) async fn reinject_selected(
        &self,
        log: &EventLog,
        ingest_queue: &IngestQueue,
    ) -> Result<ReinjectOutcome, LogError> {
        let mut letters = Vec::new();
        let mut reinjected_ids = HashSet::new();
        super::read_dead_letters(log, None, |entry| {
            match DeadLetterRecord::from_record(&entry.record) {
                Some(DeadLetterRecord::Dead(letter)) if self.is_selected(&letter) => {
                    letters.push(letter);
                }
                Some(DeadLetterRecord::Reinjected(id)) => {
                    reinjected_ids.insert(id);
                }
                _ => {}
            }
        })
        .await?;
        letters.retain(|letter| !reinjected_ids.contains(&dead_letter_id(letter)));
        letters.sort_by_key(|letter| letter.received_ms);
        letters.truncate(self.limit.unwrap_or(LIMIT_DEFAULT));
        let mut outcome =
            ReinjectOutcome { selected: letters.len() as u64, ..ReinjectOutcome::default() };
        if self.dry_run {
            return Ok(outcome);
        }
        for letter in letters {
            let (id, topic) = (dead_letter_id(&letter), letter.topic.clone());
            let message = InboundMessage {
                topic: letter.topic.into(),
                payload: letter.payload.into(),
                is_retained: false,
                is_redelivery: false,
                received_ms: letter.received_ms,
            };
            // One at a time, so that live messages have room.
            let done = loop {
                match ingest_queue.submit_from(IngestOrigin::DeadLetter(id), message.clone()) {
                    Ok(done) => break done.await,
                    Err(_) => tokio::time::sleep(FULL_WAIT).await,
                }
            };
            match done {
                Ok(IngestOutcome::Durable(_)) => outcome.reinjected += 1,
                Ok(IngestOutcome::StillDead(reason, detail)) => {
                    *outcome.still_dead.entry(reason).or_default() += 1;
                    outcome.example.get_or_insert_with(|| format!("{topic}: {detail}"));
                }
                // The log failed. The gateway ends and reports it.
                Err(_) => break,
            }
        }
        Ok(outcome)
    }
}
