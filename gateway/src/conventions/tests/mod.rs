//! Messages as other systems send them (`gateway/tests/golden/`), decoded with the configurations
//! that users copy (`deploy/examples/`).

use std::path::{Path, PathBuf};

use telemetry::{MetricTable, SensorReport, payload::PayloadLimits};

use super::{Conventions, DecodeContext, EntityCounts, MappedMessage};
use crate::{GatewaySettings, message::InboundMessage};

mod home_assistant;
mod homie;
mod junk;
mod presets;
mod settings;
mod sparkplug;
mod tasmota;
mod template;
mod zigbee2mqtt;

/// Arrival time of the messages: 2023-11-14T22:13:20Z.
const NOW: i64 = 1_700_000_000_000;

/// The mappings of one configuration, with their learned state.
struct ConventionBench {
    conventions: Conventions,
    metrics: MetricTable,
    limits: PayloadLimits,
    now: i64,
    is_retained: bool,
}

fn repository_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads a payload of `gateway/tests/golden/`.
fn read_golden(name: &str) -> Vec<u8> {
    let path = repository_dir().join("gateway/tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl ConventionBench {
    /// Loads `deploy/examples/<name>.toml`.
    fn from_example(name: &str) -> Self {
        let path = repository_dir().join(format!("deploy/examples/{name}.toml"));
        let settings = GatewaySettings::load(Some(&path), &[]).unwrap_or_else(|e| panic!("{e}"));
        Self::from_settings(&settings)
    }

    /// Loads one mapping.
    fn from_mapping(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, format!("[[mappings]]\n{text}")).unwrap();
        Self::from_settings(
            &GatewaySettings::load(Some(&path), &[]).unwrap_or_else(|e| panic!("{e}")),
        )
    }

    fn from_settings(settings: &GatewaySettings) -> Self {
        let metrics = settings.metric_table().unwrap();
        let conventions = Conventions::new(&settings.mappings, &metrics).unwrap();
        Self {
            conventions,
            metrics,
            limits: PayloadLimits::default(),
            now: NOW,
            is_retained: false,
        }
    }

    /// Checks a topic and payload against the results, one line each: readings, dead letters (`…`
    /// in the expected line stands for any text), answers.
    #[track_caller]
    fn check(&mut self, topic: &str, payload: impl AsRef<[u8]>, expect: &[&str]) {
        let got = self.decode_lines(topic, payload.as_ref());
        let mut left = got.unwrap_or_else(|| panic!("no mapping matches {topic}"));
        let got = left.clone();
        // The order of fields in JSON is irrelevant.
        for line in expect {
            match left.iter().position(|got| is_like(got, line)) {
                Some(at) => drop(left.remove(at)),
                None => panic!("{topic}: missing `{line}` in {got:#?}"),
            }
        }
        assert!(left.is_empty(), "{topic}: not expected {left:#?}");
    }

    /// Returns how many entities are remembered, and how many were evicted.
    fn entity_counts(&self) -> (u64, u64) {
        let EntityCounts { remembered, evicted } = self.conventions.entity_counts();
        (remembered, evicted)
    }

    fn decode_reports(&mut self, topic: &str, payload: &[u8]) -> Vec<SensorReport> {
        self.decode_mapped(topic, payload).expect("claimed").reports
    }

    fn decode_mapped(&mut self, topic: &str, payload: &[u8]) -> Option<MappedMessage> {
        let context = DecodeContext { metrics: &self.metrics, limits: self.limits };
        let message = InboundMessage {
            topic: topic.into(),
            payload: payload.to_vec().into(),
            is_retained: self.is_retained,
            is_redelivery: false,
            received_ms: self.now,
        };
        self.conventions.decode_message(&message, &context)
    }

    /// Returns the results as lines; `None` if no mapping matches the topic.
    fn decode_lines(&mut self, topic: &str, payload: &[u8]) -> Option<Vec<String>> {
        let mapped = self.decode_mapped(topic, payload)?;
        for report in &mapped.reports {
            assert!((1..=self.limits.readings_max).contains(&report.readings.len()));
            assert_eq!(report.arrival_ms, self.now);
        }
        let readings = mapped.reports.iter().flat_map(|report| {
            report.readings.iter().map(move |reading| {
                let zone = &report.zone;
                let at = if reading.event_ms == NOW {
                    "now".to_owned()
                } else {
                    jiff::Timestamp::from_millisecond(reading.event_ms).unwrap().to_string()
                };
                let (device, source) = (&report.device, report.source.as_str());
                // Conversions are exact except for the last bits.
                let value = (reading.value * 1e9).round() / 1e9;
                format!("{zone} {device} {source} {at}: {} {value}", reading.metric)
            })
        });
        let letters =
            mapped.rejected_readings.iter().map(|(reason, what)| format!("{reason}: {what}"));
        let answers = mapped.publish.iter().map(|answer| format!("publish {}", answer.topic));
        Some(readings.chain(letters).chain(answers).collect())
    }
}

fn is_like(got: &str, expect: &str) -> bool {
    let mut rest = got;
    expect.split('…').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    }) && (expect.contains('…') || got == expect)
}
