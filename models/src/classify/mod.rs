//! The classifiers: what will be, with which probability. Heat, hold or cool;
//! watered within two hours or not.
//!
//! # Layout
//! - [`labelled`]: rows with classes
//! - [`shares`], [`logistic`], [`boosting`], [`one_vs_rest`]: ways to learn
//! - [`calibrate`]: probabilities that come true as often as they say

pub mod boosting;
pub mod calibrate;
pub mod labelled;
pub mod logistic;
pub mod numbered;
pub mod one_vs_rest;
pub mod shares;

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{FitError, Missing, ROWS_MIN, zoo};
use calibrate::{Calibrated, Method};
pub use labelled::Labelled;
pub use numbered::Numbered;
use one_vs_rest::OneVsRest;

/// A way to learn classes from rows. The same rows and seed give the same
/// model, whatever the number of threads.
pub trait Classifier: Send + Sync {
    /// Its name in leaderboards and artifacts.
    fn name(&self) -> &'static str;

    /// More rows than this are thinned out evenly before fitting.
    fn rows_max(&self) -> usize {
        usize::MAX
    }

    /// What it does where an input is missing (NaN).
    fn missing(&self) -> Missing;

    /// Learns from `data`, which is left as it is.
    ///
    /// # Errors
    /// See [`FitError`]; [`FitError::OneClass`] where there is nothing to tell
    /// apart.
    fn fit(&self, data: &Labelled, seed: u64) -> Result<FittedClassifier, FitError>;
}

/// Every classifier, the baseline first.
#[must_use]
pub fn classifiers() -> Vec<Box<dyn Classifier>> {
    let one = |name, estimator| -> Box<dyn Classifier> { Box::new(OneVsRest { name, estimator }) };
    vec![
        Box::new(shares::ClassShares),
        Box::new(logistic::LogisticRegression),
        one("nearest neighbours", Box::new(zoo::neighbours::Neighbours)),
        one("neural net", Box::new(zoo::neural::NeuralNet)),
        one("decision tree", Box::new(zoo::trees::DecisionTree)),
        one("random forest", Box::new(zoo::trees::RandomForest)),
        one("extra trees", Box::new(zoo::trees::ExtraTrees)),
        Box::new(boosting::GradientBoosting),
        Box::new(Calibrated {
            name: "logistic regression, Platt",
            inner: Box::new(logistic::LogisticRegression),
            method: Method::Platt,
        }),
        Box::new(Calibrated {
            name: "gradient boosting, isotonic",
            inner: Box::new(boosting::GradientBoosting),
            method: Method::Isotonic,
        }),
    ]
}

/// The classifier of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Classifier>> {
    classifiers().into_iter().find(|classifier| classifier.name() == name)
}

/// Fits after thinning; also returns the number of rows that were used.
///
/// # Errors
/// See [`FitError`].
///
/// ```
/// use std::sync::Arc;
/// use models::{Schema, classify::{self, Labelled}};
/// use ndarray::Array2;
///
/// let schema = Arc::new(Schema { features: vec!["temperature".to_owned()] });
/// let x = Array2::from_shape_fn((90, 1), |(row, _)| 15.0 + (row % 10) as f64);
/// let y = x.column(0).iter().map(|t| usize::from(*t >= 19.0)).collect();
/// let data = Labelled::new(schema, x, y, vec!["heat".into(), "hold".into()])?;
/// let logistic = classify::by_name("logistic regression").unwrap();
/// let (fitted, rows) = classify::fit(logistic.as_ref(), &data, 1)?;
/// assert_eq!(rows, 90);
/// let p = fitted.probabilities(ndarray::array![[12.0], [26.0]].view());
/// assert!(p[(0, 0)] > 0.9 && p[(1, 1)] > 0.9);
/// # Ok::<(), models::FitError>(())
/// ```
pub fn fit(
    classifier: &dyn Classifier,
    data: &Labelled,
    seed: u64,
) -> Result<(FittedClassifier, usize), FitError> {
    if data.rows() < ROWS_MIN {
        return Err(FitError::FewRows { rows: data.rows() });
    }
    let thinned = data.thinned(classifier.rows_max());
    Ok((classifier.fit(&thinned, seed)?, thinned.rows()))
}

/// What was learnt; can be written and read back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedClassifier {
    /// Always the same shares.
    Shares(shares::Shares),
    /// Weighted sums of standardised inputs.
    Logistic(logistic::Logistic),
    /// Boosted trees.
    Boosting(boosting::BoostedClasses),
    /// One regressor a class.
    OneVsRest(one_vs_rest::PerClass),
    /// Another classifier, put right.
    Calibrated(calibrate::Corrected),
}

impl FittedClassifier {
    /// rows × classes for `x` (rows × features, NaN where a value is missing);
    /// each row adds up to 1.
    ///
    /// # Panics
    /// Where `x` has another number of columns than the model was fitted on.
    #[must_use]
    pub fn probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        match self {
            Self::Shares(model) => model.probabilities(x),
            Self::Logistic(model) => model.probabilities(x),
            Self::Boosting(model) => model.probabilities(x),
            Self::OneVsRest(model) => model.probabilities(x),
            Self::Calibrated(model) => model.probabilities(x),
        }
    }

    /// The most probable class of each row; the first of equal ones.
    ///
    /// # Panics
    /// As [`FittedClassifier::probabilities`].
    #[must_use]
    pub fn classes(&self, x: ArrayView2<f64>) -> Vec<usize> {
        let likely = |row: ndarray::ArrayView1<f64>| {
            (0..row.len()).reduce(|a, b| if row[b] > row[a] { b } else { a }).unwrap_or_default()
        };
        self.probabilities(x).rows().into_iter().map(likely).collect()
    }

    /// The mean class number of each row: with two classes the probability of
    /// the second.
    #[must_use]
    pub fn mean_class(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let probabilities = self.probabilities(x);
        probabilities.dot(&Array1::from_iter((0..probabilities.ncols()).map(|class| class as f64)))
    }
}

/// Cuts to [0, 1] and divides by the sum, so that rows add up to 1; rows
/// without any probability take `shares`.
fn normalised(mut rows: Array2<f64>, shares: &[f64]) -> Array2<f64> {
    for mut row in rows.rows_mut() {
        row.mapv_inplace(|p| if p.is_nan() { 0.0 } else { p.clamp(0.0, 1.0) });
        let sum = row.sum();
        if sum > 0.0 {
            row /= sum;
        } else {
            row.iter_mut().zip(shares).for_each(|(p, share)| *p = *share);
        }
    }
    rows
}
