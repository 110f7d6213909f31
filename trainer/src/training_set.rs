//! Inputs and targets of all zones as arrays, in the order of time.

use std::sync::Arc;

use models::{Dataset, FeatureSchema, FitError};
use ndarray::{Array1, Array2};
use telemetry::ZoneId;

use crate::{
    feature_frame::ZoneViews,
    input::InputExpression,
    settings::TrainerSettings,
    tasks::{PredictionTask, TaskSpec},
};

/// One over the share of rows to fit on that are the newest ones, none left out.
const RECENT_SHARE: usize = 4;

/// The rows of a task, of all zones together, in the order of time.
#[derive(Clone, Debug)]
pub struct LabelledRows {
    /// Names of the inputs.
    pub schema: Arc<FeatureSchema>,
    /// Zone of each row.
    pub zone: Vec<ZoneId>,
    /// Event time of each row, UTC ms.
    pub at_ms: Vec<i64>,
    /// Inputs, row after row.
    x: Vec<f64>,
    /// Targets that models learn.
    y: Vec<f64>,
    /// Reference values, from which levels are computed together with the models' outputs.
    pub reference: Vec<f64>,
    /// Actual values, in the task's unit.
    actual: Vec<f64>,
    /// Whether each actual value is only a lower bound.
    censored: Vec<bool>,
}

