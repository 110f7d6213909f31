//! Actual values of past predictions.

use crate::{feature_frame::ZoneFrame, settings::ComfortSettings, tasks::PredictionTask};

/// Distance of feature rows, ms.
const GRID_MS: i64 = 60_000;

/// Finds the actual value for a prediction from the features of `at_ms` (UTC ms), in the task's
/// unit. It is computed as in training from the nearest row, at most 30 s away. `None` where it is
/// not known.
#[must_use]
pub fn find_actual(
    task: &dyn PredictionTask,
    frame: &ZoneFrame,
    at_ms: i64,
    comfort: &ComfortSettings,
) -> Option<f64> {
    let grid_ms = (at_ms + GRID_MS / 2).div_euclid(GRID_MS) * GRID_MS;
    let row = frame.row_at(grid_ms)?;
    if task.is_censored(frame, row, comfort) {
        return None;
    }
    task.actual_value(frame, row, comfort).filter(|actual| actual.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TrainerSettings, tasks};

    #[test]
    fn the_actual_value_is_that_of_the_nearest_row() {
        let temperature: &dyn Fn(f64) -> f64 = &|minute| 20.0 + 0.1 * minute;
        let frame = tasks::tests::frame(30, &[("temperature_last", temperature)]);
        let task = &tasks::all_tasks()[0];
        let comfort = TrainerSettings::default().comfort;
        let check = |at_ms: i64, expect: Option<f64>| {
            let got = find_actual(task.as_ref(), &frame, at_ms, &comfort);
            let same = got.zip(expect).is_some_and(|(got, expect)| (got - expect).abs() < 1e-9);
            assert!(same || got == expect, "{at_ms}: {got:?}, expected {expect:?}");
        };
        check(3 * 60_000, Some(21.3));
        check(3 * 60_000 + 29_000, Some(21.3));
        check(3 * 60_000 + 31_000, Some(21.4));
        check(25 * 60_000, None);
        check(-90_000, None);
    }
}
