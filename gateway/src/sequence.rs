//! A device's sequence numbers: gaps, restarts, and messages sent twice.
//!
//! A device may have one counter for all its topics, or one for each. Copies are therefore
//! searched for within a topic, and gaps across all topics.

use std::collections::HashMap;

use telemetry::{NumberedMessage, SequenceCheck, SequenceHistory, SmolStr};

/// The sequence number of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SequenceStamp {
    /// The device's run.
    pub(crate) boot: Option<SmolStr>,
    /// The number of the message within the run.
    pub(crate) seq: u64,
    /// A hash of the topic.
    pub(crate) topic: u64,
    /// A hash of topic and payload. The same number with other content is another message.
    pub(crate) fingerprint: u64,
    /// Whether the payload has a time of its own. Then an equal fingerprint proves that it is the
    /// same message.
    pub(crate) is_stamped: bool,
}

/// Largest number of topics of one device with a history of their own. Further ones share a
/// history.
const TOPICS_MAX: usize = 64;
/// Number of runs whose missing numbers are counted: the current one, and the previous one, whose
/// messages may still arrive.
const RUNS_MAX: usize = 2;

/// The sequence numbers of one device.
#[derive(Debug, Default)]
pub(crate) struct DeviceSequence {
    /// Histories by the topic's hash.
    histories: HashMap<u64, SequenceHistory>,
    /// The runs, newest first.
    runs: Vec<SequenceRun>,
    /// Missing numbers of earlier runs.
    old_gaps: u64,
    /// Number of times that the device began a new run.
    pub(crate) resets: u64,
}

#[derive(Debug)]
struct SequenceRun {
    boot: Option<SmolStr>,
    first: u64,
    highest: u64,
    gaps: u64,
}

impl DeviceSequence {
    /// Checks a message, and remembers at most `messages_max` of each topic. `is_redelivery` is
    /// MQTT's DUP flag.
    pub(crate) fn check_message(
        &mut self,
        stamp: &SequenceStamp,
        arrival_ms: i64,
        is_redelivery: bool,
        messages_max: usize,
    ) -> SequenceCheck {
        let SequenceStamp { boot, seq, topic, fingerprint, is_stamped } = stamp;
        let is_room = self.histories.len() < TOPICS_MAX || self.histories.contains_key(topic);
        let history = self.histories.entry(if is_room { *topic } else { 0 }).or_default();
        let highest_of_topic = history.highest_number(boot.as_ref());
        let message = NumberedMessage {
            boot: boot.as_ref(),
            number: *seq,
            content: *fingerprint,
            arrival_ms,
            is_stamped: *is_stamped,
            is_redelivery,
        };
        let check = history.check_message(&message, messages_max);
        if let SequenceCheck::New { begins_run } = check {
            self.count_number(boot.as_ref(), *seq, highest_of_topic, begins_run);
        }
        check
    }

    /// Returns the number of missing sequence numbers. A number that arrives late is no longer
    /// missing.
    pub(crate) fn gap_count(&self) -> u64 {
        self.runs.iter().fold(self.old_gaps, |sum, run| sum.saturating_add(run.gaps))
    }

    /// Returns the number of messages that are remembered to find copies.
    pub(crate) fn remembered_count(&self) -> usize {
        self.histories.values().map(SequenceHistory::remembered_messages).sum()
    }

    /// Forgets the messages, but not the counts.
    pub(crate) fn forget_messages(&mut self) {
        self.histories = HashMap::new();
    }

    /// Restores the counts of an earlier process.
    pub(crate) fn restore_counts(&mut self, gaps: u64, resets: u64) {
        self.old_gaps = self.old_gaps.saturating_add(gaps);
        self.resets = self.resets.saturating_add(resets);
    }

    fn count_number(
        &mut self,
        boot: Option<&SmolStr>,
        seq: u64,
        highest_of_topic: Option<u64>,
        begins_run: bool,
    ) {
        let run = self.runs.iter_mut().find(|run| run.boot.as_ref() == boot);
        let Some(run) = run else { return self.begin_run(boot, seq) };
        if seq > run.highest {
            let missing = seq - run.highest - 1;
            // The topic's own counter is independent of other topics.
            let missing_in_topic =
                highest_of_topic.map_or(0, |highest| seq.saturating_sub(highest.saturating_add(1)));
            // A device may send any number.
            run.gaps = run.gaps.saturating_add(missing.min(missing_in_topic));
            run.highest = seq;
        } else if seq < run.highest {
            if begins_run {
                self.begin_run(boot, seq);
            } else if seq > run.first && highest_of_topic.is_some_and(|highest| seq < highest) {
                run.gaps = run.gaps.saturating_sub(1);
            }
        }
    }

