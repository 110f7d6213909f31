//! Details of the champion: where and when it errs, and whether its prediction intervals cover what
//! they promise.

use models::{metrics::conformal_quantile, stats::classes::CalibrationBin};
use serde::Serialize;
use telemetry::ZoneId;

use super::error_intervals::ErrorMetric;

/// Data of the champion's figures, all from the test set.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChampionDetails {
    /// Name of the model.
    pub model: String,
    /// Best baseline, for comparison.
    pub baseline: String,
    /// Some rows of all zones, evenly over time.
    pub points: Vec<PredictionPoint>,
    /// Consecutive rows of one zone.
    pub trace: Vec<PredictionPoint>,
    /// Zone of the trace.
    pub trace_zone: Option<ZoneId>,
    /// Errors by hour of the day, UTC.
    pub by_hour: Vec<ErrorSlice>,
    /// Errors by the actual, in equal steps; for a target that is a time to an event, by that time
    /// in hours.
    pub by_truth: Vec<ErrorSlice>,
    /// Distribution of the errors (prediction minus actual).
    pub residuals: Vec<ErrorBin>,
    /// Mean of prediction minus actual.
    pub bias: f64,
    /// Nominal and actual coverage of prediction intervals.
    pub coverage: Vec<IntervalCoverage>,
    /// Predicted probabilities and observed frequencies, for two classes.
    pub reliability: Vec<CalibrationBin>,
}

/// One row of the test set.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PredictionPoint {
    /// Event time, UTC ms.
    pub at_ms: i64,
    /// Actual.
    pub truth: f64,
    /// Prediction of the model.
    pub predicted: f64,
    /// Prediction of the best baseline.
    pub baseline: f64,
    /// Level of an unchanged target, which all of them are compared with if the task predicts a
    /// change; else 0.
    pub unchanged: f64,
    /// Half the width of the prediction interval; infinite if there is none.
    pub half_width: f64,
}

/// Error of a slice of rows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ErrorSlice {
    /// Lower end of the slice.
    pub from: f64,
    /// Number of rows.
    pub rows: usize,
    /// Error of the model.
    pub error: f64,
    /// Error of the best baseline.
    pub baseline_error: f64,
}

/// Share of errors in [from, to).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ErrorBin {
    /// Lower end, in the task's unit.
    pub from: f64,
    /// Upper end, in the task's unit.
    pub to: f64,
    /// Share of all errors.
    pub share: f64,
}

/// Coverage of prediction intervals at one level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IntervalCoverage {
    /// Nominal coverage.
    pub level: f64,
    /// Actual coverage.
    pub covered: f64,
    /// Mean half width of the intervals, in the task's unit.
    pub half_width: f64,
}

/// Test rows of all folds with their predictions, in the order of time.
pub(crate) struct TestPredictions<'a> {
    pub(crate) at_ms: &'a [i64],
    pub(crate) zone: &'a [ZoneId],
    pub(crate) actual: &'a [f64],
    pub(crate) model: &'a [f64],
    pub(crate) baseline: &'a [f64],
    pub(crate) unchanged: &'a [f64],
    /// Half the width of each row's interval; none where there are no intervals.
    pub(crate) half_width: &'a [f64],
    /// By how much each row's interval is wider than usual; as `half_width`.
    pub(crate) scale: &'a [f64],
    /// Absolute errors of the calibration over their usual size.
    pub(crate) calibration: &'a [f64],
}

const POINTS: usize = 600;
const TRACE_POINTS: usize = 360;
const BINS: usize = 41;
const TRUTH_SLICES: usize = 8;
/// Smallest number of rows in a slice; fewer say nothing.
const SLICE_ROWS_MIN: usize = 10;
const HOUR_MS: i64 = 3_600_000;

