use serde::Serialize;
use utoipa::ToSchema;

/// Counts in bins of equal width.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct FeatureHistogram {
    /// The bins' edges, one more than there are bins. The last bin has both its
    /// ends, the others their left one.
    pub edges: Vec<f64>,
    /// How many values each bin has.
    pub counts: Vec<usize>,
}

impl FeatureHistogram {
    /// The histogram of finite values in `bins` bins (at least one) from the smallest
    /// to the largest, as NumPy has it: values that are all the same are in bins
    /// around them, from half below to half above.
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
            // By the edges themselves: a division may round to the other side of one.
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

    /// NumPy 2.4.6: np.histogram(values, bins)
    #[test]
    fn as_numpy_has_it() {
        check(&[1.0, 2.0, 2.0, 4.0, 5.0], 4, &[1.0, 2.0, 3.0, 4.0, 5.0], &[1, 2, 0, 2]);
        check(&[3.0, 3.0], 2, &[2.5, 3.0, 3.5], &[0, 2]);
        check(&[], 3, &[], &[]);
    }
}
