//! Classifiers, which predict the probability of each class: heat, hold or cool; watering within
//! two hours or not.
//!
//! # Layout
//! - [`labelled_dataset`]: rows with class labels
//! - [`class_priors`], [`logistic`], [`boosting`], [`one_vs_rest`]: learning methods
//! - [`calibration`]: probabilities that match observed frequencies
//! - [`ordinal`]: a classifier used as a regressor

pub mod boosting;
pub mod calibration;
pub mod class_priors;
pub mod labelled_dataset;
pub mod logistic;
pub mod one_vs_rest;
pub mod ordinal;

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{FitError, MissingPolicy, ROWS_MIN, regressors};
use calibration::{CalibratedClassifier, CalibrationMethod};
pub use labelled_dataset::LabelledDataset;
use one_vs_rest::OneVsRest;
pub use ordinal::OrdinalRegressor;

/// Method that learns classes from rows. The same rows and seed give the same model, whatever the
/// number of threads.
pub trait Classifier: Send + Sync {
    /// Name in leaderboards and artifacts.
    fn name(&self) -> &'static str;

    /// Largest number of rows that is fitted; more rows are thinned evenly.
    fn rows_max(&self) -> usize {
        usize::MAX
    }

    /// Treatment of missing inputs (NaN).
    fn missing_policy(&self) -> MissingPolicy;

    /// Fits a model to `data`.
    ///
    /// # Errors
    /// See [`FitError`]; [`FitError::OneClass`] where all rows have the same class.
    fn fit(&self, data: &LabelledDataset, seed: u64) -> Result<FittedClassifier, FitError>;
}

/// All classifiers, the baseline first.
#[must_use]
pub fn all_classifiers() -> Vec<Box<dyn Classifier>> {
    let one = |name, estimator| -> Box<dyn Classifier> { Box::new(OneVsRest { name, estimator }) };
    vec![
        Box::new(class_priors::PriorClassifier),
        Box::new(logistic::LogisticRegression),
        one("nearest neighbours", Box::new(regressors::neighbours::NearestNeighbours)),
        one("neural net", Box::new(regressors::neural::NeuralNet)),
        one("decision tree", Box::new(regressors::trees::DecisionTree)),
        one("random forest", Box::new(regressors::trees::RandomForest)),
        one("extra trees", Box::new(regressors::trees::ExtraTrees)),
        Box::new(boosting::GradientBoostingClassifier),
        Box::new(CalibratedClassifier {
            name: "logistic regression, Platt",
            inner: Box::new(logistic::LogisticRegression),
            method: CalibrationMethod::Platt,
        }),
        Box::new(CalibratedClassifier {
            name: "gradient boosting, isotonic",
            inner: Box::new(boosting::GradientBoostingClassifier),
            method: CalibrationMethod::Isotonic,
        }),
    ]
}

/// Finds a classifier by its name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Classifier>> {
    all_classifiers().into_iter().find(|classifier| classifier.name() == name)
}

/// Fits a classifier after thinning the rows, and returns the number of rows that were used.
///
/// # Errors
/// See [`FitError`].
///
/// ```
/// use std::sync::Arc;
/// use microclimate_models::{FeatureSchema, classify::{self, LabelledDataset}};
/// use ndarray::Array2;
///
/// let schema = Arc::new(FeatureSchema { features: vec!["temperature".to_owned()] });
/// let x = Array2::from_shape_fn((90, 1), |(row, _)| 15.0 + (row % 10) as f64);
/// let y = x.column(0).iter().map(|t| usize::from(*t >= 19.0)).collect();
/// let data = LabelledDataset::new(schema, x, y, vec!["heat".into(), "hold".into()])?;
/// let logistic = classify::by_name("logistic regression").unwrap();
/// let (fitted, rows) = classify::fit_classifier(logistic.as_ref(), &data, 1)?;
/// assert_eq!(rows, 90);
/// let p = fitted.predict_probabilities(ndarray::array![[12.0], [26.0]].view());
/// assert!(p[(0, 0)] > 0.9 && p[(1, 1)] > 0.9);
/// # Ok::<(), microclimate_models::FitError>(())
/// ```
pub fn fit_classifier(
    classifier: &dyn Classifier,
    data: &LabelledDataset,
    seed: u64,
) -> Result<(FittedClassifier, usize), FitError> {
    if data.row_count() < ROWS_MIN {
        return Err(FitError::FewRows { rows: data.row_count() });
    }
    let thinned = data.subsample_rows(classifier.rows_max());
    Ok((classifier.fit(&thinned, seed)?, thinned.row_count()))
}

/// Fitted classifier; can be saved and loaded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedClassifier {
    /// The same probabilities for every row.
    Shares(class_priors::ClassPriors),
    /// Weighted sums of standardised inputs.
    Logistic(logistic::FittedLogistic),
    /// Boosted trees.
    Boosting(boosting::BoostedClasses),
    /// One regressor per class.
    OneVsRest(one_vs_rest::FittedOneVsRest),
    /// Another classifier, calibrated.
    Calibrated(calibration::FittedCalibration),
}

impl FittedClassifier {
    /// Predicts probabilities, rows × classes, for `x` (rows × features, NaN where a value is
    /// missing). Each row adds up to 1.
    ///
    /// # Panics
    /// `x` has another number of columns than the model was fitted on.
    #[must_use]
    pub fn predict_probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        match self {
            Self::Shares(model) => model.predict_probabilities(x),
            Self::Logistic(model) => model.predict_probabilities(x),
            Self::Boosting(model) => model.predict_probabilities(x),
            Self::OneVsRest(model) => model.predict_probabilities(x),
            Self::Calibrated(model) => model.predict_probabilities(x),
        }
    }

    /// Predicts the most probable class of each row, the first of equally probable ones.
    ///
    /// # Panics
    /// As [`FittedClassifier::predict_probabilities`].
    #[must_use]
    pub fn predict_classes(&self, x: ArrayView2<f64>) -> Vec<usize> {
        let likely = |row: ndarray::ArrayView1<f64>| {
            (0..row.len()).reduce(|a, b| if row[b] > row[a] { b } else { a }).unwrap_or_default()
        };
        self.predict_probabilities(x).rows().into_iter().map(likely).collect()
    }

    /// Predicts the mean class index of each row; with two classes this is the probability of the
    /// second.
    #[must_use]
    pub fn predict_mean_class(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let probabilities = self.predict_probabilities(x);
        probabilities.dot(&Array1::from_iter((0..probabilities.ncols()).map(|class| class as f64)))
    }
}

/// Clamps values to [0, 1] and divides by the sum, so that rows add up to 1. Rows without any
/// probability get `shares`.
fn normalise_rows(mut rows: Array2<f64>, shares: &[f64]) -> Array2<f64> {
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
