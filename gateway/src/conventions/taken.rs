//! What a message of a mapping said.

use telemetry::{Reading, Reason, Report, SmolStr, Source, ZoneId};

use super::Refusal;
use crate::message::Message;

/// What a message of a mapping said; nothing, for metadata and states.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Taken {
    /// Whose account in the ledger the message's readings are on.
    pub(crate) owner: Option<(ZoneId, SmolStr)>,
    /// One for each device and source; never with more readings than a
    /// message may have.
    pub(crate) reports: Vec<Report>,
    /// Readings that could not be understood.
    pub(crate) left_out: Vec<Refusal>,
    /// To be published in answer.
    pub(crate) publish: Vec<Publication>,
}

/// A message that a convention asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// Who measured something, and how the reading comes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin {
    pub(super) zone: ZoneId,
    pub(super) device: SmolStr,
    pub(super) source: Source,
}

impl Origin {
    /// What arrives now; or a broker's stored last value, which is no new one.
    pub(super) fn live(zone: ZoneId, device: SmolStr, message: &Message) -> Self {
        let source = if message.is_retained { Source::Retained } else { Source::Live };
        Self { zone, device, source }
    }
}

impl Taken {
    /// Metadata that was learnt, or a message that is no reading.
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    /// A message of which nothing can be understood.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self { left_out: vec![refusal], ..Self::default() }
    }

    /// The message's account; without it, the first report's.
    pub(super) fn owned_by(mut self, zone: &ZoneId, device: &SmolStr) -> Self {
        self.owner = Some((zone.clone(), device.clone()));
        self
    }

    /// Adds a reading to the report of its origin, with at most `readings_max`.
    pub(super) fn add(
        &mut self,
        origin: &Origin,
        reading: Reading,
        message: &Message,
        readings_max: usize,
    ) {
        let Origin { zone, device, source } = origin;
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
        self.reports.push(Report {
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
    pub(crate) fn refusals(&self) -> Option<(Reason, String)> {
        /// A dead letter carries its detail as a header; there may be a
        /// hundred refusals that say the same.
        const DETAIL_BYTES_MAX: usize = 2048;
        let (reason, _) = self.left_out.first()?;
        let mut detail = String::new();
        for (i, (_, what)) in self.left_out.iter().enumerate() {
            if detail.len() + what.len() > DETAIL_BYTES_MAX {
                if i == 0 {
                    detail.push_str(&what[..what.floor_char_boundary(DETAIL_BYTES_MAX)]);
                } else {
                    let more = (self.left_out.len() - i).to_string();
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
            let left_out = vec![(Reason::Malformed, "ü".repeat(len)); count];
            Taken { left_out, ..Taken::default() }.refusals().unwrap().1
        };
        assert_eq!(refuse(2, 2), "üü; üü");
        assert!(refuse(100, 1_000).ends_with("; and 990 more"));
        assert_eq!(refuse(5_000, 3).len(), 2048);
        assert_eq!(Taken::nothing().refusals(), None);
    }
}
