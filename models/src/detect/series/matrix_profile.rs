use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Last values, among which shapes similar to the latest one are searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixProfileState {
    /// Smallest standard deviation of a subsequence, in the series' unit, so that flat ones are all
    /// alike.
    pub(super) spread_min: f64,
    values: VecDeque<f64>,
}

/// Number of values in a subsequence.
const STRETCH: usize = 24;
/// Number of values that are stored. The time to score a value is proportional to it.
const VALUES: usize = 4000;

impl MatrixProfileState {
    pub(super) fn new(spread_min: f64) -> Self {
        Self { spread_min, values: VecDeque::new() }
    }

    /// Distance of the latest subsequence from the most similar earlier one that does not overlap
    /// it, both scaled to mean 0 and spread 1: 0 means the same shape, 1 means no similarity.
    pub(super) fn push(&mut self, value: f64) -> f64 {
        if self.values.len() == VALUES {
            self.values.pop_front();
        }
        self.values.push_back(value);
        let values = self.values.make_contiguous();
        // Needs several subsequences to choose from.
        if values.len() < 4 * STRETCH {
            return 0.0;
        }
        let (before, latest) = values.split_at(values.len() - STRETCH);
        let (mean, spread) = mean_and_spread(latest, self.spread_min);
        let newest: Vec<f64> = latest.iter().map(|value| (value - mean) / spread).collect();
        let likest = before.windows(STRETCH).map(|stretch| {
            let (mean, spread) = mean_and_spread(stretch, self.spread_min);
            let apart = |(value, other): (&f64, &f64)| ((value - mean) / spread - other).powi(2);
            stretch.iter().zip(&newest).map(apart).sum::<f64>()
        });
        // Two shapes without correlation have the distance √(2 × length).
        (likest.fold(f64::INFINITY, f64::min) / (2 * STRETCH) as f64).sqrt()
    }
}

fn mean_and_spread(values: &[f64], spread_min: f64) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / values.len() as f64).sqrt().max(spread_min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_was_there_before_is_at_0() {
        let mut profile = MatrixProfileState::new(1e-3);
        let wave = |i: usize| (i as f64 * std::f64::consts::TAU / 48.0).sin();
        let mut last = f64::NAN;
        for i in 0..480 {
            last = profile.push(100.0 + wave(i));
        }
        assert!(last < 1e-6, "{last}");
        // Larger, at another level, and of the same shape.
        for i in 480..504 {
            last = profile.push(3.0 + 5.0 * wave(i));
        }
        assert!(last < 1e-6, "{last}");
        for i in 504..528 {
            last = profile.push(100.0 + wave(5 * i));
        }
        assert!(last > 0.5, "{last}");
    }
}
