use std::collections::VecDeque;

use super::{HOUR_MS, MINUTE_MS, summary::Summary};

/// The readings of one metric in one zone, in the order of (event time,
/// value), with tiles over them. The order does not depend on the order of
/// arrival, so neither does any sum over it.
#[derive(Debug, Default)]
pub(super) struct Series {
    readings: VecDeque<Point>,
    minutes: Tier<MINUTE_MS>,
    hours: Tier<HOUR_MS>,
}

/// One reading; `device` is its number within the zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) event_ms: i64,
    pub(super) value: f64,
    pub(super) device: u32,
}

impl Point {
    fn precedes(&self, other: &Self) -> bool {
        self.event_ms.cmp(&other.event_ms).then(self.value.total_cmp(&other.value)).is_lt()
    }
}

impl Series {
    /// Whether this very reading is there already.
    pub(super) fn contains(&self, point: &Point) -> bool {
        let from = self.readings.partition_point(|p| p.precedes(point));
        self.readings
            .range(from..)
            .take_while(|p| {
                p.event_ms == point.event_ms && p.value.to_bits() == point.value.to_bits()
            })
            .any(|p| p.device == point.device)
    }

    /// Takes one reading, wherever in time it belongs.
    pub(super) fn insert(&mut self, point: Point) {
        let newest = self.readings.back().is_none_or(|last| !point.precedes(last));
        if newest {
            self.readings.push_back(point);
            // A tile that ends with its newest reading grows; the rest of the
            // time it is made anew, in order, so that the result is the same.
            self.minutes.tile(point.event_ms).add(point.event_ms, point.value);
        } else {
            let at = self.readings.partition_point(|p| !point.precedes(p));
            self.readings.insert(at, point);
            let tile = tile_of(point.event_ms, MINUTE_MS);
            *self.minutes.tile(point.event_ms) = self.raw(tile * MINUTE_MS, (tile + 1) * MINUTE_MS);
        }
        *self.hours.tile(point.event_ms) = Summary::default();
    }

    /// The first event time after `at_ms`, ms.
    pub(super) fn next_ms(&self, at_ms: i64) -> Option<i64> {
        let next = self.readings.partition_point(|p| p.event_ms <= at_ms);
        self.readings.get(next).map(|point| point.event_ms)
    }

    /// The newest reading in (`after_ms`, `until_ms`].
    pub(super) fn last(&self, after_ms: i64, until_ms: i64) -> Option<Point> {
        let end = self.readings.partition_point(|p| p.event_ms <= until_ms);
        let point = self.readings.get(end.checked_sub(1)?)?;
        (point.event_ms > after_ms).then_some(*point)
    }

    /// The summary of (`after_ms`, `until_ms`]: whole tiles inside, single
    /// readings at the edges. Which tiles are merged in which order depends on
    /// the two times only.
    pub(super) fn window(&mut self, after_ms: i64, until_ms: i64) -> Summary {
        let Some((oldest, newest)) = self.readings.front().zip(self.readings.back()) else {
            return Summary::default();
        };
        let (after_ms, until_ms) =
            (after_ms.max(oldest.event_ms - 1), until_ms.min(newest.event_ms));
        let (first_minute, end_minute) = (
            after_ms.div_euclid(MINUTE_MS) + i64::from(after_ms.rem_euclid(MINUTE_MS) != 0),
            until_ms.div_euclid(MINUTE_MS),
        );
        if first_minute >= end_minute {
            return self.raw(after_ms, until_ms);
        }
        let mut all = self.raw(after_ms, first_minute * MINUTE_MS);
        let per_hour = HOUR_MS / MINUTE_MS;
        let first_hour =
            first_minute.div_euclid(per_hour) + i64::from(first_minute.rem_euclid(per_hour) != 0);
        let end_hour = end_minute.div_euclid(per_hour);
        if first_hour < end_hour {
            self.minutes.merge_into(&mut all, first_minute, first_hour * per_hour);
            for hour in first_hour..end_hour {
                all.merge(&self.hour(hour));
            }
            self.minutes.merge_into(&mut all, end_hour * per_hour, end_minute);
        } else {
            self.minutes.merge_into(&mut all, first_minute, end_minute);
        }
        all.merge(&self.raw(end_minute * MINUTE_MS, until_ms));
        all
    }