impl LabelledRows {
    /// Rows of these zones whose actual value is known. Inputs are as they were known at the time
    /// of each row, actual values as they are known now.
    #[must_use]
    pub fn from_zones<'a>(
        task: &dyn PredictionTask,
        zones: impl IntoIterator<Item = &'a ZoneViews>,
        inputs: &[String],
        settings: &TrainerSettings,
    ) -> Self {
        let parsed: Vec<InputExpression> =
            inputs.iter().map(|name| InputExpression::parse(name)).collect();
        let reference_input = task.spec().reference.map(InputExpression::parse);
        let mut found = Vec::new();
        for ZoneViews { as_known: frame, as_corrected: corrected } in zones {
            let comfort = settings.comfort_in(&frame.zone);
            let start_ms =
                frame.at_ms.first().map_or(0, |first| first + settings.split.warm_up_s * 1000);
            let present = task.spec().required_metric.map(|metric| frame.present_values(metric));
            for row in 0..frame.at_ms.len() {
                let at_ms = frame.at_ms[row];
                if at_ms < start_ms || at_ms % (task.spec().step_s * 1000) != 0 {
                    continue;
                }
                if present.as_ref().is_some_and(|now| now(row).is_nan()) {
                    continue;
                }
                let value = |name: &str| frame.column(name).map_or(f64::NAN, |column| column[row]);
                let reference = reference_input
                    .as_ref()
                    .map_or(0.0, |input| input.compute_value(&comfort, value));
                let Some(later) = corrected.row_at(at_ms) else { continue };
                let Some(actual) = task.actual_value(corrected, later, &comfort) else { continue };
                if !(actual.is_finite() && reference.is_finite()) {
                    continue;
                }
                let Some(y) = task.training_target(corrected, later, &comfort, (actual, reference))
                else {
                    continue;
                };
                let x: Vec<f64> =
                    parsed.iter().map(|input| input.compute_value(&comfort, value)).collect();
                let censored = task.is_censored(corrected, later, &comfort);
                found.push((at_ms, &frame.zone, x, y, reference, actual, censored));
            }
        }
        found.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let mut rows = Self {
            schema: Arc::new(FeatureSchema { features: inputs.to_vec() }),
            zone: Vec::new(),
            at_ms: Vec::new(),
            x: Vec::new(),
            y: Vec::new(),
            reference: Vec::new(),
            actual: Vec::new(),
            censored: Vec::new(),
        };
        for (at_ms, zone, x, y, reference, actual, censored) in found {
            rows.zone.push(zone.clone());
            rows.at_ms.push(at_ms);
            rows.x.extend(x);
            rows.y.push(y);
            rows.reference.push(reference);
            rows.actual.push(actual);
            rows.censored.push(censored);
        }
        rows
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.y.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    /// The rows in [`from_ms`, `to_ms`), at most `rows_max` of them: the newest quarter
    /// of so many as they are, the older ones thinned evenly over time.
    #[must_use]
    pub fn rows_between(&self, span: (i64, i64), rows_max: usize) -> Self {
        let rows: Vec<usize> = self.row_range(span).collect();
        if rows.len() <= rows_max {
            return self.pick_evenly(&rows, rows_max);
        }
        let newest = rows_max / RECENT_SHARE;
        let (older, newer) = rows.split_at(rows.len() - newest);
        let kept = rows_max - newest;
        let mut picked: Vec<usize> = (0..kept).map(|i| older[i * older.len() / kept]).collect();
        picked.extend(newer);
        self.pick_evenly(&picked, rows_max)
    }

    /// Number of rows in [`from_ms`, `to_ms`).
    #[must_use]
    pub fn row_count(&self, span: (i64, i64)) -> usize {
        self.row_range(span).len()
    }

    /// Selects rows by their numbers.
    #[must_use]
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        self.pick_evenly(rows, usize::MAX)
    }

    /// Rows in a time span on which models can be evaluated: those that are not censored; at most
    /// `rows_max` of them, evenly over time.
    #[must_use]
    pub fn uncensored_between(&self, span: (i64, i64), rows_max: usize) -> Self {
        let known = self.row_range(span).filter(|row| !self.censored[*row]);
        self.pick_evenly(&known.collect::<Vec<_>>(), rows_max)
    }

    fn row_range(&self, (from_ms, to_ms): (i64, i64)) -> std::ops::Range<usize> {
        let start = self.at_ms.partition_point(|at| *at < from_ms);
        start..self.at_ms.partition_point(|at| *at < to_ms)
    }

    fn pick_evenly(&self, rows: &[usize], rows_max: usize) -> Self {
        let kept = rows.len().min(rows_max);
        let width = self.schema.features.len();
        let picked: Vec<usize> = (0..kept).map(|i| rows[i * rows.len() / kept]).collect();
        Self {
            schema: self.schema.clone(),
            zone: picked.iter().map(|i| self.zone[*i].clone()).collect(),
            at_ms: picked.iter().map(|i| self.at_ms[*i]).collect(),
            x: picked.iter().flat_map(|i| &self.x[i * width..(i + 1) * width]).copied().collect(),
            y: picked.iter().map(|i| self.y[*i]).collect(),
            reference: picked.iter().map(|i| self.reference[*i]).collect(),
            actual: picked.iter().map(|i| self.actual[*i]).collect(),
            censored: picked.iter().map(|i| self.censored[*i]).collect(),
        }
    }

    /// Values of an input; empty if there is no such input.
    #[must_use]
    pub fn input_values(&self, name: &str) -> Vec<f64> {
        let width = self.schema.features.len();
        let found = self.schema.features.iter().position(|feature| feature == name);
        found.map_or_else(Vec::new, |input| {
            self.x.iter().skip(input).step_by(width).copied().collect()
        })
    }

    /// The rows as a data set for models.
    ///
    /// # Errors
    /// See [`Dataset::new`].
    pub fn to_dataset(&self) -> Result<Dataset, FitError> {
        let shape = (self.len(), self.schema.features.len());
        let x = Array2::from_shape_vec(shape, self.x.clone()).map_err(|error| {
            FitError::ShapeMismatch {
                found: error.to_string(),
                expected: format!("{} × {}", shape.0, shape.1),
            }
        })?;
        let y = Array1::from_vec(self.y.clone());
        build_dataset(self.schema.clone(), x, y, &self.censored)
    }

    /// Actual values, in the task's unit.
    #[must_use]
    pub fn actual_values(&self) -> Array1<f64> {
        self.actual.iter().copied().collect()
    }

    /// Targets that models are trained on.
    #[must_use]
    pub fn training_targets(&self) -> &[f64] {
        &self.y
    }

    /// Flags of rows whose actual value is only a lower bound.
    #[must_use]
    pub fn censored_flags(&self) -> &[bool] {
        &self.censored
    }

    /// Levels of the models' outputs, in the unit of the task that the rows belong to.
    #[must_use]
    pub fn to_levels(&self, outputs: &Array1<f64>, spec: &TaskSpec) -> Array1<f64> {
        spec.transform_levels(outputs, &self.reference)
    }
}

