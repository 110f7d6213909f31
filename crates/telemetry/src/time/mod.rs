//! Converts a written time to an instant. MQTT payloads, mappings, files, REST requests and
//! command lines all use this parser, so that a timestamp means the same wherever it is given.
//! Reads no clock.
//!
//! | form | instant |
//! |---|---|
//! | number below 4,102,444,800 | seconds since 1970 |
//! | 10¹¹ to 4.1 × 10¹², 10¹⁴ to 4.1 × 10¹⁵, 10¹⁷ to 4.1 × 10¹⁸ | milliseconds, microseconds, nanoseconds since 1970 |
//! | `2026-11-29T13:00:00Z`, `…+01:00`, `…+0100`, `…[Europe/Berlin]` | that instant (RFC 3339, RFC 9557) |
//! | `2026-11-29T13:00`, `2026-11-29 13:00:00`, `2026-11-29` | local time of the parser's time zone |
//! | null, nothing, 0, `NaN`, and times before [`TimeUsage::first_ms`] | [`ParsedTime::Unset`] |
//! | anything else | refused, with what was found and expected |
//!
//! The ranges of numbers are those in which only one unit gives a time from 1970 to 2099. A
//! number outside them is refused, not guessed. Fractions of a millisecond are dropped.
//!
//! # Layout
//! - `number`: times as numbers, whose size determines the unit
//! - `text`: written forms
//! - `local`: local times, of which some occur twice and some never

mod local;
mod number;
mod text;

use std::{borrow::Cow, str::FromStr};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The result of reading a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedTime {
    /// The instant, UTC milliseconds.
    Instant(i64),
    /// No time: null, nothing, 0, or a time that only a clock that was never set shows.
    Unset,
}

/// The purpose of a time, which decides how early a plausible time may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUsage {
    /// The event time of a message that arrives now.
    Live,
    /// The event time of a recording.
    Recorded,
    /// A bound of a request, which may be any time.
    Bound,
}

/// 2016-01-01T00:00:00Z.
const FIRST_LIVE_MS: i64 = 1_451_606_400_000;
/// 2001-01-01T00:00:00Z.
const FIRST_RECORDED_MS: i64 = 978_307_200_000;

impl TimeUsage {
    /// The first plausible time, UTC milliseconds. An earlier one is [`ParsedTime::Unset`].
    ///
    /// Clocks without a battery start in 1970 (Unix), 1980 (GPS, FAT), on 2000-01-01 (the usual
    /// chips) or at a firmware's date, and count from there until somebody sets them. A live
    /// message was not measured before 2016. Recordings may be older, but a time before 2001
    /// cannot be distinguished from a clock that started on 2000-01-01.
    #[must_use]
    pub const fn first_ms(self) -> Option<i64> {
        match self {
            Self::Live => Some(FIRST_LIVE_MS),
            Self::Recorded => Some(FIRST_RECORDED_MS),
            Self::Bound => None,
        }
    }
}

/// The format of written times that are ambiguous by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeFormat {
    /// The year first, or a number since 1970.
    #[default]
    Iso,
    /// `31.01.2020 12:00`, `31/01/2020 12:00:05`; the year first is accepted too.
    DayFirst,
    /// `01/31/2020 12:00 PM`; the year first is accepted too.
    MonthFirst,
    /// Numbers are days since 1899-12-30, as spreadsheets count them.
    SpreadsheetDays,
}

impl TimeFormat {
    /// The name used on command lines and in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::DayFirst => "day-first",
            Self::MonthFirst => "month-first",
            Self::SpreadsheetDays => "spreadsheet-days",
        }
    }
}

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Iso, Self::DayFirst, Self::MonthFirst, Self::SpreadsheetDays];
        all.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            format!("`{text}` is not a time format: expected {}", all.map(Self::as_str).join(", "))
        })
    }
}

/// The error for a text or number that is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a time: expected {expected}")]
pub struct TimeError {
    /// The text that was found, shortened.
    pub found: String,
    /// The form that was expected instead.
    pub expected: Cow<'static, str>,
}

/// The forms of a time, for people.
pub const EXPECTED: &str = "a time: 2026-11-29T13:00:00Z, 2026-11-29 13:00:00+01:00, or seconds, \
                            milliseconds, microseconds or nanoseconds since 1970";
/// The form that is expected instead of [`ParsedTime::Unset`], for people.
pub const EXPECTED_SET: &str = "the time of a clock that is set";

impl TimeError {
    fn new(found: &str, expected: impl Into<Cow<'static, str>>) -> Self {
        const FOUND_CHARS_MAX: usize = 60;
        let shown = found.chars().filter(|c| !c.is_control()).take(FOUND_CHARS_MAX);
        Self { found: shown.collect(), expected: expected.into() }
    }
}

/// Parser of written times.
///
/// ```
/// use microclimate_telemetry::time::{ParsedTime, TimeParser, TimeUsage};
/// let parser = TimeParser::new(TimeUsage::Live);
/// let noon = Ok(ParsedTime::Instant(1_705_320_000_000));
/// assert_eq!(parser.parse_text("1705320000", None), noon);
/// assert_eq!(parser.parse_text("2024-01-15T13:00:00[Europe/Berlin]", None), noon);
/// assert_eq!(parser.parse_text("1970-01-01T00:01:15Z", None), Ok(ParsedTime::Unset));
/// assert!(parser.parse_text("noon", None).is_err());
/// ```
#[derive(Clone, Debug)]
pub struct TimeParser {
    usage: TimeUsage,
    time_zone: TimeZone,
    format: TimeFormat,
}

