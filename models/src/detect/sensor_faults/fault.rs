use std::ops::Range;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::channels::CHANNELS;

/// Kind of sensor fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// One to three minutes far from the correct value.
    Spike,
    /// The same value over and over.
    Stuck,
    /// An error that grows with every minute.
    Drift,
    /// A random error in each minute.
    Noise,
    /// No value.
    Dropout,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Spike, Self::Stuck, Self::Drift, Self::Noise, Self::Dropout];

    /// Name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Stuck => "stuck",
            Self::Drift => "drift",
            Self::Noise => "noise",
            Self::Dropout => "dropout",
        }
    }

    /// Kind that the most unusual channel of a minute indicates. `parts` are in the order of
    /// [`CHANNELS`].
    ///
    /// # Panics
    /// The number of parts differs from the number of channels.
    #[must_use]
    pub fn from_channels(parts: &[f64]) -> Self {
        const INDICATES: [FaultKind; CHANNELS.len()] = [
            FaultKind::Dropout,
            FaultKind::Stuck,
            FaultKind::Spike,
            FaultKind::Spike,
            FaultKind::Noise,
            FaultKind::Drift,
            FaultKind::Drift,
        ];
        assert_eq!(parts.len(), CHANNELS.len(), "one part per channel");
        let largest = (0..parts.len()).fold(0, |a, b| if parts[b] > parts[a] { b } else { a });
        INDICATES[largest]
    }
}

/// Fault that was injected into a series.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectedFault {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Minutes that have the fault.
    pub minutes: Range<usize>,
}

/// Minutes per segment.
const SEGMENT: usize = 60;
/// Share of segments that get a fault.
const SHARE: f64 = 0.05;
/// Smallest share of values that a segment needs to get a fault.
const PRESENT_MIN: f64 = 0.9;

/// Injects a fault into 5 % of the nearly complete hours of a series, at random, each of the five
/// kinds with equal probability, and returns the faults. `spread` is the spread of the series'
/// values ([`NormalProfile::spread`](super::NormalProfile::spread)):
///
/// - spike: 1 to 3 minutes with an error of 1 to 3 spreads
/// - the others: 40 to 60 minutes within the hour;
///   - stuck: the first value of the fault is repeated
///   - drift: an error that grows each minute, to 0.5 to 2 spreads
///   - noise: normal, with a standard deviation of 0.1 to 0.5 spreads
///   - dropout: no values
#[must_use]
pub fn inject_faults(values: &mut [f64], spread: f64, seed: u64) -> Vec<InjectedFault> {
    let mut rng = Pcg64::seed_from_u64(seed);
    let complete = |start: &usize| {
        let finite = values[*start..*start + SEGMENT].iter().filter(|value| value.is_finite());
        finite.count() as f64 >= PRESENT_MIN * SEGMENT as f64
    };
    let all_starts = (0..values.len() / SEGMENT).map(|segment| segment * SEGMENT);
    let mut starts: Vec<usize> = all_starts.filter(complete).collect();
    // Where 5 % is not a whole number, it is rounded at random, so that short series have 5 % on
    // average.
    let wanted = (starts.len() as f64 * SHARE + rng.random_range(0.0..1.0)) as usize;
    starts.shuffle(&mut rng);
    starts.truncate(wanted);
    starts.sort_unstable();
    starts.into_iter().map(|start| inject_fault(values, start, spread, &mut rng)).collect()
}

fn inject_fault(values: &mut [f64], start: usize, spread: f64, rng: &mut Pcg64) -> InjectedFault {
    let kind = FaultKind::ALL[rng.random_range(0..FaultKind::ALL.len())];
    let length =
        if kind == FaultKind::Spike { rng.random_range(1..=3) } else { rng.random_range(40..=60) };
    let first = start + rng.random_range(0..=SEGMENT - length);
    let minutes = first..first + length;
    let sign = if rng.random() { spread } else { -spread };
    let (spike, drift, noise) =
        (rng.random_range(1.0..3.0), rng.random_range(0.5..2.0), rng.random_range(0.1..0.5));
    let affected = &mut values[minutes.clone()];
    let held = affected.iter().copied().find(|value| value.is_finite()).unwrap_or(f64::NAN);
    for (number, value) in affected.iter_mut().enumerate() {
        let progress = (number + 1) as f64 / length as f64;
        let chance: f64 = StandardNormal.sample(rng);
        match kind {
            FaultKind::Spike => *value += sign * spike,
            // A sensor that sends nothing is not stuck.
            FaultKind::Stuck if value.is_nan() => {}
            FaultKind::Stuck => *value = held,
            FaultKind::Drift => *value += sign * drift * progress,
            FaultKind::Noise => *value += spread * noise * chance,
            FaultKind::Dropout => *value = f64::NAN,
        }
    }
    InjectedFault { kind, minutes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hour_in_twenty_has_a_fault_and_the_rest_is_as_it_was() {
        let usual: Vec<f64> = (0..200_000).map(|m| f64::from(m % 977)).collect();
        let mut faulty = usual.clone();
        let faults = inject_faults(&mut faulty, 300.0, 1);
        let hours = usual.len() / SEGMENT;
        assert!((hours / 20..=hours / 20 + 1).contains(&faults.len()), "{}", faults.len());
        let mut inside = vec![false; usual.len()];
        for fault in &faults {
            inside[fault.minutes.clone()].fill(true);
            let changed = fault.minutes.clone().filter(|m| faulty[*m] != usual[*m]).count();
            assert!(changed + 1 >= fault.minutes.len(), "{fault:?}");
        }
        let same = |m: &usize| faulty[*m] == usual[*m];
        assert!((0..usual.len()).filter(|m| !inside[*m]).all(|m| same(&m)));
        for kind in FaultKind::ALL {
            let share = faults.iter().filter(|f| f.kind == kind).count() as f64;
            assert!(share > 0.1 * faults.len() as f64, "{kind:?}");
        }
        let mut again = usual.clone();
        assert_eq!(inject_faults(&mut again, 300.0, 1), faults, "the same seed");
        assert_ne!(inject_faults(&mut again, 300.0, 2), faults);
    }

    #[test]
    fn hours_without_values_are_left_alone() {
        let mut silent = vec![f64::NAN; 60_000];
        assert_eq!(inject_faults(&mut silent, 1.0, 1), []);
        assert_eq!(inject_faults(&mut [1.0; 59], 1.0, 1), []);
    }

    #[test]
    fn the_most_unusual_channel_names_the_kind() {
        let check = |channel: &str, expect: FaultKind| {
            let mut parts = [1.0; CHANNELS.len()];
            parts[CHANNELS.iter().position(|other| *other == channel).unwrap()] = 2.0;
            assert_eq!(FaultKind::from_channels(&parts), expect, "{channel}");
        };
        check("silent", FaultKind::Dropout);
        check("unchanged", FaultKind::Stuck);
        check("residual", FaultKind::Spike);
        check("roughness", FaultKind::Noise);
        check("drift", FaultKind::Drift);
    }
}
