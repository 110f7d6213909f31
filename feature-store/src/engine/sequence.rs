use std::collections::{BTreeMap, VecDeque};

use telemetry::SmolStr;

/// Runs of a device that are remembered; a device that restarts more often
/// within the retention is told apart by values instead.
const BOOTS_MAX: usize = 32;
/// Gaps remembered within one run; beyond it the oldest numbers are forgotten.
const GAPS_MAX: usize = 4096;

/// The sequence numbers that were seen of one metric of one device, by run.
#[derive(Debug, Default)]
pub(super) struct Sequences(VecDeque<(SmolStr, Ranges)>);

impl Sequences {
    /// Notes a number; false if it was there already.
    pub(super) fn insert(&mut self, boot: &SmolStr, seq: u64) -> bool {
        if let Some((_, seen)) = self.0.iter_mut().rev().find(|(known, _)| known == boot) {
            return seen.insert(seq);
        }
        if self.0.len() == BOOTS_MAX {
            self.0.pop_front();
        }
        let mut seen = Ranges::default();
        seen.insert(seq);
        self.0.push_back((boot.clone(), seen));
        true
    }
}

/// A set of numbers that mostly follow one another.
#[derive(Debug, Default)]
struct Ranges {
    /// First and last of the run that grew last.
    growing: Option<(u64, u64)>,
    /// First → last of each other run.
    runs: BTreeMap<u64, u64>,
}

impl Ranges {
    fn insert(&mut self, number: u64) -> bool {
        if let Some((first, last)) = &mut self.growing {
            if (*first..=*last).contains(&number) {
                return false;
            }
            if last.checked_add(1) == Some(number) {
                let joined = number.checked_add(1).and_then(|next| self.runs.remove(&next));
                *last = joined.unwrap_or(number);
                return true;
            }
            self.runs.insert(*first, *last);
            self.growing = None;
        }
        let before = self.runs.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| number <= last) {
            return false;
        }
        let joins_before = before.filter(|(_, last)| last.checked_add(1) == Some(number));
        let after = number.checked_add(1).and_then(|next| self.runs.remove(&next));
        let first = joins_before.map_or(number, |(first, _)| first);
        self.runs.remove(&first);
        self.growing = Some((first, after.unwrap_or(number)));
        if self.runs.len() > GAPS_MAX {
            self.runs.pop_first();
        }
        true
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.runs.len() + usize::from(self.growing.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_a_set(numbers in prop::collection::vec(0..60_u64, 0..200)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(ranges.insert(number), set.insert(number));
            }
            let runs = set.iter().filter(|n| **n == 0 || !set.contains(&(**n - 1))).count();
            prop_assert_eq!(ranges.len(), runs, "numbers that follow one another are one run");
        }
    }

    #[test]
    fn a_new_run_starts_anew() {
        let mut seen = Sequences::default();
        let (a, b) = ("a".into(), "b".into());
        assert!(seen.insert(&a, 1));
        assert!(!seen.insert(&a, 1));
        assert!(seen.insert(&b, 1));
        assert!(seen.insert(&a, u64::MAX));
        assert!(!seen.insert(&a, u64::MAX));
        assert!(!seen.insert(&b, 1));
    }
}
