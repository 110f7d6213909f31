//! Test whether one model's errors are really smaller than another's.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Result of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DieboldMariano {
    /// Mean loss of the first model minus that of the second; negative if the first is better.
    pub mean_difference: f64,
    /// Mean difference in standard errors. If both are equally good, it follows Student's t with
    /// rows − 1 degrees of freedom.
    pub statistic: f64,
    /// Probability of a statistic at least as far from 0 if both are equally good.
    pub p_value: f64,
    /// Number of autocovariances in the standard error.
    pub lags: usize,
}

/// Formats a p-value for sentences, small ones as a bound.
///
/// ```
/// use microclimate_models::stats::diebold_mariano::p_value_text;
///
/// assert_eq!(p_value_text(0.1664), "p = 0.166");
/// assert_eq!(p_value_text(2e-41), "p < 0.001");
/// ```
#[must_use]
pub fn p_value_text(p: f64) -> String {
    let is = if p < P_MIN { "" } else { "= " };
    format!("p {is}{}", p_value_cell(p))
}

/// Formats a p-value for tables, whose head names it: `0.166`, `< 0.001`.
#[must_use]
pub fn p_value_cell(p: f64) -> String {
    if p < P_MIN { format!("< {P_MIN}") } else { format!("{p:.3}") }
}

/// Smallest p-value that is shown as a number.
const P_MIN: f64 = 0.001;

/// Tests whether the losses `first` and `second` (squared or absolute errors on the same rows, in
/// the order of time, evenly spaced) have the same mean. F. X. Diebold, R. S. Mariano, "Comparing
/// predictive accuracy", JBES 13(3), 1995, with the variance of W. K. Newey, K. D. West,
/// Econometrica 55(3), 1987 (Bartlett weights), and the correction for few rows of D. Harvey, S.
/// Leybourne, P. Newbold, Int. J. Forecasting 13(2), 1997.
///
/// `horizon` is the number of rows that predictions look ahead, over which errors overlap. The
/// number of lags is the number of overlapping rows, and at least ⌊4 (n/100)^(2/9)⌋ (Newey and
/// West, Rev. Econ. Stud. 61(4), 1994).
///
/// Where several zones share a time, give the mean loss of each time: errors of zones are
/// correlated, so they are not independent rows.
///
/// `None` where there are fewer than 10 rows, the lengths differ, or all differences are equal.
///
/// ```
/// let first: Vec<f64> = (0..100).map(|i| 1.0 + 0.1 * f64::from(i % 7)).collect(); let second:
/// Vec<f64> = (0..100).map(|i| 1.5 + 0.1 * f64::from(i % 5)).collect(); let test =
/// microclimate_models::stats::diebold_mariano::diebold_mariano(&first, &second, 1).unwrap();
/// assert!(test.mean_difference < 0.0 && test.p_value < 0.01);
/// ```
#[must_use]
pub fn diebold_mariano(first: &[f64], second: &[f64], horizon: usize) -> Option<DieboldMariano> {
    let rows = first.len();
    if rows < 10 || second.len() != rows {
        return None;
    }
    let n = rows as f64;
    let usual = (4.0 * (n / 100.0).powf(2.0 / 9.0)).floor() as usize;
    let lags = usual.max(horizon.saturating_sub(1)).min(rows - 1);
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let mean = differences.iter().sum::<f64>() / n;
    let error = long_run_variance(&differences, lags) / n;
    let scale = differences.iter().fold(0.0_f64, |most, difference| most.max(difference.abs()));
    if error.is_nan() || error.sqrt() <= 1e-12 * scale {
        return None;
    }
    // The factor is defined for at most half as many steps as rows.
    let steps = (horizon.max(1) as f64).min(n / 2.0);
    let few = ((n + 1.0 - 2.0 * steps + steps * (steps - 1.0) / n) / n).sqrt();
    let statistic = mean / error.sqrt() * few;
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let p_value = 2.0 * student.cdf(-statistic.abs());
    Some(DieboldMariano { mean_difference: mean, statistic, p_value, lags })
}

/// Long-run variance γ₀ + 2 Σ (1 − k/(lags + 1)) γₖ, with γₖ the autocovariance at lag k: the
/// variance of a mean, times the number of rows.
#[must_use]
pub fn long_run_variance(values: &[f64], lags: usize) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let covariance = |lag: usize| {
        let pairs = values.iter().zip(&values[lag..]);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n
    };
    let weighted = (1..=lags.min(values.len().saturating_sub(1)))
        .map(|lag| (1.0 - lag as f64 / (lags + 1) as f64) * covariance(lag));
    covariance(0) + 2.0 * weighted.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// d_i = 0.05 + sin(i) + 0.5 cos(i / 3)
    fn losses(rows: usize) -> (Vec<f64>, Vec<f64>) {
        let difference = |i: f64| 0.05 + i.sin() + 0.5 * (i / 3.0).cos();
        let second: Vec<f64> = (0..rows).map(|i| 2.0 + (i as f64 / 5.0).sin()).collect();
        let first = second.iter().enumerate().map(|(i, b)| b + difference(i as f64)).collect();
        (first, second)
    }

    #[test]
    fn is_that_of_statsmodels() {
        // statsmodels 0.15.0: OLS(d, ones).fit(cov_type="HAC", cov_kwds={"maxlags": L,
        // "use_correction": False}).tvalues[0], times the factor for few rows;
        // scipy 1.17.1: 2 * t.sf(abs(statistic), n - 1)
        let check = |rows, horizon, lags, statistic: f64, p_value: f64| {
            let (first, second) = losses(rows);
            let got = diebold_mariano(&first, &second, horizon).unwrap();
            assert_eq!(got.lags, lags);
            assert!((got.statistic - statistic).abs() < 1e-9, "{got:?}");
            assert!((got.p_value - p_value).abs() < 1e-9, "{got:?}");
        };
        check(60, 1, 3, 0.832_150_085_634, 0.408_679_847_731);
        check(200, 12, 11, 1.177_908_453_384, 0.240_239_812_824);
        check(1000, 3, 6, 2.077_463_521_855, 0.038_013_797_285);
    }

    #[test]
    fn says_nothing_where_nothing_can_be_said() {
        let (first, second) = losses(50);
        assert_eq!(diebold_mariano(&first, &first, 1), None);
        assert_eq!(diebold_mariano(&first[..9], &second[..9], 1), None);
        assert_eq!(diebold_mariano(&first, &second[..9], 1), None);
    }
}
