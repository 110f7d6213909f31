//! A small neural net.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand::{SeedableRng, seq::SliceRandom};
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    Dataset, Estimator, FitError, FittedRegressor, MissingPolicy,
    scaling::{FeatureScaler, standardise_targets},
};

/// The mean of three nets, each with two hidden layers of 48 and 24 tanh units, fitted to
/// squared errors by Adam (D. P. Kingma, J. Ba, "Adam", ICLR 2015; step 0.003, batches of
/// 128) from weights at random (X. Glorot, Y. Bengio, AISTATS 2010). Each stops after 30
/// rounds, or once the last tenth of the rows, which it does not learn from, has not
/// improved for 6, and keeps its best round. Nets from other weights err differently (L. K.
/// Hansen, P. Salamon, "Neural network ensembles", IEEE PAMI 12(10), 1990). At most 20,000
/// rows.
#[derive(Clone, Copy, Debug)]
pub struct NeuralNet;

const HIDDEN: usize = 48;
const MIDDLE: usize = 24;
const NETS: u64 = 3;
const STEP: f64 = 0.003;
const BATCH: usize = 128;
const ROUNDS_MAX: usize = 30;
const PATIENCE: usize = 6;
/// Weight decay, which keeps weights of useless inputs small.
const DECAY: f64 = 3e-3;

