use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows, scale_subsample};
use crate::{FitError, linalg, scaling::FeatureScaler};

/// Local outlier factor: how much sparser rows lie around a row than around its 20 nearest
/// neighbours; 1 means equally dense. M. M. Breunig et al., "LOF: identifying density-based local
/// outliers", SIGMOD 2000. A new row is compared with the rows of the training set, as scikit-learn
/// does with `novelty=True`. Stores at most 2,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct LocalOutlierFactor;

const NEIGHBOURS: usize = 20;
const ROWS_MAX: usize = 2000;

/// Rows of the training set, standardised, with their densities.
#[derive(Debug, Serialize, Deserialize)]
pub struct LocalDensities {
    scaler: FeatureScaler,
    rows: Array2<f64>,
    /// Distance from each row to its 20th neighbour.
    reach: Vec<f64>,
    /// Local reachability density of each row.
    density: Vec<f64>,
}

impl AnomalyDetector for LocalOutlierFactor {
    fn name(&self) -> &'static str {
        "local outlier factor"
    }

    fn rows_max(&self) -> usize {
        ROWS_MAX
    }

    fn fit(&self, x: ArrayView2<f64>, _: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let (scaler, rows) = scale_subsample(x, ROWS_MAX);
        let (reach, density) = (Vec::new(), Vec::new());
        let mut model = LocalDensities { scaler, rows, reach, density };
        let near: Vec<Vec<(f64, usize)>> = (0..model.rows.nrows())
            .into_par_iter()
            .map(|row| model.nearest_rows(model.rows.row(row), Some(row)))
            .collect();
        model.reach = near.iter().map(|near| near[near.len() - 1].0).collect();
        model.density = near.iter().map(|near| model.density_among(near)).collect();
        Ok(FittedDetector::Local(model))
    }
}

impl LocalDensities {
    /// Distances and indices of the nearest rows, without the row `own`.
    fn nearest_rows(&self, row: ArrayView1<f64>, excluded: Option<usize>) -> Vec<(f64, usize)> {
        let squared = |(number, known): (usize, ArrayView1<f64>)| {
            (linalg::squared_distance(known, row), number)
        };
        let known = self.rows.rows().into_iter().enumerate();
        let mut all: Vec<(f64, usize)> =
            known.filter(|(number, _)| Some(*number) != excluded).map(squared).collect();
        let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        let kept = NEIGHBOURS.min(all.len());
        all.select_nth_unstable_by(kept - 1, order);
        all.truncate(kept);
        all.sort_unstable_by(order);
        all.iter_mut().for_each(|(distance, _)| *distance = distance.sqrt());
        all
    }

    /// Inverse of the mean reachability distance to the nearest rows. A neighbour counts as no
    /// nearer than the width of its own neighbourhood.
    fn density_among(&self, near: &[(f64, usize)]) -> f64 {
        let sum: f64 = near.iter().map(|(distance, row)| distance.max(self.reach[*row])).sum();
        // As in scikit-learn, so that equal rows have a finite density.
        1.0 / (sum / near.len() as f64 + 1e-10)
    }

    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let score = |row: ArrayView1<f64>| {
            let near = self.nearest_rows(row, None);
            let around: f64 = near.iter().map(|(_, row)| self.density[*row]).sum();
            around / near.len() as f64 / self.density_among(&near)
        };
        self.scaler.scale_rows(x).rows().into_iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_that_of_scikit_learn() {
        let value = |row: usize, by: f64| (row as f64 * by).sin() * (1.0 + row as f64 / 60.0);
        let x =
            Array2::from_shape_fn((60, 2), |(row, j)| value(row, if j == 0 { 1.3 } else { 2.1 }));
        let fitted = LocalOutlierFactor.fit(x.view(), 0).unwrap();
        let test_rows = ndarray::array![[0.0, 0.0], [2.5, -2.5], [1.0, 0.7]];
        // scikit-learn 1.6.1: -LocalOutlierFactor(n_neighbors=20, novelty=True).score_samples,
        // after StandardScaler
        let expect = [0.905_410_391_648, 1.649_604_934_26, 1.017_696_137_971];
        for (got, expect) in fitted.score_rows(test_rows.view()).iter().zip(expect) {
            assert!((got - expect).abs() < 1e-9, "{got} is not {expect}");
        }
    }
}
