use ndarray::{Array1, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, RarityScale, require_rows};
use crate::{FitError, scaling::finite_median};

/// Combines the rarities of a row's inputs. The rarity of an input is −log₁₀ of the conformal
/// p-value of its distance from the median ([`RarityScale`]). The score is the cube root of the
/// weighted sum of cubes. It is little more than the largest rarity, so one unusual input among
/// many is enough, and several count for more. It is a generalised mean, as in V. Vovk, R. Wang,
/// "Combining p-values via averaging", Biometrika 107(4), 2020.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConformalTails {
    /// Weight of each input, 0 to 1; inputs without one have weight 1.
    pub weights: &'static [f64],
}

const POWER: i32 = 3;

impl ConformalTails {
    /// Name in leaderboards and artifacts.
    pub const NAME: &str = "conformal tails";
}

/// Fitted state of each input.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedConformalTails(Vec<ConformalInput>);

#[derive(Debug, Serialize, Deserialize)]
struct ConformalInput {
    median: f64,
    weight: f64,
    rarity: RarityScale,
}

impl AnomalyDetector for ConformalTails {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn fit(&self, x: ArrayView2<f64>, _: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let input = |(number, column): (usize, ArrayView1<f64>)| {
            let median = finite_median(column.iter().copied());
            let rarity =
                RarityScale::from_values(column.iter().map(|value| (value - median).abs()));
            ConformalInput {
                median,
                weight: self.weights.get(number).copied().unwrap_or(1.0),
                rarity,
            }
        };
        let inputs = x.columns().into_iter().enumerate().map(input).collect();
        Ok(FittedDetector::Conformal(FittedConformalTails(inputs)))
    }
}

impl FittedConformalTails {
    /// Weighted rarity of each input of a row.
    pub(super) fn input_scores(&self, row: ArrayView1<f64>) -> Array1<f64> {
        let part = |(value, input): (&f64, &ConformalInput)| {
            input.weight * input.rarity.score_value((value - input.median).abs())
        };
        row.iter().zip(&self.0).map(part).collect()
    }

    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let score = |row| self.input_scores(row).mapv(|part| part.powi(POWER)).sum().cbrt();
        x.rows().into_iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn one_odd_input_is_enough_and_weights_count() {
        let usual = Array2::from_shape_fn((1000, 3), |(i, j)| ((i * (j + 3)) % 1000) as f64);
        let test_rows =
            array![[500.0, 500.0, 500.0], [500.0, 5000.0, 500.0], [5000.0, 500.0, 5000.0]];
        let check = |weights: &'static [f64], rising: bool| {
            let fitted = ConformalTails { weights }.fit(usual.view(), 0).unwrap();
            let scores = fitted.score_rows(test_rows.view());
            assert!(scores[0] < 0.1 && scores[1] > 3.0, "{scores}");
            assert_eq!(scores[2] > scores[1], rising, "{scores}");
        };
        check(&[], true);
        check(&[0.5, 1.0, 0.5], false);
    }
}
