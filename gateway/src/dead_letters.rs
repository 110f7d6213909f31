//! The latest dead letters, for people to look at; all are in the log.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eventlog::{EventLog, LogError, Positions};
use serde::{Deserialize, Serialize};
use telemetry::{DeadLetter, Reason, topic::DEAD_LETTERS};

use crate::{blocking::blocking, intake};

/// Bytes of a payload that are shown.
const SHOWN_BYTES: usize = 1024;

/// A dead letter as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
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
}

impl DeadLetters {
    pub(crate) fn new(shown_max: usize) -> Self {
        Self { shown_max, state: Mutex::default() }
    }

    /// Takes the latest of the log, from before this process.
    pub(crate) async fn load(&self, log: &EventLog) -> Result<(), LogError> {
        let log = log.clone();
        let shown_max = i64::try_from(self.shown_max).unwrap_or(i64::MAX);
        // Kafka's brokers are asked here, which takes its time.
        let opened = blocking(move || {
            let bounds = log.bounds(DEAD_LETTERS)?;
            let have: i64 =
                bounds.values().map(|have| (have.end - have.start).min(shown_max)).sum();
            let from = bounds.iter().map(|(p, have)| (*p, (have.end - shown_max).max(have.start)));
            let from: Positions = from.collect();
            Ok::<_, LogError>((log.reader(DEAD_LETTERS, &from)?, have))
        });
        let (mut reader, have) = opened.await?;
        let mut left = usize::try_from(have).unwrap_or(0);
        let mut found = Vec::new();
        while left > 0 {
            let batch = reader.next_batch(left, Duration::from_secs(1)).await?;
            if batch.is_empty() {
                break; // Kafka's offsets have holes where transactions ended.
            }
            left = left.saturating_sub(batch.len());
            let letters = batch.iter().filter_map(|entry| intake::dead_letter(&entry.record));
            found.extend(letters.map(|letter| Shown::from(&letter)));
        }
        found.sort_by_key(|letter| letter.received_ms);
        let mut state = self.state();
        for letter in found {
            state.latest.push_front(letter);
        }
        state.latest.truncate(self.shown_max);
        Ok(())
    }

    pub(crate) fn add(&self, letter: &DeadLetter) {
        let mut state = self.state();
        *state.by_reason.entry(letter.reason).or_default() += 1;
        state.latest.push_front(Shown::from(letter));
        state.latest.truncate(self.shown_max);
    }

    /// The latest, newest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Shown> {
        self.state().latest.iter().take(limit).cloned().collect()
    }

    /// Messages since the start of the process.
    pub(crate) fn by_reason(&self) -> BTreeMap<Reason, u64> {
        self.state().by_reason.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
