//! Errors by the time that they share, and how sure differences of them are.

use std::ops::Range;

use models::stats::{bootstrap::BlockBootstrap, dm::diebold_mariano};

use super::entry::Test;

/// The error that models are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Root of the mean squared error.
    Rmse,
    /// Mean absolute error.
    Mae,
}

impl Metric {
    /// By its name in tasks and leaderboards.
    pub(crate) fn named(name: &str) -> Self {
        if name == "mae" { Self::Mae } else { Self::Rmse }
    }

    /// What one row adds.
    pub(crate) fn loss(self, said: f64, truth: f64) -> f64 {
        match self {
            Self::Rmse => (said - truth) * (said - truth),
            Self::Mae => (said - truth).abs(),
        }
    }

    /// What each row adds.
    pub(crate) fn losses<'a>(
        self,
        said: impl IntoIterator<Item = &'a f64>,
        truth: impl IntoIterator<Item = &'a f64>,
    ) -> Vec<f64> {
        said.into_iter().zip(truth).map(|(said, truth)| self.loss(*said, *truth)).collect()
    }

    /// The error whose mean loss it is.
    pub(crate) fn of_mean(self, loss: f64) -> f64 {
        match self {
            Self::Rmse => loss.sqrt(),
            Self::Mae => loss,
        }
    }

    /// The error of rows with these losses.
    pub(crate) fn error(self, losses: &[f64]) -> f64 {
        self.of_mean(losses.iter().sum::<f64>() / losses.len() as f64)
    }
}

/// The share of intervals that hold the true value.
const LEVEL: f64 = 0.95;
/// Fewer blocks than this tell too little of how blocks differ.
const BLOCKS_MIN: usize = 4;

/// Rows by the time that they share. Zones err together, so that it is times
/// that are drawn and tested, and not rows.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// The rows of each time.
    times: Vec<Range<usize>>,
    /// Times that predictions overlap.
    horizon: usize,
    seed: u64,
}

impl Clock {
    /// Of rows in the order of time, whose targets are known `horizon_s` later.
    pub(crate) fn of(at_ms: &[i64], horizon_s: i64, seed: u64) -> Self {
        let mut times: Vec<Range<usize>> = Vec::new();
        for (row, at) in at_ms.iter().enumerate() {
            match times.last_mut() {
                Some(last) if at_ms[last.start] == *at => last.end = row + 1,
                _ => times.push(row..row + 1),
            }
        }
        let mut steps: Vec<i64> =
            times.windows(2).map(|pair| at_ms[pair[1].start] - at_ms[pair[0].start]).collect();
        steps.sort_unstable();
        let step_ms = steps.get(steps.len() / 2).copied().unwrap_or(1).max(1);
        let horizon = (horizon_s * 1000).div_euclid(step_ms) as usize;
        Self { times, horizon: horizon.max(1), seed }
    }

    /// Rows that predictions overlap.
    pub(crate) fn horizon_rows(&self) -> usize {
        let rows = self.times.last().map_or(0, |last| last.end);
        (self.horizon * rows).div_ceil(self.times.len().max(1)).max(1)
    }

    /// Whether there is time enough for intervals.
    pub(crate) fn has_blocks(&self) -> bool {
        self.bootstrap().is_some()
    }

    fn bootstrap(&self) -> Option<BlockBootstrap> {
        let bootstrap = BlockBootstrap::of(self.times.len(), self.horizon, self.seed);
        (self.times.len() >= BLOCKS_MIN * bootstrap.length).then_some(bootstrap)
    }

    /// Why there is no interval and no test, where there is none.
    pub(crate) fn too_short(&self) -> Option<String> {
        if self.has_blocks() {
            return None;
        }
        let (times, length) = (self.times.len(), self.horizon);
        Some(format!(
            "the test part has {times} times that are judged, and {BLOCKS_MIN} blocks of {length}, a \
             horizon each, would be {}",
            BLOCKS_MIN * length
        ))
    }

    fn sums(&self, losses: &[f64]) -> Vec<f64> {
        self.times.iter().map(|rows| losses[rows.clone()].iter().sum()).collect()
    }

    /// The interval of the error of rows with these losses.
    pub(crate) fn error_interval(&self, metric: Metric, losses: &[f64]) -> Option<[f64; 2]> {
        let sums = self.sums(losses);
        self.interval(|times| {
            let (mut loss, mut rows) = (0.0, 0.0);
            for time in times {
                loss += sums[*time];
                rows += self.times[*time].len() as f64;
            }
            metric.of_mean(loss / rows)
        })
    }

    /// The interval of the skill of `own` losses against `other` ones on the
    /// same rows: both are drawn together, so that what makes a time hard for
    /// both does not count.
    pub(crate) fn skill_interval(
        &self,
        metric: Metric,
        own: &[f64],
        other: &[f64],
    ) -> Option<[f64; 2]> {
        let (own, other) = (self.sums(own), self.sums(other));
        self.interval(|times| {
            let (mut loss, mut other_loss) = (0.0, 0.0);
            for time in times {
                loss += own[*time];
                other_loss += other[*time];
            }
            1.0 - metric.of_mean(loss) / metric.of_mean(other_loss)
        })
    }

