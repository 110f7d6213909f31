use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use eventlog::{EventLog, LogError};
use serde::{Deserialize, Serialize};
use telemetry::{DeadLetter, Reason};

use crate::{
    downlink::is_match,
    inlet::{Done, Inlet, Origin},
    message::Message,
    record::{Letter, letter_id},
};

/// Letters of one call, unless `limit` says otherwise.
const LIMIT_DEFAULT: usize = 10_000;
/// Before a letter is handed in again that found no room.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// Which dead letters are meant; what is not said means all.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Letters for this reason.
    pub reason: Option<Reason>,
    /// Letters whose topic matches this MQTT filter.
    pub topic: Option<String>,
    /// Received at or after, UTC milliseconds.
    pub from_ms: Option<i64>,
    /// Received before, UTC milliseconds.
    pub to_ms: Option<i64>,
    /// At most this many, the oldest first.
    pub limit: Option<usize>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// What became of the letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Letters of the selection that had not become readings before.
    pub selected: u64,
    /// Letters that are readings now; in a dry run 0.
    pub reinjected: u64,
    /// Letters that still cannot be decoded, by their present reason.
    pub still_dead: BTreeMap<Reason, u64>,
    /// One of these, for a person.
    pub example: Option<String>,
}

impl Selection {
    fn has(&self, letter: &DeadLetter) -> bool {
        let Self { reason, topic, from_ms, to_ms, .. } = self;
        reason.is_none_or(|reason| reason == letter.reason)
            && topic.as_ref().is_none_or(|filter| is_match(filter, &letter.topic))
            && from_ms.is_none_or(|from| letter.received_ms >= from)
            && to_ms.is_none_or(|to| letter.received_ms < to)
    }

    /// Hands the selected letters in again, in the order in which they came.
    pub(crate) async fn reinject(
        &self,
        log: &EventLog,
        inlet: &Inlet,
    ) -> Result<Outcome, LogError> {
        let mut letters = Vec::new();
        let mut mended = HashSet::new();
        super::read(log, None, |entry| match Letter::read(&entry.record) {
            Some(Letter::Dead(letter)) if self.has(&letter) => letters.push(letter),
            Some(Letter::Reinjected(id)) => {
                mended.insert(id);
            }
            _ => {}
        })
        .await?;
        letters.retain(|letter| !mended.contains(&letter_id(letter)));
        letters.sort_by_key(|letter| letter.received_ms);
        letters.truncate(self.limit.unwrap_or(LIMIT_DEFAULT));
        let mut outcome = Outcome { selected: letters.len() as u64, ..Outcome::default() };
        if self.dry_run {
            return Ok(outcome);
        }
        for letter in letters {
            let (id, topic) = (letter_id(&letter), letter.topic.clone());
            let message = Message {
                topic: letter.topic.into(),
                payload: letter.payload.into(),
                is_retained: false,
                is_redelivery: false,
                received_ms: letter.received_ms,
            };
            // One at a time: live messages have the room.
            let done = loop {
                match inlet.submit_from(Origin::DeadLetter(id), message.clone()) {
                    Ok(done) => break done.await,
                    Err(_) => tokio::time::sleep(FULL_WAIT).await,
                }
            };
            match done {
                Ok(Done::Durable(_)) => outcome.reinjected += 1,
                Ok(Done::StillDead(reason, detail)) => {
                    *outcome.still_dead.entry(reason).or_default() += 1;
                    outcome.example.get_or_insert_with(|| format!("{topic}: {detail}"));
                }
                // The log failed; the gateway ends and says why.
                Err(_) => break,
            }
        }
        Ok(outcome)
    }
}
