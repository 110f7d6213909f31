//! The latest row of each zone, in memory: the online read path never asks
//! DuckDB, and writes a row as JSON once, when it is first asked for.
//!
//! # Layout
//! - `latest`: a row, and its JSON; `names`: what is the same for all rows of a
//!   schema

mod feature_index;
mod online_row;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::Serialize;
use telemetry::{SmolStr, ZoneId};
use tokio::sync::broadcast;
use utoipa::ToSchema;

pub(crate) use feature_index::FeatureIndex;
pub use online_row::OnlineRow;

use crate::engine::{FeatureRow, ZoneProgress, catalog::FeatureRowSchema};

/// Rows that a slow subscriber may be behind before it loses some.
const EVENTS_BEHIND_MAX: usize = 1024;

/// How sure a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowStatus {
    /// At the newest event time; readings of that time may still come.
    Provisional,
    /// The watermark has passed it.
    Final,
}

impl RowStatus {
    /// As JSON has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Final => "final",
        }
    }
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
    /// Devices whose clocks are off by a constant, and how far they are ahead of the gateway's,
    /// ms; below 0: behind.
    pub clock_offsets: Vec<(SmolStr, i64)>,
}

/// All zones. Whoever reads one waits for nobody but whoever writes that one, and
/// that for no longer than a pointer is set.
#[derive(Debug)]
pub(crate) struct OnlineStore {
    /// Written only when a zone is first seen.
    zones: RwLock<HashMap<ZoneId, Arc<ZoneSlot>>>,
    /// Of the newest schema.
    names: RwLock<Option<Arc<FeatureIndex>>>,
    events: broadcast::Sender<Arc<FeatureRow>>,
}

/// What is known of a zone, and its newest row once there is one.
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

    /// Serves a zone no longer.
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
        // Nobody listening is fine.
        let _ = self.events.send(row);
    }

    /// Every zone, by name.
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

    /// The names of a schema, made once.
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
