//! What a message of a mapping said.

use telemetry::{DeadLetterReason, ReportSource, SensorReading, SensorReport, SmolStr, ZoneId};

use super::ReadingRefusal;
use crate::message::InboundMessage;

/// What a message of a mapping said; nothing, for metadata and states.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct MappedMessage {
    /// Whose account in the ledger the message's readings are on.
    pub(crate) owner: Option<(ZoneId, SmolStr)>,
    /// One for each device and source; never with more readings than a
    /// message may have.
    pub(crate) reports: Vec<SensorReport>,
    /// Readings that could not be understood.
    pub(crate) rejected_readings: Vec<ReadingRefusal>,
    /// To be published in answer.
    pub(crate) publish: Vec<ReplyMessage>,
}

/// A message that a convention asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplyMessage {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// Who measured something, and how the reading comes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReadingOrigin {
    pub(super) zone: ZoneId,
    pub(super) device: SmolStr,
    pub(super) source: ReportSource,
}

impl ReadingOrigin {
    /// What arrives now; or a broker's stored last value, which is no new one.
    pub(super) fn from_message(zone: ZoneId, device: SmolStr, message: &InboundMessage) -> Self {
        let source = if message.is_retained { ReportSource::Retained } else { ReportSource::Live };
        Self { zone, device, source }
    }
}

impl MappedMessage {
    /// Metadata that was learnt, or a message that is no reading.
    pub(super) fn without_readings() -> Self {
        Self::default()
    }

    /// A message of which nothing can be understood.
    pub(super) fn from_refusal(refusal: ReadingRefusal) -> Self {
        Self { rejected_readings: vec![refusal], ..Self::default() }
    }

    /// The message's account; without it, the first report's.
    pub(super) fn with_owner(mut self, zone: &ZoneId, device: &SmolStr) -> Self {
        self.owner = Some((zone.clone(), device.clone()));
        self
    }

    /// Adds a reading to the report of its origin, with at most `readings_max`.
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

    /// Why readings were left out, for the dead letter: the first reason, and
    /// all details as far as they fit.
    pub(crate) fn summarize_rejected(&self) -> Option<(DeadLetterReason, String)> {
        /// A dead letter carries its detail as a header; there may be a
        /// hundred refusals that say the same.
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
            let left_out = vec![(DeadLetterReason::Malformed, "ü".repeat(len)); count];
            MappedMessage { rejected_readings: left_out, ..MappedMessage::default() }
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
