use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use telemetry::ZoneId;

use super::Prediction;
use crate::anomaly;

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
    pub fn of_zone(&self, zone: &ZoneId) -> ZonePredictions {
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

    /// Forgets zones that no longer exist.
    pub(crate) fn retain_zones(&self, zones: &[ZoneId]) {
        let zones: HashSet<&ZoneId> = zones.iter().collect();
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        own.retain(|zone, _| zones.contains(zone));
    }
}
