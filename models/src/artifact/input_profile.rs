//! Ranges of the inputs in training, by which unusual inputs are recognised.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::scaling::finite_median;

/// Margin around the training range within which a value still counts as inside, as a share of the
/// range.
const MARGIN: f64 = 0.1;
/// Share of training rows without a value, up to which a row that lacks the input counts as missing
/// it.
const OFTEN: f64 = 0.01;

/// Range of one input in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputRange {
    /// Smallest value.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Largest value.
    pub high: f64,
    /// Share of rows without a value.
    pub missing: f64,
}

/// Ranges of all inputs in training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InputProfile {
    /// Ranges in the order of the schema.
    pub inputs: Vec<InputRange>,
}

/// Difference between a row and the training rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputDeviation {
    /// Indices of the inputs whose values are outside the training range by more than a tenth of
    /// that range.
    pub outside: Vec<usize>,
    /// Indices of the inputs without a value that nearly always had one in training.
    pub missing: Vec<usize>,
    /// Number of all inputs.
    pub inputs: usize,
}

impl InputDeviation {
    /// Returns the share of inputs outside the training range, 0 to 1.
    #[must_use]
    pub fn outside_share(&self) -> f64 {
        self.outside.len() as f64 / self.inputs.max(1) as f64
    }

    /// Returns the share of inputs missing, 0 to 1.
    #[must_use]
    pub fn missing_share(&self) -> f64 {
        self.missing.len() as f64 / self.inputs.max(1) as f64
    }
}

impl InputProfile {
    /// Computes the profile of `x` (rows × features, NaN where a value is missing).
    #[must_use]
    pub fn from_rows(x: ArrayView2<f64>) -> Self {
        Self { inputs: x.columns().into_iter().map(column_range).collect() }
    }

    /// Compares a row (NaN where a value is missing) with the training rows. Without a profile
    /// nothing deviates.
    #[must_use]
    pub fn compare_row(&self, row: &[f64]) -> InputDeviation {
        let mut found = InputDeviation { inputs: row.len(), ..InputDeviation::default() };
        for (number, (value, range)) in row.iter().zip(&self.inputs).enumerate() {
            let margin = MARGIN * (range.high - range.low);
            if !value.is_finite() {
                if range.missing <= OFTEN {
                    found.missing.push(number);
                }
            } else if *value < range.low - margin || *value > range.high + margin {
                found.outside.push(number);
            }
        }
        found
    }
}

fn column_range(column: ArrayView1<f64>) -> InputRange {
    let present = || column.iter().copied().filter(|value| value.is_finite());
    let count = present().count();
    let (low, high) = match count {
        0 => (0.0, 0.0),
        _ => (present().fold(f64::INFINITY, f64::min), present().fold(f64::NEG_INFINITY, f64::max)),
    };
    let missing = 1.0 - count as f64 / column.len().max(1) as f64;
    InputRange { low, median: finite_median(present()), high, missing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn what_is_strange() {
        let nan = f64::NAN;
        let x = array![[0.0, 5.0, nan], [10.0, 5.0, nan], [4.0, 5.0, 1.0]];
        let profile = InputProfile::from_rows(x.view());
        assert_eq!(profile.inputs[0].median, 4.0);
        let check = |row: [f64; 3], outside: &[usize], missing: &[usize]| {
            let found = profile.compare_row(&row);
            assert_eq!((&found.outside[..], &found.missing[..]), (outside, missing), "{row:?}");
        };
        check([5.0, 5.0, 1.0], &[], &[]);
        check([11.0, 5.0, nan], &[], &[]);
        check([11.1, 5.0, nan], &[0], &[]);
        check([-1.1, 5.1, nan], &[0, 1], &[]);
        check([nan, f64::INFINITY, 3.0], &[2], &[0, 1]);
        assert_eq!(InputProfile::default().compare_row(&[9.0]).outside_share(), 0.0);
        assert_eq!(
            InputProfile::from_rows(array![[nan], [nan]].view())
                .compare_row(&[nan])
                .missing_share(),
            0.0
        );
    }
}
