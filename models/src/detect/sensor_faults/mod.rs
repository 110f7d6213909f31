//! Faults of a sensor, looked for in a series of its values, one a minute.
//!
//! # Layout
//! - `channels`: seven numbers a minute that faults show in, from the past
//! - `usual`: how rare each of them is for that sensor
//! - `fault`: the kinds of faults; faults put into series, so that labels are known
//! - `judged`: how well scores find them
//!
//! A detector of rows ([`detectors`]) then makes one score of the seven.

mod channels;
mod fault;
mod fault_evaluation;
mod normal_profile;

use super::{AnomalyDetector, ConformalTails};

pub use channels::{CHANNELS, FaultChannels, PAST_MIN};
pub use fault::{FaultKind, InjectedFault, inject_faults};
pub use fault_evaluation::{FaultEvaluation, FaultKindScore, FaultedSeries};
pub use normal_profile::NormalProfile;

/// Drifts and odd levels are what rooms do by nature: they count for half, or
/// they would raise many of the alarms. Chosen, as the power of
/// [`ConformalTails`], on faults put into 28 August of the building data, the
/// day before those that detectors are judged on.
const WEIGHTS: [f64; CHANNELS.len()] = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5];

/// Every detector of rows, the one with weights for these channels among them.
#[must_use]
pub fn all_detectors() -> Vec<Box<dyn AnomalyDetector>> {
    let weighted = |own: Box<dyn AnomalyDetector>| -> Box<dyn AnomalyDetector> {
        if own.name() == ConformalTails::NAME {
            Box::new(ConformalTails { weights: &WEIGHTS })
        } else {
            own
        }
    };
    super::all_detectors().into_iter().map(weighted).collect()
}
