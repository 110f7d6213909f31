//! One MQTT message to send, and its wire form.

use serde_json::{Map, Value};
use telemetry::{Address, Source};

/// One MQTT message to send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// The full MQTT topic.
    pub(crate) topic: String,
    /// When it leaves the device, by the true clock, UTC milliseconds.
    pub(crate) sent_ms: i64,
    /// What it says.
    pub(crate) body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    /// Measured values.
    Sample(Sample),
    /// Bytes that nobody can read, as a firmware with a fault sends them.
    Malformed(Vec<u8>),
}

/// Measured values, as the device stamps them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) boot: String,
    pub(crate) seq: u64,
    /// Event time by the device's own clock, UTC milliseconds.
    pub(crate) event_ms: i64,
    /// Metric and value; exactly one where the topic names the metric.
    pub(crate) values: Vec<(&'static str, f64)>,
    /// Whether the topic names the metric.
    pub(crate) single: bool,
}

impl Message {
    /// Readings it counts for: its metrics, or 1 where it cannot be read.
    pub(crate) fn readings(&self) -> u64 {
        match &self.body {
            Body::Sample(sample) => sample.values.len() as u64,
            Body::Malformed(_) => 1,
        }
    }

    /// The payload. What is not live carries when it was sent, so that the
    /// receiver sees the delay as it would have been.
    pub(crate) fn payload(&self, source: Source) -> Vec<u8> {
        match &self.body {
            Body::Malformed(bytes) => bytes.clone(),
            Body::Sample(sample) => sample.payload(source, self.sent_ms),
        }
    }
}

impl Sample {
    fn payload(&self, source: Source, sent_ms: i64) -> Vec<u8> {
        let mut fields = Map::new();
        for (metric, value) in &self.values {
            let key = if self.single { "value" } else { metric };
            fields.insert(key.to_owned(), Value::from(*value));
        }
        fields.insert("ts".to_owned(), self.event_ms.into());
        fields.insert("seq".to_owned(), self.seq.into());
        fields.insert("boot".to_owned(), self.boot.as_str().into());
        if source != Source::Live {
            fields.insert("source".to_owned(), source.as_str().into());
        }
        if source == Source::Replay {
            fields.insert("arrival".to_owned(), sent_ms.into());
        }
        Value::Object(fields).to_string().into_bytes()
    }
}

/// The topic of a device, or of one metric of it.
pub(crate) fn topic(zone: &telemetry::ZoneId, device: &str, metric: Option<&str>) -> String {
    Address { zone: zone.clone(), device: device.into(), metric: metric.map(Into::into) }.topic()
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::{Limits, MetricTable, ZoneId, payload::decode};

    fn message(values: Vec<(&'static str, f64)>, single: bool) -> Message {
        let metric = single.then(|| values[0].0);
        let sample =
            Sample { boot: "b1".into(), seq: 3, event_ms: 1_700_000_000_000, values, single };
        let topic = topic(&ZoneId::new("farm", "bay-1"), "d", metric);
        Message { topic, sent_ms: 1_700_000_060_000, body: Body::Sample(sample) }
    }

    fn check(message: &Message, source: Source, arrival_ms: i64) {
        let payload = message.payload(source);
        let now = 1_800_000_000_000;
        let got = decode(&message.topic, &payload, now, &MetricTable::default(), Limits::default())
            .unwrap();
        let Body::Sample(sample) = &message.body else { panic!("a sample") };
        let values: Vec<_> =
            got.report.readings.iter().map(|r| (r.metric.as_str(), r.value)).collect();
        assert_eq!(values, sample.values);
        assert_eq!(got.report.seq, Some(3));
        assert_eq!(got.report.boot.as_deref(), Some("b1"));
        assert_eq!((got.report.source, got.report.arrival_ms), (source, arrival_ms));
        assert_eq!(got.report.readings[0].event_ms, 1_700_000_000_000);
    }

    #[test]
    fn the_gateways_codec_reads_what_is_sent() {
        let several = message(vec![("humidity", 51.5), ("temperature", 21.25)], false);
        let one = message(vec![("light", 800.0)], true);
        for message in [&several, &one] {
            check(message, Source::Live, 1_800_000_000_000);
            check(message, Source::Backfill, 1_800_000_000_000);
            check(message, Source::Replay, 1_700_000_060_000);
        }
        assert_eq!(several.readings(), 2);
    }
}
