//! A weighted mean of what several models predict.

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::FittedRegressor;

/// Models with weights from 0 to 1 that add up to 1: with equal weights their average,
/// else stacked regressions (L. Breiman, Machine Learning 24(1), 1996). R. T. Clemen,
/// "Combining forecasts", Int. J. Forecasting 5(4), 1989.
#[derive(Debug, Serialize, Deserialize)]
pub struct Blend {
    members: Vec<BlendMember>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BlendMember {
    weight: f64,
    model: FittedRegressor,
}

impl Blend {
    /// The blend of these models.
    #[must_use]
    pub fn from_members(members: Vec<(f64, FittedRegressor)>) -> Self {
        let member = |(weight, model)| BlendMember { weight, model };
        Self { members: members.into_iter().map(member).collect() }
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let mut sum = Array1::zeros(x.nrows());
        for member in &self.members {
            sum.scaled_add(member.weight, &member.model.predict(x));
        }
        sum
    }

    /// Where every member has them.
    pub(crate) fn predict_probabilities(&self, x: ArrayView2<f64>) -> Option<Array2<f64>> {
        let mut sum: Option<Array2<f64>> = None;
        for member in &self.members {
            let own = member.model.predict_probabilities(x)? * member.weight;
            sum = Some(match sum {
                Some(sum) if sum.dim() == own.dim() => sum + own,
                Some(_) => return None,
                None => own,
            });
        }
        sum
    }

    pub(crate) fn has_probabilities(&self) -> bool {
        self.members.iter().all(|member| member.model.has_probabilities())
    }

    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        if self.members.is_empty() {
            return Err("a blend without members".to_owned());
        }
        let mut sum = 0.0;
        for BlendMember { weight, model } in &self.members {
            if matches!(model, FittedRegressor::Blend(_)) {
                return Err("a blend within a blend".to_owned());
            }
            if !(0.0..=1.0).contains(weight) {
                return Err(format!("a member with the weight {weight}, expected 0 to 1"));
            }
            sum += weight;
            model.check_shape(inputs)?;
        }
        let is_whole = (sum - 1.0).abs() < 1e-6;
        is_whole.then_some(()).ok_or_else(|| format!("weights add up to {sum}, expected 1"))
    }
}

/// Weights from 0 to 1 that add up to 1 and make the sum of squared errors of the blend
/// least. `errors` are those of each model on the same rows.
///
/// ```
/// use microclimate_models::regressors::blend::convex_weights;
///
/// // The second errs the other way: of both together little is left.
/// let weights = convex_weights(&[&[1.0, -1.0, 2.0], &[-1.0, 1.0, -2.0], &[9.0, 9.0, 9.0]]);
/// assert!((weights[0] - 0.5).abs() < 1e-9 && weights[2] == 0.0);
/// ```
#[must_use]
pub fn convex_weights(errors: &[&[f64]]) -> Vec<f64> {
    const SWEEPS_MAX: usize = 2000;
    let count = errors.len();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let gram: Vec<Vec<f64>> =
        errors.iter().map(|a| errors.iter().map(|b| product(a, b)).collect()).collect();
    let best = (0..count).min_by(|a, b| gram[*a][*a].total_cmp(&gram[*b][*b]));
    let mut weights = vec![0.0; count];
    let Some(best) = best else { return weights };
    weights[best] = 1.0;
    // Weight moves between pairs for as long as that lessens the sum.
    for _ in 0..SWEEPS_MAX {
        let mut moved = 0.0_f64;
        for to in 0..count {
            for from in 0..count {
                if to == from || weights[from] == 0.0 {
                    continue;
                }
                let slope = product(&gram[to], &weights) - product(&gram[from], &weights);
                let bend = gram[to][to] + gram[from][from] - 2.0 * gram[to][from];
                if slope >= 0.0 || bend <= 0.0 || bend.is_nan() {
                    continue;
                }
                let step = (-slope / bend).min(weights[from]);
                weights[to] += step;
                weights[from] -= step;
                moved = moved.max(step);
            }
        }
        if moved < 1e-9 {
            break;
        }
    }
    // What is next to nothing is not worth a model.
    weights.iter_mut().for_each(|weight| *weight = if *weight < 0.01 { 0.0 } else { *weight });
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regressors::constant::ConstantModel;
    use ndarray::array;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    #[test]
    fn weights_are_those_of_the_least_squares() {
        let mut rng = Pcg64::seed_from_u64(3);
        // Independent errors with variances 1, 4 and 16 weigh as 1 over their variances.
        let mut errors = |spread: f64| -> Vec<f64> {
            (0..20_000).map(|_| spread * rng.random_range(-1.0..1.0)).collect()
        };
        let (a, b, c) = (errors(1.0), errors(2.0), errors(4.0));
        let weights = convex_weights(&[&a, &b, &c]);
        let total = 1.0 + 0.25 + 0.0625;
        for (found, expect) in weights.iter().zip([1.0 / total, 0.25 / total, 0.0625 / total]) {
            assert!((found - expect).abs() < 0.02, "{weights:?}");
        }
        assert_eq!(convex_weights(&[&[1.0], &[2.0]]), [1.0, 0.0]);
        assert_eq!(convex_weights(&[]), [] as [f64; 0]);
    }

    #[test]
    fn a_blend_is_the_weighted_mean() {
        let constant = |value| FittedRegressor::Constant(ConstantModel { value });
        let blend = Blend::from_members(vec![(0.25, constant(4.0)), (0.75, constant(8.0))]);
        assert_eq!(blend.predict(array![[0.0], [1.0]].view()).to_vec(), [7.0, 7.0]);
        assert!(blend.predict_probabilities(array![[0.0]].view()).is_none());
        assert_eq!(blend.check_shape(1), Ok(()));
        let light = Blend::from_members(vec![(0.25, constant(4.0))]);
        assert!(light.check_shape(1).unwrap_err().contains("add up to 0.25"));
    }
}
