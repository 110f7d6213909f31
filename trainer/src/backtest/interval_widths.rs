//! Prediction intervals that are wide where a model errs and narrow where it does not.

use std::collections::BTreeMap;

use models::{metrics::conformal_quantile, stats::conformal::interval_score};
use serde::{Deserialize, Serialize};
use telemetry::ZoneId;

/// Rows of the mean of all that a zone or an hour is averaged with: few rows say little.
const PRIOR_ROWS: f64 = 50.0;
/// Fewer rows than this have one width for all.
const ROWS_MIN: usize = 1000;
/// A factor is within these.
const FACTORS: (f64, f64) = (0.2, 5.0);
/// Where predicted changes are divided, by their size: small ones are alike.
const CHANGE_LEVELS: [f64; 5] = [0.3, 0.55, 0.75, 0.9, 0.97];
const HOURS: usize = 24;

/// Normalised conformal intervals (J. Lei, M. G'Sell, A. Rinaldo, R. Tibshirani, L.
/// Wasserman, "Distribution-free predictive inference for regression", JASA 113, 2018,
/// section 5.2): the half width is the quantile of errors over their usual size, times
/// the usual size in this zone, at this hour of the day and for a change as large as the
/// predicted one. Models of 0.1 have none: their width is the same everywhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IntervalWidths {
    /// Half the width where all factors are 1, in the task's unit.
    pub half_width: f64,
    /// By zone; 1 for others.
    pub zones: BTreeMap<String, f64>,
    /// By the hour of the day, UTC; empty where all are alike.
    pub hours: Vec<f64>,
    /// By the size of the predicted change: up to which size, and the factor.
    pub changes: Vec<(f64, f64)>,
}

/// A prediction of a row that the model was not fitted on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CalibrationRow<'a> {
    pub(crate) zone: &'a ZoneId,
    pub(crate) at_ms: i64,
    /// Difference between the prediction and the level without a change.
    pub(crate) change: f64,
    /// Absolute error.
    pub(crate) error: f64,
    /// Which of the consecutive parts it belongs to.
    pub(crate) part: usize,
}

fn hour_of(at_ms: i64) -> usize {
    (at_ms.rem_euclid(86_400_000) / 3_600_000) as usize
}

/// The mean of each group over that of all, with [`PRIOR_ROWS`] of the latter.
fn factors_of(groups: &[(f64, f64)], mean: f64) -> Vec<f64> {
    let factor = |(sum, rows): &(f64, f64)| (sum / mean + PRIOR_ROWS) / (rows + PRIOR_ROWS);
    groups.iter().map(|group| factor(group).clamp(FACTORS.0, FACTORS.1)).collect()
}

fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut rows) = (0.0, 0.0);
    values.for_each(|value| {
        sum += value;
        rows += 1.0;
    });
    sum / f64::max(rows, 1.0)
}

impl IntervalWidths {
    /// Calibrates on `rows` so that a share of `level` is covered. None where there are
    /// too few rows for the level. The width is the same everywhere where that has the
    /// better interval score on the newest part, calibrated on those before it.
    pub(crate) fn calibrate(rows: &[CalibrationRow], level: f64) -> Option<Self> {
        let last = rows.iter().map(|row| row.part).max()?;
        let (newest, before): (Vec<CalibrationRow>, Vec<CalibrationRow>) =
            rows.iter().copied().partition(|row| row.part == last);
        let mut own = if before.len() >= ROWS_MIN && newest.len() >= ROWS_MIN / 4 {
            let score = |widths: &Self| {
                let half =
                    |row: &CalibrationRow| widths.half_width_at(row.zone, row.at_ms, row.change);
                let high: Vec<f64> = newest.iter().map(half).collect();
                let low: Vec<f64> = high.iter().map(|half| -half).collect();
                let errors: Vec<f64> = newest.iter().map(|row| row.error).collect();
                interval_score(&low, &high, &errors, level)
            };
            let (mut constant, mut normalised) = (Self::default(), Self::fit_factors(&before));
            constant.half_width = constant.quantile(&before, level)?;
            normalised.half_width = normalised.quantile(&before, level)?;
            let is_better = score(&normalised) < score(&constant);
            if is_better { Self::fit_factors(rows) } else { Self::default() }
        } else {
            Self::default()
        };
        own.half_width = own.quantile(rows, level)?;
        Some(own)
    }

