use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{
    Dataset, MissingPolicy,
    classify::FittedClassifier,
    regressors::{
        blend::Blend,
        boosting::{BoostedQuantiles, FittedBoosting, LEVELS},
        column::ScaledColumn,
        constant::ConstantModel,
        ensemble::EnsembleMembers,
        linear::LinearModel,
        neighbours::FittedNeighbours,
        neural::FittedNeuralNet,
        recursive::FittedRecursive,
        support::KernelSum,
        survival::FittedSurvival,
        trees::FittedTrees,
        tweedie::LogLinearModel,
    },
};

/// Fewest rows on which a model is fitted.
pub const ROWS_MIN: usize = 30;

/// Error: a model could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The shapes of arrays do not match.
    #[error("found {found}, expected {expected}")]
    ShapeMismatch {
        /// Shapes found.
        found: String,
        /// Shapes expected.
        expected: String,
    },
    /// A target is not finite.
    #[error("row {row}: the target is {found}, expected a finite number")]
    NonFiniteTarget {
        /// Row, from 0.
        row: usize,
        /// Target of the row.
        found: f64,
    },
    /// There are too few rows.
    #[error("{rows} rows for fitting, expected at least {ROWS_MIN}")]
    FewRows {
        /// Number of rows.
        rows: usize,
    },
    /// An input that the model uses is missing.
    #[error("there is no input `{0}`")]
    NoColumn(String),
    /// A target is below 0, in a model of times or amounts.
    #[error("{model}: the target of row {row} is {found}, expected 0 or more")]
    NegativeTarget {
        /// Name of the model.
        model: &'static str,
        /// Row, from 0.
        row: usize,
        /// Target of the row.
        found: f64,
    },
    /// All targets have the same class.
    #[error("all targets have the class `{0}`, expected at least two classes")]
    OneClass(String),
    /// The library that fits the model failed.
    #[error("{model}: {what}")]
    Library {
        /// Name of the model.
        model: &'static str,
        /// Error of the library.
        what: String,
    },
}

/// Method that learns from rows. The same rows and seed give the same model, whatever the number of
/// threads.
pub trait Estimator: Send + Sync {
    /// Name in leaderboards and artifacts.
    fn name(&self) -> &'static str;

    /// Largest number of rows that is fitted; more rows are thinned evenly.
    fn rows_max(&self) -> usize {
        usize::MAX
    }

    /// Treatment of missing inputs (NaN), which every model accepts.
    fn missing_policy(&self) -> MissingPolicy;

    /// Fits a model to `data`.
    ///
    /// # Errors
    /// See [`FitError`].
    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError>;
}

/// Fits a regressor after thinning the rows, and returns the number of rows that were used.
///
/// # Errors
/// See [`FitError`].
pub fn fit_regressor(
    estimator: &dyn Estimator,
    data: &Dataset,
    seed: u64,
) -> Result<(FittedRegressor, usize), FitError> {
    if data.row_count() < ROWS_MIN {
        return Err(FitError::FewRows { rows: data.row_count() });
    }
    let thinned = data.subsample_rows(estimator.rows_max());
    Ok((estimator.fit(&thinned, seed)?, thinned.row_count()))
}

/// Fitted regressor; can be saved and loaded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedRegressor {
    /// The same value for every row.
    Constant(ConstantModel),
    /// One input times a factor.
    Column(ScaledColumn),
    /// A weighted sum of standardised inputs.
    Linear(LinearModel),
    /// Exponential of such a sum.
    LogLinear(LogLinearModel),
    /// Such a sum that keeps learning online.
    Recursive(FittedRecursive),
    /// Rows of the training set.
    Neighbours(FittedNeighbours),
    /// Weighted sum of similarities to some rows.
    Kernel(KernelSum),
    /// A small neural net.
    NeuralNet(FittedNeuralNet),
    /// Trees fitted by smartcore.
    Trees(FittedTrees),
    /// Boosted trees.
    Boosting(FittedBoosting),
    /// Boosted trees for quantiles.
    Quantiles(BoostedQuantiles),
    /// Boosted trees for times, some of which are censored.
    Survival(FittedSurvival),
    /// Median of several models.
    Ensemble(EnsembleMembers),
    /// A weighted mean of several.
    Blend(Blend),
    /// Classes, of which it says the mean number.
    Classes(Box<FittedClassifier>),
}