/// Layers, in standardised inputs and targets.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedNeuralNet {
    scaler: FeatureScaler,
    layers: NetworkLayers,
    /// Other nets, whose predictions are averaged with those of the first; models of 0.1
    /// have none.
    #[serde(default)]
    others: Vec<NetworkLayers>,
    mean: f64,
    spread: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NetworkLayers {
    /// Weights, inputs × hidden units.
    inner: Array2<f64>,
    bias: Array1<f64>,
    /// The second hidden layer; models of 0.1 have none.
    #[serde(default)]
    middle: Option<MiddleLayer>,
    outer: Array1<f64>,
    /// Bias of the output; an array of one number, so that Adam treats all parameters alike.
    offset: Array1<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct MiddleLayer {
    /// hidden × middle
    weights: Array2<f64>,
    bias: Array1<f64>,
}

impl Estimator for NeuralNet {
    fn name(&self) -> &'static str {
        "neural net"
    }

    fn rows_max(&self) -> usize {
        20_000
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
        let train = |net: u64| {
            let mut rng = Pcg64::seed_from_u64(seed ^ net.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            train_layers(x.view(), y.view(), &mut rng)
        };
        let mut nets: Vec<NetworkLayers> = (0..NETS).into_par_iter().map(train).collect();
        let layers = nets.remove(0);
        Ok(FittedRegressor::NeuralNet(FittedNeuralNet {
            scaler,
            layers,
            others: nets,
            mean,
            spread,
        }))
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
        let mut matrix = |rows: usize, columns: usize| {
            let spread = (2.0 / (rows + columns) as f64).sqrt();
            let normal = Normal::new(0.0, spread).expect("a spread above 0");
            Array2::from_shape_simple_fn((rows, columns), || normal.sample(rng))
        };
        Self {
            inner: matrix(inputs, HIDDEN),
            bias: Array1::zeros(HIDDEN),
            middle: Some(MiddleLayer {
                weights: matrix(HIDDEN, MIDDLE),
                bias: Array1::zeros(MIDDLE),
            }),
            outer: matrix(MIDDLE, 1).column(0).to_owned(),
            offset: Array1::zeros(1),
        }
    }

    /// Returns the activations of the first and of the last hidden layer, which may be the same.
    fn hidden_activations(&self, x: ArrayView2<f64>) -> (Array2<f64>, Option<Array2<f64>>) {
        let hidden = (x.dot(&self.inner) + &self.bias).mapv_into(f64::tanh);
        let next = self
            .middle
            .as_ref()
            .map(|middle| (hidden.dot(&middle.weights) + &middle.bias).mapv_into(f64::tanh));
        (hidden, next)
    }

    fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let (hidden, next) = self.hidden_activations(x);
        next.unwrap_or(hidden).dot(&self.outer) + self.offset[0]
    }

    fn check_shape(&self, inputs: usize) -> Result<(), String> {
        let Self { inner, bias, middle, outer, offset } = self;
        let last = match middle {
            Some(middle) if middle.weights.nrows() != inner.ncols() => {
                return Err(format!("{} units before {}", inner.ncols(), middle.weights.nrows()));
            }
            Some(middle) if middle.weights.ncols() != middle.bias.len() => {
                return Err(format!(
                    "{} units, {} biases",
                    middle.weights.ncols(),
                    middle.bias.len()
                ));
            }
            Some(middle) => middle.bias.len(),
            None => inner.ncols(),
        };
        if inner.nrows() != inputs
            || bias.len() != inner.ncols()
            || outer.len() != last
            || offset.len() != 1
        {
            return Err(format!(
                "{:?} inner weights for {inputs} inputs, {} biases, {} outer weights for {last} units",
                inner.dim(),
                bias.len(),
                outer.len()
            ));
        }
        Ok(())
    }

    /// Gradient of half the mean squared error, with the weight decay.
    fn loss_gradient(&self, x: Array2<f64>, y: Array1<f64>) -> Self {
        let (hidden, next) = self.hidden_activations(x.view());
        let last = next.as_ref().unwrap_or(&hidden);
        let error = (last.dot(&self.outer) + self.offset[0] - &y) / y.len() as f64;
        let column = error.view().insert_axis(Axis(1));
        let outer = last.t().dot(&error) + &self.outer * DECAY;
        let slope = |activations: &Array2<f64>| activations.mapv(|h| 1.0 - h * h);
        let mut back = &column.dot(&self.outer.view().insert_axis(Axis(0))) * &slope(last);
        let middle = self.middle.as_ref().map(|middle| {
            let gradient = MiddleLayer {
                weights: hidden.t().dot(&back) + &middle.weights * DECAY,
                bias: back.sum_axis(Axis(0)),
            };
            back = back.dot(&middle.weights.t()) * &slope(&hidden);
            gradient
        });
        Self {
            inner: x.t().dot(&back) + &self.inner * DECAY,
            bias: back.sum_axis(Axis(0)),
            middle,
            outer,
            offset: Array1::from_elem(1, error.sum()),
        }
    }

    fn zeros_like(&self) -> Self {
        Self {
            inner: Array2::zeros(self.inner.dim()),
            bias: Array1::zeros(self.bias.len()),
            middle: self.middle.as_ref().map(|middle| MiddleLayer {
                weights: Array2::zeros(middle.weights.dim()),
                bias: Array1::zeros(middle.bias.len()),
            }),
            outer: Array1::zeros(self.outer.len()),
            offset: Array1::zeros(1),
        }
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        let Self { inner, bias, middle, outer, offset } = self;
        let middle = middle.iter_mut().flat_map(|own| own.weights.iter_mut().chain(&mut own.bias));
        inner.iter_mut().chain(bias).chain(middle).chain(outer).chain(offset)
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
    pub(crate) fn check_shape(&self, inputs: usize) -> Result<(), String> {
        let width = self.scaler.output_width();
        self.scaler.check_shape(inputs, width)?;
        std::iter::once(&self.layers)
            .chain(&self.others)
            .try_for_each(|layers| layers.check_shape(width))
    }

    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let x = self.scaler.scale_rows(x);
        let mut sum = self.layers.predict(x.view());
        self.others.iter().for_each(|other| sum += &other.predict(x.view()));
        sum * (self.spread / (1 + self.others.len()) as f64) + self.mean
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
            let middle = layers.middle.iter().flat_map(|middle| &middle.weights);
            let weights = layers.inner.iter().chain(&layers.outer).chain(middle);
            let decay = weights.map(|w| w * w).sum::<f64>();
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
