//! Messages that could not become a report, with the reason.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A message, or a part of one, that could not become a report. It is stored with its raw bytes
/// so that it can be sent again once the cause is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The reason, for programs.
    pub reason: DeadLetterReason,
    /// The details for a person: where, what was found and what was expected.
    pub detail: String,
    /// The MQTT topic on which it arrived.
    pub topic: String,
    /// The bytes as received.
    pub payload: Vec<u8>,
    /// When the gateway received it, UTC milliseconds.
    pub received_ms: i64,
}

/// The reason why a message is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterReason {
    /// The topic does not name a site, zone and device.
    BadTopic,
    /// Larger than the limit.
    Oversized,
    /// No bytes at all.
    Empty,
    /// Neither a number nor well-formed JSON.
    Malformed,
    /// Well-formed JSON that is not a reading.
    NotAReading,
    /// The timestamp cannot be read.
    BadTime,
    /// The metric is not in the metric table.
    UnknownMetric,
    /// The unit is missing, or not one that converts to the metric's.
    UnknownUnit,
    /// Kafka refuses the record for its size or content.
    Refused,
}

impl DeadLetterReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::BadTopic,
        Self::Oversized,
        Self::Empty,
        Self::Malformed,
        Self::NotAReading,
        Self::BadTime,
        Self::UnknownMetric,
        Self::UnknownUnit,
        Self::Refused,
    ];

    /// The name used on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadTopic => "bad_topic",
            Self::Oversized => "oversized",
            Self::Empty => "empty",
            Self::Malformed => "malformed",
            Self::NotAReading => "not_a_reading",
            Self::BadTime => "bad_time",
            Self::UnknownMetric => "unknown_metric",
            Self::UnknownUnit => "unknown_unit",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeadLetterReason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a reason for a dead letter"))
    }
}
