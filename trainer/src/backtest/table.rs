use std::sync::Arc;

use models::{Dataset, FitError, Fitted, Schema};
use ndarray::{Array1, Array2, Axis, concatenate};
use telemetry::ZoneId;

use super::score::Metric;
use crate::{
    rows::{self, Rows},
    tasks::{About, Task},
};

fn censored(data: Dataset) -> Vec<bool> {
    let rows = data.rows();
    data.censored.unwrap_or_else(|| vec![false; rows])
}

/// Rows as arrays, of one or several parts.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) schema: Arc<Schema>,
    pub(crate) at_ms: Vec<i64>,
    pub(crate) zone: Vec<ZoneId>,
    pub(crate) x: Array2<f64>,
    /// What models learn.
    pub(crate) y: Array1<f64>,
    /// What levels are made with, beside what they say.
    pub(crate) anchor: Array1<f64>,
    /// What came, in the task's unit.
    pub(crate) truth: Array1<f64>,
    /// Whether a target is only known to be larger.
    pub(crate) censored: Vec<bool>,
    pub(crate) about: About,
}

impl Table {
    /// Parts one after another.
    pub(crate) fn of(task: &dyn Task, parts: &[&Rows]) -> Result<Self, FitError> {
        let data = parts.iter().map(|rows| rows.dataset()).collect::<Result<Vec<Dataset>, _>>()?;
        let x: Vec<_> = data.iter().map(|data| data.x.view()).collect();
        let x = concatenate(Axis(0), &x).map_err(|error| FitError::Shape {
            found: error.to_string(),
            expected: "parts with the same inputs".to_owned(),
        })?;
        Ok(Self {
            schema: data[0].schema.clone(),
            y: data.iter().flat_map(|data| data.y.iter().copied()).collect(),
            at_ms: parts.iter().flat_map(|rows| rows.at_ms.iter().copied()).collect(),
            zone: parts.iter().flat_map(|rows| rows.zone.iter().cloned()).collect(),
            x,
            anchor: parts.iter().flat_map(|rows| rows.anchor.iter().copied()).collect(),
            truth: parts.iter().flat_map(|rows| rows.truth()).collect(),
            censored: data.into_iter().flat_map(censored).collect(),
            about: *task.about(),
        })
    }

    /// These rows.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        Self {
            schema: self.schema.clone(),
            at_ms: rows.iter().map(|row| self.at_ms[*row]).collect(),
            zone: rows.iter().map(|row| self.zone[*row].clone()).collect(),
            x: self.x.select(Axis(0), rows),
            y: self.y.select(Axis(0), rows),
            anchor: self.anchor.select(Axis(0), rows),
            truth: self.truth.select(Axis(0), rows),
            censored: rows.iter().map(|row| self.censored[*row]).collect(),
            about: self.about,
        }
    }

    /// Only these inputs.
    pub(crate) fn with_inputs(&self, inputs: &[usize]) -> Self {
        let features = inputs.iter().map(|input| self.schema.features[*input].clone()).collect();
        Self {
            schema: Arc::new(Schema { features }),
            x: self.x.select(Axis(1), inputs),
            ..self.clone()
        }
    }

    /// As models take it.
    pub(crate) fn dataset(&self) -> Result<Dataset, FitError> {
        rows::dataset(self.schema.clone(), self.x.clone(), self.y.clone(), &self.censored)
    }

    /// The losses of a model, in the order of rows.
    pub(crate) fn losses(&self, metric: Metric, model: &Fitted) -> Vec<f64> {
        self.losses_of(metric, &model.predict(self.x.view()))
    }

    /// The losses of what was said.
    pub(crate) fn losses_of(&self, metric: Metric, said: &Array1<f64>) -> Vec<f64> {
        metric.losses(&self.levels(said), &self.truth)
    }

    /// What was said, in the task's unit.
    pub(crate) fn levels(&self, said: &Array1<f64>) -> Array1<f64> {
        self.about.levels(said, &self.anchor)
    }
}
