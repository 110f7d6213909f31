use std::time::{Duration, Instant};

use models::Predictor;
use ndarray::{ArrayView2, Axis};

/// How long one row takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    /// The median, microseconds.
    pub(crate) p50_us: f64,
    /// Of a hundred rows the slowest takes longer, microseconds.
    pub(crate) p99_us: f64,
}

const ROWS: usize = 1000;
/// Enough for the caches to know the model.
const WARM_UP: usize = 20;
const TIME_MAX: Duration = Duration::from_millis(300);

/// Times single rows, as serving predicts them: one after another, on one
/// thread, while no model is being fitted.
pub(crate) fn of(predictor: &Predictor, x: ArrayView2<f64>) -> Latency {
    let mut took_us = Vec::with_capacity(ROWS);
    let begin = Instant::now();
    for i in 0..ROWS + WARM_UP {
        if x.nrows() == 0 || (i > WARM_UP && begin.elapsed() > TIME_MAX) {
            break;
        }
        let row = x.select(Axis(0), &[i % x.nrows()]);
        let start = Instant::now();
        std::hint::black_box(predictor.predict(row.view()));
        if i >= WARM_UP {
            took_us.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    took_us.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| took_us.get(took_us.len() * percent / 100).copied();
    Latency { p50_us: at(50).unwrap_or_default(), p99_us: at(99).unwrap_or_default() }
}
