//! The place where alerts are kept.

use std::fmt::Debug;

use telemetry::ZoneId;

use crate::{
    alert::{ActiveAlert, AlertId, PastAlert},
    notify::outbox::OutboxMessage,
};

/// How far a zone has been evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneCursor {
    /// The zone.
    pub zone: ZoneId,
    /// Event time of the newest feature row that was evaluated, UTC ms.
    pub evaluated_ms: Option<i64>,
    /// Event time of the newest anomaly score that was evaluated, UTC ms.
    pub anomalies_ms: Option<i64>,
    /// Event time of the newest live reading, UTC ms; `None` for a zone of recordings.
    pub live_ms: Option<i64>,
}

impl ZoneCursor {
    /// The cursor of a zone of which nothing has been evaluated.
    #[must_use]
    pub const fn new(zone: ZoneId) -> Self {
        Self { zone, evaluated_ms: None, anomalies_ms: None, live_ms: None }
    }
}

/// All that is needed to go on after a restart.
#[derive(Clone, Debug, Default)]
pub struct StoredAlerts {
    /// Alerts that have not ended.
    pub active: Vec<ActiveAlert>,
    /// How far each zone has been evaluated.
    pub cursors: Vec<ZoneCursor>,
    /// Messages that are not delivered, in the order in which they were queued.
    pub outbox: Vec<OutboxMessage>,
}

/// Changes that are stored together, or not at all. So an alert, the position from which it was
/// found and the message about it never disagree.
#[derive(Clone, Debug, Default)]
pub struct AlertBatch {
    /// Active alerts, new or changed.
    pub active: Vec<ActiveAlert>,
    /// Alerts that are no longer active.
    pub ended: Vec<AlertId>,
    /// Ended alerts for the history.
    pub past: Vec<PastAlert>,
    /// Cursors, new or changed.
    pub cursors: Vec<ZoneCursor>,
    /// Messages to deliver.
    pub queued: Vec<OutboxMessage>,
    /// Messages, by id and receiver, that need no delivery any more.
    pub settled: Vec<(String, String)>,
}

impl AlertBatch {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
            && self.ended.is_empty()
            && self.past.is_empty()
            && self.cursors.is_empty()
            && self.queued.is_empty()
            && self.settled.is_empty()
    }
}

/// Selects past alerts, newest end first.
#[derive(Clone, Debug, Default)]
pub struct AlertHistoryQuery {
    /// Only this site.
    pub site: Option<String>,
    /// Only this zone.
    pub zone: Option<ZoneId>,
    /// Only this rule.
    pub rule: Option<String>,
    /// Earliest end, UTC ms, included.
    pub from_ms: Option<i64>,
    /// Latest end, UTC ms, included.
    pub to_ms: Option<i64>,
    /// Number of alerts to leave out.
    pub offset: u64,
    /// Largest number of alerts.
    pub limit: u64,
}

/// A failure of the store, described by it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AlertStoreError(pub String);

/// Keeps alerts across restarts. Calls block.
pub trait AlertStore: Debug + Send + Sync {
    /// Reads everything that is needed to go on.
    ///
    /// # Errors
    /// Where the store fails.
    fn load_alerts(&self) -> Result<StoredAlerts, AlertStoreError>;

    /// Stores a batch, all of it or nothing.
    ///
    /// # Errors
    /// Where the store fails; the same batch can be stored again.
    fn save_batch(&self, batch: &AlertBatch) -> Result<(), AlertStoreError>;

    /// Reads past alerts.
    ///
    /// # Errors
    /// Where the store fails.
    fn read_past_alerts(
        &self,
        query: &AlertHistoryQuery,
    ) -> Result<Vec<PastAlert>, AlertStoreError>;

    /// Deletes past alerts that ended before `before_ms`, and the oldest beyond `past_max`.
    ///
    /// # Errors
    /// Where the store fails.
    fn trim_history(&self, before_ms: i64, past_max: u64) -> Result<(), AlertStoreError>;
}
