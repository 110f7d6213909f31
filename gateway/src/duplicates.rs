//! What was judged to be sent again and so was not logged: the latest of it, for people to
//! look at.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use telemetry::{SmolStr, ZoneId};

/// Bytes of a payload that are shown.
const SHOWN_BYTES: usize = 1024;

/// A message that was acknowledged and not logged, because its original was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuplicateMessage {
    /// When this copy arrived, UTC milliseconds.
    pub received_ms: i64,
    /// When its original arrived, UTC milliseconds; none where that was before this process.
    pub original_ms: Option<i64>,
    /// The device's zone.
    pub zone: Option<ZoneId>,
    /// The device.
    pub device: Option<SmolStr>,
    /// The run of the device, where it names one.
    pub boot: Option<SmolStr>,
    /// The device's number of the message, where it has one.
    pub seq: Option<u64>,
    /// What shows that it is a copy.
    pub why: String,
    /// Its readings.
    pub readings: u64,
    /// The MQTT topic.
    pub topic: SmolStr,
    /// The beginning of the payload; what is not UTF-8 is replaced.
    pub payload: String,
}

/// The beginning of a payload as text.
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

    /// At most `limit`, newest first: of a device, or of all.
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
