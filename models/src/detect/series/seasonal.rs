use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::scaling::finite_median;

/// Values of the last days, and sizes of their residuals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeasonalState {
    /// Number of values per day.
    period: usize,
    values: VecDeque<f64>,
    /// Sizes of the last residuals.
    left: VecDeque<f64>,
}

/// Number of days that a value is compared with.
const DAYS: usize = 7;
/// Number of values before and after the same time of a day that are used.
const AROUND: usize = 2;
/// Number of residuals that a new one is compared with.
const LEFT: usize = 2000;
/// Fewest residuals from which rarity is computed.
const LEFT_MIN: usize = 30;

impl SeasonalState {
    pub(super) fn new(period: usize) -> Self {
        Self { period, values: VecDeque::new(), left: VecDeque::new() }
    }

    /// Adds the next value and returns −log₁₀ of the conformal p-value of its distance from the
    /// median of the same time on the last days. Beyond all earlier distances it continues with
    /// their ratio.
    pub(super) fn push(&mut self, value: f64) -> f64 {
        let score = self.seasonal_median().map_or(0.0, |usual| {
            let size = (value - usual).abs();
            let score = self.residual_rarity(size);
            if self.left.len() == LEFT {
                self.left.pop_front();
            }
            self.left.push_back(size);
            score
        });
        if self.values.len() == DAYS * self.period + AROUND {
            self.values.pop_front();
        }
        self.values.push_back(value);
        score
    }

    /// Median around this time of the last days. `None` on the first day.
    fn seasonal_median(&self) -> Option<f64> {
        let next = self.values.len();
        let same = (1..=DAYS).map_while(|day| next.checked_sub(day * self.period));
        let around = same.flat_map(|at| at.saturating_sub(AROUND)..=at + AROUND);
        let values: Vec<f64> = around.filter_map(|at| self.values.get(at).copied()).collect();
        (!values.is_empty()).then(|| finite_median(values.into_iter()))
    }

    fn residual_rarity(&self, size: f64) -> f64 {
        if self.left.len() < LEFT_MIN {
            return 0.0;
        }
        let at_least = self.left.iter().filter(|residual| **residual >= size).count();
        let most = self.left.iter().copied().fold(1e-9, f64::max);
        let share = (1 + at_least) as f64 / (1 + self.left.len()) as f64;
        -share.log10() + (size / most).log10().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_at_that_time_is_usual() {
        let mut season = SeasonalState::new(24);
        let noon = |hour: usize| (10..15).contains(&(hour % 24));
        let day = |hour: usize| if noon(hour) { 50.0 } else { (hour % 5) as f64 };
        let scores: Vec<f64> = (0..241).map(|hour| season.push(day(hour))).collect();
        assert!(scores[228] < 1.5, "50 at noon: {}", scores[228]);
        let odd = season.clone().push(50.0);
        assert!(odd > 2.0, "50 at one o'clock: {odd}");
        assert!(season.push(5e6) > odd, "further is rarer");
    }
}
