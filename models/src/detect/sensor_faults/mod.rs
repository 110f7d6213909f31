//! Detection of sensor faults in a series with one value a minute.
//!
//! # Layout
//! - `channels`: seven numbers per minute, from past values, in which faults show
//! - `normal_profile`: the rarity of each channel for one sensor
//! - `fault`: kinds of faults, and injected faults, whose labels are known
//! - `fault_evaluation`: how well scores detect injected faults
//!
//! A detector of rows ([`all_detectors`]) combines the seven rarities into one score.

mod channels;
mod fault;
mod fault_evaluation;
mod normal_profile;

use super::{AnomalyDetector, ConformalTails};

pub use channels::{CHANNELS, FaultChannels, PAST_MIN};
pub use fault::{FaultKind, InjectedFault, inject_faults};
pub use fault_evaluation::{FaultEvaluation, FaultKindScore, FaultedSeries};
pub use normal_profile::NormalProfile;

/// Weights of the channels. Drifts and unusual levels occur naturally in rooms: they count for
/// half, or they would raise many of the alarms. The weights, like the power of [`ConformalTails`],
/// were selected with faults injected into 28 August of the building data, the day before those of
/// the evaluation.
const WEIGHTS: [f64; CHANNELS.len()] = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5];

/// All detectors of rows, including the one with weights for these channels.
#[must_use]
pub fn all_detectors() -> Vec<Box<dyn AnomalyDetector>> {
    let weighted = |detector: Box<dyn AnomalyDetector>| -> Box<dyn AnomalyDetector> {
        if detector.name() == ConformalTails::NAME {
            Box::new(ConformalTails { weights: &WEIGHTS })
        } else {
            detector
        }
    };
    super::all_detectors().into_iter().map(weighted).collect()
}
