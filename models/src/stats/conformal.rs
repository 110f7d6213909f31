//! Prediction intervals with a stated coverage.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use crate::metrics::conformal_quantile;

/// Margin by which an interval between predicted quantiles is widened (or narrowed, if negative) so
/// that it covers a new target with probability `level`. The rows must not have been used for
/// fitting. `None` where there are too few rows for the level. Y. Romano, E. Patterson, E. J.
/// Candès, "Conformalized quantile regression", NeurIPS 2019. For an interval of constant width
/// around a prediction see [`conformal_quantile`].
///
/// ```
/// let low = [0.0; 9];
/// let high = [10.0; 9];
/// let actual = [1.0, 2.0, 3.0, 4.0, 5.0, 11.0, -3.0, 8.0, 9.0];
/// // Of 9 rows, 8 must be within for a level of 80 %.
/// assert_eq!(microclimate_models::stats::conformal::quantile_margin(&low, &high, &actual, 0.8),
/// Some(1.0));
/// ```
#[must_use]
pub fn quantile_margin(low: &[f64], high: &[f64], actual: &[f64], level: f64) -> Option<f64> {
    let outside = low.iter().zip(high).zip(actual);
    let scores: Vec<f64> = outside.map(|((low, high), y)| (low - y).max(y - high)).collect();
    conformal_quantile(&scores, level)
}

/// Share of targets within [`low`, `high`]; NaN without rows.
#[must_use]
pub fn interval_coverage(low: &[f64], high: &[f64], actual: &[f64]) -> f64 {
    let within = low.iter().zip(high).zip(actual).filter(|((low, high), y)| *low <= y && y <= high);
    within.count() as f64 / actual.len() as f64
}

/// Mean interval score in the unit of the targets: the width, plus 2/(1 − level) times the distance
/// of targets outside; less is better. T. Gneiting, A. E. Raftery, "Strictly proper scoring rules",
/// JASA 102, 2007, section 6.2.
///
/// ```
/// let score = microclimate_models::stats::conformal::interval_score;
/// assert_eq!(score(&[0.0], &[2.0], &[1.0], 0.9), 2.0);
/// assert!((score(&[0.0], &[2.0], &[2.5], 0.9) - 12.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn interval_score(low: &[f64], high: &[f64], actual: &[f64], level: f64) -> f64 {
    let each = low.iter().zip(high).zip(actual).map(|((low, high), y)| {
        high - low + 2.0 / (1.0 - level) * ((low - y).max(0.0) + (y - high).max(0.0))
    });
    each.sum::<f64>() / actual.len() as f64
}

/// Half widths that keep their coverage while the data change: I. Gibbs, E. Candès, "Adaptive
/// conformal inference under distribution shift", NeurIPS 2021. The share that may lie outside
/// falls after a miss and rises after a hit, so that the long-run share of misses is as stated.
/// Actual values arrive late: [`AdaptiveConformal::observe_error`] is called once they are known.
///
/// ```
/// let mut adaptive = microclimate_models::stats::conformal::AdaptiveConformal::new(0.9, &[1.0; 50]);
/// assert_eq!(adaptive.half_width(), 1.0);
/// // The errors double, and so does the interval.
/// (0..300).for_each(|_| adaptive.observe_error(adaptive.half_width(), 2.0));
/// assert_eq!(adaptive.half_width(), 2.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveConformal {
    level: f64,
    /// Share that may lie outside now.
    outside: f64,
    /// The latest absolute errors, oldest first.
    errors: VecDeque<f64>,
}

impl AdaptiveConformal {
    /// Change of the share by one actual value; as in the paper.
    const STEP: f64 = 0.005;
    /// Number of errors that are remembered.
    const ERRORS_MAX: usize = 1000;

    /// Creates intervals that cover a share of `level` in (0, 1), from the absolute errors on rows
    /// that were not used for fitting.
    #[must_use]
    pub fn new(level: f64, errors: &[f64]) -> Self {
        let newest = &errors[errors.len().saturating_sub(Self::ERRORS_MAX)..];
        Self { level, outside: 1.0 - level, errors: newest.iter().copied().collect() }
    }

    /// Half width of the next interval; infinite where it must cover more than the errors can show.
    #[must_use]
    pub fn half_width(&self) -> f64 {
        if self.outside >= 1.0 {
            return 0.0;
        }
        let errors: Vec<f64> = self.errors.iter().copied().collect();
        conformal_quantile(&errors, 1.0 - self.outside.max(0.0)).unwrap_or(f64::INFINITY)
    }

    /// Records that a prediction with an interval of `half_width` was wrong by `error`.
    pub fn observe_error(&mut self, half_width: f64, error: f64) {
        let size = error.abs();
        let missed = if size > half_width { 1.0 } else { 0.0 };
        self.outside += Self::STEP * (1.0 - self.level - missed);
        if self.errors.len() == Self::ERRORS_MAX {
            self.errors.pop_front();
        }
        self.errors.push_back(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    use rand_pcg::Pcg64;

    /// Errors whose spread trebles half way.
    fn errors(rows: usize) -> Vec<f64> {
        let mut rng = Pcg64::seed_from_u64(9);
        let noise = |row| {
            let draw: f64 = StandardNormal.sample(&mut rng);
            if row < rows / 2 { draw.abs() } else { 3.0 * draw.abs() }
        };
        (0..rows).map(noise).collect()
    }

    #[test]
    fn adaptive_intervals_cover_through_a_change_and_fixed_ones_do_not() {
        let errors = errors(6000);
        let (known, new) = errors.split_at(1000);
        let fixed = conformal_quantile(known, 0.9).unwrap();
        let within = |half_width: f64, error: f64| f64::from(u8::from(error <= half_width));
        let by_fixed: f64 = new.iter().map(|error| within(fixed, *error)).sum();
        let mut adaptive = AdaptiveConformal::new(0.9, known);
        let mut by_adaptive = 0.0;
        for error in new {
            let half_width = adaptive.half_width();
            by_adaptive += within(half_width, *error);
            adaptive.observe_error(half_width, *error);
        }
        let (by_fixed, by_adaptive) = (by_fixed / 5000.0, by_adaptive / 5000.0);
        assert!((by_adaptive - 0.9).abs() < 0.01, "{by_adaptive}");
        assert!(by_fixed < 0.75, "{by_fixed}");
    }

    #[test]
    fn edges() {
        assert_eq!(AdaptiveConformal::new(0.9, &[]).half_width(), f64::INFINITY);
        assert_eq!(interval_coverage(&[0.0, 0.0], &[1.0, 1.0], &[1.0, 2.0]), 0.5);
        assert_eq!(quantile_margin(&[0.0], &[1.0], &[0.5], 0.9), None);
        assert_eq!(quantile_margin(&[0.0], &[4.0], &[1.0], 0.5), Some(-1.0), "it may be narrower");
    }
}
