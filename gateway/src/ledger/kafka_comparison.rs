use std::collections::BTreeMap;

use eventlog::{EventLog, LogError};
use serde::{Deserialize, Serialize};
use tracing::error;

use super::Ledger;

/// The offsets that Kafka has acknowledged and still has, by topic and partition. Kafka may lose
/// acknowledged records when a replica that was behind becomes the leader, or when a topic is
/// deleted. Nothing else would detect that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaComparison {
    /// For each topic and partition, the offset after the newest acknowledged record.
    pub acknowledged: BTreeMap<String, BTreeMap<i32, i64>>,
    /// For each topic and partition, the offset after the newest record in Kafka at the last
    /// comparison.
    pub present: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Number of acknowledged records that Kafka no longer had.
    pub missing_records: u64,
    /// The last acknowledged offsets that the log reported.
    #[serde(skip)]
    noted: BTreeMap<String, BTreeMap<i32, i64>>,
}

impl KafkaComparison {
    pub(super) fn is_empty(&self) -> bool {
        self.acknowledged.is_empty()
    }

    /// Notes the acknowledged offsets. Unchanged offsets are ignored, because Kafka may have lost
    /// the records meanwhile.
    fn note_acknowledged(&mut self, topic: &str, next: &BTreeMap<i32, i64>) {
        if self.noted.get(topic) == Some(next) {
            return;
        }
        let noted = self.noted.insert(topic.to_owned(), next.clone()).unwrap_or_default();
        let offsets = self.acknowledged.entry(topic.to_owned()).or_default();
        for (&partition, &next) in next {
            if noted.get(&partition) != Some(&next) {
                offsets.insert(partition, next);
            }
        }
    }

    /// Compares with the offsets in Kafka. Missing records are counted once.
    fn note_present(&mut self, topic: &str, present: BTreeMap<i32, i64>) {
        for (partition, acknowledged) in self.acknowledged.get_mut(topic).into_iter().flatten() {
            let end = present.get(partition).copied().unwrap_or(0);
            let missing = acknowledged.saturating_sub(end);
            if missing > 0 {
                error!(
                    topic,
                    partition,
                    acknowledged,
                    end,
                    missing,
                    "Kafka no longer has records that it acknowledged: was the topic deleted, or \
                     an unclean leader elected?"
                );
                self.missing_records += missing.unsigned_abs();
                *acknowledged = end;
            }
        }
        self.present.insert(topic.to_owned(), present);
    }
}

impl Ledger {
    /// Compares the acknowledged offsets with Kafka's. Blocks for a moment.
    ///
    /// # Errors
    /// Returns an error if Kafka is not reachable.
    pub(crate) fn compare_with_kafka(&self, log: &EventLog, topic: &str) -> Result<(), LogError> {
        // Read before Kafka's offsets, which may only be larger by then.
        let acknowledged = log.acknowledged_offsets(topic);
        self.lock_state().kafka.note_acknowledged(topic, &acknowledged);
        if self.lock_state().kafka.acknowledged.get(topic).is_none_or(BTreeMap::is_empty) {
            return Ok(());
        }
        let bounds = log.offset_bounds(topic)?;
        let present = bounds.into_iter().map(|(partition, available)| (partition, available.end));
        self.lock_state().kafka.note_present(topic, present.collect());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_kafka_loses_are_counted_once() {
        let mut kafka = KafkaComparison::default();
        let check = |kafka: &KafkaComparison, missing| {
            assert_eq!(kafka.missing_records, missing, "{kafka:?}");
        };
        let ends = |ends: &[(i32, i64)]| ends.iter().copied().collect::<BTreeMap<_, _>>();
        kafka.note_acknowledged("t", &ends(&[(0, 10), (1, 5)]));
        kafka.note_present("t", ends(&[(0, 10), (1, 7)]));
        check(&kafka, 0);
        // An unclean leader election.
        kafka.note_present("t", ends(&[(0, 8), (1, 7)]));
        kafka.note_present("t", ends(&[(0, 8), (1, 7)]));
        check(&kafka, 2);
        kafka.note_acknowledged("t", &ends(&[(0, 12), (1, 7)]));
        kafka.note_present("t", ends(&[(0, 12), (1, 7)]));
        check(&kafka, 2);
        // The topic was deleted and created again with fewer partitions.
        kafka.note_present("t", ends(&[(0, 0)]));
        check(&kafka, 2 + 12 + 7);
        // The log repeats the old offsets, and then reports new ones.
        kafka.note_acknowledged("t", &ends(&[(0, 12), (1, 7)]));
        kafka.note_present("t", ends(&[(0, 0)]));
        check(&kafka, 2 + 12 + 7);
        kafka.note_acknowledged("t", &ends(&[(0, 3), (1, 7)]));
        kafka.note_present("t", ends(&[(0, 2)]));
        check(&kafka, 2 + 12 + 7 + 1);
    }
}
