//! The latest row of each zone, in memory: the online read path never asks
//! DuckDB.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::Serialize;
use telemetry::{SmolStr, ZoneId};
use tokio::sync::broadcast;

use crate::engine::{Progress, Row};

/// Rows that a slow subscriber may be behind before it loses some.
const EVENTS_BEHIND_MAX: usize = 1024;

/// How sure a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// At the newest event time; readings of that time may still come.
    Provisional,
    /// The watermark has passed it.
    Final,
}

/// A zone, the metrics it has, and how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneSummary {
    /// The zone.
    pub zone: ZoneId,
    /// By name.
    pub metrics: Vec<SmolStr>,
    /// Its newest event time, UTC ms.
    pub latest_ms: Option<i64>,
    /// The newest time whose row is final, UTC ms.
    pub final_ms: Option<i64>,
}

/// What is known of a zone, and its newest row once there is one.
type Entry = (ZoneSummary, Option<Arc<Row>>);

#[derive(Debug)]
pub(crate) struct Online {
    zones: RwLock<BTreeMap<ZoneId, Entry>>,
    events: broadcast::Sender<Arc<Row>>,
}

impl Default for Online {
    fn default() -> Self {
        Self { zones: RwLock::default(), events: broadcast::channel(EVENTS_BEHIND_MAX).0 }
    }
}

impl Online {
    pub(crate) fn note(&self, zone: &ZoneId, metrics: Vec<SmolStr>, progress: &Progress) {
        let Progress { newest_ms: latest_ms, final_ms, .. } = *progress;
        let summary = ZoneSummary { zone: zone.clone(), metrics, latest_ms, final_ms };
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        match zones.get_mut(zone) {
            Some((known, _)) => *known = summary,
            None => {
                zones.insert(zone.clone(), (summary, None));
            }
        }
    }

    pub(crate) fn put(&self, row: Row) {
        let row = Arc::new(row);
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, latest)) = zones.get_mut(&row.zone) {
            *latest = Some(row.clone());
        }
        drop(zones);
        // Nobody listening is fine.
        let _ = self.events.send(row);
    }

    /// Serves a zone no longer.
    pub(crate) fn forget(&self, zone: &ZoneId) {
        self.zones.write().unwrap_or_else(PoisonError::into_inner).remove(zone);
    }

    pub(crate) fn zones(&self) -> Vec<ZoneSummary> {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        zones.values().map(|(summary, _)| summary.clone()).collect()
    }

    pub(crate) fn latest(&self, zone: &ZoneId) -> Option<Arc<Row>> {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        zones.get(zone)?.1.clone()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Row>> {
        self.events.subscribe()
    }
}
