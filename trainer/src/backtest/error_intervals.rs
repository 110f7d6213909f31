//! Errors grouped by time, with confidence intervals and tests of their differences.

use std::ops::Range;

use models::stats::{
    bootstrap::BlockBootstrap,
    dependence::{dependence_length, long_run_variance},
    diebold_mariano::diebold_mariano,
};

use super::leaderboard::SignificanceTest;

/// Error by which models are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorMetric {
    /// Root of the mean squared error.
    Rmse,
    /// Mean absolute error.
    Mae,
}

impl ErrorMetric {
    /// Returns the metric with this name in tasks and leaderboards.
    pub(crate) fn from_name(name: &str) -> Self {
        if name == "mae" { Self::Mae } else { Self::Rmse }
    }

    /// Returns the loss of one row: its squared or absolute error.
    pub(crate) fn loss(self, said: f64, truth: f64) -> f64 {
        match self {
            Self::Rmse => (said - truth) * (said - truth),
            Self::Mae => (said - truth).abs(),
        }
    }

    /// Returns the loss of each row.
    pub(crate) fn row_losses<'a>(
        self,
        said: impl IntoIterator<Item = &'a f64>,
        truth: impl IntoIterator<Item = &'a f64>,
    ) -> Vec<f64> {
        said.into_iter().zip(truth).map(|(said, truth)| self.loss(*said, *truth)).collect()
    }

    /// Returns the error of rows with this mean loss.
    pub(crate) fn error_from_mean_loss(self, loss: f64) -> f64 {
        match self {
            Self::Rmse => loss.sqrt(),
            Self::Mae => loss,
        }
    }

    /// Returns the error of rows with these losses.
    pub(crate) fn error_from_losses(self, losses: &[f64]) -> f64 {
        self.error_from_mean_loss(losses.iter().sum::<f64>() / losses.len() as f64)
    }
}

/// Level of the confidence intervals, 0 to 1.
const INTERVAL_LEVEL: f64 = 0.95;
/// Smallest number of blocks for an interval; fewer show too little of how blocks differ.
const BLOCKS_MIN: usize = 4;

/// Rows grouped by time. Errors of zones at one time are correlated, so that bootstrap and tests
/// draw times and not rows.
#[derive(Clone, Debug)]
pub(crate) struct TimeGroups {
    /// Rows of each time.
    times: Vec<Range<usize>>,
    /// Number of times over which predictions overlap.
    horizon: usize,
    seed: u64,
    /// One value a time, whose dependence counts where a score has no rows of its own.
    usual: Vec<f64>,
}

impl TimeGroups {
    /// Groups rows in the order of time whose targets are known `horizon_s` seconds later.
    pub(crate) fn from_times(at_ms: &[i64], horizon_s: i64, seed: u64) -> Self {
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
        Self { times, horizon: horizon.max(1), seed, usual: Vec::new() }
    }

    /// Returns the number of rows over which predictions overlap.
    pub(crate) fn horizon_rows(&self) -> usize {
        let rows = self.times.last().map_or(0, |last| last.end);
        (self.horizon * rows).div_ceil(self.times.len().max(1)).max(1)
    }

    /// Returns whether there are enough times for intervals.
    pub(crate) fn has_blocks(&self) -> bool {
        !self.times.is_empty() && self.times.len() >= BLOCKS_MIN * self.horizon
    }

    /// Blocks as long as a series of one value a time is alike.
    fn block_bootstrap(&self, by_time: &[f64]) -> Option<BlockBootstrap> {
        self.has_blocks().then(|| BlockBootstrap::for_values(by_time, self.horizon, self.seed))
    }

    /// Takes the dependence of these losses for that of scores that are no sums of rows.
    pub(crate) fn with_dependence_of(mut self, losses: &[f64]) -> Self {
        self.usual = self.sum_by_time(losses);
        self
    }