    fn fit_factors(rows: &[CalibrationRow]) -> Self {
        let mut own = Self { half_width: 1.0, ..Self::default() };
        let mean = mean_of(rows.iter().map(|row| row.error));
        if mean <= 0.0 || mean.is_nan() {
            return own;
        }
        let mut zones: BTreeMap<&ZoneId, (f64, f64)> = BTreeMap::new();
        for row in rows {
            let (sum, count) = zones.entry(row.zone).or_default();
            *sum += row.error;
            *count += 1.0;
        }
        let sums: Vec<(f64, f64)> = zones.values().copied().collect();
        let factors = factors_of(&sums, mean);
        own.zones = zones.keys().map(ToString::to_string).zip(factors).collect();

        let scaled = |own: &Self| -> Vec<f64> {
            rows.iter()
                .map(|row| row.error / own.factor_at(row.zone, row.at_ms, row.change))
                .collect()
        };
        let errors = scaled(&own);
        let mut hours = vec![(0.0, 0.0); HOURS];
        for (row, error) in rows.iter().zip(&errors) {
            let (sum, count) = &mut hours[hour_of(row.at_ms)];
            *sum += error;
            *count += 1.0;
        }
        let each = factors_of(&hours, mean_of(errors.iter().copied()));
        let smooth = |hour: usize| {
            let beside = each[(hour + 1) % HOURS] + each[(hour + HOURS - 1) % HOURS];
            0.5 * each[hour] + 0.25 * beside
        };
        own.hours = (0..HOURS).map(smooth).collect();

        let errors = scaled(&own);
        let mut sizes: Vec<f64> = rows.iter().map(|row| row.change.abs()).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        let edge = |level: &f64| sizes[(level * (sizes.len() - 1) as f64) as usize];
        let mut edges: Vec<f64> = CHANGE_LEVELS.iter().map(edge).collect();
        edges.dedup();
        edges.push(f64::MAX);
        let mut groups = vec![(0.0, 0.0); edges.len()];
        for (row, error) in rows.iter().zip(&errors) {
            let group = edges.partition_point(|edge| *edge < row.change.abs());
            let (sum, count) = &mut groups[group.min(edges.len() - 1)];
            *sum += error;
            *count += 1.0;
        }
        let factors = factors_of(&groups, mean_of(errors.iter().copied()));
        own.changes = edges.into_iter().zip(factors).collect();
        own
    }

    /// The errors over their usual size.
    pub(crate) fn normalised_errors(&self, rows: &[CalibrationRow]) -> Vec<f64> {
        let each =
            |row: &CalibrationRow| row.error / self.factor_at(row.zone, row.at_ms, row.change);
        rows.iter().map(each).collect()
    }

    fn quantile(&self, rows: &[CalibrationRow], level: f64) -> Option<f64> {
        conformal_quantile(&self.normalised_errors(rows), level)
    }

    /// How large errors are here, over what they usually are.
    #[must_use]
    pub fn factor_at(&self, zone: &ZoneId, at_ms: i64, change: f64) -> f64 {
        let zone = if self.zones.is_empty() { None } else { self.zones.get(&zone.to_string()) };
        let hour = self.hours.get(hour_of(at_ms));
        let group = self.changes.partition_point(|(edge, _)| *edge < change.abs());
        let change = self.changes.get(group).map(|(_, factor)| factor);
        [zone, hour, change].into_iter().flatten().product()
    }