    /// Forgets what is at or before `until_ms`, rounded down to an hour.
    pub(super) fn forget(&mut self, until_ms: i64) {
        let hour = until_ms.div_euclid(HOUR_MS);
        let kept = self.readings.partition_point(|p| p.event_ms <= hour * HOUR_MS);
        self.readings.drain(..kept);
        self.minutes.forget(hour * (HOUR_MS / MINUTE_MS));
        self.hours.forget(hour);
    }

    fn hour(&mut self, hour: i64) -> Summary {
        let known = self.hours.get(hour);
        if known.count() > 0 {
            return known;
        }
        let per_hour = HOUR_MS / MINUTE_MS;
        let mut made = Summary::default();
        self.minutes.merge_into(&mut made, hour * per_hour, (hour + 1) * per_hour);
        if made.count() > 0 {
            *self.hours.tile((hour + 1) * HOUR_MS) = made;
        }
        made
    }

    /// The summary of (`after_ms`, `until_ms`] from single readings.
    fn raw(&self, after_ms: i64, until_ms: i64) -> Summary {
        let mut all = Summary::default();
        if after_ms >= until_ms {
            return all;
        }
        let from = self.readings.partition_point(|p| p.event_ms <= after_ms);
        for point in self.readings.range(from..).take_while(|p| p.event_ms <= until_ms) {
            all.add(point.event_ms, point.value);
        }
        all
    }
}

/// The number of the tile that covers a time: tile k covers (k·w, (k + 1)·w].
fn tile_of(event_ms: i64, width_ms: i64) -> i64 {
    (event_ms - 1).div_euclid(width_ms)
}

/// Tiles of one width, without gaps from `first` on.
#[derive(Debug, Default)]
struct Tier<const WIDTH_MS: i64> {
    first: i64,
    tiles: VecDeque<Summary>,
}

impl<const WIDTH_MS: i64> Tier<WIDTH_MS> {
    fn get(&self, number: i64) -> Summary {
        usize::try_from(number - self.first)
            .ok()
            .and_then(|i| self.tiles.get(i))
            .copied()
            .unwrap_or_default()
    }

    /// The tile that covers `event_ms`, empty if it was not there.
    fn tile(&mut self, event_ms: i64) -> &mut Summary {
        let number = tile_of(event_ms, WIDTH_MS);
        if self.tiles.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.tiles.push_front(Summary::default());
            self.first -= 1;
        }
        let at = usize::try_from(number - self.first).expect("not before the first");
        if at >= self.tiles.len() {
            self.tiles.resize(at + 1, Summary::default());
        }
        &mut self.tiles[at]
    }

    fn merge_into(&self, all: &mut Summary, from: i64, end: i64) {
        let index =
            |number: i64| usize::try_from(number - self.first).unwrap_or(0).min(self.tiles.len());
        for tile in self.tiles.range(index(from)..index(end).max(index(from))) {
            all.merge(tile);
        }
    }

    fn forget(&mut self, below: i64) {
        let gone = usize::try_from(below - self.first).unwrap_or(0).min(self.tiles.len());
        self.tiles.drain(..gone);
        self.first += gone as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(readings: &[(i64, f64)]) -> Series {
        let mut series = Series::default();
        for (event_ms, value) in readings {
            series.insert(Point { event_ms: *event_ms, value: *value, device: 0 });
        }
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
        kept.forget(50 * HOUR_MS + 1);
        assert_eq!(kept.window(0, 100 * HOUR_MS).count(), 50);
        assert_eq!(kept.window(0, 100 * HOUR_MS), series(&hourly[50..]).window(0, 100 * HOUR_MS));
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
                asked_before.insert(Point { event_ms: *event_ms, value: *value, device: 0 });
            }
            let expected = series(&sorted).window(until_ms - 86_400_000, until_ms);
            prop_assert_eq!(series(&shuffled).window(until_ms - 86_400_000, until_ms), expected);
            prop_assert_eq!(asked_before.window(until_ms - 86_400_000, until_ms), expected);
        }
    }
}
