use std::collections::VecDeque;

use crate::scaling::finite_median;

/// Quantities that are computed from a series each minute; see [`FaultChannels::push`].
pub const CHANNELS: [&str; 7] =
    ["silent", "unchanged", "step", "residual", "roughness", "drift", "level"];

/// Number of past minutes that the channels use, at most. Runs stop counting there.
pub const PAST_MIN: usize = 360;
/// Minutes of the running median.
const SHORT: usize = 15;
/// Minutes over which roughness is measured.
const ROUGH: usize = 10;
/// Minutes of each of the two medians between which drift is measured.
const STEADY: usize = 5;
/// Minutes between these two medians.
const APART: usize = 30;

/// State of monitoring a series with one value a minute. It uses past values only.
#[derive(Clone, Debug, Default)]
pub struct FaultChannels {
    /// The last values, NaN where missing, the latest last.
    values: VecDeque<f64>,
    /// Sizes of the last second differences.
    bends: VecDeque<f64>,
    last: Option<f64>,
    change: Option<f64>,
    unchanged: usize,
    silent: usize,
}

impl FaultChannels {
    /// Adds the next minute's value, NaN where there is none, and returns, in the order of
    /// [`CHANNELS`]:
    ///
    /// - the number of minutes without a value
    /// - the number of minutes with an unchanged value
    /// - the size of the change since the last value
    /// - the distance from the median of the 15 minutes before
    /// - the median size of second differences within 10 minutes: noise changes direction all the
    ///   time,
    ///   a lamp that is switched on only twice
    /// - the distance of the median of 5 minutes from that of half an hour ago
    /// - the value itself
    ///
    /// All are in the series' unit or in minutes, and NaN where there are too few values. Runs
    /// count to 360 minutes.
    pub fn push(&mut self, value: f64) -> [f64; CHANNELS.len()] {
        let here = value.is_finite();
        let change = self.last.filter(|_| here).map(|last| value - last);
        self.silent = if here { 0 } else { (self.silent + 1).min(PAST_MIN) };
        self.unchanged = if change == Some(0.0) { (self.unchanged + 1).min(PAST_MIN) } else { 0 };
        let bend = change.zip(self.change).map_or(f64::NAN, |(new, old)| (new - old).abs());
        push_bounded(&mut self.bends, bend, ROUGH);
        let before = self.median_ago(0, SHORT, 5);
        push_bounded(&mut self.values, if here { value } else { f64::NAN }, APART + STEADY);
        self.change = change;
        self.last = if here { Some(value) } else { self.last };
        let now = self.median_ago(0, STEADY, 2);
        [
            self.silent as f64,
            self.unchanged as f64,
            change.map_or(f64::NAN, f64::abs),
            (value - before).abs(),
            present_median(self.bends.iter(), 5),
            (now - self.median_ago(APART, STEADY, 2)).abs(),
            if here { value } else { f64::NAN },
        ]
    }

    /// Median of the `minutes` values that end `ago` minutes before the latest.
    fn median_ago(&self, ago: usize, minutes: usize, least: usize) -> f64 {
        present_median(self.values.iter().rev().skip(ago).take(minutes), least)
    }
}

/// Median of the finite values, NaN with fewer than `least`.
fn present_median<'a>(values: impl Iterator<Item = &'a f64> + Clone, least: usize) -> f64 {
    let finite = values.copied().filter(|value| value.is_finite());
    if finite.clone().count() < least { f64::NAN } else { finite_median(finite) }
}

fn push_bounded(values: &mut VecDeque<f64>, value: f64, most: usize) {
    if values.len() == most {
        values.pop_front();
    }
    values.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs of one channel for each value.
    fn of(channel: &str, values: &[f64]) -> Vec<f64> {
        let number = CHANNELS.iter().position(|other| *other == channel).unwrap();
        let mut channels = FaultChannels::default();
        values.iter().map(|value| channels.push(*value)[number]).collect()
    }

    const NO: f64 = f64::NAN;

    #[test]
    fn each_channel() {
        let check = |channel: &str, values: &[f64], expect: &[f64]| {
            let got = of(channel, values);
            let same = |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan();
            assert!(got.len() == expect.len() && got.iter().zip(expect).all(same), "{got:?}");
        };
        check("silent", &[NO, 1.0, NO, NO, 1.0], &[1.0, 0.0, 1.0, 2.0, 0.0]);
        check("unchanged", &[1.0, 1.0, 1.0, NO, 1.0, 2.0], &[0.0, 1.0, 2.0, 0.0, 1.0, 0.0]);
        check("step", &[1.0, 3.0, NO, 2.5], &[NO, 2.0, NO, 0.5]);
        check(
            "residual",
            &[1.0, 2.0, 3.0, 4.0, 5.0, 9.0, NO, 9.0],
            &[NO, NO, NO, NO, NO, 6.0, NO, 5.5],
        );
        check("roughness", &[0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0], &[NO, NO, NO, NO, NO, NO, 2.0]);
        check("level", &[1.0, NO, f64::INFINITY], &[1.0, NO, NO]);
    }

    #[test]
    fn a_drift_is_between_now_and_half_an_hour_ago() {
        let values: Vec<f64> = (0..60).map(f64::from).collect();
        let got = of("drift", &values);
        assert!(got[30].is_nan(), "one value is not enough");
        assert_eq!(got[31], 28.5, "2 values of half an hour ago");
        assert_eq!(got[59], 30.0);
    }

    #[test]
    fn a_lamp_that_is_switched_on_is_not_rough() {
        let lamp: Vec<f64> = (0..40).map(|minute| if minute < 20 { 0.0 } else { 300.0 }).collect();
        assert!(of("roughness", &lamp).iter().all(|value| value.is_nan() || *value == 0.0));
    }
}
