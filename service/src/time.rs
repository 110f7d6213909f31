//! Times as people write them.

use jiff::{Timestamp, civil, tz::TimeZone};

/// UTC milliseconds of a date, of an RFC 3339 time, or of UTC milliseconds.
///
/// # Errors
/// Says what was expected.
///
/// ```
/// use service::time::parse_ms;
/// assert_eq!(parse_ms("2013-08-29"), Ok(1_377_734_400_000));
/// assert_eq!(parse_ms("2013-08-29T02:00:00+02:00"), Ok(1_377_734_400_000));
/// assert_eq!(parse_ms("1377734400000"), Ok(1_377_734_400_000));
/// assert!(parse_ms("yesterday").is_err());
/// ```
pub fn parse_ms(text: &str) -> Result<i64, String> {
    let date = || {
        let date: civil::Date = text.parse().ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp())
    };
    let time = || text.parse::<Timestamp>().ok().or_else(date).map(Timestamp::as_millisecond);
    text.parse().ok().or_else(time).ok_or_else(|| {
        let found: String = text.chars().take(60).collect();
        format!("`{found}` is no time: expected 2013-08-29, 2013-08-29T12:00:00Z or milliseconds since 1970, all UTC")
    })
}
