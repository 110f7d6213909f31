//! The newest errors of a task's champion, and its intervals.

use std::collections::VecDeque;

use models::stats::conformal::AdaptiveConformal;
use serde::Serialize;
use utoipa::ToSchema;

use super::LoggedPrediction;

/// Truths that count.
const SCORED_MAX: usize = 1000;
/// Truths from which on intervals are those of served predictions, and a
/// champion can be found to be worse than its baseline.
const SCORED_MIN: usize = 200;

/// How a task's champion fares.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Score {
    /// The task.
    pub task: String,
    /// The champion's name.
    pub model: String,
    /// Its version.
    pub version: u64,
    /// Its newest predictions with a truth, at most 1,000; what follows is of
    /// them.
    pub scored: usize,
    /// Mean absolute error, in the task's unit.
    pub mae: Option<f64>,
    /// Root of the mean squared error, in the task's unit.
    pub rmse: Option<f64>,
    /// The baseline's, on the same predictions.
    pub baseline_mae: Option<f64>,
    /// The baseline's, on the same predictions.
    pub baseline_rmse: Option<f64>,
    /// The share of the baseline's mean absolute error that is avoided.
    pub skill: Option<f64>,
    /// The share of truths within the interval that was served.
    pub coverage: Option<f64>,
    /// What intervals promise.
    pub level: f64,
    /// Half the width of intervals now; none while it is that of training.
    pub half_width: Option<f64>,
    /// The mean share of inputs outside what training saw.
    pub outside_share: Option<f64>,
    /// First and last event time of the predictions, UTC ms.
    #[schema(value_type = Option<[i64; 2]>)]
    pub span_ms: Option<(i64, i64)>,
    /// Predictions that wait for their truth.
    pub waiting: usize,
    /// Predictions that were dropped because too many waited, since the start.
    pub dropped: u64,
    /// Predictions whose truth never came, since the start.
    pub unknown: u64,
}

impl Score {
    /// Whether the baseline would have done better, on enough predictions.
    #[must_use]
    pub fn is_worse_than_baseline(&self) -> bool {
        let is_worse =
            matches!((self.mae, self.baseline_mae), (Some(own), Some(base)) if own > base);
        is_worse && self.scored >= SCORED_MIN
    }
}

/// One prediction with its truth.
#[derive(Clone, Copy, Debug)]
struct PastError {
    at_ms: i64,
    error: f64,
    baseline_error: Option<f64>,
    is_covered: Option<bool>,
}

/// The newest errors of one version.
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
        // A level that is none (the task has no intervals) adapts nothing.
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

    /// The share of a row's inputs outside what training saw.
    pub(super) fn record_outside_share(&mut self, share: f64) {
        push_newest(&mut self.outside, share);
    }

    pub(super) fn record_actual(&mut self, noted: &LoggedPrediction, truth: f64) {
        let error = noted.value - truth;
        // Bounds of the task may cut one side: the wider one was meant.
        if let Some([low, high]) = noted.interval {
            let half_width = (noted.value - low).max(high - noted.value);
            self.adaptive.observe_error(half_width, error);
        }
        let past = PastError {
            at_ms: noted.at_ms,
            error,
            baseline_error: noted.baseline.map(|baseline| baseline - truth),
            is_covered: noted.interval.map(|[low, high]| (low..=high).contains(&truth)),
        };
        push_newest(&mut self.past, past);
    }

    /// Half the width of the next interval, once enough truths have come.
    pub(super) fn half_width(&self) -> Option<f64> {
        let enough =
            self.past.iter().filter(|past| past.is_covered.is_some()).count() >= SCORED_MIN;
        let widest = || self.past.iter().map(|past| past.error.abs()).fold(0.0, f64::max);
        // Where no error tells how wide is wide enough, the largest must do.
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
                (Some(own), Some(base)) if base > 0.0 => Some(1.0 - own / base),
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
