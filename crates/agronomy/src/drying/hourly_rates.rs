use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{HOUR_MS, MoisturePoint};

/// Number of hours that are remembered.
const MEMORY_H: i64 = 7 * 24;
/// Number of parts into which a day is divided.
const PARTS: usize = 8;
const PART_H: i64 = 24 / PARTS as i64;
/// Hours at the mean rate that are mixed into each part of the day, so that a part with one
/// observed hour does not dominate.
const PRIOR_H: f64 = 4.0;
/// Length of the blocks, hours, between which the spread of the rate is measured. Hours within a
/// block are not independent.
const BLOCK_H: i64 = 6;
/// Spread, in multiples of the mean, while there are fewer than two blocks.
const UNKNOWN_SPREAD: f64 = 0.5;

/// Moisture lost in each of the last hours, waterings cut out. Every result is summed from the
/// stored hours, in the order of time, so that rounding errors do not accumulate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct HourlyRates(VecDeque<DryingHour>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct DryingHour {
    /// Hours since 1970.
    number: i64,
    /// Moisture lost, %, in `hours`, 0–1.
    lost_pct: f64,
    hours: f64,
}

/// Drying rate of a soil, with its daily rhythm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct DryingRate {
    /// Mean rate, %/h; negative where moisture rises.
    pub(super) mean_pct_h: f64,
    /// Standard deviation of the rate of the next hours, %/h, ≥ 0.
    pub(super) spread_pct_h: f64,
    /// Rate of each part of the day (UTC) divided by the mean, ≥ 0, 1 on average.
    rhythm: [f64; PARTS],
}

impl HourlyRates {
    /// Adds the change of moisture between two readings.
    pub(super) fn add_interval(&mut self, from: MoisturePoint, to: MoisturePoint) {
        let span_ms = to.ms.saturating_sub(from.ms);
        if span_ms <= 0 {
            return;
        }
        let newest = (to.ms - 1).div_euclid(HOUR_MS);
        while self.0.front().is_some_and(|hour| hour.number <= newest - MEMORY_H) {
            self.0.pop_front();
        }
        let first = from.ms.div_euclid(HOUR_MS).max(newest - MEMORY_H + 1);
        for number in first..=newest {
            let begin = from.ms.max(number * HOUR_MS);
            let end = to.ms.min((number + 1) * HOUR_MS);
            let share = (end - begin) as f64 / span_ms as f64;
            let hour = self.hour_entry(number);
            hour.lost_pct += (from.pct - to.pct) * share;
            hour.hours += (end - begin) as f64 / HOUR_MS as f64;
        }
    }

    /// Entry of an hour. Numbers come in order, so it is the last entry or a new one.
    fn hour_entry(&mut self, number: i64) -> &mut DryingHour {
        if self.0.back().is_none_or(|hour| hour.number < number) {
            self.0.push_back(DryingHour { number, lost_pct: 0.0, hours: 0.0 });
        }
        self.0.back_mut().expect("one was pushed")
    }

    /// Forgets the hours that overlap this interval, because it was no drying.
    pub(super) fn forget_hours(&mut self, from_ms: i64, to_ms: i64) {
        let (first, last) = (from_ms.div_euclid(HOUR_MS), (to_ms - 1).div_euclid(HOUR_MS));
        for hour in self.0.iter_mut().rev().take_while(|hour| hour.number >= first) {
            if hour.number <= last {
                (hour.lost_pct, hour.hours) = (0.0, 0.0);
            }
        }
    }

    /// Drying rate of the last `days` before a time. `None` with less than an hour of drying.
    pub(super) fn recent_rate(&self, at_ms: i64, days: u8) -> Option<DryingRate> {
        let since = (at_ms - 1).div_euclid(HOUR_MS) - 24 * i64::from(days);
        let (lost, hours) = self
            .0
            .iter()
            .filter(|hour| hour.number > since)
            .fold((0.0, 0.0), |(lost, hours), h| (lost + h.lost_pct, hours + h.hours));
        if hours < 1.0 {
            return None;
        }
        let mean_pct_h = lost / hours;
        let rhythm = self.daily_rhythm();
        let spread = self.rate_spread(&rhythm).unwrap_or(UNKNOWN_SPREAD * mean_pct_h.abs());
        Some(DryingRate { mean_pct_h, spread_pct_h: spread, rhythm })
    }

