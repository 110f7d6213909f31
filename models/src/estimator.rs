use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{
    Dataset, Missing,
    classify::FittedClassifier,
    zoo::{
        boosting::{BoostedQuantiles, Boosting, LEVELS},
        column::Column,
        constant::Constant,
        ensemble::Members,
        linear::Linear,
        neighbours::Memory,
        neural::Net,
        recursive::Recursive,
        support::KernelSum,
        survival::Survival,
        trees::Trees,
        tweedie::LogLinear,
    },
};

/// Fewest rows that a model is fitted on.
pub const ROWS_MIN: usize = 30;

/// Why a model could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Arrays that do not fit one another.
    #[error("found {found}, expected {expected}")]
    Shape {
        /// The shapes.
        found: String,
        /// The shapes that fit.
        expected: String,
    },
    /// A truth that is none.
    #[error("row {row}: the truth is {found}, expected a finite number")]
    Truth {
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
    Negative {
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
    fn missing(&self) -> Missing;

    /// Learns from `data`, which is left as it is.
    ///
    /// # Errors
    /// See [`FitError`].
    fn fit(&self, data: &Dataset, seed: u64) -> Result<Fitted, FitError>;
}

/// Fits after thinning; also returns the number of rows that were used.
///
/// # Errors
/// See [`FitError`].
pub fn fit(
    estimator: &dyn Estimator,
    data: &Dataset,
    seed: u64,
) -> Result<(Fitted, usize), FitError> {
    if data.rows() < ROWS_MIN {
        return Err(FitError::FewRows { rows: data.rows() });
    }
    let thinned = data.thinned(estimator.rows_max());
    Ok((estimator.fit(&thinned, seed)?, thinned.rows()))
}

/// What was learnt; can be written and read back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fitted {
    /// Always the same.
    Constant(Constant),
    /// One input times a factor.
    Column(Column),
    /// A weighted sum of standardised inputs.
    Linear(Linear),
    /// The exponential of such a sum.
    LogLinear(LogLinear),
    /// Such a sum that goes on learning.
    Recursive(Recursive),
    /// Rows that are remembered.
    Neighbours(Memory),
    /// A sum of similarities to some rows.
    Kernel(KernelSum),
    /// A small neural net.
    NeuralNet(Net),
    /// Trees: what smartcore fits.
    Trees(Trees),
    /// Boosted trees.
    Boosting(Boosting),
    /// Boosted trees for quantiles.
    Quantiles(BoostedQuantiles),
    /// Boosted trees for times, some of them censored.
    Survival(Survival),
    /// The middle of several.
    Ensemble(Members),
    /// Classes, of which it says the mean number.
    Classes(Box<FittedClassifier>),
}

impl Fitted {
    /// Predicts one value for each row of `x` (rows × features, NaN where a
    /// value is missing).
    ///
    /// # Panics
    /// Where `x` has another number of columns than the model was fitted on;
    /// [`Artifact`](crate::Artifact) checks names before.
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
            Self::Classes(model) => model.mean_class(x),
        }
    }

    /// Levels and the quantiles at them (rows × levels, never falling), of
    /// models that learn a distribution; none of the others.
    ///
    /// # Panics
    /// As [`Fitted::predict`].
    #[must_use]
    pub fn quantiles(&self, x: ArrayView2<f64>) -> Option<(&'static [f64], Array2<f64>)> {
        match self {
            Self::Quantiles(model) => Some((&LEVELS, model.quantiles(x))),
            Self::Survival(model) => Some((&LEVELS, model.quantiles(x))),
            _ => None,
        }
    }

    /// The probability of each class (rows × classes), of models that learn
    /// classes; none of the others.
    ///
    /// # Panics
    /// As [`Fitted::predict`].
    #[must_use]
    pub fn probabilities(&self, x: ArrayView2<f64>) -> Option<Array2<f64>> {
        match self {
            Self::Classes(model) => Some(model.probabilities(x)),
            _ => None,
        }
    }

    /// Learns one more row, once its truth is known; says whether this model
    /// can. A row with a truth that is not finite is passed over.
    ///
    /// # Panics
    /// As [`Fitted::predict`].
    pub fn learn(&mut self, row: ArrayView1<f64>, truth: f64) -> bool {
        match self {
            Self::Recursive(model) if truth.is_finite() => {
                model.learn(row, truth);
                true
            }
            Self::Recursive(_) => true,
            _ => false,
        }
    }
}