    /// The interval of a score of all rows, each of which has a weight: it counts
    /// as often as its time is drawn.
    pub(crate) fn weighted_interval(
        &self,
        score: impl Fn(&[f64]) -> f64 + Sync,
    ) -> Option<[f64; 2]> {
        let rows = self.times.last().map_or(0, |last| last.end);
        self.interval(|times| {
            let mut weight = vec![0.0; rows];
            for time in times {
                weight[self.times[*time].clone()].iter_mut().for_each(|own| *own += 1.0);
            }
            score(&weight)
        })
    }

    fn interval(&self, statistic: impl Fn(&[usize]) -> f64 + Sync) -> Option<[f64; 2]> {
        let (low, high) = self.bootstrap()?.interval(self.times.len(), LEVEL, statistic)?;
        Some([low, high])
    }

    /// The mean loss of each time.
    pub(crate) fn means(&self, losses: &[f64]) -> Vec<f64> {
        let sums = self.sums(losses);
        sums.iter().zip(&self.times).map(|(sum, rows)| sum / rows.len() as f64).collect()
    }

    /// Whether `own` losses are smaller than `other` ones, or only seem so.
    pub(crate) fn test(&self, own: &[f64], other: &[f64]) -> Option<Test> {
        self.bootstrap()?;
        let test = diebold_mariano(&self.means(own), &self.means(other), self.horizon)?;
        Some(Test { statistic: test.statistic, p_value: test.p_value, lags: test.lags })
    }
}

/// The share of the other's error that a model avoids; 0 where there is none
/// to avoid.
pub(crate) fn skill(value: f64, other: f64) -> f64 {
    if other > 0.0 { 1.0 - value / other } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two zones a minute.
    fn at_ms(times: i64) -> Vec<i64> {
        (0..times).flat_map(|minute| [minute * 60_000; 2]).collect()
    }

    #[test]
    fn rows_of_one_time_are_one() {
        let clock = Clock::of(&at_ms(100), 600, 1);
        assert_eq!((clock.times.len(), clock.horizon), (100, 10));
        assert_eq!(clock.means(&[1.0, 3.0].repeat(100)), [2.0; 100]);
        assert_eq!(Clock::of(&at_ms(100), 30, 1).horizon, 1);
        assert_eq!(Clock::of(&[], 600, 1).times.len(), 0);
    }

    #[test]
    fn skill_of_half_the_error_is_a_half_with_any_noise_that_both_share() {
        let noise = |row: usize| 1.0 + ((row * 7919) % 101) as f64;
        let other: Vec<f64> = (0..400).map(noise).collect();
        let own: Vec<f64> = other.iter().map(|loss| loss / 4.0).collect();
        let clock = Clock::of(&at_ms(200), 600, 1);
        let [low, high] = clock.skill_interval(Metric::Rmse, &own, &other).unwrap();
        assert!((low - 0.5).abs() < 1e-9 && (high - 0.5).abs() < 1e-9, "{low} to {high}");
        let [low, high] = clock.error_interval(Metric::Rmse, &other).unwrap();
        let error = Metric::Rmse.error(&other);
        assert!(low < error && error < high && high - low > 0.1, "{low} {error} {high}");
        let test = clock.test(&own, &other).unwrap();
        assert!(test.statistic < 0.0 && test.p_value < 1e-6 && test.lags >= 9, "{test:?}");
    }

    #[test]
    fn zones_of_a_time_are_drawn_together() {
        let clock = Clock::of(&at_ms(200), 60, 1);
        // Were rows drawn, some draw would have more of one zone than of the other.
        let balance =
            |weight: &[f64]| weight.chunks(2).map(|zones| (zones[0] - zones[1]).abs()).sum::<f64>();
        assert_eq!(clock.weighted_interval(balance), Some([0.0, 0.0]));
        let rows = |weight: &[f64]| weight.iter().sum::<f64>();
        assert_eq!(clock.weighted_interval(rows), Some([400.0, 400.0]));
    }

    #[test]
    fn too_few_blocks_make_no_interval() {
        let losses: Vec<f64> = (0..200).map(f64::from).collect();
        let check = |horizon_s: i64, expect: bool| {
            let clock = Clock::of(&at_ms(100), horizon_s, 1);
            assert_eq!(clock.error_interval(Metric::Mae, &losses).is_some(), expect);
            assert_eq!(clock.test(&losses, &[0.0; 200]).is_some(), expect);
            assert_eq!(clock.too_short().is_none(), expect);
        };
        check(25 * 60, true);
        check(26 * 60, false);
        check(86_400, false);
        let why = Clock::of(&at_ms(100), 26 * 60, 1).too_short().unwrap();
        assert!(why.contains("100 times") && why.contains("4 blocks of 26"), "{why}");
    }
}
