use models::metrics::ScoreRanking;

use super::{data_split::AnomalySplit, detector_fold::DetectorCandidate};
use crate::backtest::{FoldStatistic, RowStatistic, error_intervals::TimeGroups};

/// Time over which minutes are correlated, s: a fault lasts an hour at most.
const FAULT_S: i64 = 3600;

/// Evaluated minutes of the test sets of all folds, in the order of time.
pub(super) struct TestMinutes {
    folds: Vec<FoldMinutes>,
    /// Groups all series of a minute, because errors of sensors in one room are correlated.
    pub(super) clock: TimeGroups,
}

struct FoldMinutes {
    /// Positions among the fold's scores.
    rows: Vec<usize>,
    labels: Vec<bool>,
}

impl TestMinutes {
    pub(super) fn from_folds(folds: &[AnomalySplit], seed: u64) -> Self {
        let mut all_ms = Vec::new();
        let fold_minutes = |parts: &AnomalySplit| {
            let (at_ms, labels) = (parts.test_at_ms(), parts.fault_labels());
            let known = parts.test.iter().flat_map(|part| part.known.iter()).enumerate();
            let mut rows: Vec<usize> = known.filter(|(_, is)| **is).map(|(row, _)| row).collect();
            rows.sort_by_key(|row| at_ms[*row]);
            all_ms.extend(rows.iter().map(|row| at_ms[*row]));
            FoldMinutes { labels: rows.iter().map(|row| labels[*row]).collect(), rows }
        };
        let folds: Vec<FoldMinutes> = folds.iter().map(fold_minutes).collect();
        Self { folds, clock: TimeGroups::from_times(&all_ms, FAULT_S, seed) }
    }

    /// Number of evaluated minutes in each fold.
    pub(super) fn count_by_fold(&self) -> impl Iterator<Item = usize> {
        self.folds.iter().map(|fold| fold.rows.len())
    }

    /// Area under the precision-recall curve of a detector.
    pub(super) fn pr_auc(&self, candidate: &DetectorCandidate) -> FoldStatistic {
        let (mut area, mut first) = (FoldStatistic::default(), 0);
        for (fold, judged) in self.folds.iter().zip(&candidate.folds) {
            let scores: Vec<f64> = fold.rows.iter().map(|row| judged.scores[*row]).collect();
            let ranking = ScoreRanking::from_scores(&scores, &fold.labels);
            let rows = first..first + scores.len();
            first = rows.end;
            area.push(rows, RowStatistic::AveragePrecision(ranking));
        }
        area
    }

    /// Interval of the gain of `model` relative to what the `baseline` lacks to 1.
    pub(super) fn gain_interval(
        &self,
        model: &FoldStatistic,
        baseline: &FoldStatistic,
    ) -> Option<[f64; 2]> {
        self.clock.weighted_interval(|weight| {
            relative_gain(model.weighted_value(weight), baseline.weighted_value(weight))
        })
    }
}

/// Gain relative to what the baseline lacks to 1.
pub(super) fn relative_gain(model: f64, baseline: f64) -> f64 {
    (model - baseline) / (1.0 - baseline).max(1e-9)
}
