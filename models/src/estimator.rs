use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{
    Dataset,
    zoo::{boosting::Boosting, column::Column, constant::Constant, linear::Linear, trees::Trees},
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

    /// Learns from `data`, which is left as it is. Missing inputs (NaN) are
    /// handled by every model: those of trees' libraries and linear ones see
    /// the median of the training part, boosting learns a branch for them.
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
    /// Trees, and neighbours: what smartcore fits.
    Trees(Trees),
    /// Boosted trees.
    Boosting(Boosting),
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
            Self::Trees(model) => model.predict(x),
            Self::Boosting(model) => model.predict(x),
        }
    }
}
