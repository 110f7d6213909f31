//! Measures of the error of predictions.

use ndarray::ArrayView1;

/// Root of the mean squared error, in the unit of the targets.
///
/// ```
/// use ndarray::array;
/// let rmse = microclimate_models::metrics::rmse(array![1.0, 2.0].view(), array![1.0, 4.0].view());
/// assert_eq!(rmse, 2_f64.sqrt());
/// ```
#[must_use]
pub fn rmse(predicted: ArrayView1<f64>, target: ArrayView1<f64>) -> f64 {
    let squares = predicted.iter().zip(target).map(|(p, t)| (p - t) * (p - t));
    (squares.sum::<f64>() / target.len() as f64).sqrt()
}

/// Mean absolute error, in the unit of the targets.
#[must_use]
pub fn mae(predicted: ArrayView1<f64>, target: ArrayView1<f64>) -> f64 {
    let errors = predicted.iter().zip(target).map(|(p, t)| (p - t).abs());
    errors.sum::<f64>() / target.len() as f64
}

/// Area under the precision–recall curve as average precision, Σ (Rᵢ − Rᵢ₋₁) Pᵢ over falling
/// scores, with equal scores together; 0 without positives. Equals `average_precision_score` of
/// scikit-learn 1.6.
///
/// ```
/// // scikit-learn 1.6.1: average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
/// let got = microclimate_models::metrics::average_precision(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]);
/// assert!((got - 0.833_333_333).abs() < 1e-9);
/// ```
#[must_use]
pub fn average_precision(scores: &[f64], labels: &[bool]) -> f64 {
    ScoreRanking::from_scores(scores, labels).average_precision(|_| 1.0)
}

/// Rows in the order of falling scores. Scoring the same rows with other weights needs no further
/// sorting.
#[derive(Clone, Debug)]
pub struct ScoreRanking {
    /// Row index, whether it is positive, and whether the next row has another score.
    rows: Vec<(usize, bool, bool)>,
}

impl ScoreRanking {
    /// Sorts rows that have a score and a label each.
    #[must_use]
    pub fn from_scores(scores: &[f64], labels: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let ends = |place: usize| {
            order.get(place + 1).is_none_or(|next| scores[*next] != scores[order[place]])
        };
        let rows = order.iter().enumerate();
        Self { rows: rows.map(|(place, row)| (*row, labels[*row], ends(place))).collect() }
    }

    /// Average precision as in [`average_precision`], with each row counting by its `weight`, 0 or
    /// more.
    ///
    /// ```
    /// use microclimate_models::metrics::{ScoreRanking, average_precision};
    ///
    /// let ranking = ScoreRanking::from_scores(&[0.1, 0.4, 0.35, 0.8], &[false, false, true,
    /// true]); let twice = ranking.average_precision(|row| if row == 1 { 2.0 } else { 1.0 }); let
    /// expect = average_precision(&[0.1, 0.4, 0.4, 0.35, 0.8], &[false, false, false, true, true]);
    /// assert_eq!(twice, expect);
    /// ```
    pub fn average_precision(&self, weight: impl Fn(usize) -> f64) -> f64 {
        let positives: f64 =
            self.rows.iter().filter(|(_, label, _)| *label).map(|(row, ..)| weight(*row)).sum();
        if positives == 0.0 {
            return 0.0;
        }
        let (mut found, mut seen, mut hits, mut area) = (0.0, 0.0, 0.0, 0.0);
        for (row, label, ends) in &self.rows {
            let row_weight = weight(*row);
            seen += row_weight;
            hits += if *label { row_weight } else { 0.0 };
            if *ends {
                found += hits;
                area += if seen > 0.0 { hits / positives * (found / seen) } else { 0.0 };
                hits = 0.0;
            }
        }
        area
    }

    /// Area under the receiver operating characteristic, with each row counting by its `weight`, 0
    /// or more: see [`roc_auc`](crate::stats::classes::roc_auc). NaN where either class has no
    /// weight.
    ///
    /// ```
    /// use microclimate_models::{metrics::ScoreRanking, stats::classes::roc_auc};
    ///
    /// let ranking = ScoreRanking::from_scores(&[0.1, 0.4, 0.35, 0.8], &[false, false, true,
    /// true]); let twice = ranking.roc_auc(|row| if row == 1 { 2.0 } else { 1.0 }); let labels =
    /// [false, false, false, true, true]; assert_eq!(twice, roc_auc(&[0.1, 0.4, 0.4, 0.35, 0.8],
    /// &labels));
    /// ```
    pub fn roc_auc(&self, weight: impl Fn(usize) -> f64) -> f64 {
        let (mut above, mut negatives, mut area) = (0.0, 0.0, 0.0);
        // Weights of the rows with the same score so far.
        let (mut same_positives, mut same_negatives) = (0.0, 0.0);
        for (row, label, ends) in &self.rows {
            let same_class = if *label { &mut same_positives } else { &mut same_negatives };
            *same_class += weight(*row);
            if *ends {
                area += same_negatives * (above + same_positives / 2.0);
                above += same_positives;
                negatives += same_negatives;
                (same_positives, same_negatives) = (0.0, 0.0);
            }
        }
        area / (above * negatives)
    }
}

/// Half width of an interval that covers a new target with probability `level`: the ⌈(n +
/// 1)·level⌉-th smallest absolute error on rows that were not used for fitting. `None` where there
/// are too few errors for the level. J. Lei, M. G'Sell, A. Rinaldo, R. Tibshirani, L. Wasserman,
/// "Distribution-free predictive inference for regression", JASA 113, 2018, algorithm 2.
///
/// ```
/// let errors: Vec<f64> = (1..=99).map(f64::from).collect();
/// assert_eq!(microclimate_models::metrics::conformal_quantile(&errors, 0.9), Some(90.0));
/// assert_eq!(microclimate_models::metrics::conformal_quantile(&errors[..5], 0.9), None);
/// ```
#[must_use]
pub fn conformal_quantile(errors: &[f64], level: f64) -> Option<f64> {
    let rank = ((errors.len() + 1) as f64 * level).ceil() as usize;
    let mut sorted = errors.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// Share of targets that are within `half_width` of the prediction.
#[must_use]
pub fn interval_coverage(
    predicted: ArrayView1<f64>,
    target: ArrayView1<f64>,
    half_width: f64,
) -> f64 {
    let within = predicted.iter().zip(target).filter(|(p, t)| (*p - *t).abs() <= half_width);
    within.count() as f64 / target.len() as f64
}
