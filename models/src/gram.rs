//! Sums of products that least squares need. They are gathered block by block, so that rows are
//! read once and never copied as a whole.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Slice};
use rayon::prelude::*;

use crate::scaling::FeatureScaler;

/// Number of rows that are scaled and multiplied at once.
const ROWS: usize = 4096;
/// Number of periods of time on which settings are selected.
const STRETCHES: usize = 5;

/// Sums over rows of standardised inputs x and targets y.
#[derive(Clone, Debug)]
pub(crate) struct GramMatrix {
    rows: f64,
    x: Array1<f64>,
    y: f64,
    xx: Array2<f64>,
    xy: Array1<f64>,
    yy: f64,
}

/// Weights and intercept of a weighted sum of standardised inputs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinearWeights {
    pub(crate) weights: Array1<f64>,
    pub(crate) intercept: f64,
}

impl GramMatrix {
    fn with_width(width: usize) -> Self {
        let (x, xx) = (Array1::zeros(width), Array2::zeros((width, width)));
        Self { rows: 0.0, xy: x.clone(), x, y: 0.0, xx, yy: 0.0 }
    }

    fn from_rows(x: ArrayView2<f64>, y: ArrayView1<f64>) -> Self {
        Self {
            rows: x.nrows() as f64,
            x: x.sum_axis(Axis(0)),
            y: y.sum(),
            xx: x.t().dot(&x),
            xy: x.t().dot(&y),
            yy: y.dot(&y),
        }
    }

    /// Sums over the rows of one period. Blocks are added in their order, so that the sums are the
    /// same on any number of threads.
    fn from_stretch(scaler: &FeatureScaler, x: ArrayView2<f64>, y: ArrayView1<f64>) -> Self {
        let starts: Vec<usize> = (0..x.nrows()).step_by(ROWS).collect();
        let block = |start: usize| {
            let end = x.nrows().min(start + ROWS);
            let rows = Slice::from(start..end);
            let scaled = scaler.scale_rows(x.slice_axis(Axis(0), rows));
            Self::from_rows(scaled.view(), y.slice_axis(Axis(0), rows))
        };
        let blocks: Vec<Self> = starts.into_par_iter().map(block).collect();
        blocks
            .iter()
            .fold(Self::with_width(scaler.output_width()), |sum, block| sum.add_sums(block))
    }

    /// Sums of five periods of time of equal length.
    pub(crate) fn split_stretches(
        scaler: &FeatureScaler,
        x: ArrayView2<f64>,
        y: ArrayView1<f64>,
    ) -> Vec<Self> {
        let edge = |i: usize| i * x.nrows() / STRETCHES;
        let part = |i: usize| {
            let rows = Slice::from(edge(i)..edge(i + 1));
            Self::from_stretch(scaler, x.slice_axis(Axis(0), rows), y.slice_axis(Axis(0), rows))
        };
        (0..STRETCHES).map(part).collect()
    }

    fn add_sums(mut self, other: &Self) -> Self {
        self.rows += other.rows;
        self.x += &other.x;
        self.y += other.y;
        self.xx += &other.xx;
        self.xy += &other.xy;
        self.yy += other.yy;
        self
    }

    pub(crate) fn sum_all(all: &[Self]) -> Self {
        all[1..].iter().fold(all[0].clone(), Self::add_sums)
    }

    pub(crate) fn row_count(&self) -> f64 {
        self.rows
    }

    /// Σ(x − x̄)(x − x̄)ᵀ and Σ(x − x̄)(y − ȳ).
    pub(crate) fn centred_products(&self) -> (Array2<f64>, Array1<f64>) {
        let column = self.x.view().insert_axis(Axis(1));
        let xx = &self.xx - &(column.dot(&column.t()) / self.rows);
        let xy = &self.xy - &(&self.x * (self.y / self.rows));
        (xx, xy)
    }

    /// Adds the intercept that makes the mean error 0.
    pub(crate) fn with_intercept(&self, weights: Array1<f64>) -> LinearWeights {
        let intercept = (self.y - self.x.dot(&weights)) / self.rows;
        LinearWeights { weights, intercept }
    }

    /// Σ(y − b − w·x)², without reading the rows again.
    pub(crate) fn squared_error(&self, model: &LinearWeights) -> f64 {
        let LinearWeights { weights: w, intercept: b } = model;
        let explained = w.dot(&self.xx.dot(w)) + 2.0 * b * self.x.dot(w) + b * b * self.rows;
        (self.yy - 2.0 * (w.dot(&self.xy) + b * self.y) + explained).max(0.0)
    }
}

/// Selects the candidate that predicts each period best from those before it: cross-validation that
/// never uses the future (L. J. Tashman, "Out-of-sample tests of forecasting accuracy", Int. J.
/// Forecasting 16(4), 2000). `fit` returns one model per candidate.
pub(crate) fn best_candidate(
    stretches: &[GramMatrix],
    candidates: usize,
    fit: impl Fn(&GramMatrix) -> Vec<Option<LinearWeights>>,
) -> usize {
    let mut errors = vec![0.0; candidates];
    for next in 1..stretches.len() {
        let fitted = fit(&GramMatrix::sum_all(&stretches[..next]));
        for (error, model) in errors.iter_mut().zip(&fitted) {
            let period_error = model.as_ref().map(|model| stretches[next].squared_error(model));
            *error += period_error.filter(|error| error.is_finite()).unwrap_or(f64::INFINITY);
        }
    }
    (0..candidates).min_by(|a, b| errors[*a].total_cmp(&errors[*b])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn errors_are_those_of_the_rows() {
        let x = array![[1.0, 2.0], [0.0, -1.0], [3.0, 0.5], [2.0, 2.0], [1.0, 1.0], [0.0, 4.0]];
        let y = array![1.0, 2.0, -1.0, 0.5, 3.0, 2.0];
        let scaler = FeatureScaler::fit(x.view());
        let stretches = GramMatrix::split_stretches(&scaler, x.view(), y.view());
        assert_eq!(stretches.len(), STRETCHES);
        let sum = GramMatrix::sum_all(&stretches);
        assert_eq!(sum.row_count(), 6.0);
        let model = sum.with_intercept(array![0.3, -0.7]);
        let scaled = scaler.scale_rows(x.view());
        let errors = &y - &(scaled.dot(&model.weights) + model.intercept);
        assert!(errors.sum().abs() < 1e-12, "the intercept makes the mean error 0");
        assert!((sum.squared_error(&model) - errors.dot(&errors)).abs() < 1e-12);
        let (xx, xy) = sum.centred_products();
        let centred = &y - y.mean().unwrap();
        assert!((xx - scaled.t().dot(&scaled)).iter().all(|e| e.abs() < 1e-12));
        assert!((xy - scaled.t().dot(&centred)).iter().all(|e| e.abs() < 1e-12));
    }
}
