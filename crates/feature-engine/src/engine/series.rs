use super::{
    HOUR_MS, MINUTE_MS,
    quantiles::{QuantileBins, ValueCounts},
    sliding_window::{self, SlidingWindow},
    sorted_readings::{PackedReading, SortedReadings},
    time_blocks::TimeBlocks,
    window_summary::{HoldDuration, WindowSummary},
};

/// Readings of one metric in one zone, and the windows over them.
#[derive(Debug)]
pub(super) struct MetricSeries {
    hold: HoldDuration,
    readings: SortedReadings,
    /// Blocks of each length that the windows need.
    blocks: Vec<TimeBlocks>,
    windows: Vec<SeriesWindow>,
    /// Time up to which cached sums and counts have readings, ms; none has a later reading.
    summarized_until_ms: i64,
}

#[derive(Debug)]
struct SeriesWindow {
    /// Index of the blocks that the window consists of.
    blocks: usize,
    sliding: SlidingWindow,
    /// Present if the window has quantiles.
    counts: Option<Box<ValueCounts>>,
}

impl MetricSeries {
    /// Creates a series without readings. Each window has a width, ms, and may have quantiles.
    pub(super) fn new(
        hold: HoldDuration,
        windows: impl Iterator<Item = (i64, bool)>,
        bins: QuantileBins,
    ) -> Self {
        let mut blocks: Vec<TimeBlocks> = Vec::new();
        let windows = windows.map(|(width_ms, has_quantiles)| {
            let minutes = width_ms / MINUTE_MS;
            let length = sliding_window::block_minutes_for(minutes);
            let known = blocks.iter().position(|known| known.minutes() == length);
            let number = known.unwrap_or(blocks.len());
            if known.is_none() {
                blocks.push(TimeBlocks::new(length, hold));
            }
            if minutes > length {
                blocks[number].enable_totals();
            }
            SeriesWindow {
                blocks: number,
                sliding: SlidingWindow::new(hold),
                counts: has_quantiles.then(|| Box::new(ValueCounts::new(bins))),
            }
        });
        let windows = windows.collect();
        Self {
            hold,
            readings: SortedReadings::new(hold),
            blocks,
            windows,
            summarized_until_ms: i64::MIN,
        }
    }

    /// Returns how long a value is taken to hold.
    pub(super) const fn hold(&self) -> HoldDuration {
        self.hold
    }

    /// Returns the single readings.
    pub(super) const fn readings(&self) -> &SortedReadings {
        &self.readings
    }

    /// Inserts one reading, at any time.
    pub(super) fn insert(&mut self, point: PackedReading) {
        self.readings.insert(point);
        self.note_change(&point, ValueCounts::add_value);
    }

    /// Inserts sorted readings, at any times, in one pass.
    pub(super) fn insert_sorted(&mut self, batch: &[PackedReading]) {
        self.readings.insert_sorted(batch);
        self.note_changes(batch, ValueCounts::add_value);
    }

    /// Removes sorted readings, all of which must be present, in one pass.
    pub(super) fn remove_sorted(&mut self, batch: &[PackedReading]) {
        self.readings.remove_sorted(batch);
        self.note_changes(batch, ValueCounts::remove_value);
    }

    fn note_changes(&mut self, batch: &[PackedReading], count: impl Fn(&mut ValueCounts, f64)) {
        for minute in batch.chunk_by(|a, b| a.minute() == b.minute()) {
            self.invalidate_minute(&minute[0]);
        }
        batch.iter().for_each(|point| self.adjust_counts(point, &count));
    }

    /// Updates cached sums and counts for one reading. Most readings are later than all cached
    /// sums.
    fn note_change(&mut self, point: &PackedReading, count: impl Fn(&mut ValueCounts, f64)) {
        self.invalidate_minute(point);
        self.adjust_counts(point, &count);
    }

    /// Drops the cached sums that contain the minute of a reading.
    fn invalidate_minute(&mut self, point: &PackedReading) {
        let minute = point.minute();
        if minute * MINUTE_MS >= self.summarized_until_ms {
            return;
        }
        self.blocks.iter_mut().for_each(|blocks| blocks.invalidate_minute(minute));
        for window in &mut self.windows {
            window.sliding.invalidate_minute(&self.blocks[window.blocks], minute);
        }
    }

    fn adjust_counts(&mut self, point: &PackedReading, count: &impl Fn(&mut ValueCounts, f64)) {
        let event_ms = point.event_ms();
        if event_ms > self.summarized_until_ms {
            return;
        }
        for counts in self.windows.iter_mut().filter_map(|window| window.counts.as_mut()) {
            if counts.contains_time(event_ms) {
                count(counts, point.value);
            }
        }
    }

