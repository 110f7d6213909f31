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
pub mod minutes;
mod rarity;
mod robust;
pub mod series;
mod support;
mod tails;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::{FitError, ROWS_MIN, dataset::spread, fill::Scaler};

pub use clusters::{KMeans, Mixture};
pub use components::PrincipalComponents;
pub use conformal::ConformalTails;
pub use distance::{Mahalanobis, Neighbours};
pub use ensemble::RankEnsemble;
pub use forest::IsolationForest;
pub use half_space::HalfSpaceTrees;
pub use local::LocalOutlierFactor;
pub use rarity::Rarity;
pub use robust::RobustZ;
pub use support::OneClassSupport;
pub use tails::EmpiricalTails;

/// A way to learn what rows usually look like. The same rows and seed give the
/// same model, whatever the number of threads. A missing input (NaN) looks as
/// usual: it takes the median of the training part, or is left out.
pub trait Detector: Send + Sync {
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
pub fn detectors() -> Vec<Box<dyn Detector>> {
    vec![
        Box::new(RobustZ),
        Box::new(EmpiricalTails),
        Box::new(ConformalTails::default()),
        Box::new(Mahalanobis),
        Box::new(PrincipalComponents),
        Box::new(Mixture),
        Box::new(KMeans),
        Box::new(Neighbours),
        Box::new(LocalOutlierFactor),
        Box::new(IsolationForest),
        Box::new(HalfSpaceTrees),
        Box::new(OneClassSupport),
        Box::new(RankEnsemble),
    ]
}

/// The detector of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Detector>> {
    detectors().into_iter().find(|detector| detector.name() == name)
}

/// What was learnt; can be written and read back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedDetector {
    /// Distance from the median in spreads.
    Robust(robust::Robust),
    /// Rarity of each input.
    Tails(tails::Tails),
    /// Rarity of each input, most of all of the rarest.
    Conformal(conformal::Conformal),
    /// Ease of being set apart.
    Forest(forest::Isolation),
    /// Rarity of the half-spaces that hold it.
    HalfSpaces(half_space::HalfSpaces),
    /// Distance from the mean in the data's own metric.
    Mahalanobis(distance::Ellipsoid),
    /// What principal components leave unexplained.
    Components(components::Components),
    /// Rarity in a mixture of normal distributions.
    Mixture(clusters::Normals),
    /// Distance from the nearest of some centres.
    Centres(clusters::Centres),
    /// Distance from the nearest rows.
    Neighbours(distance::Memory),
    /// That distance beside those of the nearest rows themselves.
    Local(local::Densities),
    /// Dissimilarity to support vectors.
    Support(support::Surrounded),
    /// The mean rarity of several scores.
    Ensemble(ensemble::Members),
}

impl FittedDetector {
    /// How unusual each row of `x` is, 0 or more: higher is more so. Scores of
    /// different detectors are in different units.
    #[must_use]
    pub fn score(&self, x: ArrayView2<f64>) -> Array1<f64> {
        match self {
            Self::Robust(model) => model.score(x),
            Self::Tails(model) => model.score(x),
            Self::Conformal(model) => model.score(x),
            Self::Forest(model) => model.score(x),
            Self::HalfSpaces(model) => model.score(x),
            Self::Mahalanobis(model) => model.score(x),
            Self::Components(model) => model.score(x),
            Self::Mixture(model) => model.score(x),
            Self::Centres(model) => model.score(x),
            Self::Neighbours(model) => model.score(x),
            Self::Local(model) => model.score(x),
            Self::Support(model) => model.score(x),
            Self::Ensemble(model) => model.score(x),
        }
    }

    /// How unusual each input of a row is, where the detector tells them apart.
    #[must_use]
    pub fn parts(&self, row: ArrayView1<f64>) -> Option<Array1<f64>> {
        match self {
            Self::Conformal(model) => Some(model.parts(row)),
            _ => None,
        }
    }

    /// Learns one more row; says whether this detector can.
    pub fn learn(&mut self, row: ArrayView1<f64>) -> bool {
        match self {
            Self::HalfSpaces(model) => {
                model.learn(row);
                true
            }
            _ => false,
        }
    }
}

/// At most `rows_max` rows, spread evenly, brought to one scale by all of them.
fn remembered(x: ArrayView2<f64>, rows_max: usize) -> (Scaler, Array2<f64>) {
    let scaler = Scaler::watchful(x);
    let kept = x.select(Axis(0), &spread(x.nrows(), rows_max));
    let rows = scaler.apply(kept.view());
    (scaler, rows)
}

fn enough(x: ArrayView2<f64>) -> Result<(), FitError> {
    if x.nrows() < ROWS_MIN { Err(FitError::FewRows { rows: x.nrows() }) } else { Ok(()) }
}
