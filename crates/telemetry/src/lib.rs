//! The types and codecs that every part of Microclimate shares. Does no I/O, reads no clock and
//! no configuration files.
//!
//! # Layout
//! In the order in which a message meets them:
//! - [`topic`]: MQTT topic → site, zone, device, metric; names of log topics
//! - [`payload`]: MQTT payload → [`SensorReport`], or the reason for a dead letter
//! - [`senml`]: packs of RFC 8428 → names, values, units and times
//! - [`time`]: a written time → an instant, for payloads, files, requests and commands
//! - [`report`]: what one message decoded to, and its form in the log, which `canonical_json`
//!   reads quickly
//! - [`zone`]: the entity that features and predictions are about
//! - [`metric`]: the table of known quantities, their units and plausible ranges
//! - [`unit`]: units as other systems write them, and their conversion
//! - [`sequence`]: copies of a message, distinguished from new messages by the sender's counter
//! - [`quality`]: `ok`, or why a reading does not enter features
//! - [`dead_letter`]: a message that could not become a report, with its reason

mod canonical_json;
pub mod dead_letter;
pub mod metric;
pub mod payload;
pub mod quality;
pub mod report;
pub mod senml;
pub mod sequence;
pub mod time;
pub mod topic;
pub mod unit;
pub mod zone;

pub use dead_letter::{DeadLetter, DeadLetterReason};
pub use metric::{MetricSpec, MetricTable};
pub use payload::{DecodedPayload, PayloadLimits};
pub use quality::QualityFlag;
pub use report::{ReportSource, SensorReading, SensorReport};
pub use sequence::{NumberedMessage, SequenceCheck, SequenceHistory};
pub use smol_str::SmolStr;
pub use time::{ParsedTime, TimeError, TimeFormat, TimeParser, TimeUsage};
pub use topic::DeviceAddress;
pub use zone::ZoneId;
