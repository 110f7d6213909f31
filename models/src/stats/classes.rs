//! Scores of predicted classes and of their probabilities.

use ndarray::ArrayView2;
use serde::Serialize;

use crate::metrics::ScoreRanking;
pub use crate::metrics::average_precision;

/// Area under the receiver operating characteristic: the probability that a positive has the higher
/// score, ties counting half. NaN where either class is missing. J. A. Hanley, B. J. McNeil,
/// Radiology 143(1), 1982.
///
/// ```
/// // scikit-learn 1.6.1: roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
/// let roc_auc = microclimate_models::stats::classes::roc_auc;
/// assert_eq!(roc_auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), 0.75);
/// ```
#[must_use]
pub fn roc_auc(scores: &[f64], labels: &[bool]) -> f64 {
    ScoreRanking::from_scores(scores, labels).roc_auc(|_| 1.0)
}

/// Mean F1 score (harmonic mean of precision and recall) of the classes that are predicted or
/// actual in any row; other classes do not count. C. J. van Rijsbergen, "Information Retrieval",
/// 1979.
///
/// ```
/// // scikit-learn 1.6.1: f1_score([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], average="macro")
/// let got = microclimate_models::stats::classes::macro_f1(&[0, 2, 1, 0, 0, 1], &[0, 1, 2, 0, 1, 2]);
/// assert!((got - 0.266_666_666_666_666_66).abs() < 1e-12);
/// ```
#[must_use]
pub fn macro_f1(predicted: &[usize], actual: &[usize]) -> f64 {
    weighted_macro_f1(predicted, actual, |_| 1.0)
}

/// [`macro_f1`] with each row counting by its `weight`, 0 or more. A class without weight does not
/// count.
///
/// ```
/// use microclimate_models::stats::classes::{macro_f1, weighted_macro_f1};
///
/// let twice = weighted_macro_f1(&[0, 1, 1], &[0, 0, 1], |row| [1.0, 2.0, 1.0][row]);
/// assert_eq!(twice, macro_f1(&[0, 1, 1, 1], &[0, 0, 0, 1]));
/// ```
pub fn weighted_macro_f1(
    predicted: &[usize],
    actual: &[usize],
    weight: impl Fn(usize) -> f64,
) -> f64 {
    let classes = predicted.iter().chain(actual).max().map_or(0, |most| most + 1);
    let (mut hits, mut either) = (vec![0.0; classes], vec![0.0; classes]);
    for (row, (predicted_class, actual_class)) in predicted.iter().zip(actual).enumerate() {
        let row_weight = weight(row);
        either[*predicted_class] += row_weight;
        either[*actual_class] += row_weight;
        hits[*predicted_class] += if predicted_class == actual_class { row_weight } else { 0.0 };
    }
    let occurring = hits.iter().zip(&either).filter(|(_, either)| **either > 0.0);
    let scores: Vec<f64> = occurring.map(|(hits, either)| 2.0 * hits / either).collect();
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// Brier score: the mean squared distance of probabilities (rows × classes) from the indicators of
/// the actual class, 0 to 2; less is better. G. W. Brier, Monthly Weather Review 78(1), 1950. For
/// two classes it is twice scikit-learn's `brier_score_loss`.
#[must_use]
pub fn brier_score(probabilities: ArrayView2<f64>, actual: &[usize]) -> f64 {
    let row_score = |(row, class): (ndarray::ArrayView1<f64>, &usize)| -> f64 {
        let indicator = |other| f64::from(u8::from(other == *class));
        row.iter().enumerate().map(|(other, p)| (p - indicator(other)).powi(2)).sum()
    };
    probabilities.rows().into_iter().zip(actual).map(row_score).sum::<f64>() / actual.len() as f64
}

/// Mean of −ln of the probability of the actual class, at least 10⁻¹⁵; less is better. I. J. Good,
/// "Rational decisions", JRSS B 14(1), 1952.
#[must_use]
pub fn log_loss(probabilities: ArrayView2<f64>, actual: &[usize]) -> f64 {
    let each = actual.iter().enumerate().map(|(row, class)| probabilities[(row, *class)]);
    each.map(|p| -p.max(1e-15).ln()).sum::<f64>() / actual.len() as f64
}

/// Rows with similar predicted probabilities of a class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Number of rows.
    pub rows: usize,
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share of the rows that had the class.
    pub observed: f64,
}

