use models::metrics::ScoreRanking;

use super::{data_split::AnomalySplit, detector_fold::DetectorCandidate};
use crate::backtest::{FoldStatistic, RowStatistic, error_intervals::TimeGroups};

/// Minutes that are alike, seconds: a fault lasts an hour at most.
const FAULT_S: i64 = 3600;

/// The judged minutes of the test parts of all folds, in the order of time.
pub(super) struct TestMinutes {
    folds: Vec<FoldMinutes>,
    /// All series of a minute are drawn together: sensors of one room err together.
    pub(super) clock: TimeGroups,
}

struct FoldMinutes {
    /// Places among the fold's scores.
    rows: Vec<usize>,
    labels: Vec<bool>,
}

impl TestMinutes {
    pub(super) fn from_folds(folds: &[AnomalySplit], seed: u64) -> Self {
        let mut all_ms = Vec::new();
        let of_fold = |parts: &AnomalySplit| {
            let (at_ms, labels) = (parts.test_at_ms(), parts.fault_labels());
            let known = parts.test.iter().flat_map(|own| own.known.iter()).enumerate();
            let mut rows: Vec<usize> = known.filter(|(_, is)| **is).map(|(row, _)| row).collect();
            rows.sort_by_key(|row| at_ms[*row]);
            all_ms.extend(rows.iter().map(|row| at_ms[*row]));
            FoldMinutes { labels: rows.iter().map(|row| labels[*row]).collect(), rows }
        };
        let folds: Vec<FoldMinutes> = folds.iter().map(of_fold).collect();
        Self { folds, clock: TimeGroups::from_times(&all_ms, FAULT_S, seed) }
    }

    /// How many of each fold.
    pub(super) fn count_by_fold(&self) -> impl Iterator<Item = usize> {
        self.folds.iter().map(|fold| fold.rows.len())
    }

    /// The area under precision and recall of a detector.
    pub(super) fn pr_auc(&self, own: &DetectorCandidate) -> FoldStatistic {
        let (mut area, mut first) = (FoldStatistic::default(), 0);
        for (fold, judged) in self.folds.iter().zip(&own.folds) {
            let scores: Vec<f64> = fold.rows.iter().map(|row| judged.scores[*row]).collect();
            let ranking = ScoreRanking::from_scores(&scores, &fold.labels);
            let rows = first..first + scores.len();
            first = rows.end;
            area.push(rows, RowStatistic::AveragePrecision(ranking));
        }
        area
    }

    /// The interval of what `own` gains of what the `baseline` lacks.
    pub(super) fn gain_interval(
        &self,
        own: &FoldStatistic,
        baseline: &FoldStatistic,
    ) -> Option<[f64; 2]> {
        self.clock.weighted_interval(|weight| {
            relative_gain(own.weighted_value(weight), baseline.weighted_value(weight))
        })
    }
}

/// The share of what the baseline lacks.
pub(super) fn relative_gain(own: f64, baseline: f64) -> f64 {
    (own - baseline) / (1.0 - baseline).max(1e-9)
}