impl ChampionDetails {
    pub(crate) fn from_predictions(
        model: &str,
        baseline: &str,
        metric: ErrorMetric,
        seen: &TestPredictions,
    ) -> Self {
        let all: Vec<usize> = (0..seen.at_ms.len()).collect();
        let zone = seen.most_variable_zone();
        let of_zone: Vec<usize> =
            all.iter().copied().filter(|row| Some(&seen.zone[*row]) == zone).collect();
        let errors: Vec<f64> = seen.model.iter().zip(seen.actual).map(|(m, t)| m - t).collect();
        let hour = |row: usize| (seen.at_ms[row].rem_euclid(24 * HOUR_MS) / HOUR_MS) as usize;
        let (low, high) = seen
            .actual
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), t| (l.min(*t), h.max(*t)));
        let step = (high - low) / TRUTH_SLICES as f64;
        let step_of =
            |row: usize| (((seen.actual[row] - low) / step) as usize).min(TRUTH_SLICES - 1);
        Self {
            model: model.to_owned(),
            baseline: baseline.to_owned(),
            points: seen.select_points(&pick_evenly(&all, POINTS)),
            trace: seen.select_points(&of_zone[of_zone.len().saturating_sub(TRACE_POINTS)..]),
            trace_zone: zone.cloned(),
            by_hour: seen.error_slices(metric, 24, hour, |hour| hour as f64),
            by_truth: if step > 0.0 {
                seen.error_slices(metric, TRUTH_SLICES, step_of, |i| low + step * i as f64)
            } else {
                Vec::new()
            },
            residuals: error_histogram(&errors),
            bias: errors.iter().sum::<f64>() / errors.len().max(1) as f64,
            reliability: Vec::new(),
            coverage: (1..=19)
                .filter_map(|i| seen.coverage_at_level(f64::from(i) * 0.05))
                .collect(),
        }
    }
}

impl TestPredictions<'_> {
    /// Returns the zone whose actuals vary most, which shows most.
    fn most_variable_zone(&self) -> Option<&ZoneId> {
        let mut zones: Vec<&ZoneId> = self.zone.iter().collect();
        zones.sort_unstable();
        zones.dedup();
        let spread = |zone: &&ZoneId| {
            let own = self.zone.iter().zip(self.actual).filter(|(own, _)| own == zone);
            let own: Vec<f64> = own.map(|(_, truth)| *truth).collect();
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            own.iter().map(|truth| (truth - mean).powi(2)).sum::<f64>() / own.len() as f64
        };
        zones.into_iter().max_by(|a, b| spread(a).total_cmp(&spread(b)))
    }

    fn select_points(&self, rows: &[usize]) -> Vec<PredictionPoint> {
        let point = |row: &usize| PredictionPoint {
            at_ms: self.at_ms[*row],
            truth: self.actual[*row],
            predicted: self.model[*row],
            baseline: self.baseline[*row],
            unchanged: self.unchanged[*row],
            half_width: self.half_width.get(*row).copied().unwrap_or(f64::INFINITY),
        };
        rows.iter().map(point).collect()
    }

    fn error_slices(
        &self,
        metric: ErrorMetric,
        count: usize,
        slice_of: impl Fn(usize) -> usize,
        from: impl Fn(usize) -> f64,
    ) -> Vec<ErrorSlice> {
        let mut sums = vec![(0_usize, 0.0, 0.0); count];
        for row in 0..self.actual.len() {
            let (rows, model, baseline) = &mut sums[slice_of(row)];
            *rows += 1;
            *model += metric.loss(self.model[row], self.actual[row]);
            *baseline += metric.loss(self.baseline[row], self.actual[row]);
        }
        let slice = |(i, (rows, model, baseline)): (usize, (usize, f64, f64))| ErrorSlice {
            from: from(i),
            rows,
            error: metric.error_from_mean_loss(model / rows as f64),
            baseline_error: metric.error_from_mean_loss(baseline / rows as f64),
        };
        let all = sums.into_iter().enumerate().filter(|(_, (rows, ..))| *rows >= SLICE_ROWS_MIN);
        all.map(slice).collect()
    }

    fn coverage_at_level(&self, level: f64) -> Option<IntervalCoverage> {
        if self.scale.is_empty() {
            return None;
        }
        let quantile = conformal_quantile(self.calibration, level)?;
        let rows = self.actual.len() as f64;
        let width = |row: usize| quantile * self.scale[row];
        let within = |row: &usize| (self.model[*row] - self.actual[*row]).abs() <= width(*row);
        let covered = (0..self.actual.len()).filter(within).count() as f64 / rows;
        let half_width = (0..self.actual.len()).map(width).sum::<f64>() / rows;
        Some(IntervalCoverage { level, covered, half_width })
    }
}

