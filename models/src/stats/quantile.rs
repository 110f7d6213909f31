//! Scores of predicted distributions.

use ndarray::ArrayView2;

/// Mean pinball loss of predicted quantiles at `level` in (0, 1), in the unit of the targets; less
/// is better. R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46(1), 1978.
///
/// ```
/// // scikit-learn 1.6.1: mean_pinball_loss([1, 2, 3], [0, 2, 4], alpha=0.1) let got =
/// microclimate_models::stats::quantile::pinball_loss(&[0.0, 2.0, 4.0], &[1.0, 2.0, 3.0], 0.1);
/// assert!((got - 1.0 / 3.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn pinball_loss(predicted: &[f64], actual: &[f64], level: f64) -> f64 {
    let each = predicted.iter().zip(actual).map(|(q, y)| {
        let error = y - q;
        (level * error).max((level - 1.0) * error)
    });
    each.sum::<f64>() / actual.len() as f64
}

/// Mean continuous ranked probability score, in the unit of the targets, from quantiles (rows ×
/// `levels`, both rising). It is twice the integral of the pinball loss over levels, by trapezoids;
/// the outermost quantiles represent the tails. F. Laio, S. Tamea, Hydrol. Earth Syst. Sci. 11(4),
/// 2007. With few levels, only models with the same levels can be compared. With the level 50 %
///    alone it is the mean absolute error.
///
/// # Panics
/// The shape of `quantiles` is not targets × levels.
#[must_use]
pub fn crps(quantiles: ArrayView2<f64>, levels: &[f64], actual: &[f64]) -> f64 {
    assert_eq!(quantiles.dim(), (actual.len(), levels.len()), "rows × levels");
    let losses: Vec<f64> = levels
        .iter()
        .zip(quantiles.columns())
        .map(|(level, column)| pinball_loss(&column.to_vec(), actual, *level))
        .collect();
    let (Some(first), Some(last)) = (levels.first(), levels.last()) else { return f64::NAN };
    let pairs = levels.windows(2).zip(losses.windows(2));
    let inner: f64 = pairs.map(|(l, loss)| (l[1] - l[0]) * f64::midpoint(loss[0], loss[1])).sum();
    let tails = first * losses[0] + (1.0 - last) * losses[losses.len() - 1];
    2.0 * (inner + tails)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn is_that_of_the_distribution_with_many_levels() {
        // The uniform distribution on [0, 1] and an actual y: y³/3 + (1 − y)³/3.
        let levels: Vec<f64> = (0..1000).map(|i| (f64::from(i) + 0.5) / 1000.0).collect();
        let check = |actual: f64, expect: f64| {
            let quantiles = Array2::from_shape_fn((1, 1000), |(_, level)| levels[level]);
            let got = crps(quantiles.view(), &levels, &[actual]);
            assert!((got - expect).abs() < 1e-5, "{actual}: {got} is not {expect}");
        };
        check(0.5, 1.0 / 12.0);
        check(0.0, 1.0 / 3.0);
        check(0.2, (0.008 + 0.512) / 3.0);
    }

    #[test]
    fn is_the_absolute_error_with_the_median_alone() {
        let quantiles = ndarray::array![[1.0], [5.0]];
        assert_eq!(crps(quantiles.view(), &[0.5], &[2.0, 2.0]), 2.0);
    }
}
