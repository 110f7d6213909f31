//! Statistics for comparisons of models: tests and intervals that allow for correlated neighbouring
//! rows, intervals with a stated coverage, and scores for classes, events, times and distributions.
//!
//! # Layout
//! - [`dependence`]: how far neighbouring rows are alike
//! - [`diebold_mariano`]: whether one model's errors are smaller than another's
//! - [`bootstrap`]: intervals from blocks of rows
//! - [`conformal`]: prediction intervals with a stated coverage
//! - [`quantile`]: scores of predicted distributions
//! - [`classes`]: scores of classes and of their probabilities
//! - [`events`]: scores of alarms over time
//! - [`nab`]: the score of the Numenta Anomaly Benchmark
//! - [`survival`]: scores of times, some of which are censored
//! - [`importance`]: importance of inputs

pub mod bootstrap;
pub mod classes;
pub mod conformal;
pub mod dependence;
pub mod diebold_mariano;
pub mod events;
pub mod importance;
pub mod nab;
pub mod quantile;
pub mod survival;

/// Ranks from 1, equal values sharing their mean rank.
pub(crate) fn mean_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = below as f64 + f64::midpoint(1.0, equal.len() as f64);
        equal.iter().for_each(|i| ranks[*i] = rank);
        below += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    #[test]
    fn equal_values_share_their_rank() {
        let check = |values: &[f64], expect: &[f64]| assert_eq!(super::mean_ranks(values), expect);
        check(&[], &[]);
        check(&[3.0, 1.0, 2.0], &[3.0, 1.0, 2.0]);
        check(&[5.0, 1.0, 5.0, 5.0], &[3.0, 1.0, 3.0, 3.0]);
    }
}
