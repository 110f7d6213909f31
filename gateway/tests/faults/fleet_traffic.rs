//! The messages that were sent, and their fate from the sender's view.

use std::collections::BTreeMap;

use serde_json::Value;
use telemetry::SensorReport;

/// One message: its zone and device, as `zone/device`, and its own number among that device's
/// messages, whatever boot and `seq` are. The number is in the payload as the metric [`SERIAL`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageKey {
    pub(crate) device: String,
    pub(crate) serial: u64,
}

/// The metric with the number.
pub(crate) const SERIAL: &str = "light";

/// Returns the message in an MQTT packet; `None` if it is not one of a sender.
pub(crate) fn key_of(topic: &str, payload: &[u8]) -> Option<MessageKey> {
    let mut levels = topic.split('/').skip(1);
    let (_site, zone, device) = (levels.next()?, levels.next()?, levels.next()?);
    let payload: Value = serde_json::from_slice(payload).ok()?;
    Some(MessageKey { device: format!("{zone}/{device}"), serial: payload.get(SERIAL)?.as_u64()? })
}

/// Returns the message in the log.
pub(crate) fn key_of_report(report: &SensorReport) -> Option<MessageKey> {
    let zone = report.zone.to_string();
    let (_site, zone) = zone.split_once('/')?;
    let reading = report.readings.iter().find(|reading| reading.metric == SERIAL)?;
    Some(MessageKey { device: format!("{zone}/{}", report.device), serial: reading.value as u64 })
}

/// The sent and the acknowledged messages of devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct FleetTraffic {
    /// Number of messages. Each counts once, however often it was sent.
    pub(crate) sent: u64,
    /// Number of times that a message was sent again.
    pub(crate) repeats: u64,
    /// Number of times that a device had to reconnect.
    pub(crate) reconnections: u64,
    /// Acknowledged messages by device, in the order of their acknowledgements.
    pub(crate) acknowledged: BTreeMap<String, Vec<u64>>,
    /// Violations: acknowledgements out of order or on another connection.
    pub(crate) violations: Vec<String>,
}

impl FleetTraffic {
    pub(crate) fn acknowledged_keys(&self) -> impl Iterator<Item = MessageKey> {
        self.acknowledged.iter().flat_map(|(device, serials)| {
            serials.iter().map(|&serial| MessageKey { device: device.clone(), serial })
        })
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.repeats += other.repeats;
        self.reconnections += other.reconnections;
        for (device, serials) in other.acknowledged {
            self.acknowledged.entry(device).or_default().extend(serials);
        }
        self.violations.extend(other.violations);
    }
}
