//! The content of one message of one device, and its form in the log.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::{ZoneId, canonical_json};

/// The content of one MQTT message of one device. One report is one record of the log topic
/// [`READINGS`](crate::topic::READINGS), as JSON, keyed by zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorReport {
    /// Site and zone.
    pub zone: ZoneId,
    /// The device within the zone.
    pub device: SmolStr,
    /// Identifies one run of the device. `seq` starts again with each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<SmolStr>,
    /// Counts the device's messages within one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Arrival time, UTC milliseconds. For a live report, when the gateway received it. For a
    /// replayed one, the recorded arrival, or else the event time.
    pub arrival_ms: i64,
    /// Whether it was measured now, and if not, where it comes from.
    #[serde(default)]
    pub source: ReportSource,
    /// The measured values; never empty.
    pub readings: Vec<SensorReading>,
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorReading {
    /// The quantity: a name from the metric table.
    pub metric: SmolStr,
    /// When it was measured, UTC milliseconds.
    #[serde(rename = "ts")]
    pub event_ms: i64,
    /// The value in the metric's unit. NaN and infinities are `null` in JSON.
    #[serde(serialize_with = "finite_or_null", deserialize_with = "null_as_nan")]
    pub value: f64,
}

/// Where a report comes from. The sender marks everything that is not live, so that no wall clock
/// leaks into recorded time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportSource {
    /// Measured now.
    #[default]
    Live,
    /// Recorded or simulated history, played again.
    Replay,
    /// Sent late by the device itself, from its own buffer.
    Backfill,
    /// A retained MQTT message: the last value, repeated by the broker.
    Retained,
}

impl ReportSource {
    /// All sources, in the order of their numbers in storage.
    pub const ALL: [Self; 4] = [Self::Live, Self::Replay, Self::Backfill, Self::Retained];

    /// The name used on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replay => "replay",
            Self::Backfill => "backfill",
            Self::Retained => "retained",
        }
    }
}

impl SensorReport {
    /// Returns the report's form in the log.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a report has only string keys and finite numbers")
    }

    /// Reads a report back from its form in the log.
    ///
    /// # Errors
    /// Returns an error if the bytes are not the JSON of a report.
    pub fn from_json(bytes: &[u8]) -> serde_json::Result<Self> {
        canonical_json::read_report(bytes).map_or_else(|| serde_json::from_slice(bytes), Ok)
    }
}

// Serde requires that `serialize_with` takes the field by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn finite_or_null<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { to.serialize_f64(*value) } else { to.serialize_none() }
}

fn null_as_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(value: f64, event_ms: i64, seq: Option<u64>) -> SensorReport {
        SensorReport {
            zone: ZoneId::new("s", "z"),
            device: "d".into(),
            boot: None,
            seq,
            arrival_ms: event_ms,
            source: ReportSource::Replay,
            readings: vec![SensorReading { metric: "temperature".into(), event_ms, value }],
        }
    }

    proptest! {
        #[test]
        fn json_round_trip(value in -1e300..1e300f64, ts in any::<i64>(), seq in any::<Option<u64>>()) {
            let report = report(value, ts, seq);
            prop_assert_eq!(SensorReport::from_json(&report.to_json()).unwrap(), report);
        }
    }

    #[test]
    fn nan_is_null_in_json_and_nan_again() {
        let json = report(f64::NAN, 1, None).to_json();
        assert!(String::from_utf8_lossy(&json).contains(r#""value":null"#));
        assert!(SensorReport::from_json(&json).unwrap().readings[0].value.is_nan());
    }
}
