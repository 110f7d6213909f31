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

/// Fewest rows that a model is fitted on.
pub const ROWS_MIN: usize = 30;

/// Why a model could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Arrays that do not fit one another.
    #[error("found {found}, expected {expected}")]
    ShapeMismatch {
        /// The shapes.
        found: String,
        /// The shapes that fit.
        expected: String,
    },
    /// A truth that is none.
    #[error("row {row}: the truth is {found}, expected a finite number")]
    NonFiniteTarget {
        /// Counted from 0.
        row: usize,
        /// Its value.
        found: f64,
    },
    /// Too little to learn from.
    #[error("{rows} rows to learn from, expected at least {ROWS_MIN}")]
    FewRows {
        /// As many as there are.
        rows: usize,
    },
    /// A column that the model is about is missing.
    #[error("there is no input `{0}`")]
    NoColumn(String),
    /// A truth below 0, for a model of times and amounts.
    #[error("{model}: the truth of row {row} is {found}, expected 0 or more")]
    NegativeTarget {
        /// The model's name.
        model: &'static str,
        /// Counted from 0.
        row: usize,
        /// Its value.
        found: f64,
    },
    /// Truths that are all of one class.
    #[error("all truths are of the class `{0}`, expected at least two classes")]
    OneClass(String),
    /// The library that does the work gave up.
    #[error("{model}: {what}")]
    Library {
        /// The model's name.
        model: &'static str,
        /// What the library says.
        what: String,
    },
}

/// A way to learn from rows. The same rows and seed give the same model,
/// whatever the number of threads.
pub trait Estimator: Send + Sync {
    /// Its name in leaderboards and artifacts.
    fn name(&self) -> &'static str;

    /// More rows than this are thinned out evenly before fitting.
    fn rows_max(&self) -> usize {
        usize::MAX
    }

    /// What it does where an input is missing (NaN); every model does
    /// something.
    fn missing_policy(&self) -> MissingPolicy;

    /// Learns from `data`, which is left as it is.
    ///
    /// # Errors
    /// See [`FitError`].
    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError>;
}

/// Fits after thinning; also returns the number of rows that were used.
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

/// What was learnt; can be written and read back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedRegressor {
    /// Always the same.
    Constant(ConstantModel),
    /// One input times a factor.
    Column(ScaledColumn),
    /// A weighted sum of standardised inputs.
    Linear(LinearModel),
    /// The exponential of such a sum.
    LogLinear(LogLinearModel),
    /// Such a sum that goes on learning.
    Recursive(FittedRecursive),
    /// Rows that are remembered.
    Neighbours(FittedNeighbours),
    /// A sum of similarities to some rows.
    Kernel(KernelSum),
    /// A small neural net.
    NeuralNet(FittedNeuralNet),
    /// Trees: what smartcore fits.
    Trees(FittedTrees),
    /// Boosted trees.
    Boosting(FittedBoosting),
    /// Boosted trees for quantiles.
    Quantiles(BoostedQuantiles),
    /// Boosted trees for times, some of them censored.
    Survival(FittedSurvival),
    /// The middle of several.
    Ensemble(EnsembleMembers),
    /// A weighted mean of several.
    Blend(Blend),
    /// Classes, of which it says the mean number.
    Classes(Box<FittedClassifier>),
}

impl FittedRegressor {
    /// Predicts one value for each row of `x` (rows × features, NaN where a
    /// value is missing).
    ///
    /// # Panics
    /// Where `x` has another number of columns than the model was fitted on;
    /// [`ModelArtifact`](crate::Artifact) checks names before.
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

    /// Levels and the quantiles at them (rows × levels, never falling), of
    /// models that learn a distribution; none of the others.
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

    /// The probability of each class (rows × classes), of models that learn
    /// classes; none of the others.
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
    pub fn learn_row(&mut self, row: ArrayView1<f64>, truth: f64) -> bool {
        match self {
            Self::Recursive(model) if truth.is_finite() => {
                model.learn_row(row, truth);
                true
            }
            Self::Recursive(_) => true,
            _ => false,
        }
    }
}
