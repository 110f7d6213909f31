//! Scores of test rows, over one fold or several.

use std::ops::Range;

use models::{metrics::ScoreRanking, stats::classes::weighted_macro_f1};

use super::error_intervals::{ErrorMetric, TimeGroups};

/// A score of rows that can be computed with other weights, so that the bootstrap can estimate its
/// interval.
#[derive(Clone, Debug)]
pub enum RowStatistic {
    /// Mean of one value for each row.
    Mean(Vec<f64>),
    /// Root of such a mean.
    RootMean(Vec<f64>),
    /// See [`roc_auc`](models::stats::classes::roc_auc).
    RocAuc(ScoreRanking),
    /// See [`average_precision`](models::metrics::average_precision).
    AveragePrecision(ScoreRanking),
    /// See [`macro_f1`](models::stats::classes::macro_f1).
    MacroF1 {
        /// Predicted class of each row.
        said: Vec<usize>,
        /// Actual class of each row.
        came: Vec<usize>,
        /// Whether each row counts.
        counts: Vec<bool>,
    },
    /// A score that cannot be computed with other weights; it has no interval.
    Fixed(f64),
}

impl RowStatistic {
    /// Creates the macro F1 score. With `before`, the classes at the rows' own times, only rows
    /// whose class changes count: there, predicting the same class is no answer.
    #[must_use]
    pub fn macro_f1(said: Vec<usize>, came: Vec<usize>, before: Option<&[usize]>) -> Self {
        let changed = |row: usize| before.is_none_or(|before| before[row] != came[row]);
        let counts = (0..came.len()).map(changed).collect();
        Self::MacroF1 { said, came, counts }
    }

    /// Returns the score with equal weights; not finite if it is undefined.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.evaluate_weighted(&|_| 1.0)
    }

    /// Returns the score with a weight of 0 or more for each row.
    #[must_use]
    pub fn weighted_value(&self, weight: &[f64]) -> f64 {
        self.evaluate_weighted(&|row| weight[row])
    }

    /// Returns whether other weights give another score.
    #[must_use]
    pub const fn has_weights(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    fn evaluate_weighted(&self, weight: &impl Fn(usize) -> f64) -> f64 {
        match self {
            Self::Mean(rows) => weighted_mean(rows, weight),
            Self::RootMean(rows) => weighted_mean(rows, weight).sqrt(),
            Self::RocAuc(ranking) => ranking.roc_auc(weight),
            Self::AveragePrecision(ranking) => ranking.average_precision(weight),
            Self::MacroF1 { said, came, counts } => {
                let weight = |row: usize| if counts[row] { weight(row) } else { 0.0 };
                weighted_macro_f1(said, came, weight)
            }
            Self::Fixed(value) => *value,
        }
    }
}

fn weighted_mean(rows: &[f64], weight: &impl Fn(usize) -> f64) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (row, value) in rows.iter().enumerate() {
        let weight = weight(row);
        sum += weight * value;
        weights += weight;
    }
    sum / weights
}

/// A score over the rows of several folds. A mean, or the root of one, is over all rows; any other
/// score is the mean of the folds' scores, weighted by their rows. A fold in which the score is
/// undefined is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct FoldStatistic(Vec<(Range<usize>, RowStatistic)>);

impl FoldStatistic {
    /// Adds a fold with these rows.
    pub(crate) fn push(&mut self, rows: Range<usize>, own: RowStatistic) {
        self.0.push((rows, own));
    }

    /// Returns the score with equal weights; not finite if it is undefined in every fold.
    pub(crate) fn value(&self) -> f64 {
        self.average_folds(|rows, own| (rows.len() as f64, own.value()))
    }

    /// Returns the confidence interval, if the score can have one and there are enough times.
    pub(crate) fn bootstrap_interval(&self, clock: &TimeGroups) -> Option<[f64; 2]> {
        if let Some((rows, is_root)) = self.mean_rows() {
            let metric = if is_root { ErrorMetric::Rmse } else { ErrorMetric::Mae };
            return clock.error_interval(metric, &rows);
        }
        let has_weights = self.0.iter().any(|(_, own)| own.has_weights());
        has_weights.then(|| clock.weighted_interval(|weight| self.weighted_value(weight))).flatten()
    }

    /// Contribution of each row, and whether the score is a root; `None` unless the score is a
    /// mean, or the root of one, in every fold.
    fn mean_rows(&self) -> Option<(Vec<f64>, bool)> {
        let mut all = Vec::new();
        let mut roots = 0;
        for (_, own) in &self.0 {
            match own {
                RowStatistic::Mean(rows) => all.extend(rows),
                RowStatistic::RootMean(rows) => {
                    roots += 1;
                    all.extend(rows);
                }
                _ => return None,
            }
        }
        (!all.is_empty() && (roots == 0 || roots == self.0.len())).then_some((all, roots > 0))
    }

    /// Returns the score with a weight of 0 or more for each row.
    pub(crate) fn weighted_value(&self, weight: &[f64]) -> f64 {
        self.average_folds(|rows, own| {
            let weight = &weight[rows.clone()];
            (weight.iter().sum(), own.weighted_value(weight))
        })
    }