    /// Returns the reason why there is no interval and no test, or `None` if there are enough
    /// times.
    pub(crate) fn too_short_reason(&self) -> Option<String> {
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

    fn sum_by_time(&self, losses: &[f64]) -> Vec<f64> {
        self.times.iter().map(|rows| losses[rows.clone()].iter().sum()).collect()
    }

    fn row_counts(&self) -> Vec<f64> {
        self.times.iter().map(|rows| rows.len() as f64).collect()
    }

    /// Returns the confidence interval of the error of rows with these losses.
    pub(crate) fn error_interval(&self, metric: ErrorMetric, losses: &[f64]) -> Option<[f64; 2]> {
        let (sums, rows) = (self.sum_by_time(losses), self.row_counts());
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        // A ratio varies as what its numerator has above it.
        let above: Vec<f64> = sums.iter().zip(&rows).map(|(sum, rows)| sum - mean * rows).collect();
        let (low, high) = self.block_bootstrap(&above)?.totals_interval(
            &[&sums, &rows],
            INTERVAL_LEVEL,
            |all| metric.error_from_mean_loss(all[0] / all[1]),
        )?;
        Some([low, high])
    }

    /// Returns the confidence interval of the skill of `own` losses against `other` ones on the
    /// same rows. Both are drawn together, so that a time that is hard for both does not count.
    pub(crate) fn skill_interval(
        &self,
        metric: ErrorMetric,
        own: &[f64],
        other: &[f64],
    ) -> Option<[f64; 2]> {
        let (own, other) = (self.sum_by_time(own), self.sum_by_time(other));
        let ratio = own.iter().sum::<f64>() / other.iter().sum::<f64>();
        let above: Vec<f64> =
            own.iter().zip(&other).map(|(own, other)| own - ratio * other).collect();
        let (low, high) = self.block_bootstrap(&above)?.totals_interval(
            &[&own, &other],
            INTERVAL_LEVEL,
            |all| 1.0 - metric.error_from_mean_loss(all[0]) / metric.error_from_mean_loss(all[1]),
        )?;
        Some([low, high.min(1.0)])
    }

    /// Returns the confidence interval of a score over weighted rows: a row counts as often as its
    /// time is drawn.
    pub(crate) fn weighted_interval(
        &self,
        score: impl Fn(&[f64]) -> f64 + Sync,
    ) -> Option<[f64; 2]> {
        let rows = self.times.last().map_or(0, |last| last.end);
        self.bootstrap_interval(|times| {
            let mut weight = vec![0.0; rows];
            for time in times {
                weight[self.times[*time].clone()].iter_mut().for_each(|own| *own += 1.0);
            }
            score(&weight)
        })
    }

    fn bootstrap_interval(&self, statistic: impl Fn(&[usize]) -> f64 + Sync) -> Option<[f64; 2]> {
        let (low, high) = self.block_bootstrap(&self.usual)?.percentile_interval(
            self.times.len(),
            INTERVAL_LEVEL,
            statistic,
        )?;
        Some([low, high])
    }

    /// The sum of losses of each time over the mean number of its rows, so that the mean
    /// over times is the mean over rows: the quantity of the leaderboard.
    pub(crate) fn row_weighted_by_time(&self, losses: &[f64]) -> Vec<f64> {
        let usual = losses.len() as f64 / self.times.len().max(1) as f64;
        self.sum_by_time(losses).iter().map(|sum| sum / usual).collect()
    }

    /// Tests whether `own` losses are significantly smaller than `other` ones.
    pub(crate) fn test_difference(&self, own: &[f64], other: &[f64]) -> Option<SignificanceTest> {
        if !self.has_blocks() {
            return None;
        }
        let (own, other) = (self.row_weighted_by_time(own), self.row_weighted_by_time(other));
        let test = diebold_mariano(&own, &other, self.horizon)?;
        Some(SignificanceTest { statistic: test.statistic, p_value: test.p_value, lags: test.lags })
    }

    /// The mean of `own` losses less that of `other` ones, over all rows, and its
    /// standard error; none where all differences are the same.
    pub(crate) fn mean_difference(&self, own: &[f64], other: &[f64]) -> (f64, Option<f64>) {
        let (own, other) = (self.row_weighted_by_time(own), self.row_weighted_by_time(other));
        let each: Vec<f64> = own.iter().zip(&other).map(|(own, other)| own - other).collect();
        let times = each.len().max(1) as f64;
        let mean = each.iter().sum::<f64>() / times;
        let length = dependence_length(&each, self.horizon);
        let error = (long_run_variance(&each, length - 1) / times).sqrt();
        (mean, Some(error).filter(|error| *error > 0.0))
    }

    /// Times that predictions overlap.
    pub(crate) const fn horizon_times(&self) -> usize {
        self.horizon
    }
}

/// Returns the share of the other's error that a model avoids; 0 if the other makes no error.
pub(crate) fn skill_against(value: f64, other: f64) -> f64 {
    if other > 0.0 { 1.0 - value / other } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    /// Two zones a minute.
    fn at_ms(times: i64) -> Vec<i64> {
        (0..times).flat_map(|minute| [minute * 60_000; 2]).collect()
    }

    #[test]
    fn rows_of_one_time_are_one() {
        let clock = TimeGroups::from_times(&at_ms(100), 600, 1);
        assert_eq!((clock.times.len(), clock.horizon), (100, 10));
        assert_eq!(clock.row_weighted_by_time(&[1.0, 3.0].repeat(100)), [2.0; 100]);
        assert_eq!(TimeGroups::from_times(&at_ms(100), 30, 1).horizon, 1);
        assert_eq!(TimeGroups::from_times(&[], 600, 1).times.len(), 0);
    }

    #[test]
    fn times_with_more_rows_count_more_in_the_table_and_in_the_test() {
        // At odd minutes nine rows on which the first is better, at even ones a single
        // row on which it is as much worse: by rows it is better, by times no worse.
        let at_ms: Vec<i64> =
            (0..400_i64).flat_map(|t| vec![t * 60_000; if t % 2 == 0 { 1 } else { 9 }]).collect();
        let clock = TimeGroups::from_times(&at_ms, 60, 1);
        let noise = |row: usize| 2.0 + ((row * 7919) % 101) as f64 / 101.0;
        let other: Vec<f64> = (0..at_ms.len()).map(noise).collect();
        let better = |row: usize| if at_ms[row] / 60_000 % 2 == 0 { 1.0 } else { -1.0 };
        let own: Vec<f64> = other.iter().enumerate().map(|(i, o)| o + better(i)).collect();
        let test = clock.test_difference(&own, &other).unwrap();
        let [low, _] = clock.skill_interval(ErrorMetric::Mae, &own, &other).unwrap();
        let (mean, error) = clock.mean_difference(&own, &other);
        assert!(low > 0.0 && test.statistic < 0.0 && test.p_value < 0.01, "{test:?}");
        let by_rows = own.iter().sum::<f64>() - other.iter().sum::<f64>();
        assert!((mean - by_rows / own.len() as f64).abs() < 1e-9 && error.is_some());
    }

    #[test]
    fn skill_of_half_the_error_is_a_half_with_any_noise_that_both_share() {
        let mut rng = Pcg64::seed_from_u64(6);
        let other: Vec<f64> = (0..400).map(|_| rng.random_range(1.0..102.0)).collect();
        let own: Vec<f64> = other.iter().map(|loss| loss / 4.0).collect();
        let clock = TimeGroups::from_times(&at_ms(200), 600, 1);
        let [low, high] = clock.skill_interval(ErrorMetric::Rmse, &own, &other).unwrap();
        assert!((low - 0.5).abs() < 1e-9 && (high - 0.5).abs() < 1e-9, "{low} to {high}");
        let [low, high] = clock.error_interval(ErrorMetric::Rmse, &other).unwrap();
        let error = ErrorMetric::Rmse.error_from_losses(&other);
        assert!(low < error && error < high && high - low > 0.1, "{low} {error} {high}");
        let test = clock.test_difference(&own, &other).unwrap();
        assert!(test.statistic < 0.0 && test.p_value < 1e-6 && test.lags >= 9, "{test:?}");
    }

    #[test]
    fn zones_of_a_time_are_drawn_together() {
        let clock = TimeGroups::from_times(&at_ms(200), 60, 1);
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
            let clock = TimeGroups::from_times(&at_ms(100), horizon_s, 1);
            assert_eq!(clock.error_interval(ErrorMetric::Mae, &losses).is_some(), expect);
            assert_eq!(clock.test_difference(&losses, &[0.0; 200]).is_some(), expect);
            assert_eq!(clock.too_short_reason().is_none(), expect);
        };
        check(25 * 60, true);
        check(26 * 60, false);
        check(86_400, false);
        let why = TimeGroups::from_times(&at_ms(100), 26 * 60, 1).too_short_reason().unwrap();
        assert!(why.contains("100 times") && why.contains("4 blocks of 26"), "{why}");
    }
}
