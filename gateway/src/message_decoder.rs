//! Message → records of the log: reports, a dead letter, both, or nothing.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use telemetry::{
    DeadLetter, DeadLetterReason, DeviceAddress, MetricTable, ReportSource, SensorReport, payload,
};

use crate::{
    conventions::{
        Conventions, DecodeContext, EntityCounts, IgnoreList, MappedMessage, is_device_field,
    },
    downlink::Downlink,
    message::InboundMessage,
    sequence::SequenceStamp,
    settings::GatewaySettings,
};

/// The decoded content of a message.
#[derive(Debug, PartialEq)]
pub(crate) struct DecodedMessage {
    /// The sending device, if the topic names it.
    pub(crate) address: Option<DeviceAddress>,
    /// The device's sequence number of the message.
    pub(crate) stamp: Option<SequenceStamp>,
    /// The reports; several if a mapped message is of several devices.
    pub(crate) reports: Vec<SensorReport>,
    pub(crate) dead_letter: Option<DeadLetter>,
    /// Readings in the dead letter. A message that cannot be decoded counts as 1.
    pub(crate) dead_lettered: u64,
}

impl DecodedMessage {
    /// Number of readings received with the message.
    pub(crate) fn reading_count(&self) -> u64 {
        self.logged_count() + self.dead_lettered
    }

    /// Returns the device's own time of a live report, UTC milliseconds.
    pub(crate) fn device_time_ms(&self, received_ms: i64) -> Option<i64> {
        let live = self.reports.iter().filter(|report| report.source == ReportSource::Live);
        let newest_ms = live.flat_map(|report| &report.readings).map(|r| r.event_ms).max()?;
        // A report without a time of its own has the time of its arrival.
        (newest_ms != received_ms).then_some(newest_ms)
    }

    /// Number of readings in the reports.
    pub(crate) fn logged_count(&self) -> u64 {
        self.reports.iter().map(|report| report.readings.len() as u64).sum()
    }
}

/// Decoder of messages.
#[derive(Debug)]
pub(crate) struct MessageDecoder {
    pub(crate) metrics: MetricTable,
    pub(crate) limits: payload::PayloadLimits,
    /// The mappings. Their state changes with messages, which are decoded one at a time.
    pub(crate) conventions: Arc<Mutex<Conventions>>,
    /// Topics, and fields of the gateway's own payloads, that are ignored.
    pub(crate) ignored: IgnoreList,
    /// The downlink for a convention's answers.
    pub(crate) downlink: Downlink,
}

impl MessageDecoder {
    /// Creates the decoder of a configuration. `conventions` are those of its mappings.
    pub(crate) fn from_settings(
        settings: &GatewaySettings,
        metrics: MetricTable,
        conventions: Arc<Mutex<Conventions>>,
        downlink: Downlink,
    ) -> Self {
        let limits = payload::PayloadLimits {
            payload_bytes_max: settings.limits.payload_bytes_max,
            readings_max: settings.limits.readings_max,
        };
        // Settings are checked before they are used.
        let ignored = IgnoreList::new(&settings.ignore).unwrap_or_default();
        Self { metrics, limits, conventions, ignored, downlink }
    }

    /// Returns the filters that are subscribed to in addition to `mqtt.filters`.
    pub(crate) fn metadata_filters(&self) -> Vec<String> {
        self.conventions.lock().unwrap_or_else(PoisonError::into_inner).metadata_filters()
    }

    /// Returns how much the conventions remember.
    pub(crate) fn entity_counts(&self) -> EntityCounts {
        self.conventions.lock().unwrap_or_else(PoisonError::into_inner).entity_counts()
    }

    /// Creates a decoder for the gateway's own convention alone.
    #[cfg(test)]
    pub(crate) fn new(metrics: MetricTable, limits: payload::PayloadLimits) -> Self {
        let (conventions, ignored) = (Arc::default(), IgnoreList::default());
        Self { metrics, limits, conventions, ignored, downlink: Downlink::default() }
    }

    pub(crate) fn decode_message(&self, message: &InboundMessage) -> DecodedMessage {
        if self.ignored.is_match(&message.topic) {
            return self.decode_mapped(MappedMessage::default(), message);
        }
        let mut conventions = self.conventions.lock().unwrap_or_else(PoisonError::into_inner);
        let context = DecodeContext { metrics: &self.metrics, limits: self.limits };
        if let Some(mapped) = conventions.decode_message(message, &context) {
            return self.decode_mapped(mapped, message);
        }
        let has_mappings = !conventions.is_empty();
        drop(conventions);
        let mut decoded = self.decode_native(message);
        if let Some(letter) = &mut decoded.dead_letter
            && has_mappings
            && letter.reason == DeadLetterReason::BadTopic
        {
            letter.detail.push_str(", and no mapping matches it");
        }
        decoded
    }

