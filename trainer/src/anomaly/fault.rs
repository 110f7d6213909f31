//! Faults put into a series, and which minutes have them.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::inputs::{Scales, Series};

/// Share of minutes that have a fault.
const SHARE: f64 = 0.05;

/// Puts spike, stuck, drift, noise and dropout into a series, in turn, until
/// about 5 % of its minutes have one; returns which. Sizes are in the series'
/// own spread: a spike 1 to 3 of it, a drift up to 1.5 within hours, noise a
/// third of it.
pub(super) fn inject(series: &mut Series, scales: &Scales, seed: u64) -> Vec<bool> {
    let minutes = series.value.len();
    let mut labels = vec![false; minutes];
    let mut rng = Pcg64::seed_from_u64(seed);
    let wanted = (minutes as f64 * SHARE) as usize;
    let mut kind = rng.random_range(0..5_u32);
    let mut tries = 0;
    while labels.iter().filter(|label| **label).count() < wanted && tries < 10_000 {
        tries += 1;
        kind = (kind + 1) % 5;
        let length: usize = match kind {
            0 => rng.random_range(1..4),
            1 => rng.random_range(30..120),
            2 => rng.random_range(120..360),
            3 => rng.random_range(15..60),
            _ => rng.random_range(10..60),
        };
        if length + 30 >= minutes {
            continue;
        }
        let start = rng.random_range(15..minutes - length);
        // Faults keep apart, so that each stands for itself.
        let around = start.saturating_sub(30)..(start + length + 30).min(minutes);
        if labels[around].contains(&true) {
            continue;
        }
        let size =
            scales.value * rng.random_range(1.0..3.0) * if rng.random() { 1.0 } else { -1.0 };
        let held = series.value[start];
        for i in start..start + length {
            let progress = (i - start) as f64 / length as f64;
            let noise = rng.random_range(-1.0..1.0) + rng.random_range(-1.0..1.0);
            let value = &mut series.value[i];
            match kind {
                0 => *value += size,
                1 => *value = held,
                2 => *value += size / 2.0 * progress,
                3 => *value += noise * scales.value / 3.0,
                _ => *value = f64::NAN,
            }
            labels[i] = true;
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_is_labelled_and_only_that_is_changed() {
        let usual = Series {
            at_ms: (0..10_000).map(|m| m * 60_000).collect(),
            value: (0..10_000).map(|m| 20.0 + f64::from(m) / 1e4).collect(),
        };
        let scales = Scales { residual: 0.1, drift: 0.1, value: 1.0 };
        let mut faulty = usual.clone();
        let labels = inject(&mut faulty, &scales, 1);
        let share = labels.iter().filter(|l| **l).count() as f64 / 1e4;
        assert!((0.05..0.09).contains(&share), "{share}");
        for i in 0..10_000 {
            assert!(labels[i] || faulty.value[i] == usual.value[i], "minute {i}");
        }
        let mut again = usual.clone();
        assert_eq!(inject(&mut again, &scales, 1), labels, "the same seed");
    }
}
