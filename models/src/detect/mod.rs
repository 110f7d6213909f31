//! The anomaly detectors: they learn what is usual, without being told.

mod distance;
mod forest;
mod robust;

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{FitError, ROWS_MIN};

pub use distance::{Mahalanobis, Neighbours};
pub use forest::IsolationForest;
pub use robust::RobustZ;

/// A way to learn what rows usually look like.
pub trait Detector: Send + Sync {
    /// Its name in leaderboards and artifacts.
    fn name(&self) -> &'static str;

    /// Learns from `x` (rows × features, all finite), most of it usual.
    ///
    /// # Errors
    /// See [`FitError`].
    fn fit(&self, x: ArrayView2<f64>, seed: u64) -> Result<FittedDetector, FitError>;
}

/// Every detector, the baseline first.
#[must_use]
pub fn detectors() -> Vec<Box<dyn Detector>> {
    vec![Box::new(RobustZ), Box::new(IsolationForest), Box::new(Mahalanobis), Box::new(Neighbours)]
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
    /// Ease of being set apart.
    Forest(forest::Isolation),
    /// Distance from the mean in the data's own metric.
    Mahalanobis(distance::Ellipsoid),
    /// Distance from the nearest rows.
    Neighbours(distance::Memory),
}

impl FittedDetector {
    /// How unusual each row of `x` is: higher is more so. Scores of different
    /// detectors are in different units.
    #[must_use]
    pub fn score(&self, x: ArrayView2<f64>) -> Array1<f64> {
        match self {
            Self::Robust(model) => model.score(x),
            Self::Forest(model) => model.score(x),
            Self::Mahalanobis(model) => model.score(x),
            Self::Neighbours(model) => model.score(x),
        }
    }
}

fn enough(x: ArrayView2<f64>) -> Result<(), FitError> {
    if x.nrows() < ROWS_MIN { Err(FitError::FewRows { rows: x.nrows() }) } else { Ok(()) }
}

/// At most `rows_max` rows, evenly spread.
fn spread(rows: usize, rows_max: usize) -> Vec<usize> {
    let kept = rows.min(rows_max);
    (0..kept).map(|i| i * rows / kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use rand::{RngExt, SeedableRng};

    /// The battery: every detector must pass it.
    #[test]
    fn each_finds_what_stands_out_and_survives_being_written() {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(1);
        let usual = Array2::from_shape_fn((500, 4), |_| rng.random::<f64>() + rng.random::<f64>());
        let asked = array![[1.0, 1.0, 1.0, 1.0], [9.0, 1.0, 1.0, -7.0]];
        for detector in detectors() {
            let name = detector.name();
            let fitted = detector.fit(usual.view(), 7).unwrap();
            let scores = fitted.score(asked.view());
            assert!(scores[1] > scores[0], "{name}: {scores}");
            let again = detector.fit(usual.view(), 7).unwrap().score(asked.view());
            assert_eq!(again, scores, "{name}: the same seed");
            let json = serde_json::to_string(&fitted).unwrap();
            let read: FittedDetector = serde_json::from_str(&json).unwrap();
            assert_eq!(read.score(asked.view()), scores, "{name}: written and read");
            let one = fitted.score(asked.select(ndarray::Axis(0), &[1]).view());
            assert_eq!(one[0], scores[1], "{name}: one row is as many");
            let few = detector.fit(asked.view(), 7);
            assert!(matches!(few, Err(FitError::FewRows { rows: 2 })), "{name}");
        }
    }
}
