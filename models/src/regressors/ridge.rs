//! Least squares with a penalty on large weights.

use crate::{
    Dataset, Estimator, FitError, FittedRegressor, MissingPolicy,
    gram::{GramMatrix, LinearWeights, best_candidate},
    linalg,
    regressors::linear::fit_from_sums,
};

/// Least squares with a penalty λ‖w‖² on the weights of standardised inputs, from the normal
/// equations (XᵀX + nλI) w = Xᵀy. A. E. Hoerl, R. W. Kennard, "Ridge regression", Technometrics
/// 12(1), 1970. λ, one of 10⁻⁶ … 1, is the value that predicts each fifth of the rows best from
/// those before.
///
/// Rows are read once, in blocks; their number has no limit.
#[derive(Clone, Copy, Debug)]
pub struct RidgeRegression;

/// Candidates for λ.
const LAMBDAS: [f64; 9] = [1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0];

impl Estimator for RidgeRegression {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<FittedRegressor, FitError> {
        fit_from_sums(self.name(), data, |stretches| {
            let each = |gram: &GramMatrix| {
                LAMBDAS.iter().map(|lambda| solve_ridge(gram, *lambda)).collect()
            };
            let best = best_candidate(stretches, LAMBDAS.len(), each);
            solve_ridge(&GramMatrix::sum_all(stretches), LAMBDAS[best])
        })
    }
}

fn solve_ridge(gram: &GramMatrix, lambda: f64) -> Option<LinearWeights> {
    let (mut xx, xy) = gram.centred_products();
    xx.diag_mut().mapv_inplace(|diagonal| diagonal + lambda * gram.row_count());
    Some(gram.with_intercept(linalg::solve_positive_definite(xx, xy)?))
}
