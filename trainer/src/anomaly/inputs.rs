//! A series of minutes, and a detector's inputs made from it.

use std::collections::VecDeque;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::frame::ZoneFrame;

/// The names of a minute's inputs.
pub(super) const NAMES: [&str; 6] = ["residual", "step", "spread", "drift", "unchanged", "silent"];
/// How much of the past the inputs look at, seconds.
pub const HISTORY_S: i64 = 6 * 3600;
/// A value older than this is no measurement of its minute.
const AGE_S_MAX: f64 = 120.0;
/// Minutes of the running median and the spread.
const SHORT: usize = 15;
/// Minutes of the newer mean of the drift.
const HOUR: usize = 60;
/// Minutes of the older mean of the drift.
const LONG: usize = 360;

/// The newest value of each minute; NaN where none is fresh.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Event time, UTC ms.
    pub at_ms: Vec<i64>,
    /// In the metric's unit.
    pub value: Vec<f64>,
}

/// What is usual of a series: inputs are given in these.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// Of a minute's residual, in the metric's unit.
    pub(super) residual: f64,
    /// Of the difference of means, in the metric's unit.
    pub(super) drift: f64,
    /// Of the values themselves, in the metric's unit.
    pub(super) value: f64,
}

impl Series {
    /// The series of a metric, if the frame has it and it has any value.
    #[must_use]
    pub fn of(frame: &ZoneFrame, metric: &str) -> Option<Self> {
        let last = frame.column(&format!("{metric}_last"))?;
        let age_s = frame.column(&format!("{metric}_age_s"))?;
        let value: Vec<f64> = last
            .iter()
            .zip(age_s)
            .map(|(value, age_s)| if *age_s <= AGE_S_MAX { *value } else { f64::NAN })
            .collect();
        let has_any = value.iter().any(|value| value.is_finite());
        has_any.then(|| Self { at_ms: frame.at_ms.clone(), value })
    }

    /// The minutes in [from, to).
    pub(super) fn between(&self, (from_ms, to_ms): (i64, i64)) -> Self {
        let start = self.at_ms.partition_point(|at| *at < from_ms);
        let end = self.at_ms.partition_point(|at| *at < to_ms);
        Self { at_ms: self.at_ms[start..end].to_vec(), value: self.value[start..end].to_vec() }
    }

    /// minutes × inputs, all finite.
    pub(super) fn inputs(&self, scales: &Scales) -> Array2<f64> {
        let mut inputs = Array2::zeros((self.value.len(), NAMES.len()));
        let mut short = VecDeque::new();
        let mut long: VecDeque<f64> = VecDeque::new();
        let (mut unchanged, mut silent) = (0.0_f64, 0.0_f64);
        for (minute, value) in self.value.iter().enumerate() {
            let mut row = inputs.row_mut(minute);
            if value.is_finite() {
                let before = short.back().copied().unwrap_or(*value);
                unchanged = if *value == before { unchanged + 1.0 } else { 0.0 };
                silent = 0.0;
                push(&mut short, *value, SHORT);
                push(&mut long, *value, LONG);
                row[0] = (value - median(&short)) / scales.residual;
                row[1] = (value - before) / scales.residual;
            } else {
                silent += 1.0;
            }
            if short.len() > 2 {
                row[2] = spread(&short) / scales.residual;
            }
            if long.len() > HOUR {
                let newer = mean(long.iter().rev().take(HOUR));
                row[3] = (newer - mean(long.iter().rev().skip(HOUR))) / scales.drift;
            }
            row[4] = unchanged.ln_1p();
            row[5] = silent.ln_1p();
        }
        inputs
    }
}

impl Scales {
    /// What is usual of a series; none where it never moves.
    pub(super) fn of(series: &Series) -> Option<Self> {
        let values: Vec<f64> = series.value.iter().copied().filter(|v| v.is_finite()).collect();
        if values.len() < models::ROWS_MIN {
            return None;
        }
        let value = spread(&values.iter().copied().collect());
        if value <= 1e-9 {
            return None;
        }
        let one = Self { residual: 1.0, drift: 1.0, value };
        let inputs = series.inputs(&one);
        let size = |column: usize| {
            let mut all: Vec<f64> =
                inputs.column(column).iter().map(|v| v.abs()).filter(|v| *v > 0.0).collect();
            all.sort_unstable_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        // A hundredth of the whole spread is where noise begins to matter.
        let floor = value / 100.0;
        Some(Self { residual: size(0).max(floor), drift: size(3).max(floor), value })
    }
}

fn push(values: &mut VecDeque<f64>, value: f64, most: usize) {
    if values.len() == most {
        values.pop_front();
    }
    values.push_back(value);
}

fn median(values: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn mean<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

fn spread(values: &VecDeque<f64>) -> f64 {
    let middle = mean(values.iter());
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (squares / (values.len() - 1).max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(value: impl Fn(usize) -> f64) -> Series {
        let minutes = 0..1000;
        Series {
            at_ms: minutes.clone().map(|m| m as i64 * 60_000).collect(),
            value: minutes.map(value).collect(),
        }
    }

    #[test]
    fn each_fault_shows_in_its_input() {
        let usual = |m: usize| 20.0 + (m as f64 / 60.0).sin() + 0.01 * ((m * 7919) % 13) as f64;
        let scales = Scales::of(&series(usual)).unwrap();
        let clean = series(usual).inputs(&scales);
        let check = |name: &str, faulty: &dyn Fn(usize) -> f64, minute: usize| {
            let input = NAMES.iter().position(|own| *own == name).unwrap();
            let got = series(faulty).inputs(&scales)[(minute, input)].abs();
            let largest = clean.column(input).iter().fold(0.0_f64, |a, v| a.max(v.abs()));
            assert!(got > largest, "{name}: {got}, at most {largest} without the fault");
        };
        check("residual", &|m| usual(m) + if m == 700 { 5.0 } else { 0.0 }, 700);
        check("step", &|m| usual(m) + if m == 700 { 5.0 } else { 0.0 }, 700);
        check("spread", &|m| usual(m) + if m > 690 { (m % 2) as f64 * 2.0 } else { 0.0 }, 700);
        check("unchanged", &|m| if m > 600 { usual(600) } else { usual(m) }, 700);
        check("silent", &|m| if m > 690 { f64::NAN } else { usual(m) }, 700);
        assert!(clean.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn what_never_moves_has_no_scales() {
        assert_eq!(Scales::of(&series(|_| 3.0)), None);
    }
}
