//! Message → what is to be logged: a report, a dead letter, or both.

use std::hash::{DefaultHasher, Hash, Hasher};

use telemetry::{Address, DeadLetter, MetricTable, Reason, Report, Source, payload};

use crate::{message::Message, sequence::Stamp};

/// What a message says.
#[derive(Debug, PartialEq)]
pub(crate) struct Intake {
    /// Who sent it, where the topic says so.
    pub(crate) address: Option<Address>,
    /// The device's own numbering of it.
    pub(crate) stamp: Option<Stamp>,
    pub(crate) report: Option<Report>,
    pub(crate) dead_letter: Option<DeadLetter>,
    /// Readings in the dead letter; one that cannot be decoded counts 1.
    pub(crate) dead_lettered: u64,
}

impl Intake {
    /// Readings received with the message.
    pub(crate) fn readings(&self) -> u64 {
        self.logged() + self.dead_lettered
    }

    /// The device's own time of a live report, UTC milliseconds.
    pub(crate) fn stamped_ms(&self, received_ms: i64) -> Option<i64> {
        let report = self.report.as_ref().filter(|report| report.source == Source::Live)?;
        let newest_ms = report.readings.iter().map(|reading| reading.event_ms).max()?;
        // Without a time of its own it has that of its arrival.
        (newest_ms != received_ms).then_some(newest_ms)
    }

    /// Readings in the report.
    pub(crate) fn logged(&self) -> u64 {
        self.report.as_ref().map_or(0, |report| report.readings.len() as u64)
    }
}

/// Decodes messages.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) metrics: MetricTable,
    pub(crate) limits: payload::Limits,
}

impl Decoder {
    pub(crate) fn take(&self, message: &Message) -> Intake {
        let Message { topic, payload, is_retained, received_ms } = message;
        let letter = |reason: Reason, detail: String| DeadLetter {
            reason,
            detail,
            topic: topic.to_string(),
            payload: payload.to_vec(),
            received_ms: *received_ms,
        };
        match payload::decode(topic, payload, *received_ms, &self.metrics, self.limits) {
            Ok(decoded) => {
                let mut report = decoded.report;
                if *is_retained && report.source == Source::Live {
                    report.source = Source::Retained;
                }
                let dead_lettered = decoded.left_out.len() as u64;
                let reason = decoded.left_out.first().map(|(reason, _)| *reason);
                let details: Vec<String> =
                    decoded.left_out.into_iter().map(|(_, why)| why).collect();
                Intake {
                    address: Address::parse(topic).ok(),
                    stamp: stamp(&report, message),
                    report: Some(report),
                    dead_letter: reason.map(|reason| letter(reason, details.join("; "))),
                    dead_lettered,
                }
            }
            Err((reason, detail)) => Intake {
                address: Address::parse(topic).ok(),
                stamp: None,
                report: None,
                dead_letter: Some(letter(reason, detail)),
                dead_lettered: 1,
            },
        }
    }
}

fn stamp(report: &Report, message: &Message) -> Option<Stamp> {
    let mut hasher = DefaultHasher::new();
    (&message.topic, &message.payload).hash(&mut hasher);
    Some(Stamp {
        boot: report.boot.clone(),
        seq: report.seq?,
        fingerprint: hasher.finish(),
        // Without a boot id, a device that restarted counts from 0 again; then
        // only its own time stamp tells a new message from an old one.
        is_unique: report.boot.is_some()
            || report.readings.iter().any(|reading| reading.event_ms != message.received_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    const NOW: i64 = 1_700_000_000_000;

    fn take(topic: &str, payload: &str, is_retained: bool) -> Intake {
        let decoder =
            Decoder { metrics: MetricTable::default(), limits: payload::Limits::default() };
        let payload = payload.to_owned().into();
        decoder.take(&Message { topic: topic.into(), payload, is_retained, received_ms: NOW })
    }

    /// Topic and payload → readings logged, readings dead-lettered, reason.
    fn check(topic: &str, payload: &str, expect: (u64, u64, Option<Reason>)) {
        let got = take(topic, payload, false);
        let reason = got.dead_letter.as_ref().map(|letter| letter.reason);
        assert_eq!((got.logged(), got.dead_lettered, reason), expect, "{topic} {payload}");
        if let Some(letter) = &got.dead_letter {
            let kept = record::Letter::read(&record::dead_letter(letter));
            assert_eq!(kept, Some(record::Letter::Dead(letter.clone())));
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
            (1, 2, Some(Reason::NotAReading)),
        );
        check(many, r#"{"warmth": 2}"#, (0, 1, Some(Reason::UnknownMetric)));
        check(one, "", (0, 1, Some(Reason::Empty)));
        check(one, "{", (0, 1, Some(Reason::Malformed)));
        check(one, &"9".repeat(20_000), (0, 1, Some(Reason::Oversized)));
        check("tele/x/SENSOR", "1", (0, 1, Some(Reason::BadTopic)));
    }

    #[test]
    fn a_retained_message_is_marked_unless_it_says_what_it_is() {
        let source =
            |payload| take("sensors/s/z/d/temperature", payload, true).report.unwrap().source;
        assert_eq!(source("1"), Source::Retained);
        assert_eq!(source(r#"{"value": 1, "ts": 1, "source": "replay"}"#), Source::Replay);
    }

    #[test]
    fn a_stamp_is_unique_by_its_boot_or_its_time() {
        let unique = |payload: &str| {
            let stamp = take("sensors/s/z/d/temperature", payload, false).stamp;
            stamp.map(|stamp| stamp.is_unique)
        };
        assert_eq!(unique("1"), None);
        assert_eq!(unique(r#"{"value": 1, "seq": 7}"#), Some(false));
        assert_eq!(unique(r#"{"value": 1, "seq": 7, "boot": "a"}"#), Some(true));
        assert_eq!(unique(r#"{"value": 1, "seq": 7, "ts": 1600000000000}"#), Some(true));
    }
}