impl TimeParser {
    /// Creates a parser for which local times are UTC and years come first.
    #[must_use]
    pub const fn new(usage: TimeUsage) -> Self {
        Self { usage, time_zone: TimeZone::UTC, format: TimeFormat::Iso }
    }

    /// Sets the time zone of local times.
    #[must_use]
    pub fn with_time_zone(mut self, time_zone: TimeZone) -> Self {
        self.time_zone = time_zone;
        self
    }

    /// Sets the format of ambiguous times.
    #[must_use]
    pub fn with_format(mut self, format: TimeFormat) -> Self {
        self.format = format;
        self
    }

    /// Reads a time as JSON carries it: a number, a text or null. `arrival_ms` is the arrival
    /// time, UTC milliseconds. It decides between the two instants that a local time may mean.
    ///
    /// # Errors
    /// Returns what was found and what was expected.
    pub fn parse_json(
        &self,
        value: &Value,
        arrival_ms: Option<i64>,
    ) -> Result<ParsedTime, TimeError> {
        match value {
            Value::Null => Ok(ParsedTime::Unset),
            Value::String(text) => self.parse_text(text, arrival_ms),
            Value::Number(number) => {
                if let Some(whole) = number.as_i64() {
                    self.parse_integer(i128::from(whole))
                } else if let Some(whole) = number.as_u64() {
                    self.parse_integer(i128::from(whole))
                } else {
                    self.parse_number(number.as_f64().unwrap_or(f64::NAN))
                }
            }
            other => Err(TimeError::new(&other.to_string(), EXPECTED)),
        }
    }

    /// Reads a time as a person or a program writes it. Otherwise works as
    /// [`TimeParser::parse_json`].
    ///
    /// # Errors
    /// Returns what was found and what was expected.
    pub fn parse_text(&self, text: &str, arrival_ms: Option<i64>) -> Result<ParsedTime, TimeError> {
        text::parse_written(self, text.trim(), arrival_ms)
    }

    /// Reads a whole number.
    ///
    /// # Errors
    /// Returns an error if the number cannot be a time.
    pub fn parse_integer(&self, number: i128) -> Result<ParsedTime, TimeError> {
        number::parse_integer(self, number)
    }

    /// Reads a number. NaN is [`ParsedTime::Unset`].
    ///
    /// # Errors
    /// Returns an error if the number cannot be a time.
    pub fn parse_number(&self, number: f64) -> Result<ParsedTime, TimeError> {
        number::parse_number(self, number)
    }

    /// Reads an instant in UTC microseconds.
    #[must_use]
    pub fn parse_instant_us(&self, instant_us: i64) -> ParsedTime {
        self.check_set(instant_us.div_euclid(1000))
    }

    /// Reads a local time, given as the microseconds between it and 1970-01-01T00:00:00 of the
    /// same clock.
    ///
    /// # Errors
    /// Returns an error if the local time occurs twice or never and the arrival does not decide
    /// it.
    pub fn parse_local_us(
        &self,
        local_us: i64,
        arrival_ms: Option<i64>,
    ) -> Result<ParsedTime, TimeError> {
        if self.time_zone == TimeZone::UTC {
            return Ok(self.parse_instant_us(local_us));
        }
        let at = jiff::Timestamp::from_microsecond(local_us)
            .map_err(|_| TimeError::new(&local_us.to_string(), EXPECTED))?;
        let local = TimeZone::UTC.to_datetime(at);
        let found = local.to_string();
        Ok(self.check_set(local::to_instant_ms(local, &self.time_zone, arrival_ms, &found)?))
    }

    /// Returns [`ParsedTime::Unset`] for an instant before the first plausible time.
    fn check_set(&self, instant_ms: i64) -> ParsedTime {
        match self.usage.first_ms() {
            Some(first_ms) if instant_ms < first_ms => ParsedTime::Unset,
            _ => ParsedTime::Instant(instant_ms),
        }
    }
}

/// Looks up a time zone by its IANA name.
///
/// # Errors
/// States what was expected.
pub fn parse_time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        format!(
            "`{name}` is not a time zone: expected a name of the IANA database, as in Europe/Berlin"
        )
    })
}

/// Reads a bound of a request or a command line, UTC milliseconds. A local time is taken as UTC,
/// and a date is its first moment.
///
/// # Errors
/// States what was found and what was expected.
///
/// ```
/// use microclimate_telemetry::time::parse_bound_ms;
/// assert_eq!(parse_bound_ms("2013-08-29"), Ok(1_377_734_400_000));
/// assert_eq!(parse_bound_ms("2013-08-29T02:00:00+02:00"), Ok(1_377_734_400_000));
/// assert_eq!(parse_bound_ms("2013-08-29T00:00"), Ok(1_377_734_400_000));
/// assert_eq!(parse_bound_ms("1377734400000"), Ok(1_377_734_400_000));
/// assert!(parse_bound_ms("yesterday").is_err());
/// ```
pub fn parse_bound_ms(text: &str) -> Result<i64, String> {
    match TimeParser::new(TimeUsage::Bound).parse_text(text, None) {
        Ok(ParsedTime::Instant(ms)) => Ok(ms),
        Ok(ParsedTime::Unset) => Err(TimeError::new(text, EXPECTED).to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
