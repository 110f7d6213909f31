use models::metrics::Ranking;

use super::{judge::Candidate, parts::Parts};
use crate::backtest::{OfFolds, Statistic, score::Clock};

/// Minutes that are alike, seconds: a fault lasts an hour at most.
const FAULT_S: i64 = 3600;

/// The judged minutes of the test parts of all folds, in the order of time.
pub(super) struct Minutes {
    folds: Vec<OfFold>,
    /// All series of a minute are drawn together: sensors of one room err together.
    pub(super) clock: Clock,
}

struct OfFold {
    /// Places among the fold's scores.
    rows: Vec<usize>,
    labels: Vec<bool>,
}

impl Minutes {
    pub(super) fn of(folds: &[Parts], seed: u64) -> Self {
        let mut all_ms = Vec::new();
        let of_fold = |parts: &Parts| {
            let (at_ms, labels) = (parts.test_at_ms(), parts.labels());
            let known = parts.test.iter().flat_map(|own| own.known.iter()).enumerate();
            let mut rows: Vec<usize> = known.filter(|(_, is)| **is).map(|(row, _)| row).collect();
            rows.sort_by_key(|row| at_ms[*row]);
            all_ms.extend(rows.iter().map(|row| at_ms[*row]));
            OfFold { labels: rows.iter().map(|row| labels[*row]).collect(), rows }
        };
        let folds: Vec<OfFold> = folds.iter().map(of_fold).collect();
        Self { folds, clock: Clock::of(&all_ms, FAULT_S, seed) }
    }

    /// How many of each fold.
    pub(super) fn counts(&self) -> impl Iterator<Item = usize> {
        self.folds.iter().map(|fold| fold.rows.len())
    }

    /// The area under precision and recall of a detector.
    pub(super) fn pr_auc(&self, own: &Candidate) -> OfFolds {
        let (mut area, mut first) = (OfFolds::default(), 0);
        for (fold, judged) in self.folds.iter().zip(&own.folds) {
            let scores: Vec<f64> = fold.rows.iter().map(|row| judged.scores[*row]).collect();
            let ranking = Ranking::of(&scores, &fold.labels);
            let rows = first..first + scores.len();
            first = rows.end;
            area.push(rows, Statistic::AveragePrecision(ranking));
        }
        area
    }

    /// The interval of what `own` gains of what the `baseline` lacks.
    pub(super) fn gain_interval(&self, own: &OfFolds, baseline: &OfFolds) -> Option<[f64; 2]> {
        self.clock.weighted_interval(|weight| gain(own.weighted(weight), baseline.weighted(weight)))
    }
}

/// The share of what the baseline lacks.
pub(super) fn gain(own: f64, baseline: f64) -> f64 {
    (own - baseline) / (1.0 - baseline).max(1e-9)
}
