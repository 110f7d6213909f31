//! A device's own numbering: gaps, restarts, and messages sent twice.

use std::collections::{HashSet, VecDeque};

use telemetry::SmolStr;

/// How a device numbered a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The device's run.
    pub(crate) boot: Option<SmolStr>,
    /// Counts the run's messages.
    pub(crate) seq: u64,
    /// A hash of topic and payload: the same number with other content is
    /// another message.
    pub(crate) fingerprint: u64,
    /// Whether the same stamp means the same message for certain.
    pub(crate) is_unique: bool,
}

/// What the numbers say about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate,
}

/// Runs remembered: the present one, and the one before, of which messages may
/// come again after a reconnection.
const RUNS_MAX: usize = 2;

/// The numbers of one device.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    runs: VecDeque<Run>,
    /// Missing numbers of the runs that are no longer remembered.
    old_gaps: u64,
    /// Times that the device began a new run.
    pub(crate) resets: u64,
}

impl Sequence {
    /// Notes a message; `window` messages of a run are remembered.
    pub(crate) fn note(&mut self, stamp: &Stamp, window: usize) -> Verdict {
        let known = self.runs.iter_mut().find(|run| run.boot == stamp.boot);
        if let Some(verdict) = known.and_then(|run| run.note(stamp, window)) {
            return verdict;
        }
        if !self.runs.is_empty() {
            self.resets += 1;
        }
        self.runs.push_front(Run::new(stamp));
        if self.runs.len() > RUNS_MAX {
            let gaps = self.runs.pop_back().map_or(0, |run| run.gaps);
            self.old_gaps = self.old_gaps.saturating_add(gaps);
        }
        Verdict::New
    }

    /// Numbers that are missing. One that comes late is no longer missing.
    pub(crate) fn gaps(&self) -> u64 {
        self.runs.iter().fold(self.old_gaps, |sum, run| sum.saturating_add(run.gaps))
    }
}

#[derive(Debug)]
struct Run {
    boot: Option<SmolStr>,
    first: u64,
    top: u64,
    gaps: u64,
    /// The latest messages, oldest first, and the same to look up.
    order: VecDeque<(u64, u64)>,
    seen: HashSet<(u64, u64)>,
}

impl Run {
    fn new(stamp: &Stamp) -> Self {
        let Stamp { boot, seq, fingerprint, .. } = stamp;
        let latest = (*seq, *fingerprint);
        Self {
            boot: boot.clone(),
            first: *seq,
            top: *seq,
            gaps: 0,
            order: VecDeque::from([latest]),
            seen: HashSet::from([latest]),
        }
    }

    /// `None`: the message begins another run.
    fn note(&mut self, stamp: &Stamp, window: usize) -> Option<Verdict> {
        let Stamp { boot, seq, fingerprint, is_unique } = stamp;
        if self.seen.contains(&(*seq, *fingerprint)) && *is_unique {
            return Some(Verdict::Duplicate);
        }
        if *seq > self.top {
            // A device may claim any number.
            self.gaps = self.gaps.saturating_add(seq - self.top - 1);
            self.top = *seq;
        } else if *seq < self.top {
            let is_known = self.order.iter().any(|(known, _)| known == seq);
            // Without a boot id, counting from the beginning is all that tells.
            if boot.is_none() && (is_known || self.top - seq > window as u64) {
                return None;
            }
            if !is_known && *seq > self.first {
                self.gaps = self.gaps.saturating_sub(1);
            }
        }
        if self.seen.insert((*seq, *fingerprint)) {
            self.order.push_back((*seq, *fingerprint));
        }
        if self.order.len() > window
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        Some(Verdict::New)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(boot: &str, seq: u64, content: u64) -> Stamp {
        let boot = (!boot.is_empty()).then(|| boot.into());
        Stamp { is_unique: boot.is_some(), boot, seq, fingerprint: content }
    }

    /// (boot, seq) in the order of arrival → how many are duplicates, numbers
    /// missing, resets. The content follows from the number.
    fn check(messages: &[(&str, u64)], expect: (usize, u64, u64)) {
        let mut sequence = Sequence::default();
        let verdicts =
            messages.iter().map(|(boot, seq)| sequence.note(&stamp(boot, *seq, *seq), 8));
        let duplicates = verdicts.filter(|verdict| *verdict == Verdict::Duplicate).count();
        assert_eq!((duplicates, sequence.gaps(), sequence.resets), expect, "{messages:?}");
    }

    #[test]
    fn numbers() {
        check(&[], (0, 0, 0));
        check(&[("a", 5), ("a", 6), ("a", 7)], (0, 0, 0));
        check(&[("a", 0), ("a", 3)], (0, 2, 0));
        check(&[("a", 0), ("a", 3), ("a", 1), ("a", 2)], (0, 0, 0));
        check(&[("a", 0), ("a", 1), ("a", 1), ("a", 0)], (2, 0, 0));
        check(&[("a", 0), ("a", 2), ("b", 0), ("b", 1)], (0, 1, 1));
        check(&[("a", 0), ("b", 0), ("a", 0), ("b", 0)], (2, 0, 1));
        check(&[("a", 0), ("a", 9), ("b", 0), ("c", 0), ("d", 0)], (0, 8, 3));
        // A device may claim any number.
        check(
            &[("a", 0), ("a", u64::MAX), ("b", 0), ("b", u64::MAX), ("c", 0), ("d", 0)],
            (0, u64::MAX, 3),
        );
        // No boot id: the same number again is a new run, not a duplicate.
        check(&[("", 0), ("", 1), ("", 0), ("", 1)], (0, 0, 1));
        check(&[("", 0), ("", 2), ("", 1)], (0, 0, 0));
        // One number for several metrics, each with its topic.
        check(&[("", 3), ("", 3), ("", 4), ("", 4)], (0, 0, 0));
        check(&[("", 100), ("", 5), ("", 6)], (0, 0, 1));
    }

    #[test]
    fn one_number_with_other_content_is_another_message() {
        let mut sequence = Sequence::default();
        for (content, expect) in [(1, Verdict::New), (2, Verdict::New), (1, Verdict::Duplicate)] {
            assert_eq!(sequence.note(&stamp("a", 7, content), 8), expect);
        }
        assert_eq!((sequence.gaps(), sequence.resets), (0, 0));
    }

    #[test]
    fn what_is_out_of_the_window_is_forgotten() {
        let mut sequence = Sequence::default();
        for seq in 0..100 {
            sequence.note(&stamp("a", seq, seq), 8);
        }
        assert_eq!(sequence.note(&stamp("a", 91, 91), 8), Verdict::New);
        assert_eq!(sequence.note(&stamp("a", 99, 99), 8), Verdict::Duplicate);
        assert!(sequence.runs[0].seen.len() <= 8 && sequence.runs[0].order.len() <= 8);
    }
}
