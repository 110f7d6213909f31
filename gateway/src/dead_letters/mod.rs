//! The latest dead letters for people, and their reinjection once a mapping is fixed. All dead
//! letters are in the log.
//!
//! # Layout
//! - `reinjection`: decodes dead letters again
//! - `repeated_faults`: counts repeated faults instead of storing each

mod reinjection;
mod repeated_faults;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eventlog::{EventLog, LogError, PartitionOffsets, StoredRecord};
use serde::{Deserialize, Serialize};
use telemetry::{DeadLetter, DeadLetterReason, topic::DEAD_LETTERS};
use utoipa::ToSchema;

pub use reinjection::{DeadLetterSelection, ReinjectOutcome};
use repeated_faults::{RepeatCounts, RepeatedFaults};

use crate::{
    blocking::run_blocking,
    log_records::{DeadLetterRecord, dead_letter_id},
};

/// Number of bytes of a payload that are shown.
const SHOWN_BYTES: usize = 1024;

/// A dead letter as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterSummary {
    /// The identifier.
    pub id: String,
    /// Arrival time at the gateway, UTC milliseconds.
    pub received_ms: i64,
    /// The reason.
    #[schema(value_type = String)]
    pub reason: DeadLetterReason,
    /// The details: what was found and what was expected.
    pub detail: String,
    /// The MQTT topic.
    pub topic: String,
    /// The beginning of the payload. Invalid UTF-8 is replaced.
    pub payload: String,
    /// Size of the whole payload, bytes.
    pub payload_bytes: usize,
}

impl From<&DeadLetter> for DeadLetterSummary {
    fn from(letter: &DeadLetter) -> Self {
        let beginning = &letter.payload[..letter.payload.len().min(SHOWN_BYTES)];
        Self {
            id: format!("{:016x}", dead_letter_id(letter)),
            received_ms: letter.received_ms,
            reason: letter.reason,
            detail: letter.detail.clone(),
            topic: letter.topic.clone(),
            payload: String::from_utf8_lossy(beginning).into_owned(),
            payload_bytes: letter.payload.len(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct RecentDeadLetters {
    shown_max: usize,
    state: Mutex<DeadLetterState>,
}

#[derive(Debug, Default)]
struct DeadLetterState {
    latest: VecDeque<DeadLetterSummary>,
    by_reason: BTreeMap<DeadLetterReason, u64>,
    reinjected: u64,
    repeats: RepeatedFaults,
    /// Number of dead letters that were counted and not stored.
    repeated: RepeatCounts,
}

impl RecentDeadLetters {
    pub(crate) fn new(shown_max: usize) -> Self {
        Self { shown_max, state: Mutex::default() }
    }

    /// Loads the latest dead letters of earlier processes from the log.
    pub(crate) async fn load_latest(&self, log: &EventLog) -> Result<(), LogError> {
        let mut found: Vec<DeadLetterSummary> = Vec::new();
        let mut reinjected_ids = HashSet::new();
        read_dead_letters(log, Some(self.shown_max), |entry| {
            match DeadLetterRecord::from_record(&entry.record) {
                Some(DeadLetterRecord::Dead(letter)) => {
                    found.push(DeadLetterSummary::from(&letter));
                }
                Some(DeadLetterRecord::Reinjected(id)) => {
                    reinjected_ids.insert(format!("{id:016x}"));
                }
                None => {}
            }
        })
        .await?;
        found.retain(|letter| !reinjected_ids.contains(&letter.id));
        found.sort_by_key(|letter| letter.received_ms);
        let mut state = self.lock_state();
        // The dead letters of this process are newer.
        found.reverse();
        state.latest.extend(found);
        state.latest.truncate(self.shown_max);
        Ok(())
    }

    pub(crate) fn add_dead_letter(&self, letter: &DeadLetter) {
        let mut state = self.lock_state();
        *state.by_reason.entry(letter.reason).or_default() += 1;
        state.latest.push_front(DeadLetterSummary::from(letter));
        state.latest.truncate(self.shown_max);
    }

    /// Whether a dead letter only repeats stored ones. If so, it is counted.
    pub(crate) fn is_repeated(&self, letter: &DeadLetter) -> bool {
        let mut state = self.lock_state();
        let is_repeated = state.repeats.is_repeated(letter);
        if is_repeated {
            *state.repeated.entry(letter.reason).or_default() += 1;
        }
        is_repeated
    }

    /// Number of dead letters since the start of the process that repeated others and were not
    /// stored.
    pub(crate) fn repeat_counts(&self) -> RepeatCounts {
        self.lock_state().repeated.clone()
    }

    /// Notes that the dead letter with this id became readings.
    pub(crate) fn mark_reinjected(&self, id: u64) {
        let id = format!("{id:016x}");
        let mut state = self.lock_state();
        state.reinjected += 1;
        state.latest.retain(|letter| letter.id != id);
    }

    /// Returns the latest dead letters, newest first.
    pub(crate) fn latest_summaries(&self, limit: usize) -> Vec<DeadLetterSummary> {
        self.lock_state().latest.iter().take(limit).cloned().collect()
    }

    /// Number of dead letters since the start of the process, by reason.
    pub(crate) fn counts_by_reason(&self) -> BTreeMap<DeadLetterReason, u64> {
        self.lock_state().by_reason.clone()
    }

    /// Number of dead letters since the start of the process that became readings.
    pub(crate) fn reinjected_total(&self) -> u64 {
        self.lock_state().reinjected
    }

    fn lock_state(&self) -> MutexGuard<'_, DeadLetterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the topic up to its current end: the last `latest` records of each partition, or all.
async fn read_dead_letters(
    log: &EventLog,
    latest: Option<usize>,
    mut visit: impl FnMut(&StoredRecord),
) -> Result<(), LogError> {
    let log_handle = log.clone();
    let records_max = latest.map_or(i64::MAX, |count| i64::try_from(count).unwrap_or(i64::MAX));
    // This contacts Kafka's brokers, which takes time.
    let opened = run_blocking(move || {
        let bounds = log_handle.offset_bounds(DEAD_LETTERS)?;
        let have: i64 = bounds.values().map(|have| (have.end - have.start).min(records_max)).sum();
        let from = bounds
            .iter()
            .map(|(p, have)| (*p, have.end.saturating_sub(records_max).max(have.start)));
        let positions: PartitionOffsets = from.collect();
        Ok::<_, LogError>((log_handle.open_reader(DEAD_LETTERS, &positions)?, have))
    });
    let (mut reader, have) = opened.await?;
    let mut left = usize::try_from(have).unwrap_or(0);
    while left > 0 {
        let batch = reader.next_batch(left.min(1_000), Duration::from_secs(1)).await?;
        if batch.is_empty() {
            break; // Kafka's offsets have holes where transactions ended
        }
        left = left.saturating_sub(batch.len());
        batch.iter().for_each(&mut visit);
    }
    Ok(())
}