/// Picks at most `most` rows, evenly.
pub(crate) fn pick_evenly(rows: &[usize], most: usize) -> Vec<usize> {
    let kept = rows.len().min(most);
    (0..kept).map(|i| rows[i * rows.len() / kept]).collect()
}

/// Computes the histogram from the first to the last half percent, with 0 in the middle of a bin.
/// Errors beyond lie in the outermost bins.
fn error_histogram(errors: &[f64]) -> Vec<ErrorBin> {
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let Some(most) = sizes.get(sizes.len() * 99 / 100).copied().filter(|most| *most > 0.0) else {
        return Vec::new();
    };
    let width = 2.0 * most / BINS as f64;
    let mut counts = [0_usize; BINS];
    for error in errors {
        counts[(((error + most) / width).max(0.0) as usize).min(BINS - 1)] += 1;
    }
    let bin = |(i, count): (usize, &usize)| ErrorBin {
        from: -most + width * i as f64,
        to: -most + width * (i + 1) as f64,
        share: *count as f64 / errors.len() as f64,
    };
    counts.iter().enumerate().map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hour_and_coverage_are_those_of_the_rows() {
        let rows = 480; // 20 an hour
        let at_ms: Vec<i64> = (0..rows).map(|i| i as i64 * 180_000).collect();
        let zone: Vec<ZoneId> = vec!["s/z".parse().unwrap(); rows];
        let truth: Vec<f64> = (0..rows).map(|i| (i % 7) as f64).collect();
        // One off before noon, three off after it; the baseline always two.
        let model: Vec<f64> =
            (0..rows).map(|i| truth[i] + if i < rows / 2 { 1.0 } else { -3.0 }).collect();
        let baseline: Vec<f64> = truth.iter().map(|truth| truth + 2.0).collect();
        let calibration: Vec<f64> = (0..99).map(|i| f64::from(i) / 24.75).collect(); // 0 to 4
        let seen = TestPredictions {
            at_ms: &at_ms,
            zone: &zone,
            actual: &truth,
            model: &model,
            baseline: &baseline,
            unchanged: &vec![0.0; rows],
            half_width: &vec![1.5; rows],
            scale: &vec![1.0; rows],
            calibration: &calibration,
        };
        let details = ChampionDetails::from_predictions("m", "b", ErrorMetric::Mae, &seen);
        assert_eq!(details.by_hour.len(), 24);
        let hour =
            |hour: usize| (details.by_hour[hour].error, details.by_hour[hour].baseline_error);
        assert_eq!((hour(3), hour(20)), ((1.0, 2.0), (3.0, 2.0)));
        assert_eq!(details.bias, -1.0);
        let covered = |level: f64| {
            let found = details.coverage.iter().find(|own| (own.level - level).abs() < 1e-9);
            found.map(|own| own.covered)
        };
        assert_eq!(covered(0.2), Some(0.0), "half a width of 0.8");
        assert_eq!(covered(0.5), Some(0.5), "half a width of 2");
        assert_eq!(covered(0.9), Some(1.0), "half a width of 3.6");
        let shares: f64 = details.residuals.iter().map(|bin| bin.share).sum();
        assert!((shares - 1.0).abs() < 1e-9);
        assert_eq!(details.trace.len(), TRACE_POINTS);
    }
}
