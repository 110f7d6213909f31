//! Generalised linear model for amounts, which are often 0 and never negative.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use crate::{
    Dataset, Estimator, FitError, FittedRegressor, MissingPolicy, linalg, scaling::FeatureScaler,
};

/// Tweedie regression of power 1.5 with a logarithmic link, for hours, litres or degree-minutes. B.
/// Jørgensen, "Exponential dispersion models", JRSS B 49(2), 1987; fitted by Fisher scoring (P.
/// McCullagh, J. A. Nelder, "Generalized Linear Models", 2nd ed., 1989, section 2.5) with a penalty
/// of 0.001‖w‖²/2 per row, on targets in multiples of their mean. (linfa-linear depends on an
/// abandoned crate, and its first step diverged on our rows.) Targets below 0 are refused.
/// Predictions stay below twice the largest target, because a logarithmic link would grow without
/// limit outside the training data. Fits at most 20,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct TweedieRegression;

const POWER: f64 = 1.5;
const PENALTY: f64 = 1e-3;
const ROUNDS_MAX: usize = 50;

/// Logarithm of the expected target, as a weighted sum.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogLinearModel {
    scaler: FeatureScaler,
    weights: Array1<f64>,
    intercept: f64,
    most: f64,
}

impl Estimator for TweedieRegression {
    fn name(&self) -> &'static str {
        "tweedie"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<FittedRegressor, FitError> {
        super::require_not_negative(self.name(), data)?;
        let mean = data.y.mean().unwrap_or_default();
        let largest = data.y.iter().copied().fold(0.0, f64::max);
        let scaler = FeatureScaler::fit_with_flags(data.x.view());
        if mean <= 0.0 {
            return Ok(FittedRegressor::Constant(super::constant::ConstantModel { value: 0.0 }));
        }
        // Targets in multiples of the mean give the search a good start.
        let weights =
            fit_weights(scaler.scale_rows(data.x.view()), &data.y / mean).ok_or_else(|| {
                let what = "the equations of a step have no solution".to_owned();
                FitError::Library { model: self.name(), what }
            })?;
        let (intercept, weights) = weights.view().split_at(Axis(0), 1);
        let (intercept, weights) = (intercept[0] + mean.ln(), weights.to_owned());
        Ok(FittedRegressor::LogLinear(LogLinearModel {
            scaler,
            weights,
            intercept,
            most: 2.0 * largest,
        }))
    }
}

/// Finds the intercept and one weight per input that minimise half the deviance with the penalty.
fn fit_weights(x: Array2<f64>, y: Array1<f64>) -> Option<Array1<f64>> {
    let rows = x.nrows();
    let x = concatenate![Axis(1), Array2::ones((rows, 1)), x];
    let mut penalty = Array1::from_elem(x.ncols(), PENALTY * rows as f64);
    penalty[0] = 0.0;
    let means =
        |weights: &Array1<f64>| x.dot(weights).mapv_into(|sum| sum.clamp(-30.0, 30.0).exp());
    // Half the deviance, without the part that does not depend on the weights.
    let loss = |weights: &Array1<f64>, mean: &Array1<f64>| {
        let each = y.iter().zip(mean).map(|(y, mean)| {
            mean.powf(2.0 - POWER) / (2.0 - POWER) - y * mean.powf(1.0 - POWER) / (1.0 - POWER)
        });
        each.sum::<f64>() + (weights * weights).dot(&penalty) / 2.0
    };
    let mut weights: Array1<f64> = Array1::zeros(x.ncols());
    let mut mean = means(&weights);
    let mut best = loss(&weights, &mean);
    for _ in 0..ROUNDS_MAX {
        let curvature = mean.mapv(|mean| mean.powf(2.0 - POWER));
        let pull = (&y - &mean) / &mean * &curvature;
        let gradient = x.t().dot(&pull) - &weights * &penalty;
        let weighted = &x * &curvature.mapv(f64::sqrt).insert_axis(Axis(1));
        let mut hessian = weighted.t().dot(&weighted);
        // Linearly dependent inputs would make the matrix singular without a penalty.
        hessian.diag_mut().zip_mut_with(&penalty, |diagonal, penalty| *diagonal += penalty + 1e-9);
        let step = linalg::solve_positive_definite(hessian, gradient)?;
        let next = (0..30).map(|halvings| 0.5_f64.powi(halvings)).find_map(|size| {
            let weights = &weights + &(&step * size);
            let mean = means(&weights);
            let next_loss = loss(&weights, &mean);
            (next_loss < best).then_some((weights, mean, next_loss))
        });
        let Some((next, next_mean, next_loss)) = next else { break };
        let gained = best - next_loss;
        (weights, mean, best) = (next, next_mean, next_loss);
        if gained < 1e-13 * best.abs() {
            break;
        }
    }
    Some(weights)
}

impl LogLinearModel {
    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        self.scaler.check_shape(inputs, self.weights.len())
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let sums = self.scaler.scale_rows(x).dot(&self.weights) + self.intercept;
        sums.mapv(|sum| sum.exp().min(self.most))
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
        let target = |i: usize| {
            let noise = 0.4 * (i as f64 * 2.9).sin() - 0.3;
            ((0.8 * x[(i, 0)] - 0.5 * x[(i, 1)]).exp() + noise).max(0.0)
        };
        let y = (0..120).map(target).collect();
        let schema = FeatureSchema { features: ["a", "b", "c"].map(str::to_owned).to_vec() };
        let data = Dataset::new(Arc::new(schema), x.clone(), y).unwrap();
        let fitted = TweedieRegression.fit(&data, 0).unwrap();
        let test_rows = ndarray::array![[0.5, -0.5, 0.0], [-0.9, 0.2, 0.4], [0.0, 0.0, -1.0]];
        // scikit-learn 1.6.1: TweedieRegressor(power=1.5, alpha=1e-3, link="log", tol=1e-12,
        // solver="newton-cholesky") of y / y.mean(), after StandardScaler
        let expect = [1.571_279_066, 0.216_672_741, 0.649_971_128];
        for (got, expect) in fitted.predict(test_rows.view()).iter().zip(expect) {
            let gap: f64 = got - expect;
            assert!(gap.abs() < 1e-6, "{got} is not {expect}");
        }
    }
}
