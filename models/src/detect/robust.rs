use ndarray::{Array1, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows};
use crate::{FitError, scaling::finite_median};

/// Largest distance of a feature from its median, in median absolute deviations: B. Iglewicz, D.
/// Hoaglin, "How to Detect and Handle Outliers", ASQC, 1993. The baseline.
#[derive(Clone, Copy, Debug)]
pub struct RobustZScore;

/// Medians and spreads of the features.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedRobustZScore {
    median: Vec<f64>,
    spread: Vec<f64>,
}

/// Factor that makes the median absolute deviation of a normal distribution its standard deviation:
/// 1 / Φ⁻¹(3/4).
const NORMAL: f64 = 1.4826;

impl AnomalyDetector for RobustZScore {
    fn name(&self) -> &'static str {
        "robust z-score"
    }

    fn fit(&self, x: ArrayView2<f64>, _: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let (mut medians, mut spreads) = (Vec::new(), Vec::new());
        for column in x.columns() {
            let middle = finite_median(column.iter().copied());
            let deviation =
                NORMAL * finite_median(column.iter().map(|value| (value - middle).abs()));
            // The deviation is 0 where more than half of the values are equal.
            let spread =
                if deviation > 1e-9 { deviation } else { standard_deviation(column).max(1e-9) };
            medians.push(middle);
            spreads.push(spread);
        }
        Ok(FittedDetector::Robust(FittedRobustZScore { median: medians, spread: spreads }))
    }
}

/// Standard deviation of the finite values.
fn standard_deviation(column: ArrayView1<f64>) -> f64 {
    let finite: Array1<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
    if finite.is_empty() { 0.0 } else { finite.std(0.0) }
}

impl FittedRobustZScore {
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let score = |row: ndarray::ArrayView1<f64>| {
            let each = row.iter().zip(&self.median).zip(&self.spread);
            each.filter(|((value, _), _)| value.is_finite())
                .map(|((value, median), spread)| (value - median).abs() / spread)
                .fold(0.0, f64::max)
        };
        x.rows().into_iter().map(score).collect()
    }
}
