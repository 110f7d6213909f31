use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use telemetry::{DeadLetter, DeadLetterReason};

/// The span over which repetitions are counted, ms.
const SPAN_MS: i64 = 3_600_000;
/// Largest number of dead letters of one topic and reason that are stored in a span: those of a
/// device that reports every four seconds.
const STORED_MAX: u32 = 900;
/// Largest number of remembered faults and contents.
const FAULTS_MAX: usize = 4_096;
const CONTENTS_MAX: usize = 16_384;

/// Detects faults that repeat. A dead letter that contains nothing new is counted and not stored:
/// the same message again within an hour, and the dead letters of a topic for the same reason
/// beyond [`STORED_MAX`] in an hour.
#[derive(Debug, Default)]
pub(crate) struct RepeatedFaults {
    faults: BoundedMap<FaultHistory>,
    contents: BoundedMap<i64>,
}

/// The history of one reason of one topic.
#[derive(Clone, Copy, Debug)]
struct FaultHistory {
    since_ms: i64,
    stored: u32,
}

impl RepeatedFaults {
    /// Whether a dead letter only repeats stored ones.
    pub(crate) fn is_repeated(&mut self, letter: &DeadLetter) -> bool {
        let DeadLetter { reason, topic, payload, received_ms, .. } = letter;
        let now_ms = *received_ms;
        let is_recent = |since_ms: i64| (since_ms..since_ms + SPAN_MS).contains(&now_ms);
        let content = hash_key(&(reason, topic, payload));
        if self.contents.get(content).is_some_and(|since_ms| is_recent(*since_ms)) {
            return true;
        }
        let name = hash_key(&(reason, topic));
        let fault = self.faults.get(name).copied().filter(|fault| is_recent(fault.since_ms));
        let fault = fault.unwrap_or(FaultHistory { since_ms: now_ms, stored: 0 });
        if fault.stored >= STORED_MAX {
            return true;
        }
        self.faults.insert(name, FaultHistory { stored: fault.stored + 1, ..fault }, FAULTS_MAX);
        self.contents.insert(content, now_ms, CONTENTS_MAX);
        false
    }
}

fn hash_key(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Number of dead letters that were counted and not stored, by reason.
pub(crate) type RepeatCounts = BTreeMap<DeadLetterReason, u64>;

/// A map that evicts its oldest entry when it is full.
#[derive(Debug)]
struct BoundedMap<V> {
    values: HashMap<u64, (u64, V)>,
    by_age: BTreeMap<u64, u64>,
    inserted: u64,
}

impl<V> Default for BoundedMap<V> {
    fn default() -> Self {
        Self { values: HashMap::new(), by_age: BTreeMap::new(), inserted: 0 }
    }
}

impl<V> BoundedMap<V> {
    fn get(&self, key: u64) -> Option<&V> {
        self.values.get(&key).map(|(_, value)| value)
    }

    fn insert(&mut self, key: u64, value: V, len_max: usize) {
        self.inserted += 1;
        if let Some((age, _)) = self.values.insert(key, (self.inserted, value)) {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.inserted, key);
        if self.values.len() > len_max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_dead_letter(topic: usize, payload: usize, received_ms: i64) -> DeadLetter {
        DeadLetter {
            reason: DeadLetterReason::UnknownMetric,
            detail: String::new(),
            topic: format!("sensors/s/z/{topic}"),
            payload: payload.to_string().into_bytes(),
            received_ms,
        }
    }

    #[test]
    fn the_same_message_is_stored_once_an_hour() {
        let mut repeats = RepeatedFaults::default();
        let mut check = |payload, at_ms, expect| {
            assert_eq!(
                repeats.is_repeated(&test_dead_letter(0, payload, at_ms)),
                expect,
                "{payload} {at_ms}"
            );
        };
        check(1, 1_000, false);
        check(1, 2_000, true);
        check(2, 3_000, false);
        check(1, 1_000 + SPAN_MS - 1, true);
        check(1, 1_000 + SPAN_MS, false);
        // A clock that is set back.
        check(2, 0, false);
    }

    #[test]
    fn a_topic_fills_no_more_than_its_share_and_leaves_others_theirs() {
        let mut repeats = RepeatedFaults::default();
        let stored = |repeats: &mut RepeatedFaults, topic, at_ms| {
            let all = (0..5_000).map(|payload| test_dead_letter(topic, payload, at_ms));
            all.filter(|letter| !repeats.is_repeated(letter)).count()
        };
        let most = STORED_MAX as usize;
        assert_eq!(stored(&mut repeats, 0, 0), most);
        assert_eq!(stored(&mut repeats, 1, 0), most);
        assert_eq!(stored(&mut repeats, 0, 0), 0);
        assert_eq!(stored(&mut repeats, 0, SPAN_MS), most);
        for topic in 0..20_000 {
            repeats.is_repeated(&test_dead_letter(topic, topic, 0));
        }
        assert!(repeats.faults.values.len() <= FAULTS_MAX);
        assert!(repeats.contents.by_age.len() <= CONTENTS_MAX);
        assert_eq!(repeats.faults.values.len(), repeats.faults.by_age.len());
    }
}
