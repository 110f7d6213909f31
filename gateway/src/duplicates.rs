//! The latest duplicates, which were not logged, for people to inspect.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use telemetry::{SmolStr, ZoneId};
use utoipa::ToSchema;

/// Number of bytes of a payload that are shown.
const SHOWN_BYTES: usize = 1024;

/// A message that was acknowledged but not logged, because its original was logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DuplicateMessage {
    /// Arrival time of this copy, UTC milliseconds.
    pub received_ms: i64,
    /// Arrival time of its original, UTC milliseconds; `None` if that was before this process.
    pub original_ms: Option<i64>,
    /// The device's zone.
    #[schema(value_type = Option<String>)]
    pub zone: Option<ZoneId>,
    /// The device.
    #[schema(value_type = Option<String>)]
    pub device: Option<SmolStr>,
    /// The run of the device, if it names one.
    #[schema(value_type = Option<String>)]
    pub boot: Option<SmolStr>,
    /// The device's sequence number of the message, if it has one.
    pub seq: Option<u64>,
    /// The evidence that it is a copy.
    pub why: String,
    /// Number of its readings.
    pub readings: u64,
    /// The MQTT topic.
    #[schema(value_type = String)]
    pub topic: SmolStr,
    /// The beginning of the payload. Invalid UTF-8 is replaced.
    pub payload: String,
}

/// Returns the beginning of a payload as text.
pub(crate) fn payload_preview(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(SHOWN_BYTES)]).into_owned()
}

/// The latest duplicates, newest first.
#[derive(Debug)]
pub(crate) struct RecentDuplicates {
    shown_max: usize,
    latest: Mutex<VecDeque<DuplicateMessage>>,
}

impl RecentDuplicates {
    pub(crate) fn new(shown_max: usize) -> Self {
        Self { shown_max, latest: Mutex::default() }
    }

    pub(crate) fn add_duplicate(&self, message: DuplicateMessage) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.push_front(message);
        latest.truncate(self.shown_max);
    }

    /// Returns at most `limit` duplicates, newest first, of one device or of all.
    pub(crate) fn latest_duplicates(
        &self,
        device: Option<&str>,
        limit: usize,
    ) -> Vec<DuplicateMessage> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of = |message: &&DuplicateMessage| {
            device.is_none_or(|device| message.device.as_deref() == Some(device))
        };
        latest.iter().filter(is_of).take(limit).cloned().collect()
    }
}
