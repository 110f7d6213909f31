use serde::{Deserialize, Serialize};

/// Largest number of ranges; beyond it, the two nearest are merged.
const RANGES_MAX: usize = 64;

/// Times of rows that must be recomputed, as ranges of the grid. Each range has its first and
/// last row, both included. Ranges are sorted by time and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowRanges(Vec<(i64, i64)>);

impl RowRanges {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the ranges in the order of time.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().copied()
    }

    /// Returns the first time, ms.
    pub(super) fn first_ms(&self) -> Option<i64> {
        self.0.first().map(|(first_ms, _)| *first_ms)
    }

    /// Adds the rows from `first_ms` to `last_ms`, which lie `grid_ms` apart. Adds nothing if the
    /// first is later than the last. Merges ranges that touch.
    pub(super) fn add_range(&mut self, mut first_ms: i64, mut last_ms: i64, grid_ms: i64) {
        if first_ms > last_ms {
            return;
        }
        let from = self.0.partition_point(|(_, last)| last.saturating_add(grid_ms) < first_ms);
        let end = self.0.partition_point(|(first, _)| *first <= last_ms.saturating_add(grid_ms));
        if from < end {
            first_ms = first_ms.min(self.0[from].0);
            last_ms = last_ms.max(self.0[end - 1].1);
        }
        self.0.splice(from..end, [(first_ms, last_ms)]);
        if self.0.len() > RANGES_MAX {
            let gap = |at: &usize| self.0[at + 1].0.saturating_sub(self.0[*at].1);
            let nearest = (0..self.0.len() - 1).min_by_key(gap).unwrap_or_default();
            self.0[nearest].1 = self.0[nearest + 1].1;
            self.0.remove(nearest + 1);
        }
    }

    /// Removes and returns the rows after `after_ms` up to `until_ms`, both of which are grid
    /// times.
    pub(super) fn take_range(
        &mut self,
        after_ms: i64,
        until_ms: i64,
        grid_ms: i64,
    ) -> Vec<(i64, i64)> {
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for (first_ms, last_ms) in self.0.drain(..) {
            let (from_ms, to_ms) =
                (first_ms.max(after_ms.saturating_add(grid_ms)), last_ms.min(until_ms));
            if from_ms > to_ms {
                left.push((first_ms, last_ms));
                continue;
            }
            taken.push((from_ms, to_ms));
            if first_ms < from_ms {
                left.push((first_ms, from_ms - grid_ms));
            }
            if to_ms < last_ms {
                left.push((to_ms + grid_ms, last_ms));
            }
        }
        self.0 = left;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn rows(ranges: &RowRanges) -> BTreeSet<i64> {
        ranges.iter().flat_map(|(first, last)| (first..=last).step_by(10)).collect()
    }

    proptest! {
        #[test]
        fn ranges_are_a_set_of_rows(
            added in prop::collection::vec((0..200_i64, 0..9_i64), 0..40),
            after in -5..200_i64, until in -5..220_i64,
        ) {
            let (mut ranges, mut set) = (RowRanges::default(), BTreeSet::new());
            for (first, count) in added {
                ranges.add_range(first * 10, (first + count) * 10, 10);
                set.extend((first..=first + count).map(|row| row * 10));
            }
            prop_assert_eq!(rows(&ranges), set.clone());
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 10 < pair[1].0));
            let taken = RowRanges(ranges.take_range(after * 10, until * 10, 10));
            let is_taken = |row: &i64| *row > after * 10 && *row <= until * 10;
            prop_assert_eq!(rows(&taken), set.iter().copied().filter(is_taken).collect::<BTreeSet<_>>());
            set.retain(|row| !is_taken(row));
            prop_assert_eq!(rows(&ranges), set);
        }

        #[test]
        fn many_ranges_are_bounded_and_lose_no_row(firsts in prop::collection::vec(0..5000_i64, 0..300)) {
            let mut ranges = RowRanges::default();
            firsts.iter().for_each(|first| ranges.add_range(first * 30, first * 30, 10));
            prop_assert!(ranges.0.len() <= RANGES_MAX);
            prop_assert!(firsts.iter().all(|first| rows(&ranges).contains(&(first * 30))));
        }
    }

    #[test]
    fn an_empty_range_adds_nothing() {
        let mut ranges = RowRanges::default();
        ranges.add_range(20, 10, 10);
        assert!(ranges.is_empty());
    }
}
