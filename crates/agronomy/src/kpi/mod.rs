//! KPIs of a zone by the hour and by the local day, as gold tables hold them.
//!
//! Everything is mergeable: a day is its merged hours. Periods are half open, [start, end), so
//! that a reading at midnight belongs to the new day.
//!
//! # Layout
//! In the order in which a reading meets them:
//! - `period`: hours and local days, including those of 23 and 25 hours
//! - `moments`: n, mean, M2, min, max
//! - `duration`: for how long a state was on: light, presence
//! - `metric_tally`: one metric over one period
//! - `score`: comfort and data quality, 0–100
//! - `zone_kpis`: all metrics of a zone: [`ZoneTally`] and its [`PeriodKpis`]

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

/// One reading with its quality flag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Event time, ms since 1970.
    pub event_ms: i64,
    /// Value in the metric's unit.
    pub value: f64,
    /// Quality flag. Flagged readings are counted, but enter no statistics.
    pub quality: telemetry::QualityFlag,
}
