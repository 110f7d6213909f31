use std::collections::{BTreeMap, HashMap, VecDeque};

use telemetry::SmolStr;

/// Runs of a device that are remembered; a device that restarts more often
/// within the retention is told apart by values instead.
const BOOTS_MAX: usize = 32;
/// Gaps remembered within one run; beyond it the oldest numbers are forgotten.
const GAPS_MAX: usize = 4096;

/// The sequence numbers that were seen of each metric of a device, by run.
#[derive(Debug, Default)]
pub(super) struct Sequences(HashMap<(u32, SmolStr), VecDeque<(SmolStr, Ranges)>>);

impl Sequences {
    /// Notes a number; false if it was there already.
    pub(super) fn insert(
        &mut self,
        device: u32,
        metric: &SmolStr,
        boot: &SmolStr,
        seq: u64,
    ) -> bool {
        let boots = self.0.entry((device, metric.clone())).or_default();
        if let Some((_, seen)) = boots.iter_mut().rev().find(|(known, _)| known == boot) {
            return seen.insert(seq);
        }
        if boots.len() == BOOTS_MAX {
            boots.pop_front();
        }
        let mut seen = Ranges::default();
        seen.insert(seq);
        boots.push_back((boot.clone(), seen));
        true
    }
}

/// A set of numbers that mostly follow one another: first → last of each run.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| number <= last) {
            return false;
        }
        let joins_before = before.filter(|(_, last)| last.checked_add(1) == Some(number));
        let after = number.checked_add(1).and_then(|next| self.0.remove(&next));
        let first = joins_before.map_or(number, |(first, _)| first);
        self.0.insert(first, after.unwrap_or(number));
        if self.0.len() > GAPS_MAX {
            self.0.pop_first();
        }
        true
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
            prop_assert_eq!(ranges.0.len(), runs, "numbers that follow one another are one run");
        }
    }

    #[test]
    fn a_new_run_or_another_metric_starts_anew() {
        let mut seen = Sequences::default();
        let (t, h, a, b) = ("temperature".into(), "humidity".into(), "a".into(), "b".into());
        assert!(seen.insert(0, &t, &a, 1));
        assert!(!seen.insert(0, &t, &a, 1));
        assert!(seen.insert(0, &t, &b, 1));
        assert!(seen.insert(0, &h, &a, 1));
        assert!(seen.insert(1, &t, &a, 1));
        assert!(seen.insert(0, &t, &a, u64::MAX));
        assert!(!seen.insert(0, &t, &a, u64::MAX));
    }
}
