use serde::Serialize;
use utoipa::ToSchema;

/// Summary of a feature's values, in the feature's unit.
///
/// ```
/// use microclimate_feature_store::statistics::FeatureValueSummary;
///
/// let summary = FeatureValueSummary::from_values(&mut [4.0, 1.0, 3.0, 2.0], 1);
/// assert_eq!((summary.count, summary.missing, summary.mean), (4, 1, Some(2.5)));
/// assert_eq!(summary.p50, Some(2.5));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct FeatureValueSummary {
    /// Number of rows with a value.
    pub count: usize,
    /// Number of rows without a value.
    pub missing: usize,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Sample standard deviation (n − 1); needs two values.
    pub std: Option<f64>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Quantile at 0.05.
    pub p05: Option<f64>,
    /// Quantile at 0.25.
    pub p25: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// Quantile at 0.75.
    pub p75: Option<f64>,
    /// Quantile at 0.95.
    pub p95: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Number of distinct values.
    pub distinct: usize,
}

impl FeatureValueSummary {
    /// Summarises finite values, which it sorts, and `missing` rows without a value.
    #[must_use]
    pub fn from_values(values: &mut [f64], missing: usize) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let (mut mean, mut m2) = (0.0, 0.0);
        // Welford's method (1962), which subtracts no large sums.
        for (i, value) in values.iter().enumerate() {
            let from_mean = value - mean;
            mean += from_mean / (i + 1) as f64;
            m2 += from_mean * (value - mean);
        }
        let count = values.len();
        let at = |q| quantile(values, q);
        Self {
            count,
            missing,
            mean: (count > 0).then_some(mean),
            std: (count > 1).then(|| (m2 / (count - 1) as f64).sqrt()),
            min: values.first().copied(),
            p05: at(0.05),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            max: values.last().copied(),
            distinct: values.chunk_by(|a, b| a == b).count(),
        }
    }
}

/// Quantile of sorted values by linear interpolation between the two nearest (type 7 of Hyndman
/// and Fan, "Sample quantiles in statistical packages", 1996; the default of NumPy).
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing_there_is_nothing() {
        let nothing = FeatureValueSummary::from_values(&mut [], 3);
        assert_eq!(nothing, FeatureValueSummary { missing: 3, ..FeatureValueSummary::default() });
    }

    /// Expected by NumPy 2.4.6: np.quantile([1, 2, 4, 8, 16], q); np.std(…, ddof=1)
    #[test]
    fn as_numpy_has_it() {
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        for (q, expect) in [(0.0, 1.0), (0.05, 1.2), (0.5, 4.0), (0.9, 12.8), (1.0, 16.0)] {
            assert!((quantile(&sorted, q).unwrap() - expect).abs() < 1e-12, "{q}");
        }
        let summary = FeatureValueSummary::from_values(&mut sorted.clone(), 0);
        assert!((summary.std.unwrap() - 6.099_180_272_790_763).abs() < 1e-12);
        assert_eq!(FeatureValueSummary::from_values(&mut [5.0, 5.0, 7.0], 0).distinct, 2);
    }
}
