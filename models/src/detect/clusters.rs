use linfa::{DatasetBase, traits::Fit};
use linfa_clustering::GaussianMixtureModel;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand_xoshiro::{Xoshiro256Plus, rand_core::SeedableRng};
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows, scale_subsample};
use crate::{FitError, linalg, scaling::FeatureScaler};

/// Distance from the nearest of 8 centres in standardised inputs, divided by the mean distance of
/// that centre's own rows: S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory
/// 28(2), 1982, initialised as by D. Arthur, S. Vassilvitskii, "k-means++", SODA 2007; fitted by
/// linfa. At most 5,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct KMeansDetector;

/// Improbability of a row in a mixture of 4 normal distributions: ln of the largest possible
/// density over the row's own. G. McLachlan, D. Peel, "Finite Mixture Models", 2000; fitted by
/// linfa. At most 5,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct MixtureDetector;

const CENTRES: usize = 8;
const NORMALS: usize = 4;
const ROWS_MAX: usize = 5000;

/// Centres in standardised inputs, with the usual distance of their rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedCentres {
    scaler: FeatureScaler,
    centres: Array2<f64>,
    usual: Vec<f64>,
}

/// Weighted normal distributions of standardised inputs.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedMixture {
    scaler: FeatureScaler,
    normals: Vec<MixtureNormal>,
    /// ln of the sum of the densities at their own means.
    highest: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct MixtureNormal {
    mean: Array1<f64>,
    /// Cholesky factor of the covariance.
    factor: Array2<f64>,
    /// ln of weight × density at the mean.
    peak: f64,
}

fn subsample_dataset(x: ArrayView2<f64>) -> (FeatureScaler, DatasetBase<Array2<f64>, Array1<()>>) {
    let (scaler, rows) = scale_subsample(x, ROWS_MAX);
    (scaler, DatasetBase::from(rows))
}

impl AnomalyDetector for KMeansDetector {
    fn name(&self) -> &'static str {
        "k-means"
    }

    fn rows_max(&self) -> usize {
        ROWS_MAX
    }

    fn fit(&self, x: ArrayView2<f64>, seed: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let (scaler, rows) = subsample_dataset(x);
        let rng = Xoshiro256Plus::seed_from_u64(seed);
        let model = linfa_clustering::KMeans::params_with_rng(CENTRES, rng)
            .n_runs(3)
            .max_n_iterations(100)
            .tolerance(1e-4)
            .fit(&rows)
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        let mut model =
            FittedCentres { scaler, centres: model.centroids().clone(), usual: vec![1.0; CENTRES] };
        let mut sums = vec![(0.0, 0.0); CENTRES];
        for row in rows.records().rows() {
            let (centre, distance) = model.nearest_centre(row);
            sums[centre].0 += distance;
            sums[centre].1 += 1.0;
        }
        let overall = sums.iter().map(|(sum, _)| sum).sum::<f64>() / rows.records().nrows() as f64;
        // A centre with few or equal rows has no usual distance of its own.
        let usual = |(sum, rows): (f64, f64)| (sum / rows).max(overall / 2.0).max(1e-6);
        model.usual = sums.into_iter().map(usual).collect();
        Ok(FittedDetector::Centres(model))
    }
}

impl FittedCentres {
    fn nearest_centre(&self, row: ndarray::ArrayView1<f64>) -> (usize, f64) {
        let squared = |centre| linalg::squared_distance(centre, row);
        let all = self.centres.rows().into_iter().map(squared).enumerate();
        let (centre, squared) = all.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
        (centre, squared.sqrt())
    }

    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let score = |row| {
            let (centre, distance) = self.nearest_centre(row);
            distance / self.usual[centre]
        };
        self.scaler.scale_rows(x).rows().into_iter().map(score).collect()
    }
}

impl AnomalyDetector for MixtureDetector {
    fn name(&self) -> &'static str {
        "gaussian mixture"
    }

    fn rows_max(&self) -> usize {
        ROWS_MAX
    }

    fn fit(&self, x: ArrayView2<f64>, seed: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let library = |what: String| FitError::Library { model: "gaussian mixture", what };
        let (scaler, rows) = subsample_dataset(x);
        let rng = Xoshiro256Plus::seed_from_u64(seed);
        // The minimum variance keeps a normal distribution from collapsing on equal rows.
        let model = GaussianMixtureModel::params_with_rng(NORMALS, rng)
            .reg_covariance(1e-3)
            .max_n_iterations(100)
            .tolerance(1e-3)
            .fit(&rows)
            .map_err(|error| library(error.to_string()))?;
        let mut normals = Vec::new();
        for (number, weight) in model.weights().iter().enumerate() {
            let mean = model.means().row(number).to_owned();
            let covariance = model.covariances().index_axis(Axis(0), number).to_owned();
            let factor = linalg::cholesky(covariance)
                .ok_or_else(|| library("a covariance is not positive definite".to_owned()))?;
            let volume: f64 = factor.diag().iter().map(|entry| entry.ln()).sum();
            let constant = mean.len() as f64 / 2.0 * std::f64::consts::TAU.ln();
            normals.push(MixtureNormal { peak: weight.ln() - volume - constant, mean, factor });
        }
        let highest = log_sum_exp(normals.iter().map(|normal| normal.peak));
        Ok(FittedDetector::Mixture(FittedMixture { scaler, normals, highest }))
    }
}

impl FittedMixture {
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let score = |row: ndarray::ArrayView1<f64>| {
            let each = self.normals.iter().map(|normal| {
                let whitened = linalg::forward_substitute(&normal.factor, &row - &normal.mean);
                normal.peak - whitened.dot(&whitened) / 2.0
            });
            (self.highest - log_sum_exp(each)).max(0.0)
        };
        self.scaler.scale_rows(x).rows().into_iter().map(score).collect()
    }
}

/// ln Σ exp, without overflow.
fn log_sum_exp(terms: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = terms.collect();
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_finite() {
        largest + values.iter().map(|value| (value - largest).exp()).sum::<f64>().ln()
    } else {
        largest
    }
}
