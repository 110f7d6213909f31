use std::collections::VecDeque;

use super::{
    MINUTE_MS,
    quantiles::{Bins, Counts},
    summary::{Hold, Summary},
    tiers::{Tiers, minute_of},
};

/// The readings of one metric in one zone, in the order of (event time,
/// value), with tiles over them. The order does not depend on the order of
/// arrival, so neither does any sum over it.
#[derive(Debug)]
pub(super) struct Series {
    hold: Hold,
    readings: VecDeque<Point>,
    tiers: Tiers,
    /// One for each window that has quantiles.
    counts: Vec<Counts>,
}

/// One reading, packed: event time, ms, above the low 16 bits, the device's
/// number within the zone in them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    key: i64,
    pub(super) value: f64,
}

/// Event times are within this of 1970, ms: 2,200 years.
pub(super) const EVENT_MS_MAX: i64 = 1 << 46;

impl Point {
    pub(super) const fn new(event_ms: i64, value: f64, device: u16) -> Self {
        Self { key: (event_ms << 16) | device as i64, value }
    }

    pub(super) const fn event_ms(self) -> i64 {
        self.key >> 16
    }

    pub(super) const fn device(self) -> u16 {
        self.key as u16
    }

    fn precedes(&self, other: &Self) -> bool {
        let times = self.event_ms().cmp(&other.event_ms());
        times.then(self.value.total_cmp(&other.value)).is_lt()
    }

    /// The same time and the same value, of whichever device.
    fn equals(&self, other: &Self) -> bool {
        self.event_ms() == other.event_ms() && self.value.to_bits() == other.value.to_bits()
    }
}

impl Series {
    /// No readings yet; `quantiles` are the bins of windows that have some.
    pub(super) fn new(hold: Hold, quantiles: usize, bins: Bins) -> Self {
        let counts = (0..quantiles).map(|_| Counts::new(bins)).collect();
        Self { hold, readings: VecDeque::new(), tiers: Tiers::new(hold), counts }
    }

    /// How long values are taken to hold.
    pub(super) const fn hold(&self) -> Hold {
        self.hold
    }

    /// Whether this very reading is there already.
    pub(super) fn contains(&self, point: &Point) -> bool {
        if self.readings.back().is_none_or(|last| last.precedes(point)) {
            return false;
        }
        self.position(point).is_some()
    }

    /// Takes one reading, wherever in time it belongs.
    pub(super) fn insert(&mut self, point: Point) {
        let event_ms = point.event_ms();
        let is_newest = self.readings.back().is_none_or(|last| !point.precedes(last));
        if is_newest && self.tiers.is_newest(minute_of(event_ms)) {
            self.readings.push_back(point);
            self.tiers.add_newest(event_ms, point.value);
        } else {
            let at = self.readings.partition_point(|p| !point.precedes(p));
            self.readings.insert(at, point);
            self.remake(minute_of(event_ms));
        }
        for counts in self.counts.iter_mut().filter(|counts| counts.covers(event_ms)) {
            counts.add(point.value);
        }
    }

    /// Takes a reading out again, if it is there.
    pub(super) fn remove(&mut self, point: &Point) {
        let Some(at) = self.position(point) else { return };
        self.readings.remove(at);
        self.remake(minute_of(point.event_ms()));
        for counts in self.counts.iter_mut().filter(|counts| counts.covers(point.event_ms())) {
            counts.take_away(point.value);
        }
    }

    /// The first event time after `at_ms`, ms.
    pub(super) fn next_ms(&self, at_ms: i64) -> Option<i64> {
        self.readings.get(self.upto(at_ms)).map(|point| point.event_ms())
    }

    /// The newest reading in (`after_ms`, `until_ms`].
    pub(super) fn last(&self, after_ms: i64, until_ms: i64) -> Option<Point> {
        let point = self.readings.get(self.upto(until_ms).checked_sub(1)?)?;
        (point.event_ms() > after_ms).then_some(*point)
    }

    /// The readings in (`after_ms`, `until_ms`], in order.
    pub(super) fn between(&self, after_ms: i64, until_ms: i64) -> impl Iterator<Item = &Point> {
        let from = self.upto(after_ms);
        self.readings.range(from..self.upto(until_ms).max(from))
    }

    /// The summary of (`after_ms`, `until_ms`]: whole tiles inside, single
    /// readings at the edges. Which are merged in which order depends on the
    /// two times only.
    pub(super) fn window(&mut self, after_ms: i64, until_ms: i64) -> Summary {
        let first_minute = -(-after_ms).div_euclid(MINUTE_MS);
        let end_minute = until_ms.div_euclid(MINUTE_MS);
        let mut all = Summary::default();
        if first_minute > end_minute {
            self.add_raw(&mut all, after_ms, until_ms);
            return all;
        }
        self.add_raw(&mut all, after_ms, first_minute * MINUTE_MS);
        self.tiers.merge_into(&mut all, first_minute, end_minute);
        let mut edge = Summary::default();
        self.add_raw(&mut edge, end_minute * MINUTE_MS, until_ms);
        all.merge(&edge, self.hold);
        all
    }

