use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    HOUR_MS, MINUTE_MS,
    window_summary::{HoldDuration, WindowSummary},
};

/// Readings of one metric in one zone, sorted by (event time, value). The order does not depend
/// on the order of arrival, so neither does any sum.
#[derive(Debug)]
pub(super) struct SortedReadings {
    hold: HoldDuration,
    points: VecDeque<PackedReading>,
}

/// One reading, packed: the event time, ms, is above the low 16 bits; the low 16 bits are the
/// device's number within the zone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PackedReading {
    key: i64,
    pub(super) value: f64,
}

/// Largest distance of an event time from 1970, ms: 2,200 years.
pub(super) const EVENT_MS_MAX: i64 = 1 << 46;

/// Readings per cache line, which has 64 bytes on most processors.
const READINGS_PER_LINE: usize = 64 / size_of::<PackedReading>();
/// Cache lines at the end of the readings that the newest rows use. With a reading every five
/// seconds, they hold three minutes.
const NEWEST_LINES: usize = 9;

/// Number of the hour that contains an event time, ms: hour k is (k·3,600,000 ms,
/// (k + 1)·3,600,000 ms].
pub(super) const fn hour_of(event_ms: i64) -> i64 {
    (event_ms - 1).div_euclid(HOUR_MS)
}

impl PackedReading {
    pub(super) const fn new(event_ms: i64, value: f64, device: u16) -> Self {
        Self { key: (event_ms << 16) | device as i64, value }
    }

    pub(super) const fn event_ms(self) -> i64 {
        self.key >> 16
    }

    pub(super) const fn device(self) -> u16 {
        self.key as u16
    }

    /// Returns the number of the minute that contains the reading.
    pub(super) const fn minute(self) -> i64 {
        (self.event_ms() - 1).div_euclid(MINUTE_MS)
    }

    /// Returns the number of the hour that contains the reading. Hours are forgotten as a whole.
    pub(super) const fn hour(self) -> i64 {
        hour_of(self.event_ms())
    }

    /// Returns whether this reading sorts before the other.
    pub(super) fn precedes(&self, other: &Self) -> bool {
        self.compare(other).is_lt()
    }

    /// Compares by event time, then by value.
    pub(super) fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let times = self.event_ms().cmp(&other.event_ms());
        times.then(self.value.total_cmp(&other.value))
    }

    /// Returns whether time and value are equal, whatever the devices.
    fn is_same_reading(&self, other: &Self) -> bool {
        self.event_ms() == other.event_ms() && self.value.to_bits() == other.value.to_bits()
    }
}

impl SortedReadings {
    pub(super) const fn new(hold: HoldDuration) -> Self {
        Self { hold, points: VecDeque::new() }
    }

    /// Returns whether an equal reading of the same device is present.
    pub(super) fn contains(&self, point: &PackedReading) -> bool {
        if self.points.back().is_none_or(|last| last.precedes(point)) {
            return false;
        }
        self.find_position(point).is_some()
    }

    /// Inserts a reading at its position in time.
    pub(super) fn insert(&mut self, point: PackedReading) {
        if self.points.back().is_none_or(|last| !point.precedes(last)) {
            self.points.push_back(point);
        } else {
            let at = self.find_first_not(|p| !point.precedes(p));
            self.points.insert(at, point);
        }
    }

    /// Inserts sorted readings at their positions in time, in one pass over the readings after
    /// the first of them.
    pub(super) fn insert_sorted(&mut self, batch: &[PackedReading]) {
        let Some(first) = batch.first() else { return };
        let at = self.find_first_not(|point| !first.precedes(point));
        if at == self.points.len() {
            self.points.extend(batch);
            return;
        }
        let mut later = self.points.split_off(at).into_iter().peekable();
        for point in batch {
            while let Some(earlier) = later.next_if(|other| !point.precedes(other)) {
                self.points.push_back(earlier);
            }
            self.points.push_back(*point);
        }
        self.points.extend(later);
    }

    /// Removes sorted readings, in one pass over the readings after the first of them. Skips
    /// readings that are not present.
    pub(super) fn remove_sorted(&mut self, batch: &[PackedReading]) {
        let Some(first) = batch.first() else { return };
        let at = self.find_first_not(|point| point.precedes(first));
        let later = self.points.split_off(at);
        // Different readings may have equal derived values: each removes one.
        let mut is_removed = vec![false; batch.len()];
        let mut next = 0;
        for point in later {
            while batch.get(next).is_some_and(|other| other.precedes(&point)) {
                next += 1;
            }
            let mut equal =
                (next..batch.len()).take_while(|own| batch[*own].is_same_reading(&point));
            let found =
                equal.find(|own| !is_removed[*own] && batch[*own].device() == point.device());
            match found {
                Some(own) => is_removed[own] = true,
                None => self.points.push_back(point),
            }
        }
    }

    /// Returns the number of readings later than `at_ms`.
    pub(super) fn count_after(&self, at_ms: i64) -> usize {
        self.points.len() - self.count_until(at_ms)
    }

    /// Returns the first event time after `at_ms`, ms.
    pub(super) fn next_event_ms(&self, at_ms: i64) -> Option<i64> {
        self.points.get(self.count_until(at_ms)).map(|point| point.event_ms())
    }

