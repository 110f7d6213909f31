use serde::Serialize;
use utoipa::ToSchema;

/// Histogram with bins of equal width.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct FeatureHistogram {
    /// Edges of the bins, one more than there are bins. A bin includes its left edge; the last
    /// bin also includes its right edge.
    pub edges: Vec<f64>,
    /// Number of values in each bin.
    pub counts: Vec<usize>,
}

impl FeatureHistogram {
    /// Counts finite values in `bins` bins (at least one) from the smallest to the largest value,
    /// as NumPy does. If all values are equal, the bins reach from half below to half above them.
    #[must_use]
    pub fn from_values(values: &[f64], bins: usize) -> Self {
        let bins = bins.max(1);
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if values.is_empty() {
            return Self { edges: Vec::new(), counts: Vec::new() };
        }
        let (low, high) =
            if smallest == largest { (smallest - 0.5, largest + 0.5) } else { (smallest, largest) };
        let width = (high - low) / bins as f64;
        let mut edges: Vec<f64> = (0..bins).map(|i| low + width * i as f64).collect();
        edges.push(high);
        let mut counts = vec![0; bins];
        for value in values {
            // Compare with the edges themselves: a division may round to the other side of one.
            let bin = edges.partition_point(|edge| edge <= value).saturating_sub(1);
            counts[bin.min(bins - 1)] += 1;
        }
        Self { edges, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], bins: usize, edges: &[f64], counts: &[usize]) {
        let found = FeatureHistogram::from_values(values, bins);
        assert_eq!((&found.edges[..], &found.counts[..]), (edges, counts));
    }

    /// Expected by NumPy 2.4.6: np.histogram(values, bins)
    #[test]
    fn as_numpy_has_it() {
        check(&[1.0, 2.0, 2.0, 4.0, 5.0], 4, &[1.0, 2.0, 3.0, 4.0, 5.0], &[1, 2, 0, 2]);
        check(&[3.0, 3.0], 2, &[2.5, 3.0, 3.5], &[0, 2]);
        check(&[], 3, &[], &[]);
    }
}
