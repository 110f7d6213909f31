//! Latest errors of a task's champion, and its intervals.

use std::collections::VecDeque;

use models::stats::conformal::AdaptiveConformal;
use serde::Serialize;
use utoipa::ToSchema;

use super::LoggedPrediction;

/// Largest number of actual values that count.
const SCORED_MAX: usize = 1000;
/// Number of actual values from which intervals are adapted to served predictions, and from which a
/// champion can be found to be worse than its baseline.
const SCORED_MIN: usize = 200;

/// Score of a task's champion.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Score {
    /// Task.
    pub task: String,
    /// Name of the champion.
    pub model: String,
    /// Version of the champion.
    pub version: u64,
    /// Number of its latest predictions with an actual value, at most 1,000. The following values
    /// are computed from them.
    pub scored: usize,
    /// Mean absolute error, in the task's unit.
    pub mae: Option<f64>,
    /// Root of the mean squared error, in the task's unit.
    pub rmse: Option<f64>,
    /// Mean absolute error of the baseline, on the same predictions.
    pub baseline_mae: Option<f64>,
    /// Root mean squared error of the baseline, on the same predictions.
    pub baseline_rmse: Option<f64>,
    /// Share of the baseline's mean absolute error that is avoided.
    pub skill: Option<f64>,
    /// Share of actual values within the served interval.
    pub coverage: Option<f64>,
    /// Stated coverage of intervals.
    pub level: f64,
    /// Present half width of intervals; null while it is that of training.
    pub half_width: Option<f64>,
    /// Mean share of inputs outside the range of training.
    pub outside_share: Option<f64>,
    /// First and last event time of the predictions, UTC ms.
    #[schema(value_type = Option<[i64; 2]>)]
    pub span_ms: Option<(i64, i64)>,
    /// Number of predictions that wait for their actual value.
    pub waiting: usize,
    /// Number of predictions that were dropped because too many waited, since the start.
    pub dropped: u64,
    /// Number of predictions whose actual value never became known, since the start.
    pub unknown: u64,
}

impl Score {
    /// Whether the baseline would have been better, on enough predictions.
    #[must_use]
    pub fn is_worse_than_baseline(&self) -> bool {
        let is_worse =
            matches!((self.mae, self.baseline_mae), (Some(model), Some(base)) if model > base);
        is_worse && self.scored >= SCORED_MIN
    }
}

/// Error of one prediction.
#[derive(Clone, Copy, Debug)]
struct PastError {
    at_ms: i64,
    error: f64,
    baseline_error: Option<f64>,
    is_covered: Option<bool>,
}

/// Latest errors of one version.
#[derive(Debug)]
pub(super) struct ErrorTally {
    model: String,
    version: u64,
    level: f64,
    past: VecDeque<PastError>,
    outside: VecDeque<f64>,
    adaptive: AdaptiveConformal,
}

impl ErrorTally {
    pub(super) fn new(model: &str, version: u64, level: f64) -> Self {
        // A task without intervals has no valid level; its intervals are never adapted.
        let adaptive = AdaptiveConformal::new(level.clamp(0.01, 0.999), &[]);
        Self {
            model: model.to_owned(),
            version,
            level,
            past: VecDeque::new(),
            outside: VecDeque::new(),
            adaptive,
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Records the share of a row's inputs outside the range of training.
    pub(super) fn record_outside_share(&mut self, share: f64) {
        push_newest(&mut self.outside, share);
    }

    pub(super) fn record_actual(&mut self, noted: &LoggedPrediction, actual: f64) {
        let error = noted.value - actual;
        // The task's bounds may cut one side of the interval, so the wider side counts.
        if let Some([low, high]) = noted.interval {
            let half_width = (noted.value - low).max(high - noted.value);
            self.adaptive.observe_error(half_width, error);
        }
        let past = PastError {
            at_ms: noted.at_ms,
            error,
            baseline_error: noted.baseline.map(|baseline| baseline - actual),
            is_covered: noted.interval.map(|[low, high]| (low..=high).contains(&actual)),
        };
        push_newest(&mut self.past, past);
    }

    /// Half width of the next interval, once enough actual values are known.
    pub(super) fn half_width(&self) -> Option<f64> {
        let enough =
            self.past.iter().filter(|past| past.is_covered.is_some()).count() >= SCORED_MIN;
        let widest = || self.past.iter().map(|past| past.error.abs()).fold(0.0, f64::max);
        // Where no error is large enough for the level, the largest one is used.
        let half_width = Some(self.adaptive.half_width()).filter(|half| half.is_finite());
        enough.then(|| half_width.unwrap_or_else(widest))
    }

    pub(super) fn to_score(&self, task: &str, waiting: usize, dropped: u64, unknown: u64) -> Score {
        let errors = || self.past.iter().map(|past| past.error);
        let paired = || self.past.iter().filter_map(|past| past.baseline_error);
        let mae = mean_of(errors().map(f64::abs));
        let baseline_mae = mean_of(paired().map(f64::abs));
        let covered = self.past.iter().filter_map(|past| past.is_covered);
        let times = || self.past.iter().map(|past| past.at_ms);
        Score {
            task: task.to_owned(),
            model: self.model.clone(),
            version: self.version,
            scored: self.past.len(),
            mae,
            rmse: mean_of(errors().map(|error| error * error)).map(f64::sqrt),
            baseline_mae,
            baseline_rmse: mean_of(paired().map(|error| error * error)).map(f64::sqrt),
            skill: match (mae, baseline_mae) {
                (Some(model), Some(base)) if base > 0.0 => Some(1.0 - model / base),
                _ => None,
            },
            coverage: mean_of(covered.map(|is_covered| f64::from(u8::from(is_covered)))),
            level: self.level,
            half_width: self.half_width(),
            outside_share: mean_of(self.outside.iter().copied()),
            span_ms: times().min().zip(times().max()),
            waiting,
            dropped,
            unknown,
        }
    }
}

fn push_newest<T>(newest: &mut VecDeque<T>, one: T) {
    if newest.len() == SCORED_MAX {
        newest.pop_front();
    }
    newest.push_back(one);
}

fn mean_of(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}
