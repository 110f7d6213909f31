use std::collections::BTreeMap;

use models::{
    Predictor,
    detect::{
        FittedDetector,
        sensor_faults::{FaultKind, NormalProfile},
    },
};
use ndarray::Axis;
use serde::{Deserialize, Serialize};
use telemetry::ZoneId;

use super::{MinuteSeries, anomaly_metrics, series_key};
use crate::feature_frame::ZoneFrame;

/// What serving keeps with a detector.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnomalyServing {
    /// Of each series, by `site/zone metric`.
    pub scales: BTreeMap<String, NormalProfile>,
    /// Says which channel of a minute is the most unusual, and so which kind of
    /// fault it looks like.
    pub kinds: FittedDetector,
    /// The score that raises an alarm.
    pub alarm: f64,
    /// Between these lie 90 % of the scores of usual minutes.
    pub usual: (f64, f64),
}

/// A score of a zone: its most unusual metric.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyScore {
    /// The metric.
    pub metric: String,
    /// In multiples of the alarm.
    pub value: f64,
    /// What it looks like, from an alarm on.
    pub fault: Option<FaultKind>,
}

/// Scores the newest minute of each metric in the last hours of a zone.
#[must_use]
pub fn score_zone(
    zone: &ZoneId,
    frame: &ZoneFrame,
    serving: &AnomalyServing,
    model: &Predictor,
) -> Option<AnomalyScore> {
    let scores = anomaly_metrics(frame).into_iter().filter_map(|metric| {
        let series = MinuteSeries::from_frame(frame, &metric)?;
        let rows = serving.scales.get(&series_key(zone, &metric))?.rarity_rows(&series.values);
        let newest = rows.rows().into_iter().next_back()?;
        let value = model.predict(newest.insert_axis(Axis(0)))[0] / serving.alarm;
        let parts = serving.kinds.input_scores(newest);
        let fault =
            parts.filter(|_| value >= 1.0).map(|parts| FaultKind::from_channels(&parts.to_vec()));
        value.is_finite().then_some(AnomalyScore { metric, value, fault })
    });
    scores.max_by(|a, b| a.value.total_cmp(&b.value))
}
