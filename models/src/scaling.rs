//! Missing values and standardised inputs.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Treatment of a missing input (NaN) by a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingPolicy {
    /// The model uses no inputs.
    Unused,
    /// The input takes the median of the training set.
    Median,
    /// The input takes the median. An input that is missing in 1 % to 99 % of the training rows
    /// also has a flag, because the silence of a sensor carries information.
    MedianAndFlag,
    /// The model learns a separate branch for missing inputs.
    Branch,
    /// The distance omits the input.
    LeftOut,
}

/// Median of the finite values, 0 if there are none.
pub(crate) fn finite_median(samples: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = samples.filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    let (lower, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if even {
        let below = lower.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        f64::midpoint(below, *upper)
    } else {
        *upper
    }
}

/// Fills missing values, adds flags if requested, and scales columns to mean 0 and spread 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenScaler")]
pub(crate) struct FeatureScaler {
    median: Vec<f64>,
    /// Columns that have a flag. Flags come after all columns.
    flagged: Vec<usize>,
    mean: Array1<f64>,
    /// Inverse of the spread.
    factor: Array1<f64>,
}

/// A scaler as it is written.
#[derive(Deserialize)]
struct WrittenScaler {
    median: Vec<f64>,
    flagged: Vec<usize>,
    mean: Array1<f64>,
    factor: Array1<f64>,
}

impl TryFrom<WrittenScaler> for FeatureScaler {
    type Error = String;

    fn try_from(written: WrittenScaler) -> Result<Self, String> {
        let WrittenScaler { median, flagged, mean, factor } = written;
        let width = median.len() + flagged.len();
        if mean.len() != width || factor.len() != width {
            return Err(format!(
                "a scaler of {} inputs and {} flags has {} means and {} factors",
                median.len(),
                flagged.len(),
                mean.len(),
                factor.len()
            ));
        }
        if let Some(flag) = flagged.iter().find(|flag| **flag >= median.len()) {
            return Err(format!("a flag of input {flag}, expected less than {}", median.len()));
        }
        Ok(Self { median, flagged, mean, factor })
    }
}

/// Statistics of one column.
struct ColumnStatistics {
    median: f64,
    missing: f64,
    mean: f64,
    spread: f64,
}

impl ColumnStatistics {
    fn from_values(column: ArrayView1<f64>) -> Self {
        let present: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
        let median = finite_median(present.iter().copied());
        let (rows, missing) = (column.len() as f64, (column.len() - present.len()) as f64);
        let mean = (present.iter().sum::<f64>() + missing * median) / rows;
        let squares: f64 = present.iter().map(|value| (value - mean).powi(2)).sum();
        let spread = ((squares + missing * (median - mean).powi(2)) / rows).sqrt();
        Self { median, missing: missing / rows, mean, spread }
    }

    /// The spread. `None` where it consists of rounding errors only.
    fn nonzero_spread(&self) -> Option<f64> {
        Some(self.spread).filter(|spread| *spread > 1e-12 * self.mean.abs().max(1e-6))
    }
}

impl FeatureScaler {
    /// Fits a scaler in which a column that is constant in training stays 0, because its effect was
    /// never learned.
    pub(crate) fn fit(x: ArrayView2<f64>) -> Self {
        Self::fit_with_options(x, false, 0.0)
    }

    /// Fits a scaler as [`FeatureScaler::fit`] does, with flags for inputs that are often missing.
    pub(crate) fn fit_with_flags(x: ArrayView2<f64>) -> Self {
        Self::fit_with_options(x, true, 0.0)
    }

    /// Fits a scaler in which a column that is constant in training keeps its own unit, so that
    /// detectors see it change.
    pub(crate) fn keep_constant_columns(x: ArrayView2<f64>) -> Self {
        Self::fit_with_options(x, false, 1.0)
    }

    fn fit_with_options(x: ArrayView2<f64>, flags: bool, still: f64) -> Self {
        let numbers: Vec<usize> = (0..x.ncols()).collect();
        let columns: Vec<ColumnStatistics> =
            numbers.into_par_iter().map(|j| ColumnStatistics::from_values(x.column(j))).collect();
        let often = |share: f64| flags && (0.01..=0.99).contains(&share);
        let flagged: Vec<usize> =
            (0..columns.len()).filter(|j| often(columns[*j].missing)).collect();
        let shares = flagged.iter().map(|j| columns[*j].missing);
        let mean = columns.iter().map(|column| column.mean).chain(shares.clone()).collect();
        let factor = columns
            .iter()
            .map(|column| column.nonzero_spread().map_or(still, |spread| 1.0 / spread))
            .chain(shares.map(|share| 1.0 / (share * (1.0 - share)).sqrt()))
            .collect();
        let median = columns.iter().map(|column| column.median).collect();
        Self { median, flagged, mean, factor }
    }

    /// Refuses rows of another width, and `columns` of another than it makes of them.
    pub(crate) fn check_shape(&self, inputs: usize, columns: usize) -> Result<(), String> {
        if self.median.len() != inputs || self.output_width() != columns {
            return Err(format!(
                "a model of {} inputs, {} with flags, has {columns} weights, and the schema {inputs} inputs",
                self.median.len(),
                self.output_width()
            ));
        }
        Ok(())
    }

    /// Columns after scaling.
    pub(crate) fn output_width(&self) -> usize {
        self.mean.len()
    }

    /// Scales rows to rows × [`FeatureScaler::output_width`], all finite.
    pub(crate) fn scale_rows(&self, x: ArrayView2<f64>) -> Array2<f64> {
        self.scale_with_fill(x, |median| median)
    }

    /// Scales rows without filling: NaN where a value is missing.
    pub(crate) fn scale_rows_unfilled(&self, x: ArrayView2<f64>) -> Array2<f64> {
        self.scale_with_fill(x, |_| f64::NAN)
    }

    fn scale_with_fill(&self, x: ArrayView2<f64>, fill: impl Fn(f64) -> f64) -> Array2<f64> {
        assert_eq!(x.ncols(), self.median.len(), "as many inputs as the model was fitted on");
        let mut scaled = Array2::zeros((x.nrows(), self.output_width()));
        for (from, mut to) in x.rows().into_iter().zip(scaled.rows_mut()) {
            for (j, (from, median)) in from.iter().zip(&self.median).enumerate() {
                let value = if from.is_finite() { *from } else { fill(*median) };
                to[j] = (value - self.mean[j]) * self.factor[j];
            }
            for (flag, column) in self.flagged.iter().enumerate() {
                let j = self.median.len() + flag;
                let absent = f64::from(u8::from(!from[*column].is_finite()));
                to[j] = (absent - self.mean[j]) * self.factor[j];
            }
        }
        scaled
    }

    /// Replaces missing values by medians and leaves the others as they are.
    pub(crate) fn fill_missing(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let mut filled = x.to_owned();
        for (mut column, median) in filled.axis_iter_mut(Axis(1)).zip(&self.median) {
            column.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = *median);
        }
        filled
    }
}