    /// Decodes a mapped message.
    fn decode_mapped(&self, mapped: MappedMessage, message: &InboundMessage) -> DecodedMessage {
        for publication in &mapped.publish {
            self.downlink.publish(&publication.topic, publication.payload.clone(), false);
        }
        let refusals = mapped.summarize_rejected();
        let MappedMessage { owner, reports, rejected_readings: rejected, .. } = mapped;
        DecodedMessage {
            address: owner.map(|(zone, device)| DeviceAddress { zone, device, metric: None }),
            stamp: match &reports[..] {
                [report] => sequence_stamp(report, message),
                _ => None,
            },
            reports,
            dead_lettered: rejected.len() as u64,
            dead_letter: refusals
                .map(|(reason, detail)| build_dead_letter(message, reason, detail)),
        }
    }

    /// Decodes a message in the gateway's own convention.
    fn decode_native(&self, message: &InboundMessage) -> DecodedMessage {
        let InboundMessage { topic, payload, is_retained, received_ms, .. } = message;
        let is_ignored = |name: &str| self.ignored.is_match(name) || is_device_field(name);
        let decoded = payload::decode_with_ignored(
            topic,
            payload,
            *received_ms,
            &self.metrics,
            self.limits,
            &is_ignored,
        );
        match decoded {
            Ok(decoded) => {
                let mut reports = vec![decoded.report];
                reports.extend(decoded.further_reports);
                for report in &mut reports {
                    if *is_retained && report.source == ReportSource::Live {
                        report.source = ReportSource::Retained;
                    }
                }
                let dead_lettered = decoded.rejected_readings.len() as u64;
                // The size of the text is bounded, however many fields there are.
                let rejection = MappedMessage {
                    rejected_readings: decoded.rejected_readings,
                    ..MappedMessage::default()
                }
                .summarize_rejected();
                DecodedMessage {
                    address: DeviceAddress::parse(topic).ok(),
                    // A list has no sequence number of its own.
                    stamp: match &reports[..] {
                        [report] => sequence_stamp(report, message),
                        _ => None,
                    },
                    reports,
                    dead_letter: rejection
                        .map(|(reason, detail)| build_dead_letter(message, reason, detail)),
                    dead_lettered,
                }
            }
            Err((reason, detail)) => DecodedMessage {
                address: DeviceAddress::parse(topic).ok(),
                stamp: None,
                reports: Vec::new(),
                dead_letter: Some(build_dead_letter(message, reason, detail)),
                dead_lettered: 1,
            },
        }
    }
}

fn build_dead_letter(
    message: &InboundMessage,
    reason: DeadLetterReason,
    detail: String,
) -> DeadLetter {
    DeadLetter {
        reason,
        detail,
        topic: message.topic.to_string(),
        payload: message.payload.to_vec(),
        received_ms: message.received_ms,
    }
}

/// Times before 2016-01-01 come from a clock that was never set, so they may repeat after a
/// restart.
const CLOCK_SET_MS: i64 = 1_451_606_400_000;

fn sequence_stamp(report: &SensorReport, message: &InboundMessage) -> Option<SequenceStamp> {
    let has_own_time = |event_ms| event_ms != message.received_ms && event_ms >= CLOCK_SET_MS;
    Some(SequenceStamp {
        boot: report.boot.clone(),
        seq: report.seq?,
        topic: topic_hash(message),
        fingerprint: message_fingerprint(message),
        is_stamped: report.readings.iter().any(|reading| has_own_time(reading.event_ms)),
    })
}

/// Hashes the topic of a message.
pub(crate) fn topic_hash(message: &InboundMessage) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.topic.hash(&mut hasher);
    hasher.finish()
}

