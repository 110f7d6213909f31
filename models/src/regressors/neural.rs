//! A small neural net.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand::{SeedableRng, seq::SliceRandom};
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::{
    Dataset, Estimator, FitError, FittedRegressor, MissingPolicy,
    scaling::{FeatureScaler, standardise_targets},
};

/// One hidden layer of 32 tanh units, fitted to squared errors by Adam (D. P. Kingma, J. Ba,
/// "Adam", ICLR 2015; step 0.005, batches of 128) from random weights (X. Glorot, Y. Bengio,
/// AISTATS 2010). The last tenth of the rows is used for validation only. Training stops after 40
/// rounds, or after 10 rounds without a better validation error, and the best round is used. Fits
/// at most 10,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct NeuralNet;

const HIDDEN: usize = 32;
const STEP: f64 = 0.005;
const BATCH: usize = 128;
const ROUNDS_MAX: usize = 40;
const PATIENCE: usize = 10;
/// Weight decay, which keeps weights of useless inputs small.
const DECAY: f64 = 3e-3;

/// Layers, in standardised inputs and targets.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedNeuralNet {
    scaler: FeatureScaler,
    layers: NetworkLayers,
    mean: f64,
    spread: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NetworkLayers {
    /// Weights, inputs × hidden units.
    inner: Array2<f64>,
    bias: Array1<f64>,
    outer: Array1<f64>,
    /// Bias of the output; an array of one number, so that Adam treats all parameters alike.
    offset: Array1<f64>,
}

impl Estimator for NeuralNet {
    fn name(&self) -> &'static str {
        "neural net"
    }

    fn rows_max(&self) -> usize {
        10_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let scaler = FeatureScaler::fit_with_flags(data.x.view());
        let x = scaler.scale_rows(data.x.view());
        let (y, mean, spread) = standardise_targets(&data.y);
        if y.iter().all(|target| *target == 0.0) {
            return Ok(FittedRegressor::Constant(super::constant::ConstantModel { value: mean }));
        }
        let mut rng = Pcg64::seed_from_u64(seed);
        let layers = train_layers(x.view(), y.view(), &mut rng);
        Ok(FittedRegressor::NeuralNet(FittedNeuralNet { scaler, layers, mean, spread }))
    }
}

fn train_layers(x: ArrayView2<f64>, y: ArrayView1<f64>, rng: &mut Pcg64) -> NetworkLayers {
    let fitted_rows = x.nrows() - x.nrows() / 10;
    let (_, late) = x.split_at(Axis(0), fitted_rows);
    let (_, late_y) = y.split_at(Axis(0), fitted_rows);
    let mut layers = NetworkLayers::at_random(x.ncols(), rng);
    let mut adam = AdamOptimizer::for_layers(&layers);
    let mut order: Vec<usize> = (0..fitted_rows).collect();
    let (mut best, mut best_error, mut since) = (layers.clone(), f64::INFINITY, 0);
    for _ in 0..ROUNDS_MAX {
        order.shuffle(rng);
        for batch in order.chunks(BATCH) {
            let gradient = layers.loss_gradient(x.select(Axis(0), batch), y.select(Axis(0), batch));
            adam.apply_step(&mut layers, gradient);
        }
        let error = (layers.predict(late) - late_y).mapv(|e| e * e).sum();
        since += 1;
        if error < best_error {
            (best, best_error, since) = (layers.clone(), error, 0);
        }
        if since >= PATIENCE {
            break;
        }
    }
    best
}

impl NetworkLayers {
    fn at_random(inputs: usize, rng: &mut Pcg64) -> Self {
        let spread = (2.0 / (inputs + HIDDEN) as f64).sqrt();
        let normal = Normal::new(0.0, spread).expect("a spread above 0");
        Self {
            inner: Array2::from_shape_simple_fn((inputs, HIDDEN), || normal.sample(rng)),
            bias: Array1::zeros(HIDDEN),
            outer: Array1::from_shape_simple_fn(HIDDEN, || normal.sample(rng)),
            offset: Array1::zeros(1),
        }
    }

