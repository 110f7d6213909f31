//! Times as files write them.

use jiff::{Timestamp, civil, tz::TimeZone};

/// What [`parse`] takes, for people.
pub const EXPECTED: &str =
    "a time, as in 2020-01-31T12:00:00Z, 2020-01-31 12:00:00 (UTC) or 1580472000 (s or ms)";

/// From 1970 to the year 9999, in seconds.
pub(crate) const SECONDS: std::ops::Range<f64> = 0.0..253_402_300_800.0;
/// Days between 1899-12-30, where spreadsheets count from, and 1970.
const SPREADSHEET_EPOCH_DAYS: f64 = 25_569.0;

/// UTC milliseconds of RFC 3339, `2020-01-31 12:00:00` (UTC), epoch seconds or
/// milliseconds, or a spreadsheet's count of days.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
    }
    let number: f64 = text.parse().ok()?;
    match number {
        // 1927 to 2173 in days; 1973 on in seconds, and in milliseconds.
        10_000.0..100_000.0 => {
            Some(((number - SPREADSHEET_EPOCH_DAYS) * 86_400_000.0).round() as i64)
        }
        1e8..1e11 => Some((number * 1000.0).round() as i64),
        1e11..1e14 => Some(number.round() as i64),
        _ => None,
    }
}

/// UTC milliseconds of `31/01/2020 12:00`.
pub(crate) fn day_first(text: &str) -> Option<i64> {
    let at = civil::DateTime::strptime("%d/%m/%Y %H:%M", text).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<i64>| assert_eq!(parse(text), expect, "{text}");
        let noon = Some(1_580_472_000_000);
        check("2020-01-31T12:00:00Z", noon);
        check("2020-01-31 12:00:00", noon);
        check("1580472000", noon);
        check("1580472000000", noon);
        check("43861.5", noon);
        check("soon", None);
        check("", None);
        check("7", None);
        assert_eq!(day_first("31/01/2020 12:00"), noon);
        assert_eq!(day_first("01/31/2020 12:00"), None);
    }
}