    /// Averages the folds' scores. `fold` returns the weight and the score of one fold.
    fn average_folds(&self, fold: impl Fn(&Range<usize>, &RowStatistic) -> (f64, f64)) -> f64 {
        // Roots do not add up; what they are of does.
        let is_root = self.0.iter().any(|(_, own)| matches!(own, RowStatistic::RootMean(_)));
        let (mut sum, mut all) = (0.0, 0.0);
        for (rows, own) in &self.0 {
            let (counts, value) = fold(rows, own);
            if value.is_finite() {
                sum += counts * if is_root { value * value } else { value };
                all += counts;
            }
        }
        let mean = sum / all;
        if is_root { mean.sqrt() } else { mean }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    #[test]
    fn only_rows_whose_class_changes_count_where_there_is_one_before() {
        let (came, before) = (vec![0, 0, 1, 1], [0, 0, 0, 1]);
        let of = |said: &[usize]| {
            RowStatistic::macro_f1(said.to_vec(), came.clone(), Some(&before)).value()
        };
        // As before everywhere: right in three of four rows, at no change.
        assert_eq!((of(&before), of(&came)), (0.0, 1.0));
        assert!(RowStatistic::macro_f1(vec![0], vec![0], Some(&[0])).value().is_nan());
        assert!(RowStatistic::macro_f1(before.to_vec(), came, None).value() > 0.7);
    }

    #[test]
    fn folds_count_as_their_rows_and_not_where_a_score_has_no_meaning() {
        let mut folds = FoldStatistic::default();
        folds.push(0..1, RowStatistic::Mean(vec![7.0]));
        folds.push(1..4, RowStatistic::Mean(vec![1.0, 2.0, 6.0]));
        folds.push(4..9, RowStatistic::Fixed(f64::NAN));
        assert_eq!(folds.value(), (7.0 + 3.0 * 3.0) / 4.0);
    }

    #[test]
    fn the_root_of_a_mean_over_folds_is_that_of_all_rows() {
        let squares = [9.0, 1.0, 4.0, 16.0];
        let mut folds = FoldStatistic::default();
        folds.push(0..1, RowStatistic::RootMean(squares[..1].to_vec()));
        folds.push(1..4, RowStatistic::RootMean(squares[1..].to_vec()));
        let of_all = RowStatistic::RootMean(squares.to_vec());
        assert!((folds.value() - of_all.value()).abs() < 1e-12, "{}", folds.value());
        let weight = [2.0, 0.0, 1.0, 1.0];
        assert!((folds.weighted_value(&weight) - of_all.weighted_value(&weight)).abs() < 1e-12);
    }

    /// A row a minute, none like its neighbours: what formulas say of independent
    /// rows must come out.
    fn check(own: RowStatistic, rows: usize, expect: f64, standard_error: f64) {
        let at_ms: Vec<i64> = (0..rows as i64).map(|minute| minute * 60_000).collect();
        let clock = TimeGroups::from_times(&at_ms, 60, 3);
        let mut folds = FoldStatistic::default();
        folds.push(0..rows, own);
        let value = folds.value();
        assert!((value - expect).abs() < 3.0 * standard_error, "{value}, expected {expect}");
        let [low, high] = folds.bootstrap_interval(&clock).unwrap();
        let found = (high - low) / (2.0 * 1.96);
        assert!(low < value && value < high, "{low} {value} {high}");
        assert!((found / standard_error - 1.0).abs() < 0.15, "{found}, not {standard_error}");
    }

    #[test]
    fn intervals_are_as_wide_as_formulas_have_them() {
        let mut rng = Pcg64::seed_from_u64(11);
        let rows = 2000;
        let n = rows as f64;
        let uniform: Vec<f64> = (0..rows).map(|_| rng.random_range(0.0..1.0)).collect();
        // Of a uniform value the standard deviation is √(1/12).
        check(RowStatistic::Mean(uniform.clone()), rows, 0.5, (1.0 / 12.0 / n).sqrt());
        // Two classes that come as often, each right in 80 %: F1 is 0.8, as the
        // share of what is right, whose standard error is √(pq/n).
        let came: Vec<usize> = (0..rows).map(|row| row % 2).collect();
        let said: Vec<usize> =
            came.iter().zip(&uniform).map(|(c, u)| if *u < 0.8 { *c } else { 1 - *c }).collect();
        check(RowStatistic::macro_f1(said, came.clone(), None), rows, 0.8, (0.8 * 0.2 / n).sqrt());
        // J. A. Hanley, B. J. McNeil, 1982: negative exponential scores, for which
        // Q₁ = A/(2 − A) and Q₂ = 2A²/(1 + A) are exact.
        let scores: Vec<f64> = came
            .iter()
            .zip(&uniform)
            .map(|(class, u)| -(1.0 - u).ln() * if *class == 1 { 4.0 } else { 1.0 })
            .collect();
        let labels: Vec<bool> = came.iter().map(|class| *class == 1).collect();
        let (area, each) = (0.8, n / 2.0);
        let square = area * area;
        let (q1, q2) = (area / (2.0 - area), 2.0 * square / (1.0 + area));
        let variance = area * (1.0 - area) + (each - 1.0) * (q1 + q2 - 2.0 * square);
        let ranking = ScoreRanking::from_scores(&scores, &labels);
        check(RowStatistic::RocAuc(ranking), rows, area, variance.sqrt() / each);
    }

    #[test]
    fn what_is_not_computed_again_has_no_interval() {
        let clock =
            TimeGroups::from_times(&(0..500).map(|i| i * 60_000).collect::<Vec<_>>(), 60, 3);
        let mut folds = FoldStatistic::default();
        folds.push(0..500, RowStatistic::Fixed(0.3));
        assert_eq!((folds.value(), folds.bootstrap_interval(&clock)), (0.3, None));
    }
}
