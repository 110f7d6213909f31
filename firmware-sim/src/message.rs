//! One MQTT message to send, and its wire form.

use serde_json::{Map, Value};
use telemetry::{DeviceAddress, ReportSource};

/// One MQTT message to send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeviceMessage {
    /// The full MQTT topic.
    pub(crate) topic: String,
    /// When it is sent, by the true clock, UTC milliseconds.
    pub(crate) sent_ms: i64,
    /// The content.
    pub(crate) body: MessageBody,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MessageBody {
    /// Measured values.
    Sample(SampleBody),
    /// Bytes that cannot be decoded, as faulty firmware sends them.
    Malformed(Vec<u8>),
}

/// Measured values with the device's timestamp.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SampleBody {
    pub(crate) boot: String,
    pub(crate) seq: u64,
    /// Event time by the device's own clock, UTC milliseconds.
    pub(crate) event_ms: i64,
    /// Metric and value; exactly one if the topic names the metric.
    pub(crate) values: Vec<(&'static str, f64)>,
    /// Whether the topic names the metric.
    pub(crate) single: bool,
}

impl DeviceMessage {
    /// Number of readings it counts for: its metrics, or 1 if it cannot be decoded.
    pub(crate) fn reading_count(&self) -> u64 {
        match &self.body {
            MessageBody::Sample(sample) => sample.values.len() as u64,
            MessageBody::Malformed(_) => 1,
        }
    }

    /// Encodes the payload. A message that is not live carries its sending time, so that the
    /// receiver sees the delay.
    pub(crate) fn encode_payload(&self, source: ReportSource) -> Vec<u8> {
        match &self.body {
            MessageBody::Malformed(bytes) => bytes.clone(),
            MessageBody::Sample(sample) => sample.encode_payload(source, self.sent_ms),
        }
    }
}

impl SampleBody {
    fn encode_payload(&self, source: ReportSource, sent_ms: i64) -> Vec<u8> {
        let mut fields = Map::new();
        for (metric, value) in &self.values {
            let key = if self.single { "value" } else { metric };
            fields.insert(key.to_owned(), Value::from(*value));
        }
        fields.insert("ts".to_owned(), self.event_ms.into());
        fields.insert("seq".to_owned(), self.seq.into());
        fields.insert("boot".to_owned(), self.boot.as_str().into());
        if source != ReportSource::Live {
            fields.insert("source".to_owned(), source.as_str().into());
        }
        if source == ReportSource::Replay {
            fields.insert("arrival".to_owned(), sent_ms.into());
        }
        Value::Object(fields).to_string().into_bytes()
    }
}

/// Returns the topic of a device, or of one of its metrics.
pub(crate) fn device_topic(zone: &telemetry::ZoneId, device: &str, metric: Option<&str>) -> String {
    DeviceAddress { zone: zone.clone(), device: device.into(), metric: metric.map(Into::into) }
        .to_topic()
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::{MetricTable, PayloadLimits, ZoneId, payload::decode_payload};

    fn message(values: Vec<(&'static str, f64)>, single: bool) -> DeviceMessage {
        let metric = single.then(|| values[0].0);
        let sample =
            SampleBody { boot: "b1".into(), seq: 3, event_ms: 1_700_000_000_000, values, single };
        let topic = device_topic(&ZoneId::new("farm", "bay-1"), "d", metric);
        DeviceMessage { topic, sent_ms: 1_700_000_060_000, body: MessageBody::Sample(sample) }
    }

    fn check(message: &DeviceMessage, source: ReportSource, arrival_ms: i64) {
        let payload = message.encode_payload(source);
        let now = 1_800_000_000_000;
        let got = decode_payload(
            &message.topic,
            &payload,
            now,
            &MetricTable::default(),
            PayloadLimits::default(),
        )
        .unwrap();
        let MessageBody::Sample(sample) = &message.body else { panic!("a sample") };
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
            check(message, ReportSource::Live, 1_800_000_000_000);
            check(message, ReportSource::Backfill, 1_800_000_000_000);
            check(message, ReportSource::Replay, 1_700_000_060_000);
        }
        assert_eq!(several.reading_count(), 2);
    }
}
