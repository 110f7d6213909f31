//! Anomaly detectors, which learn without labels what is normal.
//!
//! # Layout
//! Detectors of rows: `robust`, `tails`, `conformal`, `distance`, `local`, `clusters`,
//! `components`, `forest`, `half_space`, `support`, `ensemble`; `rarity` holds the [`RarityScale`]
//! that several of them use. Detectors of the series of one metric, value by value: [`series`].
//! Rows made from such a series, which show the faults of sensors: [`sensor_faults`].

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

/// Method that learns what rows normally look like. The same rows and seed give the same model,
/// whatever the number of threads. A missing input (NaN) counts as normal: it takes the median of
/// the training set, or is ignored.
pub trait AnomalyDetector: Send + Sync {
    /// Name in leaderboards and artifacts.
    fn name(&self) -> &'static str;

    /// Largest number of rows that the detector stores or fits. More rows are thinned evenly;
    /// scales are those of all rows.
    fn rows_max(&self) -> usize {
        usize::MAX
    }

    /// Fits to `x` (rows × features, NaN where missing), most rows of which must be normal.
    ///
    /// # Errors
    /// See [`FitError`].
    fn fit(&self, x: ArrayView2<f64>, seed: u64) -> Result<FittedDetector, FitError>;
}

/// All detectors, the baseline first.
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

/// Finds a detector by its name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn AnomalyDetector>> {
    all_detectors().into_iter().find(|detector| detector.name() == name)
}

/// Fitted detector; can be saved and loaded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedDetector {
    /// Distance from the median in spreads.
    Robust(robust::FittedRobustZScore),
    /// Rarity of each input.
    Tails(tails::FittedEmpiricalTails),
    /// Rarity of each input, dominated by the rarest.
    Conformal(conformal::FittedConformalTails),
    /// Number of random cuts that separate a row.
    Forest(forest::FittedIsolationForest),
    /// Rarity of the half-spaces that hold a row.
    HalfSpaces(half_space::FittedHalfSpaceTrees),
    /// Distance from the mean in the metric of the data's covariance.
    Mahalanobis(distance::FittedMahalanobis),
    /// Distance beyond the principal components.
    Components(components::MinorComponents),
    /// Rarity in a mixture of normal distributions.
    Mixture(clusters::FittedMixture),
    /// Distance from the nearest of some centres.
    Centres(clusters::FittedCentres),
    /// Distance from the nearest rows.
    Neighbours(distance::FittedNeighbourDistance),
    /// Density around a row, compared with that around its nearest rows.
    Local(local::LocalDensities),
    /// Dissimilarity to support vectors.
    Support(support::FittedOneClassSupport),
    /// Mean rarity of several scores.
    Ensemble(ensemble::RankedMembers),
}

impl FittedDetector {
    /// Anomaly score of each row of `x`, 0 or more; higher is more unusual. Scores of different
    /// detectors have different units.
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

    /// Anomaly score of each input of a row. `None` where the detector does not score inputs
    /// separately.
    #[must_use]
    pub fn input_scores(&self, row: ArrayView1<f64>) -> Option<Array1<f64>> {
        match self {
            Self::Conformal(model) => Some(model.input_scores(row)),
            _ => None,
        }
    }

    /// Learns one more row. Returns whether this detector can do so.
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

/// Returns at most `rows_max` rows, evenly spread, scaled by the spreads of all rows.
fn scale_subsample(x: ArrayView2<f64>, rows_max: usize) -> (FeatureScaler, Array2<f64>) {
    let scaler = FeatureScaler::keep_constant_columns(x);
    let subsample = x.select(Axis(0), &evenly_spaced_rows(x.nrows(), rows_max));
    let rows = scaler.scale_rows(subsample.view());
    (scaler, rows)
}

fn require_rows(x: ArrayView2<f64>) -> Result<(), FitError> {
    if x.nrows() < ROWS_MIN { Err(FitError::FewRows { rows: x.nrows() }) } else { Ok(()) }
}