    fn begin_run(&mut self, boot: Option<&SmolStr>, seq: u64) {
        if !self.runs.is_empty() {
            self.resets += 1;
        }
        self.runs.insert(0, SequenceRun { boot: boot.cloned(), first: seq, highest: seq, gaps: 0 });
        if self.runs.len() > RUNS_MAX {
            let gaps = self.runs.pop().map_or(0, |run| run.gaps);
            self.old_gaps = self.old_gaps.saturating_add(gaps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(boot: &str, seq: u64, content: u64) -> SequenceStamp {
        let boot = (!boot.is_empty()).then(|| boot.into());
        SequenceStamp { boot, seq, topic: 1, fingerprint: content, is_stamped: false }
    }

    /// Checks (boot, seq) in the order of arrival against the number of duplicates, missing
    /// numbers and resets. The content follows from the number.
    fn check(messages: &[(&str, u64)], expect: (usize, u64, u64)) {
        let mut sequence = DeviceSequence::default();
        let checks = messages
            .iter()
            .map(|(boot, seq)| sequence.check_message(&stamp(boot, *seq, *seq), 1_000, false, 8));
        let duplicates = checks.filter(|check| check.is_copy()).count();
        assert_eq!((duplicates, sequence.gap_count(), sequence.resets), expect, "{messages:?}");
    }

    #[test]
    fn gaps_and_resets_are_counted() {
        check(&[], (0, 0, 0));
        check(&[("a", 5), ("a", 6), ("a", 7)], (0, 0, 0));
        check(&[("a", 0), ("a", 3)], (0, 2, 0));
        check(&[("a", 0), ("a", 3), ("a", 1), ("a", 2)], (0, 0, 0));
        check(&[("a", 0), ("a", 1), ("a", 1), ("a", 0)], (2, 0, 0));
        check(&[("a", 0), ("a", 2), ("b", 0), ("b", 1)], (0, 1, 1));
        check(&[("a", 0), ("b", 0), ("a", 0), ("b", 0)], (2, 0, 1));
        check(&[("a", 0), ("a", 9), ("b", 0), ("c", 0), ("d", 0)], (0, 8, 3));
        // A device may send any number.
        check(
            &[("a", 0), ("a", u64::MAX), ("b", 0), ("b", u64::MAX), ("c", 0), ("d", 0)],
            (0, u64::MAX, 3),
        );
        // Without a boot id, a repeated number is a new run, not a duplicate.
        check(&[("", 0), ("", 1), ("", 0), ("", 1)], (0, 0, 1));
        check(&[("", 0), ("", 2), ("", 1)], (0, 0, 0));
        check(&[("", 3), ("", 3), ("", 4), ("", 4)], (0, 0, 0));
        check(&[("", 100), ("", 5), ("", 6)], (0, 0, 1));
    }

    #[test]
    fn one_number_with_other_content_is_another_message() {
        let mut sequence = DeviceSequence::default();
        for (content, is_copy) in [(1, false), (2, false)] {
            assert_eq!(
                sequence.check_message(&stamp("a", 7, content), 1, false, 8).is_copy(),
                is_copy
            );
        }
        assert_eq!((sequence.gap_count(), sequence.resets), (0, 0));
    }

    /// Checks (topic, seq) in the order of arrival. Each topic has its own hash.
    fn check_topics(messages: impl IntoIterator<Item = (u64, u64)>, gaps: u64) {
        let mut sequence = DeviceSequence::default();
        for (i, (topic, seq)) in messages.into_iter().enumerate() {
            let stamp = SequenceStamp { topic, ..stamp("a", seq, topic) };
            assert!(!sequence.check_message(&stamp, i as i64 * 100, false, 1024).is_copy(), "{i}");
        }
        assert_eq!((sequence.gap_count(), sequence.resets), (gaps, 0));
    }

    #[test]
    fn one_counter_for_all_topics_or_one_for_each() {
        check_topics((0..90).map(|i| (i % 3, i)), 0);
        check_topics((0..90).map(|i| (i % 3, i / 3)), 0);
        check_topics((0..90).filter(|i| i % 30 != 17).map(|i| (i % 3, i)), 3);
        // Counters with different pace.
        let paced = (0..300).map(|i| if i % 10 == 0 { (1, i / 10) } else { (2, i - i / 10) });
        check_topics(paced.filter(|(topic, _)| *topic == 1), 0);
    }

    #[test]
    fn what_is_out_of_the_window_is_forgotten() {
        let mut sequence = DeviceSequence::default();
        for seq in 0..100 {
            sequence.check_message(&stamp("a", seq, seq), 1_000, false, 8);
        }
        assert!(!sequence.check_message(&stamp("a", 91, 91), 1_000, false, 8).is_copy());
        assert!(sequence.check_message(&stamp("a", 99, 99), 1_000, false, 8).is_copy());
    }
}