    /// Half the width of the interval of a prediction.
    #[must_use]
    pub fn half_width_at(&self, zone: &ZoneId, at_ms: i64, change: f64) -> f64 {
        self.half_width * self.factor_at(zone, at_ms, change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    /// Rows of two zones over three days, a minute each: the second errs three times as
    /// much, and everything twice as much by day; large changes err twice as much.
    fn rows(
        zones: &[ZoneId],
        spread: &dyn Fn(usize, i64, f64) -> f64,
    ) -> Vec<(usize, i64, f64, f64)> {
        let mut rng = Pcg64::seed_from_u64(5);
        let mut all = Vec::new();
        for minute in 0..3 * 1440_i64 {
            for zone in 0..zones.len() {
                let change: f64 = rng.random_range(-1.0..1.0);
                // About normal: a sum of twelve.
                let noise = (0..12).map(|_| rng.random_range(-0.5..0.5)).sum::<f64>();
                let at_ms = minute * 60_000;
                all.push((zone, at_ms, change, (noise * spread(zone, at_ms, change)).abs()));
            }
        }
        all
    }

    fn calibration_rows<'a>(
        zones: &'a [ZoneId],
        all: &[(usize, i64, f64, f64)],
    ) -> Vec<CalibrationRow<'a>> {
        let row = |(zone, at_ms, change, error): &(usize, i64, f64, f64)| CalibrationRow {
            zone: &zones[*zone],
            at_ms: *at_ms,
            change: *change,
            error: *error,
            part: (*at_ms / 86_400_000) as usize,
        };
        all.iter().map(row).collect()
    }

    #[test]
    fn intervals_cover_everywhere_and_are_narrower_than_one_width() {
        let zones: Vec<ZoneId> = ["h/a", "h/b"].map(|zone| zone.parse().unwrap()).to_vec();
        let spread = |zone: usize, at_ms: i64, change: f64| {
            let by_day = if (8..18).contains(&hour_of(at_ms)) { 2.0 } else { 1.0 };
            [1.0, 3.0][zone] * by_day * if change.abs() > 0.8 { 2.0 } else { 1.0 }
        };
        let all = rows(&zones, &spread);
        let all = calibration_rows(&zones, &all);
        let (known, new): (Vec<CalibrationRow>, Vec<CalibrationRow>) =
            all.into_iter().partition(|row| row.part < 2);
        let widths = IntervalWidths::calibrate(&known, 0.9).unwrap();
        let covered = |rows: &[&CalibrationRow]| {
            let within = |row: &&&CalibrationRow| {
                row.error <= widths.half_width_at(row.zone, row.at_ms, row.change)
            };
            rows.iter().filter(within).count() as f64 / rows.len() as f64
        };
        assert!((covered(&new.iter().collect::<Vec<_>>()) - 0.9).abs() < 0.02);
        for zone in &zones {
            let own: Vec<&CalibrationRow> = new.iter().filter(|row| row.zone == zone).collect();
            assert!((covered(&own) - 0.9).abs() < 0.03, "{zone}: {}", covered(&own));
        }
        for day in [true, false] {
            let is_day = |row: &&CalibrationRow| (9..17).contains(&hour_of(row.at_ms)) == day;
            let own: Vec<&CalibrationRow> = new.iter().filter(is_day).collect();
            assert!((covered(&own) - 0.9).abs() < 0.05, "day {day}: {}", covered(&own));
        }
        let errors: Vec<f64> = known.iter().map(|row| row.error).collect();
        let constant = conformal_quantile(&errors, 0.9).unwrap();
        let mean =
            mean_of(new.iter().map(|row| widths.half_width_at(row.zone, row.at_ms, row.change)));
        assert!(mean < 0.85 * constant, "{mean} beside {constant}");
        let read: IntervalWidths =
            serde_json::from_str(&serde_json::to_string(&widths).unwrap()).unwrap();
        assert_eq!(read, widths);
    }

    #[test]
    fn where_errors_are_alike_or_few_there_is_one_width() {
        let zones: Vec<ZoneId> = vec!["h/a".parse().unwrap()];
        let all = rows(&zones, &|_, _, _| 1.0);
        let all = calibration_rows(&zones, &all);
        let few = IntervalWidths::calibrate(&all[..200], 0.9).unwrap();
        assert!(few.zones.is_empty() && few.hours.is_empty() && few.changes.is_empty());
        let widths = IntervalWidths::calibrate(&all, 0.9).unwrap();
        for hour in 0..24 {
            let factor = widths.factor_at(&zones[0], hour * 3_600_000, 0.5);
            assert!((0.8..1.2).contains(&factor), "{factor}");
        }
        assert_eq!(IntervalWidths::calibrate(&all[..5], 0.9), None);
        assert_eq!(IntervalWidths::calibrate(&[], 0.9), None);
    }
}
