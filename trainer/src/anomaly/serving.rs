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

/// Facts that serving needs besides the detector.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnomalyServing {
    /// Profile of each series, by `site/zone metric`.
    pub scales: BTreeMap<String, NormalProfile>,
    /// Finds the most unusual channel of a minute, and so the kind of fault that it resembles.
    pub kinds: FittedDetector,
    /// Score that raises an alarm.
    pub alarm: f64,
    /// Range of 90 % of the scores of normal minutes.
    pub usual: (f64, f64),
}

/// Score of a zone: that of its most unusual metric.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyScore {
    /// Most unusual metric.
    pub metric: String,
    /// Score in multiples of the alarm.
    pub value: f64,
    /// Kind of fault that it resembles, if the score is an alarm.
    pub fault: Option<FaultKind>,
}

/// Score of a zone at one minute of the past.
#[derive(Clone, Debug, PartialEq)]
pub struct PastAnomalyScore {
    /// Event time of the minute, UTC ms.
    pub at_ms: i64,
    /// Its score.
    pub score: AnomalyScore,
}

/// Scores every minute of a frame that has a value, oldest first; of several metrics the most
/// unusual one counts. The first hours of a frame have less of a past than the detector expects.
#[must_use]
pub fn score_past_minutes(
    zone: &ZoneId,
    frame: &ZoneFrame,
    serving: &AnomalyServing,
    model: &Predictor,
) -> Vec<PastAnomalyScore> {
    let mut found: BTreeMap<i64, AnomalyScore> = BTreeMap::new();
    for metric in anomaly_metrics(frame) {
        let Some(series) = MinuteSeries::from_frame(frame, &metric) else { continue };
        let Some(profile) = serving.scales.get(&series_key(zone, &metric)) else { continue };
        let rows = profile.rarity_rows(&series.values);
        for (minute, score) in model.predict(rows.view()).iter().enumerate() {
            let value = score / serving.alarm;
            let at_ms = series.at_ms(minute);
            let is_less = found.get(&at_ms).is_some_and(|known| known.value >= value);
            if !value.is_finite() || is_less {
                continue;
            }
            let parts = (value >= 1.0).then(|| serving.kinds.input_scores(rows.row(minute)));
            let fault = parts.flatten().map(|parts| FaultKind::from_channels(&parts.to_vec()));
            found.insert(at_ms, AnomalyScore { metric: metric.clone(), value, fault });
        }
    }
    found.into_iter().map(|(at_ms, score)| PastAnomalyScore { at_ms, score }).collect()
}

/// Scores the latest minute of each metric in the last hours of a zone.
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
