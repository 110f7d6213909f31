//! How far rows of a time series are alike: the bandwidth of a variance, and the
//! length of a bootstrap's blocks, from the data.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Fewer such lengths than this in a series say too little of how they differ.
const LENGTHS_MIN: usize = 4;
/// Tests need longer lengths than estimates of a variance, whose error they
/// minimise: Y. Sun, P. C. B. Phillips, S. Jin, Econometrica 76(1), 2008. The factor
/// is the smallest one that keeps the test's size (see the tests).
const TEST_FACTOR: f64 = 2.0;
/// Largest coefficient of the autoregression that stands for the series; beyond it the length
/// explodes.
const COEFFICIENT_MAX: f64 = 0.99;

/// Autocovariances of `values` up to `lags`.
fn autocovariances(values: &[f64], lags: usize) -> Vec<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let at = |lag: usize| {
        let pairs = centred.iter().zip(&centred[lag..]);
        pairs.map(|(a, b)| a * b).sum::<f64>() / n
    };
    (0..=lags.min(values.len().saturating_sub(1))).map(at).collect()
}

/// γ₀ + 2 Σ (1 − k/(lags + 1)) γₖ, with γₖ the autocovariance at lag k: the
/// variance of a mean, times its rows. The sum is that of the squared sums of all
/// windows of lags + 1 rows, those that reach beyond the ends too, so that its cost
/// does not depend on the lags.
#[must_use]
pub fn long_run_variance(values: &[f64], lags: usize) -> f64 {
    let rows = values.len();
    let n = rows as f64;
    let mean = values.iter().sum::<f64>() / n;
    let width = lags.min(rows.saturating_sub(1)) + 1;
    let (mut window, mut squares) = (0.0, 0.0);
    for end in 0..rows + width - 1 {
        if end < rows {
            window += values[end] - mean;
        }
        if end >= width {
            window -= values[end - width] - mean;
        }
        squares += window * window;
    }
    squares / (n * width as f64)
}

/// The lags of Bartlett weights that minimise the error of the variance of a mean:
/// W. K. Newey, K. D. West, "Automatic lag selection in covariance matrix
/// estimation", Rev. Econ. Stud. 61(4), 1994, with their ⌊4 (n/100)^(2/9)⌋ pilot lags.
#[must_use]
pub fn newey_west_lags(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let pilot = (4.0 * (n / 100.0).powf(2.0 / 9.0)).floor() as usize;
    let gamma = autocovariances(values, pilot);
    let (mut sum, mut slope) = (gamma[0], 0.0);
    for (lag, own) in gamma.iter().enumerate().skip(1) {
        sum += 2.0 * own;
        slope += 2.0 * lag as f64 * own;
    }
    1.1447 * ((slope / sum).powi(2) * n).cbrt()
}

/// The same where an autoregression of order 1 stands for the series, whose few
/// parameters see dependence far beyond pilot lags: D. W. K. Andrews,
/// Econometrica 59(3), 1991, equation 6.4.
#[must_use]
pub fn andrews_lags(values: &[f64]) -> f64 {
    let gamma = autocovariances(values, 1);
    let rho = gamma.get(1).map_or(0.0, |next| next / gamma[0]);
    let rho = rho.clamp(-COEFFICIENT_MAX, COEFFICIENT_MAX);
    let alpha = 4.0 * rho * rho / ((1.0 - rho).powi(2) * (1.0 + rho).powi(2));
    1.1447 * (alpha * values.len() as f64).cbrt()
}

