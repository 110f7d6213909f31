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
//! - `zone`: all metrics of a zone: [`ZoneTally`] and its [`PeriodKpis`]

mod duration;
mod metric_tally;
mod moments;
mod period;
mod score;
mod zone_kpis;

pub use self::{
    duration::StateDuration,
    metric_tally::{MetricKpis, MetricTally},
    moments::ValueMoments,
    period::TimePeriod,
    score::ComfortBand,
    zone_kpis::{KpiRules, KpiRulesError, PeriodKpis, ZoneTally},
};

/// One judged reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Event time, ms since 1970.
    pub event_ms: i64,
    /// In the metric's unit.
    pub value: f64,
    /// Flagged readings are counted, and nothing else.
    pub quality: telemetry::QualityFlag,
}
