//! Records of the log: reports, dead letters, and which of these were mended.

use std::hash::{DefaultHasher, Hash, Hasher};

use eventlog::Record;
use telemetry::{DeadLetter, Report};

/// A report as a record of `sensor.readings`. The record's time is when this gateway received
/// it, by its own clock, whatever the report says of itself: a replay's `arrival_ms` is the
/// recorded one.
pub(crate) fn report(report: &Report, received_ms: i64) -> Record {
    Record::new(report.zone.to_string(), report.to_json(), received_ms)
}

/// A dead letter as a record of `sensor.dead-letters`.
pub(crate) fn dead_letter(letter: &DeadLetter) -> Record {
    let mut record = Record::new(letter.topic.clone(), letter.payload.clone(), letter.received_ms);
    record.headers = vec![
        header("reason", letter.reason),
        header("detail", &letter.detail),
        header("topic", &letter.topic),
        header("received_ms", letter.received_ms),
    ];
    record
}

/// Says, in `sensor.dead-letters`, that a dead letter became readings.
pub(crate) fn reinjected(id: u64, now_ms: i64) -> Record {
    let mut record = Record::new(format!("{id:016x}"), "", now_ms);
    record.headers = vec![header("reinjected", format_args!("{id:016x}"))];
    record
}

fn header(name: &str, value: impl ToString) -> (String, Vec<u8>) {
    (name.to_owned(), value.to_string().into_bytes())
}

/// What a record of `sensor.dead-letters` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Letter {
    Dead(DeadLetter),
    /// The letter with this id became readings.
    Reinjected(u64),
}

impl Letter {
    /// Reads a record back; `None` where it is not this program's.
    pub(crate) fn read(record: &Record) -> Option<Self> {
        let header = |name| record.header(name).and_then(|value| std::str::from_utf8(value).ok());
        if let Some(id) = header("reinjected") {
            return u64::from_str_radix(id, 16).ok().map(Self::Reinjected);
        }
        Some(Self::Dead(DeadLetter {
            reason: header("reason")?.parse().ok()?,
            detail: header("detail")?.to_owned(),
            topic: header("topic")?.to_owned(),
            payload: record.payload.to_vec(),
            received_ms: header("received_ms")?.parse().ok()?,
        }))
    }
}

/// Names a dead letter, by what was received and when.
pub(crate) fn letter_id(letter: &DeadLetter) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&letter.topic, &letter.payload, letter.received_ms).hash(&mut hasher);
    hasher.finish()
}