/// Rows of a block of the circular bootstrap: D. N. Politis, H. White, "Automatic
/// block-length selection for the dependent bootstrap", Econometric Reviews 23(1),
/// 2004, as corrected by A. Patton, D. N. Politis, H. White, 28(4), 2009.
#[must_use]
pub fn politis_white_length(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let run = (n.log10().sqrt().ceil() as usize).max(5);
    let most = n.sqrt().ceil() as usize + run;
    let gamma = autocovariances(values, most);
    let bound = 2.0 * (n.log10() / n).sqrt();
    let is_large = |lag: usize| gamma.get(lag).is_some_and(|own| (own / gamma[0]).abs() > bound);
    // The last lag before the first run of small ones.
    let last = (0..=most - run)
        .find(|lag| !(lag + 1..=lag + run).any(is_large))
        .or_else(|| (1..=most).rev().find(|lag| is_large(*lag)))
        .unwrap_or(0);
    let width = (2 * last.max(1)).min(gamma.len() - 1).max(1);
    let (mut slope, mut spectrum) = (0.0, gamma[0]);
    for (lag, own) in gamma.iter().enumerate().take(width + 1).skip(1) {
        // The flat-top weights.
        let weight = (2.0 * (1.0 - lag as f64 / width as f64)).clamp(0.0, 1.0);
        slope += 2.0 * weight * lag as f64 * own;
        spectrum += 2.0 * weight * own;
    }
    (1.5 * (slope / spectrum).powi(2) * n).cbrt()
}

/// Rows within which a series is alike, for tests and intervals of its mean: twice
/// the largest of [`newey_west_lags`], [`andrews_lags`] and
/// [`politis_white_length`], at least `horizon`, which predictions overlap, and at
/// most a quarter of the rows. The three fail differently: pilot lags miss what lasts
/// for hours, one autoregression misses a slow wave under noise.
#[must_use]
pub fn dependence_length(values: &[f64], horizon: usize) -> usize {
    let rows = values.len();
    let most = (rows / LENGTHS_MIN).max(1);
    let least = horizon.clamp(1, most);
    if rows < 10 {
        return least;
    }
    let rules = [newey_west_lags, andrews_lags, politis_white_length];
    let found = rules.iter().map(|rule| rule(values)).filter(|length| length.is_finite());
    let longest = found.fold(0.0, f64::max);
    ((TEST_FACTOR * longest).round() as usize).clamp(least, most)
}

/// Student's t that a mean in its standard errors follows where these count lags up
/// to `length` − 1 of `rows`, and what to multiply the mean by first: fixed-b
/// asymptotics (N. M. Kiefer, T. J. Vogelsang, Econometric Theory 21(6), 2005), by
/// the degrees of freedom and the mean of a Bartlett estimate.
fn fixed_b(length: usize, rows: usize) -> (f64, f64) {
    let b = (length as f64 / rows as f64).min(1.0);
    ((1.5 / b).max(1.0), (1.0 - b + b * b / 3.0).sqrt())
}

/// The probability of a mean that far from 0, `in_errors` standard errors, or
/// further; see [`dependence_length`]. `few_rows` is another correction of the
/// mean: the stronger of the two counts.
pub(super) fn two_sided_p(
    in_errors: f64,
    few_rows: f64,
    length: usize,
    rows: usize,
) -> Option<f64> {
    let (freedom, factor) = fixed_b(length, rows);
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(2.0 * student.cdf(-(in_errors * factor.min(few_rows)).abs()))
}