    fn hidden_activations(&self, x: ArrayView2<f64>) -> Array2<f64> {
        (x.dot(&self.inner) + &self.bias).mapv_into(f64::tanh)
    }

    fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.hidden_activations(x).dot(&self.outer) + self.offset[0]
    }

    /// Gradient of half the mean squared error, with the weight decay.
    fn loss_gradient(&self, x: Array2<f64>, y: Array1<f64>) -> Self {
        let hidden = self.hidden_activations(x.view());
        let error = (hidden.dot(&self.outer) + self.offset[0] - &y) / y.len() as f64;
        let column = error.view().insert_axis(Axis(1));
        let back =
            &column.dot(&self.outer.view().insert_axis(Axis(0))) * &hidden.mapv(|h| 1.0 - h * h);
        Self {
            inner: x.t().dot(&back) + &self.inner * DECAY,
            bias: back.sum_axis(Axis(0)),
            outer: hidden.t().dot(&error) + &self.outer * DECAY,
            offset: Array1::from_elem(1, error.sum()),
        }
    }

    fn zeros_like(&self) -> Self {
        Self {
            inner: Array2::zeros(self.inner.dim()),
            bias: Array1::zeros(self.bias.len()),
            outer: Array1::zeros(self.outer.len()),
            offset: Array1::zeros(1),
        }
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        let Self { inner, bias, outer, offset } = self;
        inner.iter_mut().chain(bias).chain(outer).chain(offset)
    }
}

/// Running means of gradients and of their squares.
struct AdamOptimizer {
    mean: NetworkLayers,
    square: NetworkLayers,
    steps: i32,
}

impl AdamOptimizer {
    fn for_layers(layers: &NetworkLayers) -> Self {
        Self { mean: layers.zeros_like(), square: layers.zeros_like(), steps: 0 }
    }

    fn apply_step(&mut self, layers: &mut NetworkLayers, mut gradient: NetworkLayers) {
        const KEEP_MEAN: f64 = 0.9;
        const KEEP_SQUARE: f64 = 0.999;
        self.steps += 1;
        let (mean_correction, square_correction) =
            (1.0 - KEEP_MEAN.powi(self.steps), 1.0 - KEEP_SQUARE.powi(self.steps));
        let moments = self.mean.each_mut().zip(self.square.each_mut());
        for ((weight, gradient), (mean, square)) in
            layers.each_mut().zip(gradient.each_mut()).zip(moments)
        {
            *mean = KEEP_MEAN * *mean + (1.0 - KEEP_MEAN) * *gradient;
            *square = KEEP_SQUARE * *square + (1.0 - KEEP_SQUARE) * *gradient * *gradient;
            *weight -=
                STEP * (*mean / mean_correction) / ((*square / square_correction).sqrt() + 1e-8);
        }
    }
}

impl FittedNeuralNet {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.layers.predict(self.scaler.scale_rows(x).view()) * self.spread + self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn the_gradient_is_the_slope_of_the_error() {
        let mut rng = Pcg64::seed_from_u64(2);
        let layers = NetworkLayers::at_random(3, &mut rng);
        let x = Array2::from_shape_simple_fn((7, 3), || rng.random_range(-1.0..1.0));
        let y = Array1::from_shape_simple_fn(7, || rng.random_range(-1.0..1.0));
        let loss = |layers: &NetworkLayers| {
            let errors = layers.predict(x.view()) - &y;
            let decay = layers.inner.iter().chain(&layers.outer).map(|w| w * w).sum::<f64>();
            errors.dot(&errors) / 14.0 + DECAY * decay / 2.0
        };
        let mut gradient = layers.loss_gradient(x.clone(), y.clone());
        let slopes: Vec<f64> = gradient.each_mut().map(|slope| *slope).collect();
        for (number, slope) in slopes.iter().enumerate().step_by(5) {
            let moved = |by: f64| {
                let mut moved = layers.clone();
                *moved.each_mut().nth(number).unwrap() += by;
                loss(&moved)
            };
            let expect = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - expect).abs() < 1e-8, "weight {number}: {slope} is not {expect}");
        }
    }
}
