use std::time::{Duration, Instant};

use models::Predictor;
use ndarray::{Array2, ArrayView2, Axis};

/// Latency of a prediction of one row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowLatency {
    /// Median over the rows, µs.
    pub(crate) p50_us: f64,
    /// 99th percentile over the rows, µs.
    pub(crate) p99_us: f64,
}

/// Largest number of timed rows.
const TIMED_ROWS_MAX: usize = 500;
/// Number of times that each row is timed.
const ROUNDS: usize = 5;
/// Number of untimed predictions that fill the caches and estimate how long a row takes.
const WARM_UP: usize = 20;
/// Longest total time of the measurement; a slow model is timed on fewer rows.
const TIME_MAX: Duration = Duration::from_millis(300);

/// Times single rows, as serving predicts them: one after another, on one thread.
pub(crate) fn measure_latency(predictor: &Predictor, x: ArrayView2<f64>) -> RowLatency {
    if x.nrows() == 0 {
        return RowLatency::default();
    }
    let row = |i: usize| x.select(Axis(0), &[i % x.nrows()]);
    let took_us = |row: &Array2<f64>| time_call_us(|| predictor.predict(row.view()));
    let mut first: Vec<f64> = (0..WARM_UP).map(|i| took_us(&row(i))).collect();
    first.sort_unstable_by(f64::total_cmp);
    let rounds_us = ROUNDS as f64 * first[WARM_UP / 2].max(1e-3);
    let affordable = (TIME_MAX.as_secs_f64() * 1e6 / rounds_us) as usize;
    let rows: Vec<Array2<f64>> = (0..affordable.clamp(WARM_UP, TIMED_ROWS_MAX)).map(row).collect();
    fastest_of_rounds(rows.len(), |i| took_us(&rows[i]))
}

/// Takes of each row the quickest of several rounds. What else the machine does
/// (another process that gets the processor in the middle of a prediction, an
/// interrupt) can only add to a time, and says nothing of the model: on a busy
/// machine it would decide whether a model is served. What makes a row slow by
/// itself, as a deep path through many trees does, is there in every round. All rows
/// have their turn before one comes again, so that none is found in the caches as
/// its own repetition would be. (The thread's own processor time would leave others
/// out too, but to read it is a system call that takes longer than a small model.)
fn fastest_of_rounds(rows: usize, mut took_us: impl FnMut(usize) -> f64) -> RowLatency {
    let mut least = vec![f64::INFINITY; rows];
    for _ in 0..ROUNDS {
        for (row, least) in least.iter_mut().enumerate() {
            *least = least.min(took_us(row));
        }
    }
    least.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| least[rows * percent / 100];
    RowLatency { p50_us: at(50), p99_us: at(99) }
}

fn time_call_us<T>(call: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    std::hint::black_box(call());
    start.elapsed().as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn disturbances_do_not_count_and_slow_rows_do() {
        let mut calls = 0;
        let latency = |slow_from: usize, calls: &mut usize| {
            fastest_of_rounds(100, |row| {
                *calls += 1;
                let disturbed = if calls.is_multiple_of(7) { 5000.0 } else { 0.0 };
                disturbed + if row >= slow_from { 900.0 } else { 3.0 }
            })
        };
        let quick = latency(100, &mut calls);
        assert_eq!((quick.p50_us, quick.p99_us), (3.0, 3.0));
        let slow = latency(99, &mut calls);
        assert_eq!((slow.p50_us, slow.p99_us), (3.0, 900.0));
    }

    /// The gate allows 1,000 µs.
    #[test]
    fn a_quick_model_is_quick_while_four_threads_spin() {
        let stop = AtomicBool::new(false);
        let found = std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let row = || {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_micros(200) {}
            };
            let found = fastest_of_rounds(200, |_| time_call_us(row));
            stop.store(true, Ordering::Relaxed);
            found
        });
        assert!((200.0..1000.0).contains(&found.p99_us), "{found:?}");
    }

    #[test]
    fn no_row_takes_no_time() {
        let model =
            models::FittedRegressor::Constant(models::regressors::constant::ConstantModel {
                value: 1.0,
            });
        let model = Predictor::Regressor(model);
        let latency = |rows| measure_latency(&model, Array2::zeros((rows, 2)).view());
        assert_eq!(latency(0).p99_us, 0.0);
        let one = latency(1);
        assert!(one.p50_us > 0.0 && one.p50_us <= one.p99_us, "{one:?}");
    }
}
