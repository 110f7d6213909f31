//! Inputs and targets of all zones as arrays, in the order of time.

use std::sync::Arc;

use models::{Dataset, FitError, Schema};
use ndarray::{Array1, Array2};
use telemetry::ZoneId;

use crate::{frame::ZoneFrame, input::Input, settings::Settings, tasks::Task};

/// The rows of a task, of all zones together, in the order of time.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The names of inputs.
    pub schema: Arc<Schema>,
    /// The zone of each row.
    pub zone: Vec<ZoneId>,
    /// Event time of each row, UTC ms.
    pub at_ms: Vec<i64>,
    /// Inputs, row after row.
    x: Vec<f64>,
    /// What models learn.
    y: Vec<f64>,
    /// What is added to what models say.
    pub anchor: Vec<f64>,
    /// Whether what came is only known to be at least this.
    censored: Vec<bool>,
}

impl Rows {
    /// The rows of `frames` whose target is known.
    #[must_use]
    pub fn of(
        task: &dyn Task,
        frames: &[ZoneFrame],
        inputs: &[String],
        settings: &Settings,
    ) -> Self {
        let parsed: Vec<Input> = inputs.iter().map(|name| Input::parse(name)).collect();
        let anchored = task.anchor().map(Input::parse);
        let mut found = Vec::new();
        for frame in frames {
            let comfort = settings.comfort_in(&frame.zone);
            let start_ms =
                frame.at_ms.first().map_or(0, |first| first + settings.split.warm_up_s * 1000);
            for row in 0..frame.at_ms.len() {
                let at_ms = frame.at_ms[row];
                if at_ms < start_ms || at_ms % (task.step_s() * 1000) != 0 {
                    continue;
                }
                let value = |name: &str| frame.column(name).map_or(f64::NAN, |column| column[row]);
                let anchor = anchored.as_ref().map_or(0.0, |input| input.value(&comfort, value));
                let Some(target) = task.target(frame, row, &comfort) else { continue };
                if !(target.is_finite() && anchor.is_finite()) {
                    continue;
                }
                let x: Vec<f64> = parsed.iter().map(|input| input.value(&comfort, value)).collect();
                let censored = task.is_censored(frame, row, &comfort);
                found.push((at_ms, &frame.zone, x, target, anchor, censored));
            }
        }
        found.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let mut rows = Self {
            schema: Arc::new(Schema { features: inputs.to_vec() }),
            zone: Vec::new(),
            at_ms: Vec::new(),
            x: Vec::new(),
            y: Vec::new(),
            anchor: Vec::new(),
            censored: Vec::new(),
        };
        for (at_ms, zone, x, y, anchor, censored) in found {
            rows.zone.push(zone.clone());
            rows.at_ms.push(at_ms);
            rows.x.extend(x);
            rows.y.push(y);
            rows.anchor.push(anchor);
            rows.censored.push(censored);
        }
        rows
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.y.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    /// The rows in [`from_ms`, `to_ms`), at most `rows_max` of them, evenly
    /// over time.
    #[must_use]
    pub fn between(&self, span: (i64, i64), rows_max: usize) -> Self {
        let rows = self.within(span);
        self.spread(&rows.collect::<Vec<_>>(), rows_max)
    }

    /// The same, of rows that models can be judged by: those whose truth is not
    /// censored.
    #[must_use]
    pub fn judged(&self, span: (i64, i64), rows_max: usize) -> Self {
        let known = self.within(span).filter(|row| !self.censored[*row]);
        self.spread(&known.collect::<Vec<_>>(), rows_max)
    }

    fn within(&self, (from_ms, to_ms): (i64, i64)) -> std::ops::Range<usize> {
        let start = self.at_ms.partition_point(|at| *at < from_ms);
        start..self.at_ms.partition_point(|at| *at < to_ms)
    }

    fn spread(&self, rows: &[usize], rows_max: usize) -> Self {
        let kept = rows.len().min(rows_max);
        let width = self.schema.features.len();
        let picked: Vec<usize> = (0..kept).map(|i| rows[i * rows.len() / kept]).collect();
        Self {
            schema: self.schema.clone(),
            zone: picked.iter().map(|i| self.zone[*i].clone()).collect(),
            at_ms: picked.iter().map(|i| self.at_ms[*i]).collect(),
            x: picked.iter().flat_map(|i| &self.x[i * width..(i + 1) * width]).copied().collect(),
            y: picked.iter().map(|i| self.y[*i]).collect(),
            anchor: picked.iter().map(|i| self.anchor[*i]).collect(),
            censored: picked.iter().map(|i| self.censored[*i]).collect(),
        }
    }

    /// The values of an input; none where there is no such input.
    #[must_use]
    pub fn input(&self, name: &str) -> Vec<f64> {
        let width = self.schema.features.len();
        let found = self.schema.features.iter().position(|own| own == name);
        found.map_or_else(Vec::new, |input| {
            self.x.iter().skip(input).step_by(width).copied().collect()
        })
    }

    /// As models take it.
    ///
    /// # Errors
    /// See [`Dataset::new`].
    pub fn dataset(&self) -> Result<Dataset, FitError> {
        let shape = (self.len(), self.schema.features.len());
        let x = Array2::from_shape_vec(shape, self.x.clone()).map_err(|error| FitError::Shape {
            found: error.to_string(),
            expected: format!("{} × {}", shape.0, shape.1),
        })?;
        let data = Dataset::new(self.schema.clone(), x, Array1::from_vec(self.y.clone()))?;
        if self.censored.contains(&true) {
            return data.with_censored(self.censored.clone());
        }
        Ok(data)
    }

    /// What really came, in the task's unit.
    #[must_use]
    pub fn truth(&self) -> Array1<f64> {
        self.y.iter().zip(&self.anchor).map(|(y, anchor)| y + anchor).collect()
    }

    /// What models said, in the task's unit and within `bounds`.
    #[must_use]
    pub fn levels(&self, said: &Array1<f64>, (low, high): (f64, f64)) -> Array1<f64> {
        said.iter()
            .zip(&self.anchor)
            .map(|(said, anchor)| (said + anchor).clamp(low, high))
            .collect()
    }
}
