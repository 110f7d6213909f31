//! Entry points for `fuzz/`: they decode what arrives from the network, and check what must hold
//! for any input.

use std::sync::{Arc, Mutex, PoisonError};

use eventlog::Record;
use telemetry::{SensorReport, payload::PayloadLimits, topic::check_level};

use crate::{
    Downlink, GatewaySettings,
    conventions::{Conventions, IgnoreList},
    log_records::{self, DeadLetterRecord},
    message::InboundMessage,
    message_decoder::MessageDecoder,
};

/// A decoder with the mappings of a configuration and their learned state.
#[derive(Debug)]
pub struct FuzzDecoder(MessageDecoder);

/// Largest number of readings in a report; small, so that reports are split too.
const READINGS_MAX: usize = 8;

impl FuzzDecoder {
    /// Creates a decoder without learned state.
    #[must_use]
    pub fn new(settings: &GatewaySettings) -> Self {
        let metrics = settings.metric_table().expect("the metrics are well-formed");
        let conventions = Conventions::new(&settings.mappings, &metrics).expect("loaded");
        let limits = PayloadLimits { readings_max: READINGS_MAX, ..PayloadLimits::default() };
        let ignored = IgnoreList::new(&settings.ignore).expect("loaded");
        Self(MessageDecoder {
            metrics,
            limits,
            conventions: Arc::new(Mutex::new(conventions)),
            ignored,
            downlink: Downlink::default(),
        })
    }

    /// Forgets the learned state.
    pub fn forget(&self) {
        self.0.conventions.lock().unwrap_or_else(PoisonError::into_inner).forget();
    }

    /// Decodes a message.
    ///
    /// # Panics
    /// Panics if a guarantee of the decoder does not hold.
    pub fn decode_message(&self, topic: &str, payload: &[u8], received_ms: i64, is_retained: bool) {
        let message = InboundMessage {
            topic: topic.into(),
            payload: payload.to_vec().into(),
            is_retained,
            is_redelivery: false,
            received_ms,
        };
        let decoded = self.0.decode_message(&message);
        assert_eq!(decoded.dead_lettered > 0, decoded.dead_letter.is_some());
        for report in &decoded.reports {
            assert!((1..=READINGS_MAX).contains(&report.readings.len()));
            for name in [&report.zone.site, &report.zone.zone, &report.device] {
                assert_eq!(check_level(name), Ok(()));
            }
            for reading in &report.readings {
                assert!(self.0.metrics.get(&reading.metric).is_some(), "{reading:?}");
                // Up to the year 9999.
                assert!((0..=253_402_300_799_999).contains(&reading.event_ms), "{reading:?}");
            }
            // The feature store reads exactly the report that was written.
            let record = log_records::report_record(report, received_ms);
            let again = SensorReport::from_json(&record.payload);
            assert_eq!(again.expect("a report").to_json(), report.to_json());
        }
        if let Some(letter) = &decoded.dead_letter {
            // The detail is bounded by itself, and its record truncates it further.
            assert!(letter.detail.len() <= 4096, "{}", letter.detail);
            let record = log_records::dead_letter_record(letter, decoded.dead_lettered);
            let expected = DeadLetterRecord::Dead(log_records::as_kept(letter.clone()));
            assert_eq!(DeadLetterRecord::from_record(&record), Some(expected));
        }
    }
}

/// Parses a record of the dead letters that any writer may have written.
///
/// # Panics
/// Panics if a parsed record does not survive a round trip.
pub fn parse_dead_letter(found: &Record) {
    match DeadLetterRecord::from_record(found) {
        Some(DeadLetterRecord::Dead(letter)) => {
            let stored = log_records::as_kept(letter);
            let record = log_records::dead_letter_record(&stored, 1);
            let again = DeadLetterRecord::from_record(&record);
            assert_eq!(again, Some(DeadLetterRecord::Dead(stored)));
        }
        Some(DeadLetterRecord::Reinjected(id)) => {
            let record = log_records::reinjected_record(id, found.timestamp_ms);
            let again = DeadLetterRecord::from_record(&record);
            assert_eq!(again, Some(DeadLetterRecord::Reinjected(id)));
        }
        None => {}
    }
}
