use models::{metrics::Ranking, stats::bootstrap::BlockBootstrap};

use super::parts::Parts;
use crate::backtest::score::blocks;

/// The share of intervals that hold the true value.
const LEVEL: f64 = 0.95;
/// Minutes that are alike: a fault lasts an hour at most.
const FAULT_MIN: usize = 60;

/// The judged minutes of the test part, in blocks of time. All series of a minute
/// are drawn together: sensors of one room err together.
pub(super) struct Intervals {
    /// Rows that are judged.
    rows: Vec<usize>,
    labels: Vec<bool>,
    /// Minutes of each of them since the first.
    minute: Vec<usize>,
    minutes: usize,
    bootstrap: BlockBootstrap,
}

impl Intervals {
    /// Of the test part.
    ///
    /// # Errors
    /// Says why it is too short.
    pub(super) fn of(parts: &Parts, seed: u64) -> Result<Self, String> {
        let (at_ms, labels) = (parts.test_at_ms(), parts.labels());
        let known = parts.test.iter().flat_map(|own| own.known.iter());
        let rows: Vec<usize> =
            known.enumerate().filter(|(_, is)| **is).map(|(row, _)| row).collect();
        let first_ms = rows.iter().map(|row| at_ms[*row]).min().unwrap_or_default();
        let minute: Vec<usize> =
            rows.iter().map(|row| ((at_ms[*row] - first_ms) / 60_000) as usize).collect();
        let minutes = minute.iter().max().map_or(0, |last| last + 1);
        Ok(Self {
            labels: rows.iter().map(|row| labels[*row]).collect(),
            rows,
            minute,
            minutes,
            bootstrap: blocks(minutes, FAULT_MIN, seed)?,
        })
    }

    /// Judged minutes in the order of a detector's scores, series after series.
    pub(super) fn ranking(&self, scores: &[f64]) -> Ranking {
        let scores: Vec<f64> = self.rows.iter().map(|row| scores[*row]).collect();
        Ranking::of(&scores, &self.labels)
    }

    /// Of the area under precision and recall, and of what it gains of what the
    /// baseline lacks.
    pub(super) fn pr_auc(
        &self,
        own: &Ranking,
        baseline: Option<&Ranking>,
    ) -> (Option<[f64; 2]>, Option<[f64; 2]>) {
        let value = self.interval(|weight| own.average_precision(weight));
        let skill = baseline.and_then(|baseline| {
            self.interval(|weight| {
                let base = baseline.average_precision(weight);
                (own.average_precision(weight) - base) / (1.0 - base).max(1e-9)
            })
        });
        (value, skill)
    }

    fn interval(
        &self,
        statistic: impl Fn(&dyn Fn(usize) -> f64) -> f64 + Sync,
    ) -> Option<[f64; 2]> {
        let of_draw = |drawn: &[usize]| {
            let mut times = vec![0.0; self.minutes];
            drawn.iter().for_each(|minute| times[*minute] += 1.0);
            statistic(&|row: usize| times[self.minute[row]])
        };
        let (low, high) = self.bootstrap.interval(self.minutes, LEVEL, of_draw)?;
        Some([low, high])
    }
}
