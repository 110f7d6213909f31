//! Copies of a reading, recognised by its device's sequence numbers: see [`telemetry::sequence`].

use serde::{Deserialize, Serialize};
use telemetry::{
    NumberedMessage, ReportSource, SensorReading, SensorReport, SequenceHistory, SmolStr,
};

/// Number of messages that are remembered per metric and device: as many as may be
/// unacknowledged, so that messages that are delivered again after a crash are recognised.
const MESSAGES_MAX: usize = 1024;

/// Sequence numbers of one metric of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SequenceFilter(Option<Box<SequenceHistory>>);

impl SequenceFilter {
    /// Records a numbered reading. Returns false if it is a copy of an earlier one.
    pub(super) fn note_sequence(
        &mut self,
        boot: &SmolStr,
        seq: u64,
        event_ms: i64,
        arrival_ms: i64,
        value: f64,
    ) -> bool {
        // A reading without its own timestamp has its arrival time as event time.
        let is_stamped = event_ms != arrival_ms;
        let content = if is_stamped {
            hash_value_and_time(value.to_bits(), event_ms)
        } else {
            value.to_bits()
        };
        let message = NumberedMessage {
            boot: Some(boot),
            number: seq,
            content,
            arrival_ms,
            is_stamped,
            is_redelivery: false,
        };
        !self.0.get_or_insert_default().check_message(&message, MESSAGES_MAX).is_copy()
    }
}

/// Returns whether a reading is a retained value without its own timestamp: a copy of a message
/// that was sent at an unknown time.
pub(super) fn is_stored_copy(report: &SensorReport, reading: &SensorReading) -> bool {
    report.source == ReportSource::Retained && reading.event_ms == report.arrival_ms
}

/// Hashes a value and its time (the finalizer of SplitMix64).
fn hash_value_and_time(value: u64, event_ms: i64) -> u64 {
    let mut mixed = value ^ event_ms.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maps (seq, event, arrival, value) in order to the indices of copies.
    fn copies(readings: impl IntoIterator<Item = (u64, i64, i64, f64)>) -> Vec<usize> {
        let (mut sequences, boot) = (SequenceFilter::default(), "1.2.0".into());
        let new = readings.into_iter().map(|(seq, event_ms, arrival_ms, value)| {
            sequences.note_sequence(&boot, seq, event_ms, arrival_ms, value)
        });
        new.collect::<Vec<_>>()
            .iter()
            .enumerate()
            .filter_map(|(i, is_new)| (!is_new).then_some(i))
            .collect()
    }

    #[test]
    fn counters_that_wrap_lose_nothing() {
        let unstamped = |width: u64| {
            (0..70_000).map(move |i| (i % width, i as i64 * 10_000, i as i64 * 10_000, 21.0))
        };
        assert_eq!(copies(unstamped(256)), [0; 0]);
        assert_eq!(copies(unstamped(1 << 16)), [0; 0]);
        let stamped =
            (0..70_000).map(|i| (i % 256, i as i64 * 10_000, i as i64 * 10_000 + 40, 21.0));
        assert_eq!(copies(stamped), [0; 0]);
    }

    #[test]
    fn copies_are_recognised_with_a_time_and_without() {
        let first = (0..100).map(|i| (i, i as i64 * 1000, i as i64 * 1000, 21.0));
        let again = (60..100).map(|i| (i, 9_000_000, 9_000_000, 21.0));
        assert_eq!(copies(first.chain(again)), (100..140).collect::<Vec<_>>());
        let first = (0..100).map(|i| (i, i as i64 * 1000, i as i64 * 1000 + 40, 21.0));
        let again = (0..100).map(|i| (i, i as i64 * 1000, 9_000_000, 21.0));
        assert_eq!(copies(first.chain(again)), (100..200).collect::<Vec<_>>());
        // A different value or time makes a different reading.
        assert_eq!(copies([(1, 0, 40, 21.0), (1, 0, 40, 21.5), (1, 10, 50, 21.0)]), [0; 0]);
    }
}