/// Data set of rows for models; flags are set only if one of them is true.
pub(crate) fn build_dataset(
    schema: Arc<FeatureSchema>,
    x: Array2<f64>,
    y: Array1<f64>,
    censored: &[bool],
) -> Result<Dataset, FitError> {
    let data = Dataset::new(schema, x, y)?;
    if censored.contains(&true) { data.with_censored(censored.to_vec()) } else { Ok(data) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feature_frame::ZoneFrame,
        tasks::{self, tests::frame},
    };

    /// Rows of `temperature-10m` with two inputs.
    fn rows(as_known: ZoneFrame, as_corrected: ZoneFrame) -> LabelledRows {
        let task = tasks::all_tasks().remove(0);
        let mut settings = TrainerSettings::default();
        settings.split.warm_up_s = 0;
        let inputs = ["temperature_now", "temperature_slope_10m"].map(str::to_owned);
        let zone = ZoneViews { as_known, as_corrected };
        LabelledRows::from_zones(task.as_ref(), [&zone], &inputs, &settings)
    }

    #[test]
    fn a_late_reading_is_in_the_target_and_in_no_input() {
        // A reading of minute 12 was late: until it arrived, 20 °C was the latest known value.
        let late = |minute: f64| if minute >= 12.0 { 25.0 } else { 20.0 };
        let slope = |minute: f64| if minute >= 12.0 { 30.0 } else { 0.0 };
        let columns: [&str; 2] = ["temperature_last", "temperature_slope_10m"];
        let as_known = frame(30, &[(columns[0], &|_| 20.0), (columns[1], &|_| 0.0)]);
        let as_corrected = frame(30, &[(columns[0], &late), (columns[1], &slope)]);
        let rows = rows(as_known, as_corrected);
        assert_eq!(rows.at_ms.len(), 20, "the last ten have no actual value");
        assert_eq!(rows.input_values("temperature_now"), [20.0; 20]);
        assert_eq!(rows.input_values("temperature_slope_10m"), [0.0; 20]);
        assert_eq!(rows.reference, [20.0; 20], "serving adds the change to it");
        let late_values: Vec<f64> = (10..30).map(|minute| late(f64::from(minute))).collect();
        assert_eq!(rows.actual_values().to_vec(), late_values);
        let about = *tasks::all_tasks()[0].spec();
        assert_eq!(rows.to_levels(&Array1::zeros(20), &about).to_vec(), [20.0; 20]);
    }

    #[test]
    fn recent_rows_are_kept_and_older_ones_thinned() {
        let frame = || frame(1010, &[("temperature_last", &|_| 20.0)]);
        let all = rows(frame(), frame());
        assert_eq!(all.len(), 1000);
        let some = all.rows_between((0, i64::MAX), 100);
        let minutes: Vec<i64> = some.at_ms.iter().map(|at_ms| at_ms / 60_000).collect();
        assert_eq!(minutes.len(), 100);
        assert_eq!(minutes[75..], (975..1000).collect::<Vec<i64>>());
        assert!(minutes[..75].windows(2).all(|pair| pair[1] - pair[0] == 13), "{minutes:?}");
        assert_eq!(all.rows_between((0, i64::MAX), 1000).len(), 1000);
    }

    #[test]
    fn where_nothing_was_known_there_is_no_row() {
        // All readings of minutes 5 to 9 were late, and not known at the time.
        let known = |minute: f64| if (5.0..10.0).contains(&minute) { f64::NAN } else { 20.0 };
        let as_known = frame(30, &[("temperature_last", &known)]);
        let as_corrected = frame(30, &[("temperature_last", &|_| 20.0)]);
        let minutes: Vec<i64> =
            rows(as_known, as_corrected).at_ms.iter().map(|at_ms| at_ms / 60_000).collect();
        assert_eq!(minutes, (0..5).chain(10..20).collect::<Vec<i64>>());
    }
}
