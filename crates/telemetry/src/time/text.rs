//! Written forms.

use jiff::{
    civil::{DateTime, Time},
    fmt::temporal::{Pieces, PiecesOffset},
    tz::{Offset, TimeZone},
};

use super::{EXPECTED, ParsedTime, TimeError, TimeFormat, TimeParser, TimeUsage, local};

/// What senders write where there is no time.
const UNSET: [&str; 10] =
    ["", "null", "none", "nil", "nan", "nat", "na", "n/a", "unknown", "unavailable"];
/// A longer text is no time.
const TEXT_BYTES_MAX: usize = 128;

const EXPECTED_ORDER: &str = "the year first, as in 2026-11-29 13:00: of another order must be said \
                              what comes first, by the time format day-first or month-first";
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
    // What databases write for none, as in 0000-00-00 00:00:00.
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
            // RFC 9557: `Z` says nothing of the local time, any other offset does.
            if let (PiecesOffset::Numeric(_), Some(zone)) = (written, zone)
                && zone.to_offset(at) != offset
            {
                return Err(TimeError::new(text, describe_mismatch(offset, &zone)));
            }
            at.as_millisecond()
        }
        (None, zone) => {
            let zone = zone.as_ref().unwrap_or(&parser.time_zone);
            local::to_instant_ms(local, zone, arrival_ms, text)?
        }
    };
    Ok(parser.check_set(instant_ms))
}

fn describe_mismatch(offset: Offset, zone: &TimeZone) -> String {
    format!("an offset of {}, which {offset} was not then", zone.iana_name().unwrap_or("that zone"))
}

/// A number in digits, with a fraction or an exponent; `None` where it is
/// something else.
fn parse_as_number(parser: &TimeParser, text: &str) -> Option<Result<ParsedTime, TimeError>> {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.bytes().all(is_digit) {
        // One of 40 digits is no time in any unit.
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

/// A date with the year last, as one with the year first; `None` where it is
/// none, an error where the order of day and month is not said.
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

/// `1:05 PM` as `13:05`; a time of 24 hours with two digits for the hour.
fn to_24_hours(time: &str) -> Option<String> {
    let lower = time.to_ascii_lowercase();
    let half = ["am", "pm"].into_iter().find(|half| lower.ends_with(half));
    let clock = half.map_or(time, |half| time[..time.len() - half.len()].trim_end());
    let (hour, rest) = clock.split_at(clock.find(':')?);
    let hour: u8 = hour.parse().ok()?;
    let hour = match half {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some("am") => hour % 12,
        Some(_) => hour % 12 + 12,
    };
    Some(format!("{hour:02}{rest}"))
}

/// The forms of RFC 9557 for what others write beside them: `2026/11/29`, a
/// space before an offset, `UTC` and names of zones without brackets.
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
    // A date alone has no offset or zone behind it.
    if !before.contains(':') {
        return text;
    }
    if ["utc", "gmt"].iter().any(|word| last.eq_ignore_ascii_case(word)) {
        // Ruby and Go write both: `+0000 UTC`.
        let has_offset = before.rsplit_once(' ').is_some_and(|(_, own)| own.starts_with('+'));
        let end = if has_offset { "" } else { "Z" };
        return normalise_written(&format!("{before}{end}"), usage);
    }
    if last.starts_with(['+', '-', 'Z', 'z', '[']) {
        return format!("{before}{last}");
    }
    if last.contains('/') && last.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return format!("{before}[{last}]");
    }
    // In a query `+` is a space: a time behind a time was its offset.
    if usage == TimeUsage::Bound && last.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("{before}+{last}");
    }
    text
}