/// Calibration table: how often events happened that were predicted with a probability, in `bins`
/// groups of equal width in [0, 1]; empty groups are omitted. A. H. Murphy, R. L. Winkler,
/// "Reliability of subjective probability forecasts", Applied Statistics 26(1), 1977.
#[must_use]
pub fn calibration_table(
    probabilities: &[f64],
    labels: &[bool],
    bins: usize,
) -> Vec<CalibrationBin> {
    let mut sums = vec![(0_usize, 0.0, 0.0); bins.max(1)];
    for (p, label) in probabilities.iter().zip(labels) {
        let bin = ((p * sums.len() as f64) as usize).min(sums.len() - 1);
        let (rows, predicted, observed) = &mut sums[bin];
        *rows += 1;
        *predicted += p;
        *observed += f64::from(u8::from(*label));
    }
    let mean = |(rows, predicted, observed): (usize, f64, f64)| CalibrationBin {
        rows,
        predicted: predicted / rows as f64,
        observed: observed / rows as f64,
    };
    sums.into_iter().filter(|(rows, ..)| *rows > 0).map(mean).collect()
}

/// Mean distance between the predicted and the observed share of a [`calibration_table`], weighted
/// by rows. M. P. Naeini, G. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities", AAAI
/// 2015.
#[must_use]
pub fn calibration_error(table: &[CalibrationBin]) -> f64 {
    let rows: usize = table.iter().map(|group| group.rows).sum();
    let gap = |group: &CalibrationBin| group.rows as f64 * (group.predicted - group.observed).abs();
    table.iter().map(gap).sum::<f64>() / rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn areas_under_the_curve() {
        let check = |scores: &[f64], labels: &[u8], expect: f64| {
            let labels: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
            assert!((roc_auc(scores, &labels) - expect).abs() < 1e-12, "{scores:?}");
        };
        check(&[1.0, 2.0, 3.0, 4.0], &[0, 0, 1, 1], 1.0);
        check(&[4.0, 3.0, 2.0, 1.0], &[0, 0, 1, 1], 0.0);
        check(&[1.0, 1.0, 1.0, 1.0], &[0, 1, 0, 1], 0.5);
        assert!(roc_auc(&[1.0, 2.0], &[true, true]).is_nan());
    }

    #[test]
    fn f1_counts_classes_alike_and_rows_by_their_weight() {
        assert_eq!(macro_f1(&[0, 0, 3], &[0, 0, 3]), 1.0, "classes 1 and 2 never come");
        assert_eq!(macro_f1(&[0, 0, 0, 0], &[0, 0, 0, 1]), 3.0 / 7.0);
        let only = |rows: &[usize]| {
            let weight = |row| f64::from(u8::from(rows.contains(&row)));
            weighted_macro_f1(&[0, 0, 0, 1], &[0, 0, 1, 1], weight)
        };
        assert_eq!(only(&[0, 1, 3]), 1.0);
        assert_eq!(only(&[2]), 0.0);
        assert!(only(&[]).is_nan());
    }

    #[test]
    fn probabilities_are_scored() {
        let probabilities = array![[0.8, 0.2], [0.4, 0.6], [1.0, 0.0]];
        // scikit-learn 1.6.1: 2 * brier_score_loss([0, 1, 0], [0.2, 0.6, 0.0])
        assert!((brier_score(probabilities.view(), &[0, 1, 0]) - 2.0 * 0.2 / 3.0).abs() < 1e-12);
        // scikit-learn 1.6.1: log_loss([0, 1, 0], probabilities)
        let expect = -(0.8_f64.ln() + 0.6_f64.ln()) / 3.0;
        assert!((log_loss(probabilities.view(), &[0, 1, 0]) - expect).abs() < 1e-12);
        assert!(log_loss(probabilities.view(), &[0, 1, 1]) > 10.0, "sure and wrong");
    }

    #[test]
    fn what_is_said_is_set_beside_what_came() {
        let probabilities = [0.05, 0.15, 0.15, 1.0];
        let table = calibration_table(&probabilities, &[false, true, false, true], 10);
        assert_eq!(table.len(), 3);
        assert_eq!(table[1], CalibrationBin { rows: 2, predicted: 0.15, observed: 0.5 });
        assert_eq!(table[2], CalibrationBin { rows: 1, predicted: 1.0, observed: 1.0 });
        assert!((calibration_error(&table) - (0.05 + 2.0 * 0.35) / 4.0).abs() < 1e-12);
    }
}
