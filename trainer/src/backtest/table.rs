use std::sync::Arc;

use models::{Dataset, FeatureSchema, FitError, FittedRegressor};
use ndarray::{Array1, Array2, Axis, concatenate};
use telemetry::ZoneId;

use super::error_intervals::ErrorMetric;
use crate::{
    tasks::{PredictionTask, TaskSpec},
    training_set::{self, LabelledRows},
};

fn censored_rows(data: Dataset) -> Vec<bool> {
    let rows = data.row_count();
    data.censored.unwrap_or_else(|| vec![false; rows])
}

/// Rows of one or several sets as arrays.
#[derive(Clone, Debug)]
pub(crate) struct DatasetTable {
    pub(crate) schema: Arc<FeatureSchema>,
    pub(crate) at_ms: Vec<i64>,
    pub(crate) zone: Vec<ZoneId>,
    pub(crate) x: Array2<f64>,
    /// Training targets.
    pub(crate) y: Array1<f64>,
    /// Reference values from which predictions are transformed to levels.
    pub(crate) reference: Array1<f64>,
    /// Actuals, in the task's unit.
    pub(crate) actual: Array1<f64>,
    /// Whether the target is only a lower bound.
    pub(crate) censored: Vec<bool>,
    pub(crate) spec: TaskSpec,
}

impl DatasetTable {
    /// Concatenates the rows of several sets.
    pub(crate) fn from_parts(
        task: &dyn PredictionTask,
        parts: &[&LabelledRows],
    ) -> Result<Self, FitError> {
        let data =
            parts.iter().map(|rows| rows.to_dataset()).collect::<Result<Vec<Dataset>, _>>()?;
        let x: Vec<_> = data.iter().map(|data| data.x.view()).collect();
        let x = concatenate(Axis(0), &x).map_err(|error| FitError::ShapeMismatch {
            found: error.to_string(),
            expected: "parts with the same inputs".to_owned(),
        })?;
        Ok(Self {
            schema: data[0].schema.clone(),
            y: data.iter().flat_map(|data| data.y.iter().copied()).collect(),
            at_ms: parts.iter().flat_map(|rows| rows.at_ms.iter().copied()).collect(),
            zone: parts.iter().flat_map(|rows| rows.zone.iter().cloned()).collect(),
            x,
            reference: parts.iter().flat_map(|rows| rows.reference.iter().copied()).collect(),
            actual: parts.iter().flat_map(|rows| rows.actual_values()).collect(),
            censored: data.into_iter().flat_map(censored_rows).collect(),
            spec: *task.spec(),
        })
    }

    /// Returns a table of the selected rows.
    pub(crate) fn select_rows(&self, rows: &[usize]) -> Self {
        Self {
            schema: self.schema.clone(),
            at_ms: rows.iter().map(|row| self.at_ms[*row]).collect(),
            zone: rows.iter().map(|row| self.zone[*row].clone()).collect(),
            x: self.x.select(Axis(0), rows),
            y: self.y.select(Axis(0), rows),
            reference: self.reference.select(Axis(0), rows),
            actual: self.actual.select(Axis(0), rows),
            censored: rows.iter().map(|row| self.censored[*row]).collect(),
            spec: self.spec,
        }
    }

    /// Returns a table of the selected inputs.
    pub(crate) fn with_inputs(&self, inputs: &[usize]) -> Self {
        let features = inputs.iter().map(|input| self.schema.features[*input].clone()).collect();
        Self {
            schema: Arc::new(FeatureSchema { features }),
            x: self.x.select(Axis(1), inputs),
            ..self.clone()
        }
    }

    /// Returns the dataset in the form that models are fitted on.
    pub(crate) fn to_dataset(&self) -> Result<Dataset, FitError> {
        training_set::build_dataset(
            self.schema.clone(),
            self.x.clone(),
            self.y.clone(),
            &self.censored,
        )
    }

    /// Returns the losses of a model, in the order of rows.
    pub(crate) fn model_losses(&self, metric: ErrorMetric, model: &FittedRegressor) -> Vec<f64> {
        self.prediction_losses(metric, &model.predict(self.x.view()))
    }

    /// Returns the losses of predictions, in the order of rows.
    pub(crate) fn prediction_losses(&self, metric: ErrorMetric, said: &Array1<f64>) -> Vec<f64> {
        metric.row_losses(&self.to_levels(said), &self.actual)
    }

    /// Transforms predictions to levels, in the task's unit.
    pub(crate) fn to_levels(&self, said: &Array1<f64>) -> Array1<f64> {
        self.spec.transform_levels(said, &self.reference)
    }
}
