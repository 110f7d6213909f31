//! Times as numbers, whose size determines the unit.

use super::{ParsedTime, TimeError, TimeFormat, TimeParser, TimeUsage};

/// 2100-01-01T00:00:00Z, in seconds. Numbers from here on are not times.
const END_S: i128 = 4_102_444_800;
/// The smallest number of milliseconds: 3 March 1973. As seconds it would be the year 5138.
const FIRST_MILLISECOND: i128 = 100_000_000_000;
/// A number of seconds in a request below this is a typing mistake, not a time of readings: 3
/// March 1973.
const FIRST_BOUND_S: i128 = 100_000_000;

/// Days between 1899-12-30, the epoch of spreadsheets, and 1970.
const SPREADSHEET_EPOCH_DAYS: f64 = 25_569.0;
/// Days of 2001 to 2099, as spreadsheets count them.
const SPREADSHEET_DAYS: std::ops::Range<f64> = 36_892.0..73_051.0;

const EXPECTED: &str = "seconds, milliseconds, microseconds or nanoseconds since 1970, up to 2099";
const EXPECTED_DAYS: &str = "days since 1899-12-30, of 2001 to 2099";

/// The unit of a number since 1970.
#[derive(Clone, Copy)]
enum EpochUnit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

/// Returns the only unit in which a number is a time of 1970 to 2099.
fn epoch_unit_of(number: i128) -> Option<EpochUnit> {
    let units = [
        (0, 1, EpochUnit::Seconds),
        (FIRST_MILLISECOND, 1_000, EpochUnit::Milliseconds),
        (FIRST_MILLISECOND * 1_000, 1_000_000, EpochUnit::Microseconds),
        (FIRST_MILLISECOND * 1_000_000, 1_000_000_000, EpochUnit::Nanoseconds),
    ];
    let is_in = |(first, per_second, _): &(i128, i128, EpochUnit)| {
        (*first..END_S * per_second).contains(&number)
    };
    units.into_iter().find(is_in).map(|(_, _, unit)| unit)
}

pub(super) fn parse_integer(parser: &TimeParser, number: i128) -> Result<ParsedTime, TimeError> {
    if parser.format == TimeFormat::SpreadsheetDays {
        return parse_days(parser, number as f64);
    }
    let refused = || TimeError::new(&number.to_string(), EXPECTED);
    let microseconds = match epoch_unit_of(number).ok_or_else(refused)? {
        EpochUnit::Seconds => number * 1_000_000,
        EpochUnit::Milliseconds => number * 1_000,
        EpochUnit::Microseconds => number,
        EpochUnit::Nanoseconds => number / 1_000,
    };
    check_number(parser, number, microseconds)
}

pub(super) fn parse_number(parser: &TimeParser, number: f64) -> Result<ParsedTime, TimeError> {
    if number.is_nan() {
        return Ok(ParsedTime::Unset);
    }
    if parser.format == TimeFormat::SpreadsheetDays {
        return parse_days(parser, number);
    }
    let refused = || TimeError::new(&number.to_string(), EXPECTED);
    if !(0.0..1e19).contains(&number) {
        return Err(refused());
    }
    let whole = number as i128;
    // Rounds to the nearest microsecond, which is as fine as such a number resolves: 0.123 s are
    // 123 ms, not 122.
    let microseconds = match epoch_unit_of(whole).ok_or_else(refused)? {
        EpochUnit::Seconds => (number * 1e6).round() as i128,
        EpochUnit::Milliseconds => (number * 1e3).round() as i128,
        EpochUnit::Microseconds => whole,
        EpochUnit::Nanoseconds => whole / 1_000,
    };
    check_number(parser, whole, microseconds)
}

fn check_number(
    parser: &TimeParser,
    number: i128,
    microseconds: i128,
) -> Result<ParsedTime, TimeError> {
    if parser.usage == TimeUsage::Bound && (1..FIRST_BOUND_S).contains(&number) {
        return Err(TimeError::new(&number.to_string(), super::EXPECTED));
    }
    // The number is below the year 2100 in every unit.
    Ok(parser.check_set((microseconds / 1_000) as i64))
}

fn parse_days(parser: &TimeParser, days: f64) -> Result<ParsedTime, TimeError> {
    if days == 0.0 {
        return Ok(ParsedTime::Unset);
    }
    if !SPREADSHEET_DAYS.contains(&days) {
        return Err(TimeError::new(&days.to_string(), EXPECTED_DAYS));
    }
    // Cells are written with few digits: a third of a day is 0.33333.
    Ok(parser.check_set(((days - SPREADSHEET_EPOCH_DAYS) * 86_400_000.0).round() as i64))
}