    /// How often each value occurs in (`after_ms`, `until_ms`]; `number` is that
    /// of the window among those with quantiles.
    pub(super) fn counts(&mut self, number: usize, after_ms: i64, until_ms: i64) -> &Counts {
        let counts = &self.counts[number];
        let (old_after, old_until) = (counts.after_ms, counts.until_ms);
        let is_near = after_ms < old_until && old_after < until_ms;
        let mut counts = std::mem::replace(&mut self.counts[number], Counts::new(Bins::Relative));
        if is_near {
            self.between(old_until, until_ms).for_each(|p| counts.add(p.value));
            self.between(after_ms, old_after).for_each(|p| counts.add(p.value));
            self.between(until_ms, old_until).for_each(|p| counts.take_away(p.value));
            self.between(old_after, after_ms).for_each(|p| counts.take_away(p.value));
        } else {
            counts.clear();
            self.between(after_ms, until_ms).for_each(|p| counts.add(p.value));
        }
        (counts.after_ms, counts.until_ms) = (after_ms, until_ms);
        self.counts[number] = counts;
        &self.counts[number]
    }

    /// Forgets what is long before `until_ms`, by whole tiles.
    pub(super) fn forget(&mut self, until_ms: i64) {
        let kept_minute = self.tiers.forget(until_ms.div_euclid(MINUTE_MS));
        let gone = self.readings.partition_point(|p| p.event_ms() <= kept_minute * MINUTE_MS);
        for counts in &mut self.counts {
            // What it has counted is needed to take it away again.
            if counts.after_ms < kept_minute * MINUTE_MS {
                counts.clear();
                (counts.after_ms, counts.until_ms) = (i64::MIN, i64::MIN);
            }
        }
        self.readings.drain(..gone);
    }

