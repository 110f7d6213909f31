//! The KPIs of a zone, by the hour and by the local day: what gold tables hold.
//!
//! Everything is mergeable: a day is the merged hours of it. Periods are half
//! open, [start, end), so that a reading at midnight belongs to the new day.
//!
//! # Layout
//! In the order in which a reading meets them:
//! - `period`: hours and local days, of 23 and 25 hours too
//! - `moments`: n, mean, M2, min, max
//! - `held`: for how long something was so: light, presence
//! - `tally`: one metric over one period
//! - `score`: comfort and data quality, 0–100
//! - `zone`: all metrics of a zone: [`ZoneTally`] and its [`Kpis`]

mod held;
mod moments;
mod period;
mod score;
mod tally;
mod zone;

pub use self::{
    held::Held,
    moments::Moments,
    period::Period,
    score::Band,
    tally::{MetricKpis, Tally},
    zone::{Kpis, Rules, RulesError, ZoneTally},
};

/// One judged reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Event time, ms since 1970.
    pub event_ms: i64,
    /// In the metric's unit.
    pub value: f64,
    /// Flagged readings are counted, and nothing else.
    pub quality: telemetry::Quality,
}
