//! Calibration of probabilities, so that they match observed frequencies.

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{Classifier, FittedClassifier, LabelledDataset};
use crate::{FitError, MissingPolicy};

/// Method by which probabilities are calibrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalibrationMethod {
    /// A logistic curve of the log odds, for few rows. J. Platt, "Probabilistic outputs for support
    /// vector machines", 1999, fitted as by H.-T. Lin, C.-J. Lin, R. C. Weng, Machine Learning 68,
    /// 2007.
    Platt,
    /// The best curve that never falls, for about 1,000 rows and more. B. Zadrozny, C. Elkan, KDD
    /// 2002.
    Isotonic,
}

/// Calibrates another classifier. It is fitted on the first four fifths of the rows and calibrated
/// on the last fifth, one class against the rest; then rows are normalised to a sum of 1 (Zadrozny
/// and Elkan, 2002). A class with fewer than 5 rows for or against it in the last fifth is not
/// calibrated.
pub struct CalibratedClassifier {
    /// Name in leaderboards.
    pub name: &'static str,
    /// Classifier that is calibrated.
    pub inner: Box<dyn Classifier>,
    /// Calibration method.
    pub method: CalibrationMethod,
}

/// Fewest rows of a class, and of the others, to which a curve is fitted.
const ROWS_MIN: usize = 5;

/// Fitted classifier with one curve per class.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedCalibration {
    inner: Box<FittedClassifier>,
    curves: Vec<CalibrationCurve>,
    shares: Vec<f64>,
}

/// Maps a predicted probability to a calibrated one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CalibrationCurve {
    /// Leaves the probability as it is.
    Straight,
    /// 1/(1 + exp(−(slope · log odds + offset))).
    Logistic { slope: f64, offset: f64 },
    /// Piecewise linear curve that never falls, given by its corners.
    Rising { said: Vec<f64>, meant: Vec<f64> },
}

impl Classifier for CalibratedClassifier {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rows_max(&self) -> usize {
        self.inner.rows_max()
    }

    fn missing_policy(&self) -> MissingPolicy {
        self.inner.missing_policy()
    }

    fn fit(&self, data: &LabelledDataset, seed: u64) -> Result<FittedClassifier, FitError> {
        let cut = data.row_count() * 4 / 5;
        let early = data.select_rows(&(0..cut).collect::<Vec<_>>());
        let late = data.select_rows(&(cut..data.row_count()).collect::<Vec<_>>());
        let inner = self.inner.fit(&early, seed)?;
        let predicted = inner.predict_probabilities(late.x.view());
        let curve = |class: usize| {
            let labels: Vec<bool> = late.y.iter().map(|label| *label == class).collect();
            let positives = labels.iter().filter(|label| **label).count();
            if positives.min(labels.len() - positives) < ROWS_MIN {
                return CalibrationCurve::Straight;
            }
            CalibrationCurve::fit(self.method, &predicted.column(class).to_vec(), &labels)
        };
        let curves = (0..data.classes.len()).map(curve).collect();
        let inner = Box::new(inner);
        Ok(FittedClassifier::Calibrated(FittedCalibration {
            inner,
            curves,
            shares: data.class_shares(),
        }))
    }
}

impl FittedCalibration {
    pub(super) fn predict_probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let mut rows = self.inner.predict_probabilities(x);
        for (mut column, curve) in rows.columns_mut().into_iter().zip(&self.curves) {
            column.mapv_inplace(|p| curve.calibrate_probability(p));
        }
        super::normalise_rows(rows, &self.shares)
    }
}

/// Rows with one calibrated probability.
struct IsotonicPool {
    first: f64,
    last: f64,
    rows: f64,
    positives: f64,
}

fn log_odds(probability: f64) -> f64 {
    let clamped = probability.clamp(1e-9, 1.0 - 1e-9);
    (clamped / (1.0 - clamped)).ln()
}

fn logistic_function(sum: f64) -> f64 {
    1.0 / (1.0 + (-sum).exp())
}

impl CalibrationCurve {
    pub(crate) fn fit(method: CalibrationMethod, predicted: &[f64], labels: &[bool]) -> Self {
        match method {
            CalibrationMethod::Platt => Self::fit_platt(predicted, labels),
            CalibrationMethod::Isotonic => Self::fit_isotonic(predicted, labels),
        }
    }

