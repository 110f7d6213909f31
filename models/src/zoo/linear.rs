//! Weighted sums of standardised inputs, learnt in three ways.

use linfa::{DatasetBase, traits::Fit};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::{Dataset, Estimator, FitError, Fitted, dataset::Scaler, linalg};

/// Least squares with a penalty λ‖w‖² on the weights, from normal equations:
/// (XᵀX + λI) w = Xᵀy. A. E. Hoerl, R. W. Kennard, "Ridge regression",
/// Technometrics 12(1), 1970. λ is chosen on the last fifth of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Ridge;

/// Least squares with a penalty on |w| and w²: H. Zou, T. Hastie,
/// "Regularization and variable selection via the elastic net", JRSS B 67(2),
/// 2005; fitted by linfa.
#[derive(Clone, Copy, Debug)]
pub struct ElasticNet;

/// Least squares row by row, older rows counting less: an online model. S.
/// Haykin, "Adaptive Filter Theory", 4th ed., 2002, table 9.1.
#[derive(Clone, Copy, Debug)]
pub struct RecursiveLeastSquares;

/// A weighted sum of standardised inputs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Linear {
    scaler: Scaler,
    weights: Array1<f64>,
    intercept: f64,
}

/// Candidates for λ, relative to the number of rows.
const LAMBDAS: [f64; 5] = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1];

impl Estimator for Ridge {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<Fitted, FitError> {
        let scaler = Scaler::fit(data.x.view());
        let x = scaler.apply(data.x.view());
        let cut = x.nrows() * 4 / 5;
        let (early, late) = x.view().split_at(Axis(0), cut);
        let (early_y, late_y) = data.y.view().split_at(Axis(0), cut);
        let error = |lambda: f64| {
            let (weights, intercept) = ridge(early, early_y.to_owned(), lambda)?;
            Some((late.dot(&weights) + intercept - late_y).mapv(|e| e * e).sum())
        };
        let errors = LAMBDAS.iter().filter_map(|lambda| Some((error(*lambda)?, *lambda)));
        let best = errors.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1e-2, |(_, lambda)| lambda);
        let (weights, intercept) =
            ridge(x.view(), data.y.clone(), best).ok_or_else(|| FitError::Library {
                model: "ridge",
                what: "the normal equations have no solution".to_owned(),
            })?;
        Ok(Fitted::Linear(Linear { scaler, weights, intercept }))
    }
}

fn ridge(x: ArrayView2<f64>, y: Array1<f64>, lambda: f64) -> Option<(Array1<f64>, f64)> {
    let intercept = y.mean()?;
    let mut gram = x.t().dot(&x);
    gram.diag_mut().mapv_inplace(|own| own + lambda * x.nrows() as f64);
    let right = x.t().dot(&(y - intercept));
    Some((linalg::solve(gram, right)?, intercept))
}

impl Estimator for ElasticNet {
    fn name(&self) -> &'static str {
        "elastic net"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<Fitted, FitError> {
        let scaler = Scaler::fit(data.x.view());
        // The penalty is in units of the truth, so that has spread 1 too.
        let spread = data.y.std(0.0).max(1e-12);
        let targets = DatasetBase::new(scaler.apply(data.x.view()), &data.y / spread);
        let params = linfa_elasticnet::ElasticNet::params().penalty(0.002).l1_ratio(0.5);
        let model =
            params.max_iterations(300).tolerance(1e-3).fit(&targets).map_err(|error| {
                FitError::Library { model: "elastic net", what: error.to_string() }
            })?;
        let weights = model.hyperplane() * spread;
        Ok(Fitted::Linear(Linear { scaler, weights, intercept: model.intercept() * spread }))
    }
}

/// What an hour-old minute row still counts, at one row a minute: 0.9999⁶⁰.
const FORGETTING: f64 = 0.9999;

impl Estimator for RecursiveLeastSquares {
    fn name(&self) -> &'static str {
        "recursive least squares"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<Fitted, FitError> {
        let scaler = Scaler::fit(data.x.view());
        let scaled = scaler.apply(data.x.view());
        let width = scaled.ncols() + 1;
        let mut weights: Array1<f64> = Array1::zeros(width);
        let mut inverse: Array2<f64> = Array2::eye(width) * 1e4;
        let mut row = Array1::ones(width);
        for (input, truth) in scaled.rows().into_iter().zip(&data.y) {
            row.iter_mut().skip(1).zip(input).for_each(|(to, from)| *to = *from);
            let gain = inverse.dot(&row);
            let gain = &gain / (FORGETTING + row.dot(&gain));
            let error = truth - weights.dot(&row);
            weights.scaled_add(error, &gain);
            let seen = inverse.t().dot(&row);
            for (mut line, gain) in inverse.rows_mut().into_iter().zip(&gain) {
                line.zip_mut_with(&seen, |own, seen| *own = (*own - gain * seen) / FORGETTING);
            }
        }
        if weights.iter().any(|weight| !weight.is_finite()) {
            let what = "the weights grew beyond all bounds".to_owned();
            return Err(FitError::Library { model: "recursive least squares", what });
        }
        let (intercept, weights) = weights.view().split_at(Axis(0), 1);
        let (intercept, weights) = (intercept[0], weights.to_owned());
        Ok(Fitted::Linear(Linear { scaler, weights, intercept }))
    }
}

impl Linear {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.scaler.apply(x).dot(&self.weights) + self.intercept
    }
}
