//! The mean of the most similar rows.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::map_rows;
use crate::{
    Dataset, Estimator, FitError, FittedRegressor, MissingPolicy, linalg,
    scaling::{FeatureScaler, nan_as_null},
};

/// Mean of the 20 nearest rows in standardised inputs, weighted by 1/distance. T. Cover, P. Hart,
/// "Nearest neighbor pattern classification", IEEE Trans. Inf. Theory 13(1), 1967. A distance omits
/// the inputs that either row misses, and is scaled up accordingly (J. K. Dixon, "Pattern
/// recognition with partly missing data", IEEE Trans. SMC 9(10), 1979; as scikit-learn's
/// `nan_euclidean_distances`). At most 4,000 rows, because each prediction compares all of them.
#[derive(Clone, Copy, Debug)]
pub struct NearestNeighbours;

const NEIGHBOURS: usize = 20;

/// Rows of the training set, with their targets.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedNeighbours {
    scaler: FeatureScaler,
    #[serde(with = "nan_as_null")]
    rows: Array2<f64>,
    truths: Array1<f64>,
    /// Prediction where no training row has an input in common with the requested one.
    mean: f64,
}

impl Estimator for NearestNeighbours {
    fn name(&self) -> &'static str {
        "nearest neighbours"
    }

    fn rows_max(&self) -> usize {
        4000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::LeftOut
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<FittedRegressor, FitError> {
        let scaler = FeatureScaler::fit(data.x.view());
        let rows = scaler.scale_rows_unfilled(data.x.view());
        let mean = data.y.mean().unwrap_or_default();
        Ok(FittedRegressor::Neighbours(FittedNeighbours {
            scaler,
            rows,
            truths: data.y.clone(),
            mean,
        }))
    }
}

impl FittedNeighbours {
    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        if self.rows.nrows() != self.truths.len() {
            return Err(format!("{} rows with {} targets", self.rows.nrows(), self.truths.len()));
        }
        self.scaler.check_shape(inputs, self.rows.ncols())
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let asked = self.scaler.scale_rows_unfilled(x);
        map_rows(&asked, |row| self.mean_around(row))
    }

    fn mean_around(&self, row: ArrayView1<f64>) -> f64 {
        let known = self.rows.rows().into_iter().zip(&self.truths);
        let mut near: Vec<(f64, f64)> = known
            .filter_map(|(known, target)| Some((squared_distance(known, row)?, *target)))
            .collect();
        if near.len() > NEIGHBOURS {
            near.select_nth_unstable_by(NEIGHBOURS - 1, |a, b| a.0.total_cmp(&b.0));
            near.truncate(NEIGHBOURS);
        }
        // An equal row was seen before: only equal rows count.
        if near.iter().any(|(distance, _)| *distance == 0.0) {
            near.retain(|(distance, _)| *distance == 0.0);
            near.iter_mut().for_each(|(distance, _)| *distance = 1.0);
        }
        let (sum, total) = near.iter().fold((0.0, 0.0), |(sum, total), (distance, target)| {
            let weight = 1.0 / distance.sqrt();
            (sum + weight * target, total + weight)
        });
        if total > 0.0 { sum / total } else { self.mean }
    }
}

/// Squared distance over the inputs that both rows have, scaled up to all inputs. `None` where they
/// have none in common.
fn squared_distance(a: ArrayView1<f64>, b: ArrayView1<f64>) -> Option<f64> {
    let (sum, common) = linalg::common_squared_distance(a, b);
    (common > 0.0).then(|| sum * a.len() as f64 / common)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::aview1;

    #[test]
    fn distances_leave_out_what_is_missing() {
        const NAN: f64 = f64::NAN;
        let check = |a: &[f64], b: &[f64], expect: Option<f64>| {
            assert_eq!(squared_distance(aview1(a), aview1(b)), expect, "{a:?} {b:?}");
        };
        check(&[1.0, 2.0], &[4.0, 6.0], Some(25.0));
        // scikit-learn 1.6.1: nan_euclidean_distances([[3, nan, nan, 6]], [[1, nan, 4, 5]])
        check(&[3.0, NAN, NAN, 6.0], &[1.0, NAN, 4.0, 5.0], Some(10.0));
        check(&[1.0, NAN], &[NAN, 2.0], None);
    }
}
