//! Test whether one model's errors are really smaller than another's.

pub use super::dependence::long_run_variance;
use super::dependence::{dependence_length, two_sided_p};

/// Result of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DieboldMariano {
    /// Mean loss of the first model minus that of the second; negative if the first is better.
    pub mean_difference: f64,
    /// The mean difference in its standard errors.
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
/// `horizon` is how many rows ahead predictions are; errors that far apart
/// overlap. The data says how many lags are counted: see
/// [`dependence_length`]. Many lags make the standard error itself uncertain, which
/// p takes into account (fixed-b asymptotics: N. M. Kiefer, T. J. Vogelsang,
/// Econometric Theory 21(6), 2005).
///
/// Where several zones share a time, give the sum of losses of each time, over the
/// mean number of its rows: zones err together, and are no independent rows, and the
/// mean over times is then the mean over rows.
///
/// `None` where there are fewer than 10 rows, the lengths differ, or all differences are equal.
///
/// ```
/// let first: Vec<f64> = (0..100).map(|i| 1.0 + 0.1 * f64::from(i % 7)).collect();
/// let second: Vec<f64> = (0..100).map(|i| 1.5 + 0.1 * f64::from(i % 5)).collect();
/// let test = microclimate_models::stats::diebold_mariano::diebold_mariano(&first, &second, 1).unwrap();
/// assert!(test.mean_difference < 0.0 && test.p_value < 0.01);
/// ```
#[must_use]
pub fn diebold_mariano(first: &[f64], second: &[f64], horizon: usize) -> Option<DieboldMariano> {
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let length = dependence_length(&differences, horizon);
    diebold_mariano_with_lags(first, second, horizon, length - 1)
}

/// The same with that many lags.
#[must_use]
pub fn diebold_mariano_with_lags(
    first: &[f64],
    second: &[f64],
    horizon: usize,
    lags: usize,
) -> Option<DieboldMariano> {
    let rows = first.len();
    if rows < 10 || second.len() != rows {
        return None;
    }
    let n = rows as f64;
    let lags = lags.min(rows - 1);
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
    let in_errors = mean / error.sqrt();
    let p_value = two_sided_p(in_errors, few, lags + 1, rows)?;
    Some(DieboldMariano { mean_difference: mean, statistic: in_errors * few, p_value, lags })
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
        // "use_correction": False}).tvalues[0], times the factor for few rows. The p
        // value is that of its fixed-b distribution, and never below scipy 1.17.1:
        // 2 * t.sf(abs(statistic), n - 1)
        let check = |rows, horizon, lags, statistic: f64, normal_p: f64| {
            let (first, second) = losses(rows);
            let got = diebold_mariano_with_lags(&first, &second, horizon, lags).unwrap();
            assert_eq!(got.lags, lags);
            assert!((got.statistic - statistic).abs() < 1e-9, "{got:?}");
            assert!(got.p_value > normal_p && got.p_value < 1.2 * normal_p + 0.02, "{got:?}");
        };
        check(60, 1, 3, 0.832_150_085_634, 0.408_679_847_731);
        check(200, 12, 11, 1.177_908_453_384, 0.240_239_812_824);
        check(1000, 3, 6, 2.077_463_521_855, 0.038_013_797_285);
    }

    #[test]
    fn fixed_b_quantiles_are_those_of_kiefer_and_vogelsang() {
        // Their Table 1 for Bartlett weights, two-sided 5 %: 1.96 + 2.9694 b + 0.416 b² − 0.5324 b³.
        for b in [0.02, 0.05, 0.1, 0.2] {
            let rows = 10_000;
            let critical = 1.96 + 2.9694 * b + 0.416 * b * b - 0.5324 * b * b * b;
            let p = two_sided_p(critical, 1.0, (b * f64::from(rows)) as usize, rows as usize);
            assert!((p.unwrap() - 0.05).abs() < 0.006, "b = {b}: {p:?}");
        }
    }

    #[test]
    fn says_nothing_where_nothing_can_be_said() {
        let (first, second) = losses(50);
        assert_eq!(diebold_mariano(&first, &first, 1), None);
        assert_eq!(diebold_mariano(&first[..9], &second[..9], 1), None);
        assert_eq!(diebold_mariano(&first, &second[..9], 1), None);
    }
}
