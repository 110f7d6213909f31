//! The regressors.

pub mod blend;
mod booster;
pub mod boosting;
pub mod column;
pub mod constant;
pub mod elastic_net;
pub mod ensemble;
pub mod linear;
pub mod neighbours;
pub mod neural;
pub mod pls;
pub mod recursive;
pub mod ridge;
pub mod support;
pub mod survival;
pub mod trees;
pub mod tweedie;

pub(crate) use booster::{TreeBooster, default_params};

use ndarray::{Array1, Array2, ArrayView1};
use rayon::prelude::*;

use crate::{Dataset, Estimator, FitError};

/// All regressors for any target, simple ones first.
#[must_use]
pub fn all_regressors() -> Vec<Box<dyn Estimator>> {
    vec![
        Box::new(ridge::RidgeRegression),
        Box::new(elastic_net::ElasticNet),
        Box::new(pls::PartialLeastSquares),
        Box::new(recursive::RecursiveLeastSquares),
        Box::new(neighbours::NearestNeighbours),
        Box::new(support::SupportVectors),
        Box::new(neural::NeuralNet),
        Box::new(trees::DecisionTree),
        Box::new(trees::RandomForest),
        Box::new(trees::ExtraTrees),
        Box::new(boosting::GradientBoostingRegressor),
        Box::new(boosting::RobustBoosting),
        Box::new(boosting::QuantileBoosting),
        Box::new(ensemble::MedianEnsemble),
    ]
}

/// Regressors for times and amounts, which refuse targets below 0.
#[must_use]
pub fn amount_regressors() -> Vec<Box<dyn Estimator>> {
    vec![Box::new(tweedie::TweedieRegression), Box::new(survival::SurvivalBoosting)]
}

/// Finds a regressor by its name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Estimator>> {
    all_regressors()
        .into_iter()
        .chain(amount_regressors())
        .find(|estimator| estimator.name() == name)
}

/// Fewer rows than this are not worth more threads.
const PARALLEL_ROWS_MIN: usize = 64;

/// One value a row, on several threads where there are many rows.
fn map_rows(
    rows: &Array2<f64>,
    of_row: impl Fn(ArrayView1<f64>) -> f64 + Sync + Send,
) -> Array1<f64> {
    if rows.nrows() < PARALLEL_ROWS_MIN {
        return rows.rows().into_iter().map(of_row).collect();
    }
    let values: Vec<f64> =
        (0..rows.nrows()).into_par_iter().map(|row| of_row(rows.row(row))).collect();
    Array1::from_vec(values)
}

/// Refuses truths below 0.
fn require_not_negative(model: &'static str, data: &Dataset) -> Result<(), FitError> {
    match data.y.iter().position(|target| *target < 0.0) {
        Some(row) => Err(FitError::NegativeTarget { model, row, found: data.y[row] }),
        None => Ok(()),
    }
}