    /// How many readings are not after a time. Most questions are of late times.
    fn upto(&self, until_ms: i64) -> usize {
        let (mut end, mut step) = (self.readings.len(), 1);
        while end > 0 {
            let probe = end.saturating_sub(step);
            if self.readings[probe].event_ms() <= until_ms {
                let (mut low, mut high) = (probe + 1, end);
                while low < high {
                    let middle = usize::midpoint(low, high);
                    if self.readings[middle].event_ms() <= until_ms {
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

    fn position(&self, point: &Point) -> Option<usize> {
        let from = self.readings.partition_point(|p| p.precedes(point));
        let equal = self.readings.range(from..).take_while(|p| p.equals(point));
        equal.enumerate().find(|(_, p)| p.device() == point.device()).map(|(i, _)| from + i)
    }

    /// Makes the tile of a minute anew, in order, as if all had come in order.
    fn remake(&mut self, minute: i64) {
        let mut summary = Summary::default();
        self.add_raw(&mut summary, minute * MINUTE_MS, (minute + 1) * MINUTE_MS);
        self.tiers.replace(minute, summary);
    }

    /// Adds the single readings of (`after_ms`, `until_ms`].
    fn add_raw(&self, all: &mut Summary, after_ms: i64, until_ms: i64) {
        if after_ms < until_ms {
            self.between(after_ms, until_ms)
                .for_each(|p| all.add(p.event_ms(), p.value, self.hold));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::HOUR_MS, *};
    use proptest::prelude::*;

    fn series(readings: &[(i64, f64)]) -> Series {
        let mut series = Series::new(Hold::default(), 1, Bins::Even(0.1));
        readings.iter().for_each(|(at, value)| series.insert(Point::new(*at, *value, 0)));
        series
    }

    #[test]
    fn the_left_edge_is_out_and_the_right_edge_is_in() {
        let mut on_edges = series(&[(0, 1.0), (1, 2.0), (600_000, 4.0), (600_001, 8.0)]);
        let window = on_edges.window(0, 600_000);
        assert_eq!((window.count(), window.mean()), (2, Some(3.0)));
        assert_eq!(on_edges.window(600_000, 1_200_000).mean(), Some(8.0));
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_is_not() {
        let hourly: Vec<_> = (1..=100).map(|hour| (hour * HOUR_MS, hour as f64)).collect();
        let mut kept = series(&hourly);
        kept.window(0, 90 * HOUR_MS);
        kept.counts(0, 0, 90 * HOUR_MS);
        // Two tiles of 1,024 minutes end at 34 h 8 min.
        kept.forget(50 * HOUR_MS + 1);
        assert_eq!(kept.window(0, 100 * HOUR_MS).count(), 66);
        assert_eq!(kept.window(0, 100 * HOUR_MS), series(&hourly[34..]).window(0, 100 * HOUR_MS));
        assert_eq!(kept.counts(0, 0, 100 * HOUR_MS).quantile(0.0), Some(35.0));
    }

    #[test]
    fn a_reading_taken_out_leaves_no_trace() {
        let all: Vec<_> = (0..500).map(|i| (i * 20_000, (i % 37) as f64)).collect();
        let mut without = series(&all);
        let (from, to) = (0, 500 * 20_000);
        without.window(from, to);
        without.counts(0, from, to);
        let extra = Point::new(1_234_567, 99.0, 3);
        without.insert(extra);
        assert!(without.contains(&extra));
        assert_eq!(without.window(from, to).max(), Some(99.0));
        without.remove(&extra);
        assert!(!without.contains(&extra));
        assert_eq!(without.window(from, to), series(&all).window(from, to));
        assert_eq!(without.counts(0, from, to).quantile(1.0), Some(36.0));
    }

    /// Readings over three days, not in order, some twice at one time.
    fn readings() -> impl Strategy<Value = Vec<(i64, f64)>> {
        prop::collection::vec((0..3 * 86_400_i64, -400..400_i32), 1..300)
            .prop_map(|all| all.into_iter().map(|(s, v)| (s * 1000, f64::from(v) / 10.0)).collect())
    }

    proptest! {
        #[test]
        fn a_window_is_what_a_loop_over_all_readings_finds(
            all in readings(), until_ms in 0..260_000_000_i64, width_s in 1..200_000_i64,
        ) {
            let after_ms = until_ms - width_s * 1000;
            let window = series(&all).window(after_ms, until_ms);
            let mut inside: Vec<_> =
                all.iter().copied().filter(|(at, _)| *at > after_ms && *at <= until_ms).collect();
            inside.sort_by(|a, b| a.partial_cmp(b).unwrap());
            prop_assert_eq!(window.count() as usize, inside.len());
            if inside.is_empty() { return Ok(()); }
            let n = inside.len() as f64;
            let mean = inside.iter().map(|(_, v)| v).sum::<f64>() / n;
            let m2: f64 = inside.iter().map(|(_, v)| (v - mean).powi(2)).sum();
            prop_assert!((window.mean().unwrap() - mean).abs() < 1e-9);
            let mut values: Vec<f64> = inside.iter().map(|r| r.1).collect();
            values.sort_by(f64::total_cmp);
            let mut counted = series(&all);
            counted.counts(0, after_ms - 3_600_000, until_ms - 60_000); // it may move there
            let median = counted.counts(0, after_ms, until_ms).quantile(0.5).unwrap();
            prop_assert!((median - values[values.len().div_ceil(2) - 1]).abs() < 1e-9);
            prop_assert_eq!(window.last().unwrap(), (inside[inside.len() - 1].1, inside[inside.len() - 1].0));
            prop_assert_eq!(window.min().unwrap(), inside.iter().map(|r| r.1).fold(f64::INFINITY, f64::min));
            prop_assert_eq!(window.max().unwrap(), inside.iter().map(|r| r.1).fold(f64::NEG_INFINITY, f64::max));
            if inside.len() > 1 {
                prop_assert!((window.std().unwrap() - (m2 / (n - 1.0)).sqrt()).abs() < 1e-9);
                let hours = |at: i64| (at - inside[0].0) as f64 / HOUR_MS as f64;
                let t = inside.iter().map(|r| hours(r.0)).sum::<f64>() / n;
                let tt: f64 = inside.iter().map(|r| (hours(r.0) - t).powi(2)).sum();
                let tv: f64 = inside.iter().map(|r| (hours(r.0) - t) * (r.1 - mean)).sum();
                if tt > 0.0 {
                    let slope = tv / tt;
                    prop_assert!((window.slope_per_hour().unwrap() - slope).abs() <= 1e-7 * slope.abs().max(1.0));
                }
            }
        }

        #[test]
        fn the_order_of_arrival_does_not_show_in_a_single_bit(
            (all, shuffled) in readings().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
            until_ms in 0..260_000_000_i64,
        ) {
            let mut sorted = all;
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let mut asked_before = series(&sorted[..sorted.len() / 2]);
            asked_before.window(until_ms - 86_400_000, until_ms);
            for (event_ms, value) in &sorted[sorted.len() / 2..] {
                asked_before.insert(Point::new(*event_ms, *value, 0));
            }
            let expected = series(&sorted).window(until_ms - 86_400_000, until_ms);
            prop_assert_eq!(series(&shuffled).window(until_ms - 86_400_000, until_ms), expected);
            prop_assert_eq!(asked_before.window(until_ms - 86_400_000, until_ms), expected);
        }
    }
}