    /// Summarises (`after_ms`, `until_ms`] for the window with this number, from whole minutes
    /// inside and single readings at the edges. The order of merging depends on the window and
    /// the two times only.
    pub(super) fn summarize_window(
        &mut self,
        number: usize,
        after_ms: i64,
        until_ms: i64,
    ) -> WindowSummary {
        let first = -(-after_ms).div_euclid(MINUTE_MS);
        let end = until_ms.div_euclid(MINUTE_MS);
        if first >= end {
            return self.readings.summarize_span(after_ms, until_ms);
        }
        self.advance_to(until_ms, end);
        let mut all = self.readings.summarize_span(after_ms, first * MINUTE_MS);
        let window = &mut self.windows[number];
        let blocks = &mut self.blocks[window.blocks];
        let inside = window.sliding.summarize_window(&self.readings, blocks, first, end);
        all.merge(&inside, self.hold);
        all.merge(&self.readings.summarize_span(end * MINUTE_MS, until_ms), self.hold);
        all
    }

    /// Advances all blocks, as all windows of a row have the same end.
    fn advance_to(&mut self, until_ms: i64, end: i64) {
        self.summarized_until_ms = self.summarized_until_ms.max(until_ms);
        let mut passed = None;
        for blocks in &mut self.blocks {
            blocks.advance_to(&self.readings, end, &mut passed);
        }
    }

    /// Prefetches the memory that [`MetricSeries::summarize_window`] will need, for windows that
    /// begin after these times.
    pub(super) fn prefetch_windows(&self, after_ms: impl Iterator<Item = i64>) {
        self.readings.prefetch_newest();
        for (window, after_ms) in self.windows.iter().zip(after_ms) {
            let from = -(-after_ms).div_euclid(MINUTE_MS);
            window.sliding.prefetch_head(&self.blocks[window.blocks], from);
        }
    }

    /// Counts the values in (`after_ms`, `until_ms`] for the window with this number. Returns
    /// `None` if it has no quantiles.
    pub(super) fn count_window_values(
        &mut self,
        number: usize,
        after_ms: i64,
        until_ms: i64,
    ) -> Option<&ValueCounts> {
        let counts = self.windows[number].counts.as_mut()?;
        self.summarized_until_ms = self.summarized_until_ms.max(until_ms);
        let (old_after, old_until) = (counts.after_ms, counts.until_ms);
        let between = |after_ms, until_ms| self.readings.iter_between(after_ms, until_ms);
        if after_ms < old_until && old_after < until_ms {
            let (left, came) =
                self.readings.split_moved_window(old_until, counts.total(), after_ms, until_ms);
            came.for_each(|p| counts.add_value(p.value));
            between(after_ms, old_after).for_each(|p| counts.add_value(p.value));
            left.for_each(|p| counts.remove_value(p.value));
            between(until_ms, old_until).for_each(|p| counts.remove_value(p.value));
        } else {
            counts.clear();
            between(after_ms, until_ms).for_each(|p| counts.add_value(p.value));
        }
        (counts.after_ms, counts.until_ms) = (after_ms, until_ms);
        Some(counts)
    }

