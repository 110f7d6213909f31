//! Logistic regression: the softmax of weighted sums gives probabilities.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use super::{Classifier, FittedClassifier, LabelledDataset};
use crate::{FitError, MissingPolicy, linalg, scaling::FeatureScaler};

/// Multinomial logistic regression on standardised inputs, with the penalty ‖w‖²/2 on the weights:
/// D. R. Cox, JRSS B 20(2), 1958. Each step uses a fixed bound of the curvature, so that it cannot
/// make the fit worse: D. Böhning, "Multinomial logistic regression algorithm", Ann. Inst. Statist.
/// Math. 44(1), 1992. The momentum is that of Y. Nesterov, 1983, restarted whenever it points
/// uphill (B. O'Donoghue, E. Candès, Found. Comput. Math. 15, 2015). (linfa-logistic depends on an
/// abandoned crate.) Fits at most 20,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct LogisticRegression;

const PENALTY: f64 = 1.0;
const ROUNDS_MAX: usize = 500;
/// Relative change of the largest weight below which the fit ends.
const TOLERANCE: f64 = 1e-5;

/// Weights of standardised inputs, inputs × classes.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedLogistic {
    scaler: FeatureScaler,
    weights: Array2<f64>,
    intercepts: Array1<f64>,
    shares: Vec<f64>,
}

impl Classifier for LogisticRegression {
    fn name(&self) -> &'static str {
        "logistic regression"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &LabelledDataset, _: u64) -> Result<FittedClassifier, FitError> {
        data.require_several_classes()?;
        let scaler = FeatureScaler::fit_with_flags(data.x.view());
        let indicators =
            Array2::from_shape_fn((data.row_count(), data.classes.len()), |(row, class)| {
                f64::from(u8::from(data.y[row] == class))
            });
        let weights = maximise_likelihood(scaler.scale_rows(data.x.view()), &indicators)
            .ok_or_else(|| FitError::Library {
                model: self.name(),
                what: "the equations of a step have no solution".to_owned(),
            })?;
        let (intercepts, weights) = weights.view().split_at(Axis(0), 1);
        Ok(FittedClassifier::Logistic(FittedLogistic {
            scaler,
            weights: weights.to_owned(),
            intercepts: intercepts.row(0).to_owned(),
            shares: data.class_shares(),
        }))
    }
}

/// Finds the most likely weights: a row of intercepts, then a row per input.
fn maximise_likelihood(x: Array2<f64>, indicators: &Array2<f64>) -> Option<Array2<f64>> {
    let x = concatenate![Axis(1), Array2::ones((x.nrows(), 1)), x];
    let mut penalty = Array1::from_elem(x.ncols(), PENALTY);
    // Intercepts are free, except for a tiny penalty that keeps them from drifting together.
    penalty[0] = 1e-6;
    let mut bound = x.t().dot(&x) / 2.0;
    bound.diag_mut().zip_mut_with(&penalty, |diagonal, penalty| *diagonal += penalty);
    let factor = linalg::cholesky(bound)?;
    let column = penalty.insert_axis(Axis(1));
    let mut weights: Array2<f64> = Array2::zeros((x.ncols(), indicators.ncols()));
    let mut ahead = weights.clone();
    let mut speed = 1.0_f64;
    for _ in 0..ROUNDS_MAX {
        let pull = x.t().dot(&(indicators - &softmax(x.dot(&ahead)))) - &ahead * &column;
        let mut next = ahead.clone();
        for (mut next, pull) in next.columns_mut().into_iter().zip(pull.columns()) {
            next += &linalg::back_substitute(
                &factor,
                linalg::forward_substitute(&factor, pull.to_owned()),
            );
        }
        let moved = &next - &weights;
        let uphill = (&pull * &moved).sum() >= 0.0;
        let faster = f64::midpoint(1.0, (1.0 + 4.0 * speed * speed).sqrt());
        let momentum = if uphill { (speed - 1.0) / faster } else { 0.0 };
        speed = if uphill { faster } else { 1.0 };
        ahead = &next + &(&moved * momentum);
        let largest =
            |all: &Array2<f64>| all.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let done = largest(&moved) <= TOLERANCE * largest(&next);
        weights = next;
        if done {
            break;
        }
    }
    Some(weights)
}

/// Turns rows of sums into rows of probabilities.
fn softmax(mut sums: Array2<f64>) -> Array2<f64> {
    for mut row in sums.rows_mut() {
        // The largest sum is subtracted, so that none overflows.
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.mapv_inplace(|sum| (sum - largest).exp());
        let total = row.sum();
        row /= total;
    }
    sums
}

impl FittedLogistic {
    pub(super) fn predict_probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let probabilities =
            softmax(self.scaler.scale_rows(x).dot(&self.weights) + &self.intercepts);
        super::normalise_rows(probabilities, &self.shares)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::FeatureSchema;

    #[test]
    fn is_that_of_scikit_learn() {
        let input = |i: f64, j| [(i * 1.3).sin(), (i * 0.7).cos(), (i * 0.2 + 1.0).sin()][j];
        let x = Array2::from_shape_fn((120, 3), |(i, j)| input(i as f64, j));
        let class = |i: usize| {
            let sum = x[(i, 0)] * 2.0 - x[(i, 1)] + 0.8 * (i as f64 * 2.9).sin();
            usize::from(sum > -0.7) + usize::from(sum > 0.9)
        };
        let names = ["cool", "hold", "heat"].map(str::to_owned).to_vec();
        let schema = FeatureSchema { features: ["a", "b", "c"].map(str::to_owned).to_vec() };
        let y = (0..120).map(class).collect();
        let data = LabelledDataset::new(Arc::new(schema), x.clone(), y, names).unwrap();
        let fitted = LogisticRegression.fit(&data, 0).unwrap();
        let test_rows = ndarray::array![[0.5, -0.5, 0.0], [-0.9, 0.2, 0.4], [0.0, 0.0, -1.0]];
        // scikit-learn 1.6.1: LogisticRegression(C=1.0, tol=1e-12) after StandardScaler
        let expect = [
            [0.004_507, 0.221_440, 0.774_054],
            [0.927_891, 0.071_706, 0.000_403],
            [0.175_721, 0.602_212, 0.222_066],
        ];
        let gaps = fitted.predict_probabilities(test_rows.view()) - Array2::from(expect.to_vec());
        assert!(gaps.iter().all(|gap| gap.abs() < 1e-4), "{gaps}");
    }
}
