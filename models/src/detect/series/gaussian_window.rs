use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ROWS_MIN;

/// Mean and standard deviation of the last values, for the two detectors that assume a normal
/// distribution. The window grows to 6,400 values and then moves on by 100, as NAB's windowed
/// Gaussian does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GaussianWindowState {
    values: VecDeque<f64>,
    /// Values after the window that are not part of it yet.
    waiting: Vec<f64>,
    mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
}

const VALUES: usize = 6400;
const STEP: usize = 100;
/// Spread of a window whose values are all equal.
const SPREAD_MIN: f64 = 1e-6;

impl GaussianWindowState {
    /// Number of standard deviations above the mean; 0 with fewer than 30 values.
    pub(super) fn deviation_from_mean(&self, value: f64) -> f64 {
        if self.values.len() < ROWS_MIN {
            return 0.0;
        }
        let spread = (self.squares / self.values.len() as f64).sqrt();
        (value - self.mean) / if spread > 0.0 { spread } else { SPREAD_MIN }
    }

    pub(super) fn push(&mut self, value: f64) {
        if self.values.len() < VALUES {
            self.values.push_back(value);
            let off = value - self.mean;
            self.mean += off / self.values.len() as f64;
            self.squares += off * (value - self.mean);
            return;
        }
        self.waiting.push(value);
        if self.waiting.len() == STEP {
            self.values.drain(..STEP);
            self.values.extend(self.waiting.drain(..));
            self.mean = self.values.iter().sum::<f64>() / VALUES as f64;
            self.squares = self.values.iter().map(|value| (value - self.mean).powi(2)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_that_of_its_values() {
        let mut window = GaussianWindowState::default();
        assert_eq!(window.deviation_from_mean(3.0), 0.0);
        (0..VALUES).for_each(|i| window.push((i % 10) as f64));
        // The values 0 … 9 have mean 4.5 and variance 8.25.
        assert!((window.deviation_from_mean(9.0) - 4.5 / 8.25_f64.sqrt()).abs() < 1e-9);
        (1..STEP).for_each(|_| window.push(100.0));
        assert!((window.mean - 4.5).abs() < 1e-9, "moves by 100");
        window.push(100.0);
        assert!((window.mean - (4.5 * (VALUES - STEP) as f64 + 1e4) / VALUES as f64).abs() < 1e-9);
    }
}