/// By how much an interval from blocks of `length` rows is too narrow, because few
/// blocks say little of how blocks differ; 1 of many blocks.
#[must_use]
pub fn few_blocks_factor(length: usize, rows: usize, level: f64) -> f64 {
    let (freedom, factor) = fixed_b(length, rows);
    let half = f64::midpoint(1.0, level);
    let quantile = |freedom| StudentsT::new(0.0, 1.0, freedom).map(|own| own.inverse_cdf(half));
    match (quantile(freedom), quantile(1e6)) {
        (Ok(few), Ok(many)) => few / many / factor,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{bootstrap::BlockBootstrap, diebold_mariano::diebold_mariano};
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    use rand_pcg::Pcg64;

    /// Kind of noise in the difference of two models' losses.
    #[derive(Clone, Copy, Debug)]
    enum Noise {
        Independent,
        /// Overlapping predictions: a moving sum of ten minutes.
        Overlap,
        /// An autoregression with that coefficient.
        Lasting(f64),
        /// The difference of two squared errors that last.
        Squares,
    }

    fn autoregression(rows: usize, rho: f64, rng: &mut Pcg64) -> Vec<f64> {
        let mut last = 0.0;
        let mut next = || {
            let noise: f64 = StandardNormal.sample(rng);
            last = rho * last + noise;
            last
        };
        (0..500).for_each(|_| _ = next());
        (0..rows).map(|_| next()).collect()
    }

    fn noise(kind: Noise, rows: usize, rng: &mut Pcg64) -> Vec<f64> {
        match kind {
            Noise::Independent => autoregression(rows, 0.0, rng),
            Noise::Overlap => {
                let each = autoregression(rows + 9, 0.0, rng);
                each.windows(10).map(|ten| ten.iter().sum()).collect()
            }
            Noise::Lasting(rho) => autoregression(rows, rho, rng),
            Noise::Squares => {
                let (a, b) = (autoregression(rows, 0.95, rng), autoregression(rows, 0.95, rng));
                a.iter().zip(&b).map(|(a, b)| a * a - b * b).collect()
            }
        }
    }

    /// Two days of minutes, none of which any model is better on.
    const ROWS: usize = 3000;

    #[test]
    fn a_test_of_five_per_cent_errs_in_five_per_cent() {
        let kinds = [
            Noise::Independent,
            Noise::Overlap,
            Noise::Lasting(0.9),
            Noise::Lasting(0.95),
            Noise::Squares,
        ];
        let (runs, none) = (1000, vec![0.0; ROWS]);
        for kind in kinds {
            let mut rng = Pcg64::seed_from_u64(2);
            let mut wrong = 0;
            for _ in 0..runs {
                let own = noise(kind, ROWS, &mut rng);
                let test = diebold_mariano(&own, &none, 10).unwrap();
                wrong += usize::from(test.p_value < 0.05);
            }
            let share = 100.0 * wrong as f64 / f64::from(runs);
            println!("{kind:?}: {share:.1} %");
            assert!((3.0..=7.0).contains(&share), "{kind:?}: {share} % of tests err");
        }
    }

    #[test]
    fn intervals_of_95_per_cent_cover_95_per_cent() {
        for kind in [Noise::Independent, Noise::Overlap, Noise::Lasting(0.95), Noise::Squares] {
            let mut rng = Pcg64::seed_from_u64(4);
            let (runs, mut covered) = (500, 0);
            for seed in 0..runs {
                let own = noise(kind, ROWS, &mut rng);
                let bootstrap =
                    BlockBootstrap { draws: 300, ..BlockBootstrap::for_values(&own, 10, seed) };
                let mean = |totals: &[f64]| totals[0] / ROWS as f64;
                let (low, high) = bootstrap.totals_interval(&[&own], 0.95, mean).unwrap();
                covered += usize::from(low <= 0.0 && 0.0 <= high);
            }
            let share = 100.0 * covered as f64 / runs as f64;
            println!("{kind:?}: {share:.1} %");
            assert!((93.0..=97.0).contains(&share), "{kind:?}: {share} % of intervals cover");
        }
    }

    #[test]
    fn the_variance_by_windows_is_that_by_autocovariances() {
        let mut rng = Pcg64::seed_from_u64(1);
        let values = autoregression(200, 0.7, &mut rng);
        for lags in [0, 1, 7, 50, 199] {
            let gamma = autocovariances(&values, lags);
            let weight = |lag: usize| 1.0 - lag as f64 / (lags + 1) as f64;
            let sum: f64 = (1..=lags).map(|lag| weight(lag) * gamma[lag]).sum();
            let found = long_run_variance(&values, lags);
            assert!((found - gamma[0] - 2.0 * sum).abs() < 1e-9, "{lags} lags: {found}");
        }
    }

    #[test]
    fn lengths_grow_with_dependence_and_are_bounded() {
        let of =
            |rho| dependence_length(&autoregression(3000, rho, &mut Pcg64::seed_from_u64(8)), 1);
        let lengths = [of(0.0), of(0.5), of(0.9), of(0.98)];
        assert!(lengths.is_sorted() && lengths[0] < 30 && lengths[3] > 200, "{lengths:?}");
        let still = [1.0; 100];
        assert_eq!(dependence_length(&still, 1), 1, "nothing is known of what never moves");
        assert_eq!(dependence_length(&still, 1000), 25);
        assert_eq!(dependence_length(&[], 3), 1);
        let trend: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(dependence_length(&trend, 1), 25, "a quarter of the rows");
        assert!((few_blocks_factor(1, 100_000, 0.95) - 1.0).abs() < 1e-3);
        assert!(few_blocks_factor(25, 100, 0.95) > 1.2);
    }
}
