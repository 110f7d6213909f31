use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use service::prometheus::{MetricsPage, format_labels};
use telemetry::ZoneId;

use super::Prediction;
use crate::anomaly;

/// Number of zones with series of their own, so that the page stays small whatever is sent.
const ZONES_IN_METRICS_MAX: usize = 100;

/// The newest predictions of a zone, one a task.
#[derive(Clone, Debug, Default)]
pub struct ZonePredictions {
    /// In the order of tasks; of tasks that apply.
    pub predictions: Arc<[Prediction]>,
    /// Since when the anomaly score has been an alarm without a break, by the event times of
    /// predictions, UTC ms; none while it is none.
    pub anomaly_since_ms: Option<i64>,
}

/// The newest predictions of all zones, as the watch made them: to be shown without being made
/// again.
#[derive(Debug, Default)]
pub struct NewestPredictions(RwLock<HashMap<ZoneId, ZonePredictions>>);

impl NewestPredictions {
    /// Those of a zone; none of one that was not predicted yet.
    #[must_use]
    pub fn for_zone(&self, zone: &ZoneId) -> ZonePredictions {
        let zones = self.0.read().unwrap_or_else(PoisonError::into_inner);
        zones.get(zone).cloned().unwrap_or_default()
    }

    /// Whether a zone was predicted.
    #[must_use]
    pub fn has_zone(&self, zone: &ZoneId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(zone)
    }

    /// Replaces those of a zone.
    pub(crate) fn put(&self, zone: &ZoneId, predictions: Vec<Prediction>) {
        let anomaly = predictions.iter().find(|own| own.task == anomaly::TASK_NAME);
        let alarm = anomaly.filter(|own| own.value >= 1.0 && !own.is_stale);
        let mut zones = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let own = zones.entry(zone.clone()).or_default();
        own.anomaly_since_ms =
            alarm.map(|alarm| own.anomaly_since_ms.unwrap_or(alarm.features_at_ms));
        own.predictions = predictions.into();
    }

    /// Writes the newest predictions of the first zones by name, with their intervals.
    pub(super) fn write_metrics(&self, page: &mut MetricsPage) {
        let zones = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<&ZoneId> = zones.keys().collect();
        names.sort_unstable();
        names.truncate(ZONES_IN_METRICS_MAX);
        let mut gauge = |name: &str, help: &str, of: &dyn Fn(&Prediction) -> Option<f64>| {
            let samples = names.iter().flat_map(|zone| {
                let predictions = zones[*zone].predictions.iter();
                predictions.filter(|own| !own.is_stale).filter_map(|own| {
                    Some((format_labels([("task", &own.task), ("zone", *zone)]), of(own)?))
                })
            });
            page.add_family((name, "gauge", help), samples.collect::<Vec<_>>());
        };
        gauge(
            "prediction",
            "Newest prediction in the task's unit; of anomaly, the score as a multiple of the alarm",
            &|own| Some(own.value),
        );
        let bound =
            |number: usize| move |own: &Prediction| own.interval.map(|bounds| bounds[number]);
        gauge("prediction_interval_low", "Lower bound of its interval", &bound(0));
        gauge("prediction_interval_high", "Upper bound of its interval", &bound(1));
    }

    /// Forgets zones that no longer exist.
    pub(crate) fn retain_zones(&self, zones: &[ZoneId]) {
        let zones: HashSet<&ZoneId> = zones.iter().collect();
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        own.retain(|zone, _| zones.contains(zone));
    }
}