    fn daily_rhythm(&self) -> [f64; PARTS] {
        let (mut lost, mut hours) = ([0.0; PARTS], [0.0; PARTS]);
        for hour in &self.0 {
            let part = part_of(hour.number);
            lost[part] += hour.lost_pct;
            hours[part] += hour.hours;
        }
        let mean = lost.iter().sum::<f64>() / hours.iter().sum::<f64>();
        if !(mean > 0.0 && mean.is_finite()) {
            return [1.0; PARTS];
        }
        let mut rhythm = [0.0; PARTS];
        for part in 0..PARTS {
            let part_rate = (lost[part] + PRIOR_H * mean) / (hours[part] + PRIOR_H);
            rhythm[part] = (part_rate / mean).max(0.0);
        }
        let scale = PARTS as f64 / rhythm.iter().sum::<f64>();
        // The prior keeps at least one part above 0.
        if scale.is_finite() { rhythm.map(|part| part * scale) } else { [1.0; PARTS] }
    }

    /// Weighted standard deviation of the rate between blocks, on a clock that runs at the pace of
    /// the daily rhythm, plus the standard error of its mean.
    fn rate_spread(&self, rhythm: &[f64; PARTS]) -> Option<f64> {
        let mut blocks: Vec<(i64, f64, f64)> = Vec::new();
        for hour in self.0.iter().filter(|hour| hour.hours > 0.0) {
            let (lost, paced) = (hour.lost_pct, hour.hours * rhythm[part_of(hour.number)]);
            let number = hour.number.div_euclid(BLOCK_H);
            match blocks.last_mut() {
                Some(block) if block.0 == number => {
                    *block = (number, block.1 + lost, block.2 + paced);
                }
                _ => blocks.push((number, lost, paced)),
            }
        }
        blocks.retain(|block| block.2 > 0.0);
        if blocks.len() < 2 {
            return None;
        }
        let n = blocks.len() as f64;
        let paced: f64 = blocks.iter().map(|block| block.2).sum();
        let mean = blocks.iter().map(|block| block.1).sum::<f64>() / paced;
        let m2: f64 =
            blocks.iter().map(|(_, lost, paced)| paced * (lost / paced - mean).powi(2)).sum();
        Some((m2 / paced * (n / (n - 1.0)) * (1.0 + 1.0 / n)).sqrt())
    }
}

impl DryingRate {
    /// Rate with the same value at all hours of the day.
    pub(super) const fn without_rhythm() -> Self {
        Self { mean_pct_h: 0.0, spread_pct_h: 0.0, rhythm: [1.0; PARTS] }
    }

    /// Hours from a time until `lost_pct` more are lost, at another mean rate with the same rhythm,
    /// up to `horizon_h`.
    pub(super) fn hours_to_lose(
        &self,
        lost_pct: f64,
        mean_pct_h: f64,
        from_ms: i64,
        horizon_h: f64,
    ) -> f64 {
        if lost_pct <= 0.0 {
            return 0.0;
        }
        if mean_pct_h <= 0.0 {
            return horizon_h;
        }
        let part_ms = PART_H * HOUR_MS;
        let (mut left_pct, mut passed_h) = (lost_pct, 0.0);
        let mut number = from_ms.div_euclid(part_ms);
        let mut part_h = PART_H as f64 - from_ms.rem_euclid(part_ms) as f64 / HOUR_MS as f64;
        while passed_h < horizon_h {
            let rate = mean_pct_h * self.rhythm[number.rem_euclid(PARTS as i64) as usize];
            if rate * part_h >= left_pct {
                return (passed_h + left_pct / rate).min(horizon_h);
            }
            left_pct -= rate * part_h;
            passed_h += part_h;
            number += 1;
            part_h = PART_H as f64;
        }
        horizon_h
    }
}

