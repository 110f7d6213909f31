//! Times as text.

use jiff::{
    civil::{DateTime, Time},
    fmt::temporal::{Pieces, PiecesOffset},
    tz::{Offset, TimeZone},
};

use super::{EXPECTED, ParsedTime, TimeError, TimeFormat, TimeParser, TimeUsage, local};

/// Texts that senders write for a missing time.
const UNSET: [&str; 10] =
    ["", "null", "none", "nil", "nan", "nat", "na", "n/a", "unknown", "unavailable"];
/// Longest text that can be a time, bytes.
const TEXT_BYTES_MAX: usize = 128;

const EXPECTED_ORDER: &str = "the year first, as in 2026-11-29 13:00; for another order, set the \
                              time format day-first or month-first";
const EXPECTED_ZONE: &str = "a time zone of the IANA database, as in [Europe/Berlin]";

pub(super) fn parse_written(
    parser: &TimeParser,
    text: &str,
    arrival_ms: Option<i64>,
) -> Result<ParsedTime, TimeError> {
    if UNSET.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(ParsedTime::Unset);
    }
    let refused = || TimeError::new(text, EXPECTED);
    if text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
        return Err(refused());
    }
    if let Some(parsed) = parse_as_number(parser, text) {
        return parsed.map_err(|error| TimeError { found: text.to_owned(), ..error });
    }
    // Databases write a missing time as 0000-00-00 00:00:00.
    if text.starts_with("0000") && !text.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        return Ok(ParsedTime::Unset);
    }
    let written = match reorder_date(text, parser.format) {
        Some(reordered) => reordered.map_err(|expected| TimeError::new(text, expected))?,
        None => text.to_owned(),
    };
    let written = normalise_written(&written, parser.usage);
    let pieces = Pieces::parse(&written).map_err(|_| refused())?;
    let local = DateTime::from_parts(pieces.date(), pieces.time().unwrap_or(Time::midnight()));
    let zone = pieces.to_time_zone().map_err(|_| TimeError::new(text, EXPECTED_ZONE))?;
    let instant_ms = match (pieces.offset(), zone) {
        (Some(written), zone) => {
            let offset = written.to_numeric_offset();
            let at = offset.to_timestamp(local).map_err(|_| refused())?;
            // RFC 9557: `Z` states nothing about the local time, any other offset does.
            if let (PiecesOffset::Numeric(_), Some(zone)) = (written, zone)
                && zone.to_offset(at) != offset
            {
                return Err(TimeError::new(text, describe_mismatch(offset, &zone)));
            }
            at.as_millisecond()
        }
        (None, zone) => {
            let time_zone = zone.as_ref().unwrap_or(&parser.time_zone);
            local::to_instant_ms(local, time_zone, arrival_ms, text)?
        }
    };
    Ok(parser.check_set(instant_ms))
}

fn describe_mismatch(offset: Offset, zone: &TimeZone) -> String {
    format!("an offset of {}, which {offset} was not then", zone.iana_name().unwrap_or("that zone"))
}

/// Parses a number in digits, with a fraction or an exponent. Returns `None` for any other text.
fn parse_as_number(parser: &TimeParser, text: &str) -> Option<Result<ParsedTime, TimeError>> {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.bytes().all(is_digit) {
        // A number of 40 digits is not a time in any unit.
        return Some(match text.parse() {
            Ok(number) => parser.parse_integer(number),
            Err(_) => parser.parse_number(f64::INFINITY),
        });
    }
    let is_part = |byte: u8| is_digit(byte) || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if !digits.bytes().all(is_part) {
        return None;
    }
    Some(parser.parse_number(text.parse().ok()?))
}

/// Rewrites a date with the year last to one with the year first. Returns `None` if the text is
/// not such a date, and an error if the order of day and month is not known.
fn reorder_date(text: &str, format: TimeFormat) -> Option<Result<String, &'static str>> {
    let (date, time) = match text.split_once([' ', 'T', ',']) {
        Some((date, time)) => (date, Some(time.trim_start())),
        None => (text, None),
    };
    let separator = date.chars().find(|c| !c.is_ascii_digit())?;
    let parts: Vec<&str> = date.split(separator).collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let [first, second, year] = parts[..] else { return None };
    let is_date = matches!(separator, '.' | '/' | '-')
        && [first, second, year].into_iter().all(is_number)
        && first.len() <= 2
        && second.len() <= 2;
    if !is_date {
        return None;
    }
    let (day, month) = match format {
        TimeFormat::DayFirst => (first, second),
        TimeFormat::MonthFirst => (second, first),
        TimeFormat::Iso | TimeFormat::SpreadsheetDays => return Some(Err(EXPECTED_ORDER)),
    };
    if year.len() != 4 {
        return Some(Err("a year of four digits"));
    }
    let date = format!("{year}-{month:0>2}-{day:0>2}");
    let Some(time) = time else { return Some(Ok(date)) };
    Some(to_24_hours(time).map(|time| format!("{date}T{time}")).ok_or(EXPECTED))
}

/// Converts `1:05 PM` to `13:05`, and pads the hour of a 24-hour time to two digits.
fn to_24_hours(time: &str) -> Option<String> {
    let lower = time.to_ascii_lowercase();
    let half = ["am", "pm"].into_iter().find(|half| lower.ends_with(half));
    let clock = half.map_or(time, |half| time[..time.len() - half.len()].trim_end());
    let (hour, rest) = clock.split_at(clock.find(':')?);
    let written_hour: u8 = hour.parse().ok()?;
    let hour = match half {
        None => written_hour,
        Some(_) if !(1..=12).contains(&written_hour) => return None,
        Some("am") => written_hour % 12,
        Some(_) => written_hour % 12 + 12,
    };
    Some(format!("{hour:02}{rest}"))
}

/// Converts common variants to the forms of RFC 9557: `2026/11/29`, a space before an offset,
/// `UTC` and zone names without brackets.
fn normalise_written(text: &str, usage: TimeUsage) -> String {
    let mut text = text.to_owned();
    let bytes = text.as_bytes();
    if bytes.len() >= 10
        && matches!(bytes[4], b'/' | b'.')
        && bytes[4] == bytes[7]
        && bytes[..4].iter().all(u8::is_ascii_digit)
    {
        text.replace_range(4..5, "-");
        text.replace_range(7..8, "-");
    }
    let Some((before, last)) = text.rsplit_once(' ') else { return text };
    let before = before.trim_end();
    // A date alone is followed by no offset or zone.
    if !before.contains(':') {
        return text;
    }
    if ["utc", "gmt"].iter().any(|word| last.eq_ignore_ascii_case(word)) {
        // Ruby and Go write both an offset and the zone: `+0000 UTC`.
        let has_offset = before.rsplit_once(' ').is_some_and(|(_, offset)| offset.starts_with('+'));
        let end = if has_offset { "" } else { "Z" };
        return normalise_written(&format!("{before}{end}"), usage);
    }
    if last.starts_with(['+', '-', 'Z', 'z', '[']) {
        return format!("{before}{last}");
    }
    if last.contains('/') && last.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return format!("{before}[{last}]");
    }
    // In a query `+` means a space, so a number after a time was its offset.
    if usage == TimeUsage::Bound && last.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("{before}+{last}");
    }
    text
}