    /// Returns the newest reading in (`after_ms`, `until_ms`].
    pub(super) fn last_in_span(&self, after_ms: i64, until_ms: i64) -> Option<PackedReading> {
        let point = self.points.get(self.count_until(until_ms).checked_sub(1)?)?;
        (point.event_ms() > after_ms).then_some(*point)
    }

    /// Iterates over the readings in (`after_ms`, `until_ms`], in order.
    pub(super) fn iter_between(
        &self,
        after_ms: i64,
        until_ms: i64,
    ) -> impl Iterator<Item = &PackedReading> {
        // Most edges fall on a minute and the span is empty: not worth a search.
        let end = if after_ms < until_ms { self.count_until(until_ms) } else { 0 };
        let from = if after_ms < until_ms { self.count_until(after_ms) } else { 0 };
        self.points.range(from..end)
    }

    /// For a window that held `count` readings up to `old_until_ms` and moved to (`after_ms`,
    /// `until_ms`]: the readings that left it and those that entered it. The count gives the old
    /// start, which saves a search in memory that is no longer cached.
    pub(super) fn split_moved_window(
        &self,
        old_until_ms: i64,
        count: usize,
        after_ms: i64,
        until_ms: i64,
    ) -> (impl Iterator<Item = &PackedReading>, impl Iterator<Item = &PackedReading>) {
        let end = self.count_until(old_until_ms);
        let upto = |ms| move |point: &&PackedReading| point.event_ms() <= ms;
        (
            self.points.range(end - count..end).take_while(upto(after_ms)),
            self.points.range(end..).take_while(upto(until_ms)),
        )
    }

    /// Summarises (`after_ms`, `until_ms`] from single readings.
    pub(super) fn summarize_span(&self, after_ms: i64, until_ms: i64) -> WindowSummary {
        let mut sum = WindowSummary::default();
        self.iter_between(after_ms, until_ms)
            .for_each(|p| sum.add_reading(p.event_ms(), p.value, self.hold));
        sum
    }

    /// Summarises one minute.
    pub(super) fn summarize_minute(&self, minute: i64) -> WindowSummary {
        self.summarize_span(minute * MINUTE_MS, (minute + 1) * MINUTE_MS)
    }

    /// Calls `take` with the summary of each minute from `from` to `end` − 1 that has readings,
    /// in order.
    pub(super) fn for_each_minute(
        &self,
        from: i64,
        end: i64,
        mut take: impl FnMut(i64, &WindowSummary),
    ) {
        let mut current = i64::MIN;
        let mut sum = WindowSummary::default();
        for point in self.iter_between(from * MINUTE_MS, end * MINUTE_MS) {
            if point.event_ms() > (current + 1).saturating_mul(MINUTE_MS) {
                if sum.count() > 0 {
                    take(current, &sum);
                }
                (current, sum) = (point.minute(), WindowSummary::default());
            }
            sum.add_reading(point.event_ms(), point.value, self.hold);
        }
        if sum.count() > 0 {
            take(current, &sum);
        }
    }

    /// Reads the newest readings, to bring them into the processor's cache: see
    /// [`SlidingWindow::prefetch_head`](super::sliding_window::SlidingWindow::prefetch_head).
    pub(super) fn prefetch_newest(&self) {
        for point in self.points.iter().rev().step_by(READINGS_PER_LINE).take(NEWEST_LINES) {
            std::hint::black_box(point.key);
        }
    }

    /// Returns the hour of the oldest reading.
    pub(super) fn first_hour(&self) -> Option<i64> {
        self.points.front().map(|point| point.hour())
    }

    /// Returns the hours that have readings, in order.
    pub(super) fn hours(&self) -> impl Iterator<Item = i64> {
        let mut next = self.first_hour();
        std::iter::from_fn(move || {
            let hour = next?;
            next = self.next_event_ms((hour + 1) * HOUR_MS).map(hour_of);
            Some(hour)
        })
    }

    /// Removes readings up to `until_ms`.
    pub(super) fn forget_before(&mut self, until_ms: i64) {
        let gone = self.points.partition_point(|p| p.event_ms() <= until_ms);
        self.points.drain(..gone);
    }

    /// Returns the number of readings up to a time.
    fn count_until(&self, until_ms: i64) -> usize {
        self.find_first_not(|p| p.event_ms() <= until_ms)
    }

    /// Position of the first reading for which `is_before` is false; all readings before it must
    /// satisfy `is_before`. Searches from the end in steps that double, as most searches are for
    /// late times. Source: J. L. Bentley, A. C. Yao, "An almost optimal algorithm for unbounded
    /// searching", Information Processing Letters 5(3), 1976.
    fn find_first_not(&self, is_before: impl Fn(&PackedReading) -> bool) -> usize {
        let (mut end, mut step) = (self.points.len(), 1);
        while end > 0 {
            let probe = end.saturating_sub(step);
            if is_before(&self.points[probe]) {
                let (mut low, mut high) = (probe + 1, end);
                while low < high {
                    let middle = usize::midpoint(low, high);
                    if is_before(&self.points[middle]) {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                return low;
            }
            (end, step) = (probe, step * 2);
        }
        0
    }

    fn find_position(&self, point: &PackedReading) -> Option<usize> {
        let from = self.find_first_not(|p| p.precedes(point));
        let equal = self.points.range(from..).take_while(|p| p.is_same_reading(point));
        equal.enumerate().find(|(_, p)| p.device() == point.device()).map(|(i, _)| from + i)
    }
}
