use ndarray::{Array1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    AnomalyDetector, FittedDetector, IsolationForest, LocalOutlierFactor, Mahalanobis,
    PrincipalComponents, RobustZScore, require_rows,
};
use crate::{FitError, dataset::evenly_spaced_rows};

/// Mean rarity of the scores of robust z-score, principal components, Mahalanobis distance, local
/// outlier factor and isolation forest. The rarity is −ln of the share of training rows with a
/// score at least as high, so that scores in different units can be added. C. C. Aggarwal, S.
/// Sathe, "Theoretical foundations and algorithms for outlier ensembles", SIGKDD Explorations
/// 17(1), 2015. Beyond all training rows the score keeps rising, by at most 1.
#[derive(Clone, Copy, Debug)]
pub struct RankEnsemble;

/// Number of training rows that scores are compared with.
const ROWS: usize = 1000;

/// Fitted members, each with its scores of training rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct RankedMembers(Vec<(FittedDetector, Vec<f64>)>);

impl AnomalyDetector for RankEnsemble {
    fn name(&self) -> &'static str {
        "rank ensemble"
    }

    fn fit(&self, x: ArrayView2<f64>, seed: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let members: [&dyn AnomalyDetector; 5] = [
            &RobustZScore,
            &PrincipalComponents,
            &Mahalanobis,
            &LocalOutlierFactor,
            &IsolationForest,
        ];
        let reference_rows = x.select(Axis(0), &evenly_spaced_rows(x.nrows(), ROWS));
        let fit = |member: &dyn AnomalyDetector| {
            let fitted = member.fit(x, seed)?;
            let mut scores = fitted.score_rows(reference_rows.view()).to_vec();
            scores.sort_unstable_by(f64::total_cmp);
            Ok((fitted, scores))
        };
        let fitted: Result<Vec<_>, FitError> = members.into_iter().map(fit).collect();
        Ok(FittedDetector::Ensemble(RankedMembers(fitted?)))
    }
}

impl RankedMembers {
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let mut sum = Array1::zeros(x.nrows());
        for (member, known) in &self.0 {
            sum += &member.score_rows(x).mapv_into(|score| score_rarity(score, known));
        }
        sum / self.0.len() as f64
    }
}

/// Rarity of a score among sorted scores of training rows.
fn score_rarity(score: f64, known: &[f64]) -> f64 {
    let at_least = known.len() - known.partition_point(|known_score| *known_score < score);
    let share = (1 + at_least) as f64 / (1 + known.len()) as f64;
    let (middle, most) = (known[known.len() / 2], known[known.len() - 1]);
    let beyond = (score - most) / (most - middle).max(1e-9);
    // Half way to 1 where the score is twice as far from the middle as the largest one.
    let further = if beyond > 0.0 { beyond / (1.0 + beyond) } else { 0.0 };
    -share.ln() + further
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rarer_is_more() {
        let known = [1.0, 2.0, 3.0, 5.0];
        let check = |score: f64, expect: f64| {
            assert!((score_rarity(score, &known) - expect).abs() < 1e-12, "{score}");
        };
        check(0.0, 0.0);
        check(3.0, -(0.6_f64.ln()));
        check(5.0, -(0.4_f64.ln()));
        check(7.0, -(0.2_f64.ln()) + 0.5);
        assert!(score_rarity(1e9, &known) > score_rarity(1e6, &known));
    }
}
