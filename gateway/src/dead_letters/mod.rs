//! What could not be decoded: the latest of it for people to look at, and all
//! of it once more once a mapping is mended. All are in the log.
//!
//! # Layout
//! - `reinject`: hands letters in again
//! - `repeats`: faults that repeat are counted, not stored each time

mod reinject;
mod repeats;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eventlog::{Entry, EventLog, LogError, Positions};
use serde::{Deserialize, Serialize};
use telemetry::{DeadLetter, Reason, topic::DEAD_LETTERS};

pub use reinject::{Outcome, Selection};
use repeats::{RepeatCounts, RepeatedFaults};

use crate::{
    blocking::blocking,
    record::{Letter, letter_id},
};

/// Bytes of a payload that are shown.
const SHOWN_BYTES: usize = 1024;

/// A dead letter as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Names it.
    pub id: String,
    /// When the gateway received it, UTC milliseconds.
    pub received_ms: i64,
    /// Why.
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
    /// The MQTT topic.
    pub topic: String,
    /// The beginning of the payload; what is not UTF-8 is replaced.
    pub payload: String,
    /// The whole payload's size, bytes.
    pub payload_bytes: usize,
}

impl From<&DeadLetter> for Shown {
    fn from(letter: &DeadLetter) -> Self {
        let beginning = &letter.payload[..letter.payload.len().min(SHOWN_BYTES)];
        Self {
            id: format!("{:016x}", letter_id(letter)),
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
pub(crate) struct DeadLetters {
    shown_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    latest: VecDeque<Shown>,
    by_reason: BTreeMap<Reason, u64>,
    reinjected: u64,
    repeats: RepeatedFaults,
    /// Letters that were counted and not stored.
    repeated: RepeatCounts,
}

impl DeadLetters {
    pub(crate) fn new(shown_max: usize) -> Self {
        Self { shown_max, state: Mutex::default() }
    }

    /// Takes the latest of the log, from before this process.
    pub(crate) async fn load(&self, log: &EventLog) -> Result<(), LogError> {
        let mut found: Vec<Shown> = Vec::new();
        let mut mended = HashSet::new();
        read(log, Some(self.shown_max), |entry| match Letter::read(&entry.record) {
            Some(Letter::Dead(letter)) => found.push(Shown::from(&letter)),
            Some(Letter::Reinjected(id)) => {
                mended.insert(format!("{id:016x}"));
            }
            None => {}
        })
        .await?;
        found.retain(|letter| !mended.contains(&letter.id));
        found.sort_by_key(|letter| letter.received_ms);
        let mut state = self.state();
        // Those of this process came after.
        found.reverse();
        state.latest.extend(found);
        state.latest.truncate(self.shown_max);
        Ok(())
    }

    pub(crate) fn add(&self, letter: &DeadLetter) {
        let mut state = self.state();
        *state.by_reason.entry(letter.reason).or_default() += 1;
        state.latest.push_front(Shown::from(letter));
        state.latest.truncate(self.shown_max);
    }

    /// Whether a letter only repeats what is stored; it is counted then.
    pub(crate) fn is_repeated(&self, letter: &DeadLetter) -> bool {
        let mut state = self.state();
        let is_repeated = state.repeats.is_repeated(letter);
        if is_repeated {
            *state.repeated.entry(letter.reason).or_default() += 1;
        }
        is_repeated
    }

    /// Letters since the start of the process that repeated others and were not stored.
    pub(crate) fn repeated(&self) -> RepeatCounts {
        self.state().repeated.clone()
    }

    /// The letter with this id became readings.
    pub(crate) fn reinjected(&self, id: u64) {
        let id = format!("{id:016x}");
        let mut state = self.state();
        state.reinjected += 1;
        state.latest.retain(|letter| letter.id != id);
    }

    /// The latest, newest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Shown> {
        self.state().latest.iter().take(limit).cloned().collect()
    }

    /// Messages since the start of the process.
    pub(crate) fn by_reason(&self) -> BTreeMap<Reason, u64> {
        self.state().by_reason.clone()
    }

    /// Letters that became readings since the start of the process.
    pub(crate) fn reinjected_total(&self) -> u64 {
        self.state().reinjected
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the topic up to its present end, each partition's last `latest`
/// records or all.
async fn read(
    log: &EventLog,
    latest: Option<usize>,
    mut visit: impl FnMut(&Entry),
) -> Result<(), LogError> {
    let log = log.clone();
    let latest = latest.map_or(i64::MAX, |count| i64::try_from(count).unwrap_or(i64::MAX));
    // Kafka's brokers are asked here, which takes its time.
    let opened = blocking(move || {
        let bounds = log.bounds(DEAD_LETTERS)?;
        let have: i64 = bounds.values().map(|have| (have.end - have.start).min(latest)).sum();
        let from =
            bounds.iter().map(|(p, have)| (*p, have.end.saturating_sub(latest).max(have.start)));
        let from: Positions = from.collect();
        Ok::<_, LogError>((log.reader(DEAD_LETTERS, &from)?, have))
    });
    let (mut reader, have) = opened.await?;
    let mut left = usize::try_from(have).unwrap_or(0);
    while left > 0 {
        let batch = reader.next_batch(left.min(1_000), Duration::from_secs(1)).await?;
        if batch.is_empty() {
            break; // Kafka's offsets have holes where transactions ended.
        }
        left = left.saturating_sub(batch.len());
        batch.iter().for_each(&mut visit);
    }
    Ok(())
}
