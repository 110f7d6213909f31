//! Least squares on the few directions that vary with the target.

use ndarray::{Array1, Array2};

use crate::{
    Dataset, Estimator, FitError, FittedRegressor, MissingPolicy,
    gram::{GramMatrix, best_candidate},
    regressors::linear::fit_from_sums,
};

/// Partial least squares, in which correlated inputs share one weight. B. S. Dayal, J. F.
/// MacGregor, "Improved PLS algorithms", J. Chemometrics 11(1), 1997, algorithm 2, which needs only
/// XᵀX and Xᵀy. (linfa-pls reads all rows for each component, and supports neither missing values
/// nor blocks.) The number of components, at most 15, is the one that predicts each fifth of the
/// rows best from those before.
#[derive(Clone, Copy, Debug)]
pub struct PartialLeastSquares;

const COMPONENTS_MAX: usize = 15;

impl Estimator for PartialLeastSquares {
    fn name(&self) -> &'static str {
        "partial least squares"
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<FittedRegressor, FitError> {
        fit_from_sums(self.name(), data, |stretches| {
            let each = |gram: &GramMatrix| {
                let weights = component_weights(gram).into_iter();
                let mut fitted: Vec<_> = weights.map(|w| Some(gram.with_intercept(w))).collect();
                fitted.resize_with(COMPONENTS_MAX + 1, || None);
                fitted
            };
            let best = best_candidate(stretches, COMPONENTS_MAX + 1, each);
            let all = GramMatrix::sum_all(stretches);
            let mut weights = component_weights(&all);
            weights.truncate(best + 1);
            weights.pop().map(|weights| all.with_intercept(weights))
        })
    }
}

/// Weights with 0, 1, 2 … components.
fn component_weights(gram: &GramMatrix) -> Vec<Array1<f64>> {
    let (xx, mut xy) = gram.centred_products();
    let mut weights: Array1<f64> = Array1::zeros(xy.len());
    let mut all = vec![weights.clone()];
    let mut loadings: Vec<(Array1<f64>, Array1<f64>)> = Vec::new();
    let enough = 1e-10 * norm(&xy);
    while all.len() <= COMPONENTS_MAX.min(weights.len()) && norm(&xy) > enough {
        let covariance = &xy / norm(&xy);
        let mut direction = covariance.clone();
        for (loading, known) in &loadings {
            direction.scaled_add(-loading.dot(&covariance), known);
        }
        let Some((loading, size)) = project_direction(&xx, &direction) else { break };
        let share = direction.dot(&xy) / size;
        weights.scaled_add(share, &direction);
        xy.scaled_add(-share * size, &loading);
        loadings.push((loading, direction));
        all.push(weights.clone());
    }
    all
}

/// XᵀXr / rᵀXᵀXr and rᵀXᵀXr. `None` where the direction r has no spread.
fn project_direction(xx: &Array2<f64>, direction: &Array1<f64>) -> Option<(Array1<f64>, f64)> {
    let moved = xx.dot(direction);
    let size = direction.dot(&moved);
    let spread = xx.diag().sum() * direction.dot(direction);
    (size > 1e-12 * spread).then(|| (moved / size, size))
}

fn norm(vector: &Array1<f64>) -> f64 {
    vector.dot(vector).sqrt()
}