    /// Maximises the likelihood by Newton's method. Targets lie slightly inside 0 and 1, so that
    /// the maximum is finite.
    fn fit_platt(predicted: &[f64], labels: &[bool]) -> Self {
        let positives = labels.iter().filter(|label| **label).count() as f64;
        let negatives = labels.len() as f64 - positives;
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        let rows: Vec<(f64, f64)> = predicted
            .iter()
            .zip(labels)
            .map(|(p, label)| (log_odds(*p), if *label { high } else { low }))
            .collect();
        // ln(1 + eˢ) − ts, without overflow.
        let loss = |slope: f64, offset: f64| -> f64 {
            let each = rows.iter().map(|(x, t)| {
                let sum = slope * x + offset;
                sum.max(0.0) + (-sum.abs()).exp().ln_1p() - t * sum
            });
            each.sum()
        };
        let (mut slope, mut offset) = (1.0, 0.0);
        let mut best = loss(slope, offset);
        for _ in 0..100 {
            let (mut a, mut b, mut aa, mut ab, mut bb) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
            for (x, target) in &rows {
                let p = logistic_function(slope * x + offset);
                let (error, curvature) = (p - target, p * (1.0 - p));
                a += error * x;
                b += error;
                aa += curvature * x * x;
                ab += curvature * x;
                bb += curvature;
            }
            let determinant = aa * bb - ab * ab;
            let (da, db) = ((bb * a - ab * b) / determinant, (aa * b - ab * a) / determinant);
            let step = (0..30).map(|halvings| 0.5_f64.powi(halvings)).find_map(|size| {
                let next = (slope - size * da, offset - size * db);
                let next_loss = loss(next.0, next.1);
                (next_loss < best).then_some((next, next_loss))
            });
            let Some((next, next_loss)) = step else { break };
            let gained = best - next_loss;
            ((slope, offset), best) = (next, next_loss);
            if gained < 1e-12 * best.abs() {
                break;
            }
        }
        Self::Logistic { slope, offset }
    }

    /// Fits by pooling adjacent violators: R. E. Barlow et al., "Statistical Inference under Order
    /// Restrictions", 1972.
    fn fit_isotonic(predicted: &[f64], labels: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..predicted.len()).collect();
        order.sort_by(|a, b| predicted[*a].total_cmp(&predicted[*b]));
        let mut pools: Vec<IsotonicPool> = Vec::new();
        for equal in order.chunk_by(|a, b| predicted[*a] == predicted[*b]) {
            let probability = predicted[equal[0]];
            let positives = equal.iter().filter(|row| labels[**row]).count() as f64;
            pools.push(IsotonicPool {
                first: probability,
                last: probability,
                rows: equal.len() as f64,
                positives,
            });
            while let [.., previous, last] = pools.as_mut_slice() {
                if previous.positives * last.rows < last.positives * previous.rows {
                    break;
                }
                previous.last = last.last;
                previous.rows += last.rows;
                previous.positives += last.positives;
                pools.pop();
            }
        }
        let (mut at, mut meant) = (Vec::new(), Vec::new());
        for pool in pools {
            at.push(pool.first);
            meant.push(pool.positives / pool.rows);
            if pool.last > pool.first {
                at.push(pool.last);
                meant.push(pool.positives / pool.rows);
            }
        }
        Self::Rising { said: at, meant }
    }

    pub(crate) fn calibrate_probability(&self, p: f64) -> f64 {
        match self {
            Self::Straight => p,
            Self::Logistic { slope, offset } => logistic_function(slope * log_odds(p) + offset),
            Self::Rising { said, meant } => {
                let above = said.partition_point(|corner| *corner <= p);
                if above == 0 || above == said.len() {
                    return meant[above.saturating_sub(1)];
                }
                let share = (p - said[above - 1]) / (said[above] - said[above - 1]);
                meant[above - 1] + share * (meant[above] - meant[above - 1])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities p = 0.02 … 0.98, of which a share of p² are positive, at scattered positions.
    fn rows() -> (Vec<f64>, Vec<bool>) {
        let rows = (1..50).flat_map(|i| (0..20).map(move |j| (f64::from(i) / 50.0, j)));
        rows.map(|(p, j)| (p, f64::from((j * 7) % 20) < 20.0 * p * p - 0.5)).unzip()
    }

    #[test]
    fn curves_are_those_of_scikit_learn() {
        let (scores, labels) = rows();
        // scikit-learn 1.6.1: IsotonicRegression(out_of_bounds="clip"); sklearn.calibration's
        // _sigmoid_calibration on the log odds
        let check = |method, expect: &[(f64, f64)], within: f64| {
            let curve = CalibrationCurve::fit(method, &scores, &labels);
            for (p, expect) in expect {
                let got = curve.calibrate_probability(*p);
                assert!((got - expect).abs() < within, "{method:?} at {p}: {got} is not {expect}");
            }
        };
        check(
            CalibrationMethod::Isotonic,
            &[(0.01, 0.0), (0.25, 0.05), (0.333, 0.1), (0.5, 0.25), (0.71, 0.5), (0.95, 0.9)],
            1e-9,
        );
        check(
            CalibrationMethod::Platt,
            &[
                (0.01, 0.001_120_158),
                (0.25, 0.075_424_161),
                (0.333, 0.118_061_256),
                (0.5, 0.238_806_584),
                (0.71, 0.484_646_98),
                (0.95, 0.920_623_605),
            ],
            1e-5,
        );
    }

    #[test]
    fn a_curve_that_falls_is_pooled() {
        let scores = [0.1, 0.2, 0.3, 0.4];
        let curve = CalibrationCurve::fit(
            CalibrationMethod::Isotonic,
            &scores,
            &[true, false, false, true],
        );
        let third = 1.0 / 3.0;
        let expect =
            CalibrationCurve::Rising { said: vec![0.1, 0.3, 0.4], meant: vec![third, third, 1.0] };
        assert_eq!(curve, expect);
        assert_eq!(
            (curve.calibrate_probability(0.0), curve.calibrate_probability(0.9)),
            (third, 1.0),
            "beyond the corners"
        );
    }
}
