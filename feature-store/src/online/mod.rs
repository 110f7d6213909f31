//! The online store: the latest row of each zone, in memory. A row is encoded as JSON once, at
//! the first request for it.
//!
//! **Invariant:** the online read path never uses DuckDB.
//!
//! # Layout
//! - `online_row`: a row and its JSON
//! - `feature_index`: data that all rows of a schema share

mod feature_index;
mod online_row;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use feature_api::RowStatus;
use telemetry::{SmolStr, ZoneId};
use tokio::sync::broadcast;

pub(crate) use feature_index::FeatureIndex;
pub use online_row::OnlineRow;

use crate::engine::{FeatureRow, ZoneProgress, catalog::FeatureRowSchema};

/// Rows that a subscriber may lag behind before it loses some.
const EVENTS_BEHIND_MAX: usize = 1024;

/// A zone, the metrics it has, and how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneSummary {
    /// The zone.
    pub zone: ZoneId,
    /// Metrics, sorted by name.
    pub metrics: Vec<SmolStr>,
    /// Newest event time, UTC ms.
    pub latest_ms: Option<i64>,
    /// Newest time whose row is final, UTC ms.
    pub final_ms: Option<i64>,
    /// Devices whose clocks are off by a constant, each with how far it is ahead of the gateway's
    /// clock, ms; negative means behind.
    pub clock_offsets: Vec<(SmolStr, i64)>,
}

/// Summaries and latest rows of all zones. A reader of a zone waits only for a writer of the same
/// zone, and only while a pointer is set.
#[derive(Debug)]
pub(crate) struct OnlineStore {
    /// Zones by name; written only when a zone is first seen.
    zones: RwLock<HashMap<ZoneId, Arc<ZoneSlot>>>,
    /// Index of the newest schema.
    names: RwLock<Option<Arc<FeatureIndex>>>,
    events: broadcast::Sender<Arc<FeatureRow>>,
}

/// Summary of a zone, and its newest row once it exists.
#[derive(Debug)]
struct ZoneSlot(RwLock<(ZoneSummary, Option<Arc<OnlineRow>>)>);

impl Default for OnlineStore {
    fn default() -> Self {
        let events = broadcast::channel(EVENTS_BEHIND_MAX).0;
        Self { zones: RwLock::default(), names: RwLock::default(), events }
    }
}

impl OnlineStore {
    pub(crate) fn update_zone(
        &self,
        zone: &ZoneId,
        metrics: Vec<SmolStr>,
        progress: &ZoneProgress,
        clock_offsets: Vec<(SmolStr, i64)>,
    ) {
        let ZoneProgress { newest_ms: latest_ms, final_ms, .. } = *progress;
        let zone_id = zone.clone();
        let summary = ZoneSummary { zone: zone_id, metrics, latest_ms, final_ms, clock_offsets };
        if let Some(slot) = self.find_slot(zone) {
            slot.0.write().unwrap_or_else(PoisonError::into_inner).0 = summary;
        } else {
            let slot = Arc::new(ZoneSlot(RwLock::new((summary, None))));
            let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
            zones.insert(zone.clone(), slot);
        }
    }

    /// Stops serving a zone.
    pub(crate) fn remove_zone(&self, zone: &ZoneId) {
        self.zones.write().unwrap_or_else(PoisonError::into_inner).remove(zone);
    }

    pub(crate) fn put_row(&self, row: FeatureRow) {
        let Some(slot) = self.find_slot(&row.zone) else { return };
        let (names, row) = (self.feature_index(&row.schema), Arc::new(row));
        let latest = Arc::new(OnlineRow::new(row.clone(), names));
        let mut state = slot.0.write().unwrap_or_else(PoisonError::into_inner);
        state.1 = Some(latest);
        drop(state);
        // Fails without subscribers, which is fine.
        let _ = self.events.send(row);
    }

    /// Returns the summaries of all zones, sorted by name.
    pub(crate) fn zone_summaries(&self) -> Vec<ZoneSummary> {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        let mut summaries: Vec<ZoneSummary> = zones
            .values()
            .map(|slot| slot.0.read().unwrap_or_else(PoisonError::into_inner).0.clone())
            .collect();
        drop(zones);
        summaries.sort_unstable_by(|a, b| a.zone.cmp(&b.zone));
        summaries
    }

    /// What is known of one zone.
    pub(crate) fn zone_summary(&self, zone: &ZoneId) -> Option<ZoneSummary> {
        let slot = self.find_slot(zone)?;
        Some(slot.0.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }

    /// The newest row of a zone, and how sure it is.
    pub(crate) fn latest_row(&self, zone: &ZoneId) -> Option<(Arc<OnlineRow>, RowStatus)> {
        let slot = self.find_slot(zone)?;
        let state = slot.0.read().unwrap_or_else(PoisonError::into_inner);
        let latest = state.1.clone()?;
        let is_final = state.0.final_ms.is_some_and(|final_ms| final_ms >= latest.row().at_ms);
        Some((latest, if is_final { RowStatus::Final } else { RowStatus::Provisional }))
    }

    pub(crate) fn subscribe_rows(&self) -> broadcast::Receiver<Arc<FeatureRow>> {
        self.events.subscribe()
    }

    fn find_slot(&self, zone: &ZoneId) -> Option<Arc<ZoneSlot>> {
        self.zones.read().unwrap_or_else(PoisonError::into_inner).get(zone).cloned()
    }

    /// Returns the index of a schema, which is built once.
    pub(crate) fn feature_index(&self, schema: &Arc<FeatureRowSchema>) -> Arc<FeatureIndex> {
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(names) = known.filter(|names| names.is_for_schema(schema)) {
            return names;
        }
        let names = Arc::new(FeatureIndex::new(schema.clone()));
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Some(names.clone());
        names
    }
}
