use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::MoisturePoint;

/// Number of differences that are remembered; their median is taken.
const MEMORY: usize = 63;
/// Fewest steps from which a quantum is inferred. Fewer may be multiples of one value by chance.
const STEPS_MIN: usize = 8;
/// Longest span of three readings that shows the sensor's noise, ms. Over a longer one the soil
/// itself curves.
const SPAN_MAX_MS: i64 = 3_600_000;
/// Median of |x| of a standard normal variable.
const NORMAL_MEDIAN: f64 = 0.674_489_750_196_081_7;

/// Estimate of how much a sensor's readings vary while the soil does not: the noise and the step
/// of its converter, from the latest readings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct NoiseEstimate {
    /// The two latest readings, oldest first.
    recent: VecDeque<MoisturePoint>,
    /// |difference| to the previous reading.
    steps: VecDeque<f64>,
    /// |reading − the line between its neighbours|, in standard deviations of
    /// one reading.
    bends: VecDeque<f64>,
}

impl NoiseEstimate {
    pub(super) fn add_reading(&mut self, point: MoisturePoint) {
        if let Some(last) = self.recent.back() {
            let step = (point.pct - last.pct).abs();
            if step > 0.0 {
                push_bounded(&mut self.steps, step);
            }
        }
        if let (Some(a), Some(b)) = (self.recent.front(), self.recent.get(1)) {
            let span_ms = point.ms.saturating_sub(a.ms);
            if span_ms > 0 && span_ms <= SPAN_MAX_MS {
                let share = (b.ms - a.ms) as f64 / span_ms as f64;
                let bend = b.pct - (a.pct + (point.pct - a.pct) * share);
                let variance = 1.0 + share * share + (1.0 - share) * (1.0 - share);
                push_bounded(&mut self.bends, bend.abs() / variance.sqrt());
            }
        }
        if self.recent.len() == 2 {
            self.recent.pop_front();
        }
        self.recent.push_back(point);
    }

    /// Standard deviation of a reading, %; 0 until there are enough readings. The median makes it
    /// robust to waterings and spikes. Sources: P. J. Rousseeuw, C. Croux, "Alternatives to the
    /// median absolute deviation", JASA 88, 1993; second differences after T. Gasser, L. Sroka, C.
    /// Jennen-Steinmetz, "Residual variance and residual pattern in nonlinear regression",
    /// Biometrika 73(3), 1986.
    pub(super) fn sigma_pct(&self) -> f64 {
        if self.bends.len() < MEMORY / 2 { 0.0 } else { upper_median(&self.bends) / NORMAL_MEDIAN }
    }

    /// Step of a coarse converter, %: the smallest step seen, if all others are multiples of it;
    /// else 0.
    pub(super) fn quantum_pct(&self) -> f64 {
        if self.steps.len() < STEPS_MIN {
            return 0.0;
        }
        let smallest = self.steps.iter().copied().fold(f64::INFINITY, f64::min);
        let is_multiple = |step: &f64| {
            let times = step / smallest;
            (times - times.round()).abs() < 0.01
        };
        if self.steps.iter().all(is_multiple) { smallest } else { 0.0 }
    }
}

/// Middle value, the upper one of two; 0 if there are no values.
pub(super) fn upper_median(values: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn push_bounded(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == MEMORY {
        values.pop_front();
    }
    values.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> NoiseEstimate {
        let mut noise = NoiseEstimate::default();
        for (i, pct) in values.into_iter().enumerate() {
            noise.add_reading(MoisturePoint { ms: i as i64 * 60_000, pct });
        }
        noise
    }

    #[test]
    fn a_straight_line_is_not_noise_however_steep() {
        assert!(of((0..50).map(|i| 50.0 - f64::from(i))).sigma_pct() < 1e-12);
    }

    #[test]
    fn noise_is_measured_through_waterings() {
        // Sums of four uniform values on ±1 are nearly normal, with a standard deviation of 1.155.
        // A watering of 40 % follows every 500 readings.
        let mut seed = 7_u64;
        let mut uniform = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            2.0 * ((seed >> 11) as f64 / (1_u64 << 53) as f64) - 1.0
        };
        let (mut noise, mut sigmas) = (NoiseEstimate::default(), Vec::new());
        for i in 0..20_000_i64 {
            let level = 20.0 + 40.0 * (i / 500 % 2) as f64;
            let pct = level + (0..4).map(|_| uniform()).sum::<f64>();
            noise.add_reading(MoisturePoint { ms: i * 60_000, pct });
            sigmas.push(noise.sigma_pct());
        }
        let known = &sigmas[100..];
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        assert!((mean / 1.155 - 1.0).abs() < 0.1, "{mean}");
        assert!(known.iter().all(|sigma| (0.4..3.0).contains(sigma)));
    }

    #[test]
    fn the_quantum_is_what_all_steps_are_multiples_of() {
        assert_eq!(of((0..60).map(|i| f64::from(i % 5) * 0.5)).quantum_pct(), 0.5);
        let tenths = of((0..60).map(|i| f64::from(i * i % 7) / 10.0)).quantum_pct();
        assert!((tenths - 0.1).abs() < 1e-9, "{tenths}");
        assert_eq!(of([1.0; 60]).quantum_pct(), 0.0, "no step");
        assert_eq!(of([1.0, 2.0, 3.0]).quantum_pct(), 0.0, "too few");
        let smooth = (0..60).map(|i| 50.0 * (-f64::from(i) / 30.0).exp());
        assert_eq!(of(smooth).quantum_pct(), 0.0);
    }
}