impl FittedRegressor {
    /// Predicts one value for each row of `x` (rows × features, NaN where a value is missing).
    ///
    /// # Panics
    /// `x` has another number of columns than the model was fitted on;
    /// [`ModelArtifact`](crate::ModelArtifact) checks the names before.
    #[must_use]
    pub fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        match self {
            Self::Constant(model) => model.predict(x),
            Self::Column(model) => model.predict(x),
            Self::Linear(model) => model.predict(x),
            Self::LogLinear(model) => model.predict(x),
            Self::Recursive(model) => model.predict(x),
            Self::Neighbours(model) => model.predict(x),
            Self::Kernel(model) => model.predict(x),
            Self::NeuralNet(model) => model.predict(x),
            Self::Trees(model) => model.predict(x),
            Self::Boosting(model) => model.predict(x),
            Self::Quantiles(model) => model.predict(x),
            Self::Survival(model) => model.predict(x),
            Self::Ensemble(model) => model.predict(x),
            Self::Blend(model) => model.predict(x),
            Self::Classes(model) => model.predict_mean_class(x),
        }
    }

    /// Predicts quantiles (rows × levels, never falling) and returns them with their levels. `None`
    /// for models that do not learn a distribution.
    ///
    /// # Panics
    /// As [`FittedRegressor::predict`].
    #[must_use]
    pub fn predict_quantiles(&self, x: ArrayView2<f64>) -> Option<(&'static [f64], Array2<f64>)> {
        match self {
            Self::Quantiles(model) => Some((&LEVELS, model.predict_quantiles(x))),
            Self::Survival(model) => Some((&LEVELS, model.predict_quantiles(x))),
            _ => None,
        }
    }

    /// Predicts the probability of each class (rows × classes). `None` for models that do not learn
    /// classes.
    ///
    /// # Panics
    /// As [`FittedRegressor::predict`].
    #[must_use]
    pub fn predict_probabilities(&self, x: ArrayView2<f64>) -> Option<Array2<f64>> {
        match self {
            Self::Classes(model) => Some(model.predict_probabilities(x)),
            Self::Blend(model) => model.predict_probabilities(x),
            _ => None,
        }
    }

    /// Whether [`FittedRegressor::predict_probabilities`] has them.
    #[must_use]
    pub fn has_probabilities(&self) -> bool {
        match self {
            Self::Classes(_) => true,
            Self::Blend(model) => model.has_probabilities(),
            _ => false,
        }
    }

    /// Refuses a model whose parts do not fit rows of so many inputs.
    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        match self {
            Self::Column(model) => model.check_shape(inputs),
            Self::Linear(model) => model.check_shape(inputs),
            Self::LogLinear(model) => model.check_shape(inputs),
            Self::Recursive(model) => model.check_shape(inputs),
            Self::Neighbours(model) => model.check_shape(inputs),
            Self::Kernel(model) => model.check_shape(inputs),
            Self::NeuralNet(model) => model.check_shape(inputs),
            Self::Ensemble(model) => model.check_shape(inputs),
            Self::Blend(model) => model.check_shape(inputs),
            // Their form is checked before they are made, and they are asked within limits.
            Self::Constant(_)
            | Self::Trees(_)
            | Self::Boosting(_)
            | Self::Quantiles(_)
            | Self::Survival(_)
            | Self::Classes(_) => Ok(()),
        }
    }

    /// Learns one more row, once its truth is known; says whether this model
    /// can. A row with a truth that is not finite is passed over.
    ///
    /// # Panics
    /// As [`FittedRegressor::predict`].
    pub fn learn_row(&mut self, row: ArrayView1<f64>, target: f64) -> bool {
        match self {
            Self::Recursive(model) if target.is_finite() => {
                model.learn_row(row, target);
                true
            }
            Self::Recursive(_) => true,
            _ => false,
        }
    }
}