/// Hashes the topic and the payload of a message.
pub(crate) fn message_fingerprint(message: &InboundMessage) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&message.topic, &message.payload).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_records;

    const NOW: i64 = 1_700_000_000_000;

    fn decode(topic: &str, payload: &str, is_retained: bool) -> DecodedMessage {
        let mut decoder =
            MessageDecoder::new(MetricTable::default(), payload::PayloadLimits::default());
        decoder.ignored = IgnoreList::new(&["$SYS/#".to_owned(), "debug_*".to_owned()]).unwrap();
        let payload = payload.to_owned().into();
        let topic = topic.into();
        let is_redelivery = false;
        decoder.decode_message(&InboundMessage {
            topic,
            payload,
            is_retained,
            is_redelivery,
            received_ms: NOW,
        })
    }

    /// Checks topic and payload against the logged readings, the dead-lettered readings and the
    /// reason.
    fn check(topic: &str, payload: &str, expect: (u64, u64, Option<DeadLetterReason>)) {
        let got = decode(topic, payload, false);
        let reason = got.dead_letter.as_ref().map(|letter| letter.reason);
        assert_eq!((got.logged_count(), got.dead_lettered, reason), expect, "{topic} {payload}");
        if let Some(letter) = &got.dead_letter {
            let logged = log_records::DeadLetterRecord::from_record(
                &log_records::dead_letter_record(letter, got.dead_lettered),
            );
            assert_eq!(logged, Some(log_records::DeadLetterRecord::Dead(letter.clone())));
        }
    }

    #[test]
    fn messages() {
        let one = "sensors/farm/bay-1/probe/temperature";
        let many = "sensors/farm/bay-1/probe";
        check(one, "21.5", (1, 0, None));
        check(one, "nan", (1, 0, None));
        check(many, r#"{"temperature": 1, "humidity": 2}"#, (2, 0, None));
        check(
            many,
            r#"{"temperature": 1, "warmth": 2, "co2": "x"}"#,
            (1, 2, Some(DeadLetterReason::NotAReading)),
        );
        check(many, r#"{"warmth": 2}"#, (0, 1, Some(DeadLetterReason::UnknownMetric)));
        check(many, r#"[{"co2": 1, "seq": 1}, {"co2": 2, "seq": 2}, {"co2": []}]"#, {
            (2, 1, Some(DeadLetterReason::NotAReading))
        });
        // A value about the device, an ignored field, and a field that may be misspelt.
        check(many, r#"{"co2": 1, "rssi": -70, "debug_loops": 3}"#, (1, 0, None));
        check(many, r#"{"co2": 1, "loops": 3}"#, (1, 1, Some(DeadLetterReason::UnknownMetric)));
        check("$SYS/broker/uptime", "12 seconds", (0, 0, None));
        check(one, "", (0, 1, Some(DeadLetterReason::Empty)));
        check(one, "{", (0, 1, Some(DeadLetterReason::Malformed)));
        check(one, &"9".repeat(20_000), (0, 1, Some(DeadLetterReason::Oversized)));
        check("tele/x/SENSOR", "1", (0, 1, Some(DeadLetterReason::BadTopic)));
    }

    #[test]
    fn what_is_said_of_a_thousand_unknown_fields_is_bounded() {
        let fields: Vec<String> = (0..1_000).map(|i| format!(r#""x{i}": {i}"#)).collect();
        let payload = format!(r#"{{"co2": 400, {}}}"#, fields.join(", "));
        let got = decode("sensors/farm/bay-1/probe", &payload, false);
        assert_eq!((got.logged_count(), got.dead_lettered), (1, 1_000));
        assert!(got.dead_letter.unwrap().detail.len() < 4_096);
    }

    #[test]
    fn a_retained_message_is_marked_unless_it_says_what_it_is() {
        let source = |payload| decode("sensors/s/z/d/temperature", payload, true).reports[0].source;
        assert_eq!(source("1"), ReportSource::Retained);
        assert_eq!(
            source(r#"{"value": 1, "ts": 1600000000, "source": "replay"}"#),
            ReportSource::Replay
        );
    }

    #[test]
    fn a_number_comes_with_whether_the_payload_has_a_time_of_its_own() {
        let stamped = |payload: &str| {
            let stamp = decode("sensors/s/z/d/temperature", payload, false).stamp;
            stamp.map(|stamp| stamp.is_stamped)
        };
        assert_eq!(stamped("1"), None);
        assert_eq!(stamped(r#"{"value": 1, "seq": 7}"#), Some(false));
        assert_eq!(stamped(r#"{"value": 1, "seq": 7, "boot": "a"}"#), Some(false));
        assert_eq!(stamped(r#"{"value": 1, "seq": 7, "ts": 1600000000000}"#), Some(true));
        // A clock that was never set proves no more than the number.
        assert_eq!(stamped(r#"{"value": 1, "seq": 7, "ts": 12}"#), Some(false));
    }
}