/// Scales targets to mean 0 and spread 1, and returns mean and spread. A spread of 0 becomes 1.
pub(crate) fn standardise_targets(y: &Array1<f64>) -> (Array1<f64>, f64, f64) {
    let mean = y.mean().unwrap_or_default();
    let spread = y.std(0.0);
    let spread = if spread > 1e-12 * mean.abs().max(1e-6) { spread } else { 1.0 };
    ((y - mean) / spread, mean, spread)
}

/// Serialises arrays with missing values, because JSON has no NaN.
pub(crate) mod nan_as_null {
    use ndarray::Array2;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(x: &Array2<f64>, to: S) -> Result<S::Ok, S::Error> {
        let some = |value: &f64| Some(*value).filter(|value| value.is_finite());
        let values: Vec<Option<f64>> = x.iter().map(some).collect();
        (x.dim(), values).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Array2<f64>, D::Error> {
        let (shape, entries) = <((usize, usize), Vec<Option<f64>>)>::deserialize(from)?;
        let values = entries.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect();
        Array2::from_shape_vec(shape, values).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn medians() {
        let check = |values: &[f64], expect: f64| {
            assert_eq!(finite_median(values.iter().copied()), expect, "{values:?}");
        };
        check(&[], 0.0);
        check(&[f64::NAN, 3.0], 3.0);
        check(&[4.0, 1.0], 2.5);
        check(&[9.0, 1.0, 2.0], 2.0);
        check(&[9.0, 1.0, 2.0, 4.0, f64::INFINITY], 3.0);
    }

    #[test]
    fn columns_have_mean_0_and_spread_1_and_flags_where_asked() {
        let x = array![[1.0, 5.0, 7.0], [f64::NAN, 6.0, 7.0], [2.0, 7.0, 7.0], [9.0, 8.0, 7.0]];
        let plain = FeatureScaler::fit(x.view()).scale_rows(x.view());
        assert_eq!(plain[(1, 0)], (2.0 - 3.5) / (41.0_f64 / 4.0).sqrt(), "the median is 2");
        assert!(plain.column(2).iter().all(|value| *value == 0.0), "never moved");
        let scaler = FeatureScaler::fit_with_flags(x.view());
        let flagged = scaler.scale_rows(x.view());
        assert_eq!(scaler.output_width(), 4);
        assert!(flagged[(1, 3)] > 1.0 && flagged[(0, 3)] < 0.0);
        for column in flagged.columns().into_iter().take(2) {
            assert!(column.sum().abs() < 1e-12 && (column.std(0.0) - 1.0).abs() < 1e-12);
        }
        let moved = array![[2.0, 6.0, 8.0]];
        assert_eq!(FeatureScaler::fit(x.view()).scale_rows(moved.view())[(0, 2)], 0.0);
        assert_eq!(
            FeatureScaler::keep_constant_columns(x.view()).scale_rows(moved.view())[(0, 2)],
            1.0
        );
        assert!(FeatureScaler::fit(x.view()).scale_rows_unfilled(x.view())[(1, 0)].is_nan());
        assert_eq!(FeatureScaler::fit(x.view()).fill_missing(x.view())[(1, 0)], 2.0);
    }
}
