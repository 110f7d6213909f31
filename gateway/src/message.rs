//! A PUBLISH as received.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use telemetry::SmolStr;

/// An MQTT PUBLISH as received.
#[derive(Clone, Debug)]
pub(crate) struct InboundMessage {
    pub(crate) topic: SmolStr,
    pub(crate) payload: Bytes,
    /// Whether it is a retained message: the last value, repeated by the broker.
    pub(crate) is_retained: bool,
    /// Whether the sender flags it as sent before (MQTT's DUP flag).
    pub(crate) is_redelivery: bool,
    /// Arrival time, UTC milliseconds.
    pub(crate) received_ms: i64,
}

/// Returns the current time, UTC milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
