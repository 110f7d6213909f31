//! What inputs looked like in training, so that strange ones are known.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::scaling::finite_median;

/// How far beyond what training saw is still like it, as a share of its span.
const MARGIN: f64 = 0.1;
/// An input that was missing more often than this is not missed.
const OFTEN: f64 = 0.01;

/// What one input looked like in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputRange {
    /// The smallest value.
    pub low: f64,
    /// The middle one.
    pub median: f64,
    /// The largest value.
    pub high: f64,
    /// The share of rows without a value.
    pub missing: f64,
}

/// What all inputs looked like in training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InputProfile {
    /// In the order of the schema.
    pub inputs: Vec<InputRange>,
}

/// How a row compares with training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputDeviation {
    /// Numbers of the inputs whose values are beyond what training saw by more
    /// than a tenth of its span.
    pub outside: Vec<usize>,
    /// Numbers of the inputs without a value that always had one in training.
    pub missing: Vec<usize>,
    /// Inputs in all.
    pub inputs: usize,
}

impl InputDeviation {
    /// The share of inputs outside, 0 to 1.
    #[must_use]
    pub fn outside_share(&self) -> f64 {
        self.outside.len() as f64 / self.inputs.max(1) as f64
    }

    /// The share of inputs missing, 0 to 1.
    #[must_use]
    pub fn missing_share(&self) -> f64 {
        self.missing.len() as f64 / self.inputs.max(1) as f64
    }
}

impl InputProfile {
    /// The profile of `x` (rows × features, NaN where a value is missing).
    #[must_use]
    pub fn from_rows(x: ArrayView2<f64>) -> Self {
        Self { inputs: x.columns().into_iter().map(column_range).collect() }
    }

    /// Compares a row (NaN where a value is missing) with training. Without a
    /// profile nothing is strange.
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