    /// Removes readings before `until_ms`, rounded down to an hour.
    pub(super) fn forget_before(&mut self, until_ms: i64) {
        let kept_ms = until_ms.div_euclid(HOUR_MS) * HOUR_MS;
        for counts in self.windows.iter_mut().filter_map(|window| window.counts.as_mut()) {
            // The counts can only shrink while the counted readings exist, so they start again.
            if counts.after_ms < kept_ms {
                counts.clear();
                (counts.after_ms, counts.until_ms) = (i64::MIN, i64::MIN);
            }
        }
        let minute = kept_ms.div_euclid(MINUTE_MS);
        for window in &mut self.windows {
            window.sliding.forget_before(&self.blocks[window.blocks], minute);
        }
        self.blocks.iter_mut().for_each(|blocks| blocks.forget_before(minute));
        self.readings.forget_before(kept_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(readings: &[(i64, f64)]) -> MetricSeries {
        let windows =
            [(600_000, true), (HOUR_MS, false), (24 * HOUR_MS, true), (7 * HOUR_MS, false)];
        let mut series = MetricSeries::new(
            HoldDuration::default(),
            windows.into_iter(),
            QuantileBins::Even(0.1),
        );
        readings.iter().for_each(|(at, value)| series.insert(PackedReading::new(*at, *value, 0)));
        series
    }

    #[test]
    fn the_left_edge_is_out_and_the_right_edge_is_in() {
        let mut on_edges = series(&[(0, 1.0), (1, 2.0), (600_000, 4.0), (600_001, 8.0)]);
        let window = on_edges.summarize_window(0, 0, 600_000);
        assert_eq!((window.count(), window.mean()), (2, Some(3.0)));
        assert_eq!(on_edges.summarize_window(0, 600_000, 1_200_000).mean(), Some(8.0));
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_is_not() {
        let hourly: Vec<_> = (1..=100).map(|hour| (hour * HOUR_MS, hour as f64)).collect();
        let mut kept = series(&hourly);
        kept.summarize_window(2, 0, 90 * HOUR_MS);
        kept.count_window_values(0, 0, 90 * HOUR_MS);
        kept.forget_before(50 * HOUR_MS + 1);
        assert_eq!(kept.summarize_window(2, 0, 100 * HOUR_MS).count(), 50);
        assert_eq!(
            kept.summarize_window(2, 0, 100 * HOUR_MS),
            series(&hourly[50..]).summarize_window(2, 0, 100 * HOUR_MS)
        );
        assert_eq!(
            kept.count_window_values(0, 0, 100 * HOUR_MS).unwrap().quantile(0.0),
            Some(51.0)
        );
    }

    #[test]
    fn a_reading_taken_out_leaves_no_trace() {
        let all: Vec<_> = (0..500).map(|i| (i * 20_000, (i % 37) as f64)).collect();
        let mut without = series(&all);
        let (from, to) = (0, 500 * 20_000);
        without.summarize_window(2, from, to);
        without.count_window_values(0, from, to);
        let extra = PackedReading::new(1_234_567, 99.0, 3);
        // One of them has the time and value of another device's reading.
        let batch = [
            extra,
            PackedReading::new(1_240_000, 62.0 % 37.0, 3),
            PackedReading::new(to + 5, 7.0, 3),
        ];
        without.insert_sorted(&batch);
        assert!(batch.iter().all(|point| without.readings().contains(point)));
        assert_eq!(without.summarize_window(2, from, to).max(), Some(99.0));
        without.remove_sorted(&batch);
        assert!(!batch.iter().any(|point| without.readings().contains(point)));
        assert_eq!(
            without.summarize_window(2, from, to),
            series(&all).summarize_window(2, from, to)
        );
        assert_eq!(without.count_window_values(0, from, to).unwrap().quantile(1.0), Some(36.0));
    }

    /// Readings over three days, unsorted, some twice at the same time.
    fn readings() -> impl Strategy<Value = Vec<(i64, f64)>> {
        prop::collection::vec((0..3 * 86_400_i64, -400..400_i32), 1..300)
            .prop_map(|all| all.into_iter().map(|(s, v)| (s * 1000, f64::from(v) / 10.0)).collect())
    }

    proptest! {
        #[test]
        fn a_window_is_what_a_loop_over_all_readings_finds(
            all in readings(), until_ms in 0..260_000_000_i64, width_s in 1..200_000_i64, number in 0..4_usize,
        ) {
            let after_ms = until_ms - width_s * 1000;
            let mut asked = series(&all);
            asked.summarize_window(number, after_ms - 3_600_000, until_ms - 60_000); // it may move there
            let window = asked.summarize_window(number, after_ms, until_ms);
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
            counted.count_window_values(0, after_ms - 3_600_000, until_ms - 60_000); // it may move there
            let median = counted.count_window_values(0, after_ms, until_ms).unwrap().quantile(0.5).unwrap();
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
            until_ms in 0..260_000_000_i64, number in 0..4_usize, minutes in 1..1440_i64,
        ) {
            let after_ms = until_ms - minutes * 60_000;
            let mut sorted = all;
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let mut asked_before = series(&sorted[..sorted.len() / 2]);
            asked_before.summarize_window(number, after_ms, until_ms);
            asked_before.summarize_window(number, after_ms + 3_600_000, until_ms + 3_600_000);
            let later: Vec<PackedReading> = sorted[sorted.len() / 2..]
                .iter().map(|(event_ms, value)| PackedReading::new(*event_ms, *value, 0)).collect();
            let (some, others): (Vec<PackedReading>, Vec<PackedReading>) =
                later.iter().partition(|point| point.event_ms() % 3 == 0);
            asked_before.insert_sorted(&some);
            for point in others {
                asked_before.insert(point);
            }
            let expected = series(&sorted).summarize_window(number, after_ms, until_ms);
            prop_assert_eq!(series(&shuffled).summarize_window(number, after_ms, until_ms), expected);
            prop_assert_eq!(asked_before.summarize_window(number, after_ms, until_ms), expected);
        }
    }
}
