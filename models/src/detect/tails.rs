use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows};
use crate::FitError;

/// Sum over the inputs of their rarity, on the side where each is rarer: −ln of the share of
/// training rows that lie further out. Z. Li et al., "ECOD: unsupervised outlier detection using
/// empirical cumulative distribution functions", IEEE TKDE 35(12), 2022, with 400 quantiles per
/// column instead of all rows. Beyond the outermost row the share keeps falling as that of a double
/// exponential distribution would, so that far values are rarer than near ones.
#[derive(Clone, Copy, Debug)]
pub struct EmpiricalTails;

const QUANTILES: usize = 400;

/// Quantiles of each column, in rising order.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedEmpiricalTails(Vec<Vec<f64>>);

impl AnomalyDetector for EmpiricalTails {
    fn name(&self) -> &'static str {
        "empirical tails"
    }

    fn fit(&self, x: ArrayView2<f64>, _: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let quantiles = |column: ndarray::ArrayView1<f64>| {
            let mut values: Vec<f64> = column.iter().copied().filter(|v| v.is_finite()).collect();
            values.sort_unstable_by(f64::total_cmp);
            let last = values.len().saturating_sub(1);
            let count = values.len().min(QUANTILES);
            (0..count).map(|i| values[i * last / (count - 1).max(1)]).collect()
        };
        Ok(FittedDetector::Tails(FittedEmpiricalTails(
            x.columns().into_iter().map(quantiles).collect(),
        )))
    }
}

impl FittedEmpiricalTails {
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let score = |row: ndarray::ArrayView1<f64>| {
            row.iter().zip(&self.0).map(|(value, quantiles)| tail_surprise(*value, quantiles)).sum()
        };
        x.rows().into_iter().map(score).collect()
    }
}

fn tail_surprise(value: f64, quantiles: &[f64]) -> f64 {
    let (Some(first), Some(last)) = (quantiles.first(), quantiles.last()) else { return 0.0 };
    if !value.is_finite() {
        return 0.0;
    }
    let n = quantiles.len() as f64;
    let below = quantiles.partition_point(|quantile| *quantile < value) as f64;
    let above = n - quantiles.partition_point(|quantile| *quantile <= value) as f64;
    // Share of quantiles as far out or further, on the rarer side; 1 is the middle.
    let share = (2.0 * (n - below.max(above)) / n).clamp(1.0 / n, 1.0);
    let outside = (first - value).max(value - last).max(0.0);
    let scale = ((last - first) / n.ln()).max(1e-9);
    -share.ln() + (outside / scale).min(1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rarer_is_more() {
        let quantiles: Vec<f64> = (0..100).map(f64::from).collect();
        let check = |value: f64, expect: f64| {
            let got = tail_surprise(value, &quantiles);
            assert!((got - expect).abs() < 1e-12, "{value}: {got} is not {expect}");
        };
        check(50.0, 0.0);
        check(99.0, -(0.02_f64.ln()));
        check(0.0, -(0.02_f64.ln()));
        check(f64::NAN, 0.0);
        check(198.0, 100.0_f64.ln() * 2.0);
        assert_eq!(tail_surprise(3.0, &[]), 0.0);
        assert!(tail_surprise(1.1, &[1.0; 50]) > 100.0, "it never moved before");
        assert_eq!(tail_surprise(1.0, &[1.0; 50]), 0.0);
    }
}
