//! Arrival times of messages that have no time of their own.

use std::collections::HashMap;

/// How far arrival times may run ahead of the clock for it, ms: a burst of so many messages of
/// one topic. It is less than what readings may be ahead of their arrival
/// (`engine.future_max_s`).
const AHEAD_MAX_MS: i64 = 120_000;

/// Gives each message of a topic a millisecond of its own: without a time of its own a
/// message is measured when it arrives, and two equal values of one millisecond could not be
/// told from one value that came twice.
#[derive(Debug, Default)]
pub(crate) struct ArrivalTimes {
    /// The newest arrival by topic, of the topics of the newest milliseconds.
    newest_ms: HashMap<u64, i64>,
    all_ms: i64,
}

impl ArrivalTimes {
    /// The arrival of a message that was received at `received_ms`.
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
        let came = [(1, 5), (1, 5), (2, 5), (1, 6), (2, 7), (1, 9), (1, 4)];
        let given: Vec<i64> = came.iter().map(|(topic, ms)| times.next_ms(*topic, *ms)).collect();
        assert_eq!(given, [5, 6, 5, 7, 7, 9, 10]);
        // A clock that was set back, and more messages than milliseconds.
        assert_eq!(times.next_ms(1, -500_000), -500_000);
        let last = (0..AHEAD_MAX_MS + 5_000).map(|_| times.next_ms(3, 100_000)).max();
        assert_eq!(last, Some(100_000 + AHEAD_MAX_MS));
        assert!(times.newest_ms.len() <= 2);
    }
}
