//! The offset of a device's clock from this machine's clock.

/// Estimates the clock offset as the smallest difference of arrival time and timestamp over the
/// last minutes. It contains the clock's offset and the shortest delay of a message (as in the
/// filter of NTP: RFC 5905, section 10, takes the sample of least delay).
#[derive(Debug, Default)]
pub(crate) struct DeviceClockOffset {
    /// Smallest difference of the current span and of the previous one.
    now: Option<(i64, i64)>,
    before: Option<i64>,
}

/// Length of a span, milliseconds.
const SPAN_MS: i64 = 300_000;
/// Largest plausible offset of a clock, milliseconds: a wrong time zone is at most half a day. What
/// is further back is a backlog or an unset clock, and what is further ahead an unset clock.
const OFFSET_MS_MAX: u64 = 86_400_000;

impl DeviceClockOffset {
    /// Notes a live message, both times in UTC milliseconds. One whose times are more than a day
    /// apart says nothing about the clock.
    pub(crate) fn add_sample(&mut self, received_ms: i64, stamped_ms: i64) {
        let offset_ms = received_ms.saturating_sub(stamped_ms);
        if offset_ms.unsigned_abs() > OFFSET_MS_MAX {
            return;
        }
        self.now = match self.now {
            Some((since_ms, least)) if received_ms.saturating_sub(since_ms) < SPAN_MS => {
                Some((since_ms, least.min(offset_ms)))
            }
            now => {
                self.before = now.map(|(_, least)| least);
                Some((received_ms, offset_ms))
            }
        };
    }

    /// Returns by how much the device's clock is behind, milliseconds; negative if it is ahead.
    /// `None` if the device sends no times.
    pub(crate) fn estimate_ms(&self) -> Option<i64> {
        let (_, least) = self.now?;
        Some(self.before.map_or(least, |before| before.min(least)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks (received, stamped) in order against the estimate.
    fn check(messages: &[(i64, i64)], expect: Option<i64>) {
        let mut clock = DeviceClockOffset::default();
        messages.iter().for_each(|(received, stamped)| clock.add_sample(*received, *stamped));
        assert_eq!(clock.estimate_ms(), expect, "{messages:?}");
    }

    #[test]
    fn the_least_delay_of_ten_minutes() {
        check(&[], None);
        check(&[(1_000, 900)], Some(100));
        check(&[(1_000, 900), (2_000, 1_980), (3_000, 2_500)], Some(20));
        // A clock that is ahead.
        check(&[(1_000, 61_000), (2_000, 62_010)], Some(-60_010));
        // The previous span still counts, an earlier one does not.
        check(&[(0, -5), (SPAN_MS, SPAN_MS - 50)], Some(5));
        check(&[(0, -5), (SPAN_MS, SPAN_MS - 50), (2 * SPAN_MS, 2 * SPAN_MS - 70)], Some(50));
        // A buffered reading of last year, or a clock that was never set.
        check(&[(i64::MIN, i64::MAX)], None);
        check(&[(40_000_000_000, 1_000), (40_000_001_000, 40_000_000_990)], Some(10));
    }
}
