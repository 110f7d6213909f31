//! Distinct arrival times for messages without a time of their own.

use std::collections::HashMap;

/// How far an arrival time may be moved ahead of the clock, ms. That allows a burst of as many
/// messages of one topic. It is less than readings may be ahead of their arrival
/// (`engine.future_max_s`).
const AHEAD_MAX_MS: i64 = 120_000;

/// Assigns each message of a topic its own millisecond. A message without a time of its own was
/// measured when it arrived. Two equal values with the same millisecond would look like one value
/// that was delivered twice.
#[derive(Debug, Default)]
pub(crate) struct ArrivalTimes {
    /// The newest arrival of each topic, for the topics of the newest milliseconds.
    newest_ms: HashMap<u64, i64>,
    all_ms: i64,
}

impl ArrivalTimes {
    /// Returns the arrival time of a message that was received at `received_ms`.
    pub(crate) fn next_ms(&mut self, topic: u64, received_ms: i64) -> i64 {
        if received_ms > self.all_ms {
            self.newest_ms.clear();
            self.all_ms = received_ms;
        }
        let newest_ms = self.newest_ms.entry(topic).or_insert(i64::MIN);
        let next_ms = received_ms.max(newest_ms.saturating_add(1));
        let arrival_ms = if next_ms - received_ms > AHEAD_MAX_MS { received_ms } else { next_ms };
        *newest_ms = arrival_ms.max(*newest_ms);
        self.all_ms = self.all_ms.max(*newest_ms);
        arrival_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_of_a_topic_has_a_millisecond() {
        let mut times = ArrivalTimes::default();
        let received = [(1, 5), (1, 5), (2, 5), (1, 6), (2, 7), (1, 9), (1, 4)];
        let assigned: Vec<i64> =
            received.iter().map(|(topic, ms)| times.next_ms(*topic, *ms)).collect();
        assert_eq!(assigned, [5, 6, 5, 7, 7, 9, 10]);
        // A clock that was set back, and more messages than milliseconds.
        assert_eq!(times.next_ms(1, -500_000), -500_000);
        let last = (0..AHEAD_MAX_MS + 5_000).map(|_| times.next_ms(3, 100_000)).max();
        assert_eq!(last, Some(100_000 + AHEAD_MAX_MS));
        assert!(times.newest_ms.len() <= 2);
    }
}
