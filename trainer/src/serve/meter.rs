//! How many predictions were asked for, what came of them, and how fast.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{PredictError, Prediction};
use crate::tasks;

/// Upper bounds of the histogram, seconds.
const BOUNDS: [f64; 8] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.02, 0.1];

/// Counts by task, in the order of [`tasks::NAMES`].
#[derive(Debug, Default)]
pub(super) struct Meter([Counts; tasks::NAMES.len()]);

#[derive(Debug, Default)]
struct Counts {
    said: AtomicU64,
    fallback: AtomicU64,
    drift: AtomicU64,
    refused: AtomicU64,
    within: [AtomicU64; BOUNDS.len()],
    nanoseconds: AtomicU64,
}

impl Meter {
    pub(super) fn count(
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
        counts.nanoseconds.fetch_add(took.as_nanos() as u64, Relaxed);
        let within = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound);
        if let Some(bound) = within {
            counts.within[bound].fetch_add(1, Relaxed);
        }
    }

    /// Prometheus' text form.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut counter = |name: &str, help: &str, of: &dyn Fn(&Counts) -> u64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (task, counts) in tasks::NAMES.iter().zip(&self.0) {
                let _ = writeln!(text, "{name}{{task=\"{task}\"}} {}", of(counts));
            }
        };
        counter("trainer_predictions_total", "Predictions made.", &|c| c.said.load(Relaxed));
        counter("trainer_fallbacks_total", "Predictions by the baseline.", &|c| {
            c.fallback.load(Relaxed)
        });
        counter("trainer_drifts_total", "Predictions from strange inputs.", &|c| {
            c.drift.load(Relaxed)
        });
        counter("trainer_refusals_total", "Predictions that could not be made.", &|c| {
            c.refused.load(Relaxed)
        });
        let name = "trainer_prediction_seconds";
        let _ = writeln!(text, "# HELP {name} Time of a prediction.\n# TYPE {name} histogram");
        for (task, counts) in tasks::NAMES.iter().zip(&self.0) {
            let mut below = 0;
            for (bound, within) in BOUNDS.iter().zip(&counts.within) {
                below += within.load(Relaxed);
                let _ = writeln!(text, "{name}_bucket{{task=\"{task}\",le=\"{bound}\"}} {below}");
            }
            let (count, seconds) =
                (counts.said.load(Relaxed), counts.nanoseconds.load(Relaxed) as f64 / 1e9);
            let _ = writeln!(text, "{name}_bucket{{task=\"{task}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(text, "{name}_sum{{task=\"{task}\"}} {seconds}");
            let _ = writeln!(text, "{name}_count{{task=\"{task}\"}} {count}");
        }
        text
    }
}
