//! Local times, some of which occur twice and some never.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use super::{EXPECTED, TimeError};

/// How far a device's clock may be ahead of the arrival of its messages.
const AHEAD_MS_MAX: i64 = 5 * 60 * 1000;

/// Converts a local time to an instant, UTC milliseconds.
///
/// When clocks are put back, an hour occurs twice. The later of its two instants is meant if it
/// had passed when the message arrived, else the earlier one. When clocks are put forward, an
/// hour never occurs. A device that ignores summer time writes such times nevertheless, and the
/// arrival shows which offset it uses. An arrival that is further away than half of the change
/// decides neither case.
pub(super) fn to_instant_ms(
    local: DateTime,
    zone: &TimeZone,
    arrival_ms: Option<i64>,
    found: &str,
) -> Result<i64, TimeError> {
    let at_ms = |offset: Offset| {
        let at = offset.to_timestamp(local).map_err(|_| TimeError::new(found, EXPECTED));
        at.map(Timestamp::as_millisecond)
    };
    let name = || zone.iana_name().unwrap_or("this zone").to_owned();
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => at_ms(offset),
        AmbiguousOffset::Fold { before, after } => {
            choose_instant_ms(at_ms(before)?, at_ms(after)?, arrival_ms, false).ok_or_else(|| {
                let expected = format!(
                    "an offset, as in +01:00: clocks of {} were put back, this local time \
                     occurs twice, and no arrival near it decides",
                    name()
                );
                TimeError::new(found, expected)
            })
        }
        AmbiguousOffset::Gap { before, after } => {
            choose_instant_ms(at_ms(after)?, at_ms(before)?, arrival_ms, true).ok_or_else(|| {
                let expected = format!(
                    "a local time that exists: clocks of {} were put forward over this one",
                    name()
                );
                TimeError::new(found, expected)
            })
        }
    }
}

fn choose_instant_ms(
    earlier_ms: i64,
    later_ms: i64,
    arrival_ms: Option<i64>,
    is_gap: bool,
) -> Option<i64> {
    let arrival_ms = arrival_ms?;
    let near_ms_max = (later_ms - earlier_ms) / 2;
    let has_passed = later_ms <= arrival_ms.saturating_add(AHEAD_MS_MAX);
    let chosen_ms = if has_passed { later_ms } else { earlier_ms };
    let is_near = chosen_ms.abs_diff(arrival_ms) <= near_ms_max.unsigned_abs();
    (is_near || !(has_passed || is_gap)).then_some(chosen_ms)
}
