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
mod judged;
mod usual;

use super::{ConformalTails, Detector};

pub use channels::{CHANNELS, Channels, PAST_MIN};
pub use fault::{Fault, Kind, inject};
pub use judged::{Judged, OfKind, Verdict};
pub use usual::Usual;

/// Drifts and odd levels are what rooms do by nature: they count for half, or
/// they would raise many of the alarms. Chosen, as the power of
/// [`ConformalTails`], on faults put into 28 August of the building data, the
/// day before those that detectors are judged on.
const WEIGHTS: [f64; CHANNELS.len()] = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5];

/// Every detector of rows, the one with weights for these channels among them.
#[must_use]
pub fn detectors() -> Vec<Box<dyn Detector>> {
    let weighted = |own: Box<dyn Detector>| -> Box<dyn Detector> {
        if own.name() == ConformalTails::NAME {
            Box::new(ConformalTails { weights: &WEIGHTS })
        } else {
            own
        }
    };
    super::detectors().into_iter().map(weighted).collect()
}
