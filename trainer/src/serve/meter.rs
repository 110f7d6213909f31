//! How many predictions were asked for, what came of them, and how fast.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use service::prometheus::{MetricsPage, TimeHistogram, format_label};

use super::{PredictError, Prediction};
use crate::tasks;

/// Upper bounds of the times of predictions, seconds.
const BOUNDS_S: [f64; 8] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.02, 0.1];

/// Counts by task, in the order of [`tasks::NAMES`].
#[derive(Debug, Default)]
pub(super) struct PredictionMeter([PredictionCounts; tasks::NAMES.len()]);

#[derive(Debug)]
struct PredictionCounts {
    said: AtomicU64,
    fallback: AtomicU64,
    drift: AtomicU64,
    refused: AtomicU64,
    took: TimeHistogram,
}

impl Default for PredictionCounts {
    fn default() -> Self {
        let [said, fallback, drift, refused] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { said, fallback, drift, refused, took: TimeHistogram::new(&BOUNDS_S) }
    }
}

impl PredictionMeter {
    pub(super) fn count_prediction(
        &self,
        task: &str,
        said: &Result<Prediction, PredictError>,
        took: Duration,
    ) {
        let Some(number) = tasks::NAMES.iter().position(|name| *name == task) else { return };
        let counts = &self.0[number];
        let Ok(said) = said else {
            counts.refused.fetch_add(1, Relaxed);
            return;
        };
        counts.said.fetch_add(1, Relaxed);
        counts.fallback.fetch_add(u64::from(said.fallback), Relaxed);
        counts.drift.fetch_add(u64::from(said.drift.flag), Relaxed);
        counts.took.observe_duration(took);
    }

    pub(super) fn write_metrics(&self, page: &mut MetricsPage) {
        let tasks = || tasks::NAMES.iter().map(|task| format_label("task", task)).zip(&self.0);
        let mut counter = |name: &str, help: &str, of: &dyn Fn(&PredictionCounts) -> &AtomicU64| {
            let samples = tasks().map(|(task, counts)| (task, of(counts).load(Relaxed)));
            page.add_family((name, "counter", help), samples);
        };
        counter("predictions_total", "Predictions made", &|c| &c.said);
        counter("fallbacks_total", "Predictions by the baseline", &|c| &c.fallback);
        counter("drifts_total", "Predictions from strange inputs", &|c| &c.drift);
        counter("refusals_total", "Predictions that could not be made", &|c| &c.refused);
        let times = tasks().map(|(task, counts)| (task, &counts.took));
        page.add_histogram(("prediction_seconds", "Time of a prediction"), times);
    }
}
