use serde::{Deserialize, Serialize};

/// Time over which the lag of a device is observed, ms, and the smallest number of messages in
/// it.
const SPAN_MS: i64 = 600_000;
const MESSAGES_MIN: u32 = 8;
/// Allowed spread of the lag: what the network may add, ms, and the divisor for what a drifting
/// clock may add.
const SPREAD_MS_MAX: i64 = 30_000;
const SPREAD_SHARE: i64 = 50;
/// Smallest offset that is reported, ms. Nobody needs to correct a smaller one.
const OFFSET_MS_MIN: i64 = 60_000;

/// Estimates how far a device's clock is from the gateway's. The estimate is the smallest lag of
/// its messages over ten minutes, if the lag is nearly constant. This is the clock filter of NTP
/// (RFC 5905, section 10), which takes the sample of least delay. The lag of a buffer that is
/// sent later shrinks, so a buffer has no offset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DeviceClock {
    span: Option<LagSpan>,
    offset_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LagSpan {
    since_ms: i64,
    messages: u32,
    least_ms: i64,
    most_ms: i64,
}

impl DeviceClock {
    /// Records a live message that has the device's own timestamp. Returns the offset if it has
    /// changed.
    pub(super) fn note_message(&mut self, arrival_ms: i64, event_ms: i64) -> Option<i64> {
        let lag_ms = arrival_ms.saturating_sub(event_ms);
        let start =
            LagSpan { since_ms: arrival_ms, messages: 0, least_ms: lag_ms, most_ms: lag_ms };
        let span = self.span.get_or_insert(start);
        if arrival_ms < span.since_ms {
            *span = start;
        }
        span.messages += 1;
        span.least_ms = span.least_ms.min(lag_ms);
        span.most_ms = span.most_ms.max(lag_ms);
        if arrival_ms - span.since_ms < SPAN_MS || span.messages < MESSAGES_MIN {
            return None;
        }
        let LagSpan { least_ms, most_ms, .. } = *span;
        self.span = None;
        let spread_ms = SPREAD_MS_MAX.max(least_ms.saturating_abs() / SPREAD_SHARE);
        let is_constant = most_ms - least_ms <= spread_ms;
        let is_off = is_constant && least_ms.saturating_abs() >= OFFSET_MS_MIN;
        let before_ms = std::mem::replace(&mut self.offset_ms, is_off.then_some(-least_ms));
        let is_new = |offset_ms: &i64| {
            before_ms.is_none_or(|before_ms| (before_ms - offset_ms).abs() > spread_ms)
        };
        self.offset_ms.filter(is_new)
    }

    /// Returns how far the clock is ahead of the gateway's, ms; negative means behind. `None`
    /// means that the clock is right or that its offset is not constant.
    pub(super) const fn offset_ms(&self) -> Option<i64> {
        self.offset_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    /// Lags of a message each minute, ms → the offset at the end.
    fn check(lags_ms: impl Iterator<Item = i64>, expect: Option<i64>) {
        let mut clock = DeviceClock::default();
        for (minute, lag_ms) in (0..).zip(lags_ms) {
            let arrival_ms = minute * MINUTE_MS;
            clock.note_message(arrival_ms, arrival_ms - lag_ms);
        }
        assert_eq!(clock.offset_ms(), expect);
    }

    #[test]
    fn a_constant_lag_is_an_offset_and_another_is_none() {
        check((0..60).map(|n| 200 + n % 7), None);
        check((0..60).map(|n| 28_800_000 + n % 2 * 700), Some(-28_800_000));
        check((0..60).map(|n| n % 2 * 900 - 240_000), Some(240_000));
        // A buffered day that is sent within the hour, and one that is sent at once.
        check((0..60).map(|n| 86_400_000 - n * 1_400_000), None);
        check((0..5).map(|_| 86_400_000), None);
        // It was set right.
        check((0..60).map(|n| if n < 30 { 28_800_000 } else { 300 }), None);
    }

    #[test]
    fn a_new_offset_is_said_once() {
        let mut clock = DeviceClock::default();
        let mut said = Vec::new();
        for minute in 0..120 {
            let lag_ms = if minute < 60 { 3_600_000 } else { 7_200_000 };
            said.extend(clock.note_message(minute * MINUTE_MS, minute * MINUTE_MS - lag_ms));
        }
        assert_eq!(said, [-3_600_000, -7_200_000]);
    }
}
