//! What inputs looked like in training, so that strange ones are known.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::fill::median;

/// How far beyond what training saw is still like it, as a share of its span.
const MARGIN: f64 = 0.1;
/// An input that was missing more often than this is not missed.
const OFTEN: f64 = 0.01;

/// What one input looked like in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
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
pub struct Profile {
    /// In the order of the schema.
    pub inputs: Vec<Range>,
}

/// How a row compares with training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strangeness {
    /// Numbers of the inputs whose values are beyond what training saw by more
    /// than a tenth of its span.
    pub outside: Vec<usize>,
    /// Numbers of the inputs without a value that always had one in training.
    pub missing: Vec<usize>,
    /// Inputs in all.
    pub inputs: usize,
}

impl Strangeness {
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

impl Profile {
    /// The profile of `x` (rows × features, NaN where a value is missing).
    #[must_use]
    pub fn of(x: ArrayView2<f64>) -> Self {
        Self { inputs: x.columns().into_iter().map(range).collect() }
    }

    /// Compares a row (NaN where a value is missing) with training. Without a
    /// profile nothing is strange.
    #[must_use]
    pub fn compare(&self, row: &[f64]) -> Strangeness {
        let mut found = Strangeness { inputs: row.len(), ..Strangeness::default() };
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

fn range(column: ArrayView1<f64>) -> Range {
    let present = || column.iter().copied().filter(|value| value.is_finite());
    let count = present().count();
    let (low, high) = match count {
        0 => (0.0, 0.0),
        _ => (present().fold(f64::INFINITY, f64::min), present().fold(f64::NEG_INFINITY, f64::max)),
    };
    let missing = 1.0 - count as f64 / column.len().max(1) as f64;
    Range { low, median: median(present()), high, missing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn what_is_strange() {
        let nan = f64::NAN;
        let x = array![[0.0, 5.0, nan], [10.0, 5.0, nan], [4.0, 5.0, 1.0]];
        let profile = Profile::of(x.view());
        assert_eq!(profile.inputs[0].median, 4.0);
        let check = |row: [f64; 3], outside: &[usize], missing: &[usize]| {
            let found = profile.compare(&row);
            assert_eq!((&found.outside[..], &found.missing[..]), (outside, missing), "{row:?}");
        };
        check([5.0, 5.0, 1.0], &[], &[]);
        check([11.0, 5.0, nan], &[], &[]);
        check([11.1, 5.0, nan], &[0], &[]);
        check([-1.1, 5.1, nan], &[0, 1], &[]);
        check([nan, f64::INFINITY, 3.0], &[2], &[0, 1]);
        assert_eq!(Profile::default().compare(&[9.0]).outside_share(), 0.0);
        assert_eq!(Profile::of(array![[nan], [nan]].view()).compare(&[nan]).missing_share(), 0.0);
    }
}
