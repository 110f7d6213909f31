//! Records of the log: reports, dead letters, and notes of reinjected dead letters.

use std::hash::{DefaultHasher, Hash, Hasher};

use eventlog::Record;
use telemetry::{DeadLetter, SensorReport};

/// Builds a record of `sensor.readings` from a report. The record's time is when this gateway
/// received the report, by its own clock. A replay's `arrival_ms` is the recorded arrival
/// instead.
pub(crate) fn report_record(report: &SensorReport, received_ms: i64) -> Record {
    Record::new(report.zone.to_string(), report.to_json(), received_ms)
}

/// Adds the headers of a report in Kafka, by which consumers may filter without reading the
/// content: the format (`schema`), the device, the source (`source`), and whether readings of the
/// message are missing because they could not be decoded (`quality`: `whole` or `partial`).
pub(crate) fn add_report_headers(record: &mut Record, report: &SensorReport, is_whole: bool) {
    record.headers = vec![
        record_header("schema", REPORT_SCHEMA),
        record_header("device", &report.device),
        record_header("source", report.source.as_str()),
        record_header("quality", if is_whole { "whole" } else { "partial" }),
    ];
}

/// The format of a report: JSON of a [`SensorReport`](telemetry::SensorReport).
const REPORT_SCHEMA: &str = "microclimate.report.v1";

/// Longest detail of a dead letter, bytes. It keeps a dead letter about as large as its message.
const DETAIL_BYTES_MAX: usize = 1024;

/// Longest topic that is repeated in a header, bytes. The key holds a longer one.
const TOPIC_HEADER_BYTES_MAX: usize = 256;

/// Builds a record of `sensor.dead-letters` from a dead letter with its number of readings. The
/// key is the topic.
pub(crate) fn dead_letter_record(letter: &DeadLetter, readings: u64) -> Record {
    let mut record = Record::new(letter.topic.clone(), letter.payload.clone(), letter.received_ms);
    record.headers = vec![
        record_header("reason", letter.reason),
        record_header("detail", truncate_text(&letter.detail, DETAIL_BYTES_MAX)),
        record_header("received_ms", letter.received_ms),
        record_header("readings", readings),
    ];
    if letter.topic.len() <= TOPIC_HEADER_BYTES_MAX {
        record.headers.push(record_header("topic", &letter.topic));
    }
    record
}

/// Returns a dead letter as its record stores it.
#[cfg(fuzzing)]
pub(crate) fn as_kept(letter: DeadLetter) -> DeadLetter {
    DeadLetter { detail: truncate_text(&letter.detail, DETAIL_BYTES_MAX).to_owned(), ..letter }
}

/// Builds the record of a dead letter that the log refuses, with the beginning of its payload.
pub(crate) fn cut_dead_letter_record(
    letter: &DeadLetter,
    readings: u64,
    bytes_max: usize,
) -> Record {
    let payload_bytes = letter.payload.len();
    let mut payload = letter.payload.clone();
    payload.truncate(bytes_max);
    let detail = format!("{} (cut: the payload had {payload_bytes} bytes)", letter.detail);
    let topic = truncate_text(&letter.topic, bytes_max).to_owned();
    dead_letter_record(&DeadLetter { payload, detail, topic, ..letter.clone() }, readings)
}

/// Returns the beginning of a text, at most `bytes_max` bytes.
fn truncate_text(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Returns the number of readings of a dead letter.
pub(crate) fn dead_letter_readings(record: &Record) -> u64 {
    let text = record.header_value("readings").and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Builds the record of `sensor.dead-letters` which states that a dead letter became readings.
pub(crate) fn reinjected_record(id: u64, now_ms: i64) -> Record {
    let mut record = Record::new(format!("{id:016x}"), "", now_ms);
    record.headers = vec![record_header("reinjected", format_args!("{id:016x}"))];
    record
}

fn record_header(name: &str, value: impl ToString) -> (String, Vec<u8>) {
    (name.to_owned(), value.to_string().into_bytes())
}

/// The content of a record of `sensor.dead-letters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeadLetterRecord {
    Dead(DeadLetter),
    /// The dead letter with this id became readings.
    Reinjected(u64),
}

impl DeadLetterRecord {
    /// Parses a record; `None` if this program did not write it.
    pub(crate) fn from_record(record: &Record) -> Option<Self> {
        let header =
            |name| record.header_value(name).and_then(|value| std::str::from_utf8(value).ok());
        if let Some(id) = header("reinjected") {
            return u64::from_str_radix(id, 16).ok().map(Self::Reinjected);
        }
        Some(Self::Dead(DeadLetter {
            reason: header("reason")?.parse().ok()?,
            detail: header("detail")?.to_owned(),
            topic: header("topic").unwrap_or(&record.key).to_owned(),
            payload: record.payload.to_vec(),
            received_ms: header("received_ms")?.parse().ok()?,
        }))
    }
}

/// Returns the id of a dead letter: a hash of its content and its arrival time.
pub(crate) fn dead_letter_id(letter: &DeadLetter) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&letter.topic, &letter.payload, letter.received_ms).hash(&mut hasher);
    hasher.finish()
}
