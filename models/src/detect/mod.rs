//! The anomaly detectors: they learn what is usual, without being told.
//!
//! # Layout
//! Rows of inputs: `robust`, `tails`, `conformal`, `distance`, `local`, `clusters`,
//! `components`, `forest`, `half_space`, `support`, `ensemble`. Series of one
//! metric, value by value: [`series`]. Rows made of such a series, in which the
//! faults of sensors show: [`minutes`].

mod clusters;
mod components;
mod conformal;
mod distance;
mod ensemble;
mod forest;
mod half_space;
mod local;
mod rarity;
mod robust;
pub mod sensor_faults;
pub mod series;
mod support;
mod tails;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::{FitError, ROWS_MIN, dataset::evenly_spaced_rows, scaling::FeatureScaler};

pub use clusters::{KMeansDetector, MixtureDetector};
pub use components::PrincipalComponents;
pub use conformal::ConformalTails;
pub use distance::{Mahalanobis, NeighbourDistance};
pub use ensemble::RankEnsemble;
pub use forest::IsolationForest;
pub use half_space::HalfSpaceTrees;
pub use local::LocalOutlierFactor;
pub use rarity::RarityScale;
pub use robust::RobustZScore;
pub use support::OneClassSupport;
pub use tails::EmpiricalTails;

/// A way to learn what rows usually look like. The same rows and seed give the
/// same model, whatever the number of threads. A missing input (NaN) looks as
/// usual: it takes the median of the training part, or is left out.
pub trait AnomalyDetector: Send + Sync {
    /// Its name in leaderboards and artifacts.
    fn name(&self) -> &'static str;

    /// Of more rows than this it remembers, or learns from, that many spread
    /// evenly; scales are those of all.
    fn rows_max(&self) -> usize {
        usize::MAX
    }

    /// Learns from `x` (rows × features, NaN where missing), most of it usual.
    ///
    /// # Errors
    /// See [`FitError`].
    fn fit(&self, x: ArrayView2<f64>, seed: u64) -> Result<FittedDetector, FitError>;
}

/// Every detector, the baseline first.
#[must_use]
pub fn all_detectors() -> Vec<Box<dyn AnomalyDetector>> {
    vec![
        Box::new(RobustZScore),
        Box::new(EmpiricalTails),
        Box::new(ConformalTails::default()),
        Box::new(Mahalanobis),
        Box::new(PrincipalComponents),
        Box::new(MixtureDetector),
        Box::new(KMeansDetector),
        Box::new(NeighbourDistance),
        Box::new(LocalOutlierFactor),
        Box::new(IsolationForest),
        Box::new(HalfSpaceTrees),
        Box::new(OneClassSupport),
        Box::new(RankEnsemble),
    ]
}

/// The detector of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn AnomalyDetector>> {
    all_detectors().into_iter().find(|detector| detector.name() == name)
}

/// What was learnt; can be written and read back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedDetector {
    /// Distance from the median in spreads.
    Robust(robust::FittedRobustZScore),
    /// Rarity of each input.
    Tails(tails::FittedEmpiricalTails),
    /// Rarity of each input, most of all of the rarest.
    Conformal(conformal::FittedConformalTails),
    /// Ease of being set apart.
    Forest(forest::FittedIsolationForest),
    /// Rarity of the half-spaces that hold it.
    HalfSpaces(half_space::FittedHalfSpaceTrees),
    /// Distance from the mean in the data's own metric.
    Mahalanobis(distance::FittedMahalanobis),
    /// What principal components leave unexplained.
    Components(components::MinorComponents),
    /// Rarity in a mixture of normal distributions.
    Mixture(clusters::FittedMixture),
    /// Distance from the nearest of some centres.
    Centres(clusters::FittedCentres),
    /// Distance from the nearest rows.
    Neighbours(distance::FittedNeighbourDistance),
    /// That distance beside those of the nearest rows themselves.
    Local(local::LocalDensities),
    /// Dissimilarity to support vectors.
    Support(support::FittedOneClassSupport),
    /// The mean rarity of several scores.
    Ensemble(ensemble::RankedMembers),
}

impl FittedDetector {
    /// How unusual each row of `x` is, 0 or more: higher is more so. Scores of
    /// different detectors are in different units.
    #[must_use]
    pub fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        match self {
            Self::Robust(model) => model.score_rows(x),
            Self::Tails(model) => model.score_rows(x),
            Self::Conformal(model) => model.score_rows(x),
            Self::Forest(model) => model.score_rows(x),
            Self::HalfSpaces(model) => model.score_rows(x),
            Self::Mahalanobis(model) => model.score_rows(x),
            Self::Components(model) => model.score_rows(x),
            Self::Mixture(model) => model.score_rows(x),
            Self::Centres(model) => model.score_rows(x),
            Self::Neighbours(model) => model.score_rows(x),
            Self::Local(model) => model.score_rows(x),
            Self::Support(model) => model.score_rows(x),
            Self::Ensemble(model) => model.score_rows(x),
        }
    }

    /// How unusual each input of a row is, where the detector tells them apart.
    #[must_use]
    pub fn input_scores(&self, row: ArrayView1<f64>) -> Option<Array1<f64>> {
        match self {
            Self::Conformal(model) => Some(model.input_scores(row)),
            _ => None,
        }
    }

    /// Learns one more row; says whether this detector can.
    pub fn learn_row(&mut self, row: ArrayView1<f64>) -> bool {
        match self {
            Self::HalfSpaces(model) => {
                model.learn_row(row);
                true
            }
            _ => false,
        }
    }
}

/// At most `rows_max` rows, spread evenly, brought to one scale by all of them.
fn scale_subsample(x: ArrayView2<f64>, rows_max: usize) -> (FeatureScaler, Array2<f64>) {
    let scaler = FeatureScaler::keep_constant_columns(x);
    let kept = x.select(Axis(0), &evenly_spaced_rows(x.nrows(), rows_max));
    let rows = scaler.scale_rows(kept.view());
    (scaler, rows)
}

fn require_rows(x: ArrayView2<f64>) -> Result<(), FitError> {
    if x.nrows() < ROWS_MIN { Err(FitError::FewRows { rows: x.nrows() }) } else { Ok(()) }
}
