//! The decoded content of a mapped message.

use telemetry::{DeadLetterReason, ReportSource, SensorReading, SensorReport, SmolStr, ZoneId};

use super::ReadingRefusal;
use crate::message::InboundMessage;

/// The decoded content of a mapped message; empty for metadata and states.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct MappedMessage {
    /// The device whose account in the ledger the message's readings belong to.
    pub(crate) owner: Option<(ZoneId, SmolStr)>,
    /// One report for each device and source, each within the limit of readings.
    pub(crate) reports: Vec<SensorReport>,
    /// Readings that could not be decoded, each with the reason.
    pub(crate) rejected_readings: Vec<ReadingRefusal>,
    /// Messages to publish in response.
    pub(crate) publish: Vec<ReplyMessage>,
}

/// A message that a convention publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplyMessage {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// The device and source of a reading.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReadingOrigin {
    pub(super) zone: ZoneId,
    pub(super) device: SmolStr,
    pub(super) source: ReportSource,
}

impl ReadingOrigin {
    /// Derives the origin from a message that is live, or retained and therefore not new.
    pub(super) fn from_message(zone: ZoneId, device: SmolStr, message: &InboundMessage) -> Self {
        let source = if message.is_retained { ReportSource::Retained } else { ReportSource::Live };
        Self { zone, device, source }
    }
}

impl MappedMessage {
    /// Creates the content of a message without readings, such as metadata.
    pub(super) fn without_readings() -> Self {
        Self::default()
    }

    /// Creates the content of a message that cannot be decoded.
    pub(super) fn from_refusal(refusal: ReadingRefusal) -> Self {
        Self { rejected_readings: vec![refusal], ..Self::default() }
    }

    /// Sets the message's account. The default is that of the first report.
    pub(super) fn with_owner(mut self, zone: &ZoneId, device: &SmolStr) -> Self {
        self.owner = Some((zone.clone(), device.clone()));
        self
    }

    /// Adds a reading to the report of its origin, with at most `readings_max` readings.
    pub(super) fn add_reading(
        &mut self,
        origin: &ReadingOrigin,
        reading: SensorReading,
        message: &InboundMessage,
        readings_max: usize,
    ) {
        let ReadingOrigin { zone, device, source } = origin;
        let same = self.reports.iter_mut().find(|report| {
            report.zone == *zone
                && report.device == *device
                && report.source == *source
                && report.readings.len() < readings_max
        });
        if let Some(report) = same {
            report.readings.push(reading);
            return;
        }
        if self.owner.is_none() {
            self.owner = Some((zone.clone(), device.clone()));
        }
        self.reports.push(SensorReport {
            zone: zone.clone(),
            device: device.clone(),
            boot: None,
            seq: None,
            arrival_ms: message.received_ms,
            source: *source,
            readings: vec![reading],
        });
    }

    /// Summarises why readings were rejected, for the dead letter: the first reason, and all
    /// details that fit.
    pub(crate) fn summarize_rejected(&self) -> Option<(DeadLetterReason, String)> {
        /// Longest summary, bytes. A dead letter carries it as a header, and there may be a
        /// hundred equal refusals.
        const DETAIL_BYTES_MAX: usize = 2048;
        let (reason, _) = self.rejected_readings.first()?;
        let mut detail = String::new();
        for (i, (_, what)) in self.rejected_readings.iter().enumerate() {
            if detail.len() + what.len() > DETAIL_BYTES_MAX {
                if i == 0 {
                    detail.push_str(&what[..what.floor_char_boundary(DETAIL_BYTES_MAX)]);
                } else {
                    let more = (self.rejected_readings.len() - i).to_string();
                    detail.extend(["; and ", &more, " more"]);
                }
                break;
            }
            let separator = if i == 0 { "" } else { "; " };
            detail.push_str(separator);
            detail.push_str(what);
        }
        Some((*reason, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_bounded() {
        let refuse = |len: usize, count: usize| {
            let rejected = vec![(DeadLetterReason::Malformed, "ü".repeat(len)); count];
            MappedMessage { rejected_readings: rejected, ..MappedMessage::default() }
                .summarize_rejected()
                .unwrap()
                .1
        };
        assert_eq!(refuse(2, 2), "üü; üü");
        assert!(refuse(100, 1_000).ends_with("; and 990 more"));
        assert_eq!(refuse(5_000, 3).len(), 2048);
        assert_eq!(MappedMessage::without_readings().summarize_rejected(), None);
    }
}
