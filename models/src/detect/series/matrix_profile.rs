use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The last values, in which the newest stretch is looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixProfileState {
    /// The least standard deviation of a stretch, in the series' unit: flat
    /// ones are all alike.
    pub(super) spread_min: f64,
    values: VecDeque<f64>,
}

/// Values of a stretch.
const STRETCH: usize = 24;
/// Values that are remembered; a stretch takes as many steps of 24.
const VALUES: usize = 4000;

impl MatrixProfileState {
    pub(super) fn new(spread_min: f64) -> Self {
        Self { spread_min, values: VecDeque::new() }
    }

    /// The distance of the newest stretch from the most similar one before that
    /// does not overlap it, both brought to mean 0 and spread 1; 0 is the same
    /// shape, 1 as far as one of no similarity.
    pub(super) fn push(&mut self, value: f64) -> f64 {
        if self.values.len() == VALUES {
            self.values.pop_front();
        }
        self.values.push_back(value);
        let values = self.values.make_contiguous();
        // Two stretches at least, and some choice.
        if values.len() < 4 * STRETCH {
            return 0.0;
        }
        let (before, newest) = values.split_at(values.len() - STRETCH);
        let (mean, spread) = mean_and_spread(newest, self.spread_min);
        let newest: Vec<f64> = newest.iter().map(|value| (value - mean) / spread).collect();
        let likest = before.windows(STRETCH).map(|stretch| {
            let (mean, spread) = mean_and_spread(stretch, self.spread_min);
            let apart = |(own, other): (&f64, &f64)| ((own - mean) / spread - other).powi(2);
            stretch.iter().zip(&newest).map(apart).sum::<f64>()
        });
        // Two shapes without correlation are at √(2 × length).
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
        // Larger, elsewhere, and the same shape.
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
