//! Doors for `fuzz/`: what comes from the network, decoded, and what must hold
//! whatever it is.

use std::sync::{Arc, Mutex, PoisonError};

use eventlog::Record;
use telemetry::{payload::Limits, topic::check_level};

use crate::{
    Downlink, Settings,
    conventions::{Conventions, IgnoreList},
    intake::Decoder,
    message::Message,
    record::{self, Letter},
};

/// A decoder with the mappings of a configuration, and what they learn.
#[derive(Debug)]
pub struct Door(Decoder);

/// Most readings in a report, so that reports are split too.
const READINGS_MAX: usize = 8;

impl Door {
    /// Opens a decoder that has learnt nothing yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let metrics = settings.metric_table().expect("the metrics are well-formed");
        let conventions = Conventions::new(&settings.mappings, &metrics).expect("loaded");
        let limits = Limits { readings_max: READINGS_MAX, ..Limits::default() };
        let conventions = Arc::new(Mutex::new(conventions));
        let ignored = IgnoreList::new(&settings.ignore).expect("loaded");
        let downlink = Downlink::default();
        Self(Decoder { metrics, limits, conventions, ignored, downlink })
    }

    /// Forgets what messages told.
    pub fn forget(&self) {
        self.0.conventions.lock().unwrap_or_else(PoisonError::into_inner).forget();
    }

    /// Decodes a message; panics where a promise does not hold.
    pub fn take(&self, topic: &str, payload: &[u8], received_ms: i64, is_retained: bool) {
        let payload = payload.to_vec().into();
        let topic = topic.into();
        let message = Message { topic, payload, is_retained, is_redelivery: false, received_ms };
        let intake = self.0.take(&message);
        assert_eq!(intake.dead_lettered > 0, intake.dead_letter.is_some());
        for report in &intake.reports {
            assert!((1..=READINGS_MAX).contains(&report.readings.len()));
            for name in [&report.zone.site, &report.zone.zone, &report.device] {
                assert_eq!(check_level(name), Ok(()));
            }
            for reading in &report.readings {
                assert!(self.0.metrics.get(&reading.metric).is_some(), "{reading:?}");
                // Up to the year 9999.
                assert!((0..=253_402_300_799_999).contains(&reading.event_ms), "{reading:?}");
            }
            // What the feature store reads is what was written.
            let again = telemetry::Report::from_json(&record::report(report, received_ms).payload);
            assert_eq!(again.expect("a report").to_json(), report.to_json());
        }
        if let Some(letter) = &intake.dead_letter {
            // Beside the payload, which is limited by the MQTT packet; the log keeps less of it.
            assert!(letter.detail.len() <= 4096, "{}", letter.detail);
            let again = Letter::read(&record::dead_letter(letter, intake.dead_lettered));
            assert_eq!(again, Some(Letter::Dead(record::as_kept(letter.clone()))));
        }
    }
}

/// Reads a record of the dead letters that may be of any other writer.
pub fn dead_letter(found: &Record) {
    match Letter::read(found) {
        Some(Letter::Dead(letter)) => {
            let kept = record::as_kept(letter);
            let again = Letter::read(&record::dead_letter(&kept, 1));
            assert_eq!(again, Some(Letter::Dead(kept)));
        }
        Some(Letter::Reinjected(id)) => {
            let again = Letter::read(&record::reinjected(id, found.timestamp_ms));
            assert_eq!(again, Some(Letter::Reinjected(id)));
        }
        None => {}
    }
}
