//! The regressors.

pub mod boosting;
pub mod column;
pub mod constant;
pub mod linear;
pub mod trees;

use crate::Estimator;

/// Every regressor that learns, simple ones first.
#[must_use]
pub fn regressors() -> Vec<Box<dyn Estimator>> {
    vec![
        Box::new(linear::Ridge),
        Box::new(linear::ElasticNet),
        Box::new(linear::RecursiveLeastSquares),
        Box::new(trees::Neighbours),
        Box::new(trees::DecisionTree),
        Box::new(trees::RandomForest),
        Box::new(trees::ExtraTrees),
        Box::new(boosting::GradientBoosting),
    ]
}

/// The regressor of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Estimator>> {
    regressors().into_iter().find(|estimator| estimator.name() == name)
}