fn part_of(hour_number: i64) -> usize {
    (hour_number.rem_euclid(24) / PART_H) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    fn at(hour: f64, pct: f64) -> MoisturePoint {
        MoisturePoint { ms: (hour * 3_600_000.0) as i64, pct }
    }

    /// Builds the rates from readings of (hour, %).
    fn of(readings: &[(f64, f64)]) -> HourlyRates {
        let mut rates = HourlyRates::default();
        readings.windows(2).for_each(|pair| {
            rates.add_interval(at(pair[0].0, pair[0].1), at(pair[1].0, pair[1].1));
        });
        rates
    }

    #[test]
    fn the_mean_rate_is_what_was_lost_over_the_time_it_took() {
        let drying =
            of(&[(0.5, 50.0), (3.0, 48.0), (10.25, 40.25)]).recent_rate(37_000_000, 3).unwrap();
        close(drying.mean_pct_h, 1.0);
        assert_eq!(of(&[(0.0, 50.0), (0.5, 49.0)]).recent_rate(3_600_000, 3), None, "too short");
    }

    #[test]
    fn old_hours_are_forgotten_and_the_memory_is_bounded() {
        let readings: Vec<_> = (0..10_000)
            .map(|i| (f64::from(i), if i < 9_990 { -f64::from(i) } else { -9_990.0 }))
            .collect();
        let rates = of(&readings);
        assert!(rates.0.len() <= MEMORY_H as usize);
        close(rates.recent_rate(9_999 * HOUR_MS, 1).unwrap().mean_pct_h, 15.0 / 24.0);
    }

    #[test]
    fn a_cut_takes_whole_hours() {
        let mut rates = of(&[(0.0, 50.0), (1.0, 49.0), (2.0, 60.0), (3.0, 59.0)]);
        rates.forget_hours(HOUR_MS, 2 * HOUR_MS);
        close(rates.recent_rate(3 * HOUR_MS, 3).unwrap().mean_pct_h, 1.0);
    }

    #[test]
    fn days_dry_and_nights_do_not() {
        // 2 %/h from 6 to 18 h, nothing else, for six days.
        let mut pct = 300.0;
        let readings: Vec<_> = (0..=144)
            .map(|hour| {
                let now = (f64::from(hour), pct);
                pct -= if (6..18).contains(&(hour % 24)) { 2.0 } else { 0.0 };
                now
            })
            .collect();
        let drying = of(&readings).recent_rate(144 * HOUR_MS, 3).unwrap();
        close(drying.mean_pct_h, 1.0);
        let from_midnight = drying.hours_to_lose(4.0, 1.0, 144 * HOUR_MS, 48.0);
        assert!((6.0..8.5).contains(&from_midnight), "{from_midnight}");
        let from_noon = drying.hours_to_lose(4.0, 1.0, 156 * HOUR_MS, 48.0);
        assert!((2.0..2.5).contains(&from_noon), "{from_noon}");
        close(drying.hours_to_lose(1e6, 1.0, 0, 48.0), 48.0);
        close(drying.hours_to_lose(-1.0, 1.0, 0, 48.0), 0.0);
        close(drying.hours_to_lose(1.0, -1.0, 0, 48.0), 48.0);
    }

    /// Two mornings, one at 1 %/h and one at 2 %/h: the variance about their mean is 0.25. It is
    /// twice that for a sample of two, and half as much again for the mean.
    #[test]
    fn the_spread_is_that_between_blocks() {
        let mut rates = of(&[(0.0, 50.0), (3.0, 47.0)]);
        rates.add_interval(at(24.0, 50.0), at(27.0, 44.0));
        let drying = rates.recent_rate(27 * HOUR_MS, 3).unwrap();
        close(drying.mean_pct_h, 1.5);
        close(drying.spread_pct_h, 0.75_f64.sqrt());
        let one = of(&[(0.0, 50.0), (3.0, 47.0)]).recent_rate(3 * HOUR_MS, 3).unwrap();
        close(one.spread_pct_h, 0.5);
    }

    #[test]
    fn what_dries_evenly_has_no_spread() {
        let even: Vec<_> = (0..100).map(|i| (f64::from(i), 90.0 - 0.5 * f64::from(i))).collect();
        let drying = of(&even).recent_rate(99 * HOUR_MS, 3).unwrap();
        assert!(drying.spread_pct_h < 1e-9, "{drying:?}");
        close(drying.hours_to_lose(5.0, 0.5, 123, 48.0), 10.0);
    }
}
