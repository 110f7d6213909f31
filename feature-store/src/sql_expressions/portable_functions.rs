//! Functions of SQL that every build of DuckDB computes alike.
//!
//! A prebuilt library has the extensions `icu`, `json` and `autocomplete` in it, a compiled
//! one has not. Definitions must mean the same with both, so functions of these extensions do
//! not exist here, and functions that lead to times with a time zone, for which DuckDB needs
//! `icu`, are refused with both. The file `functions.golden` is the list of what is left.

use feature_engine::sql::ExpressionError;

/// Functions of the extensions, other than those whose names start as below.
const EXTENSION_FUNCTIONS: [&str; 16] = [
    "array_to_json",
    "check_peg_parser",
    "current_date",
    "current_localtime",
    "current_localtimestamp",
    "disable_peg_parser",
    "enable_peg_parser",
    "from_json",
    "from_json_strict",
    "get_current_time",
    "make_timestamptz",
    "pg_timezone_names",
    "row_to_json",
    "sql_auto_complete",
    "to_json",
    "today",
];
const EXTENSION_PREFIXES: [&str; 5] = ["icu_", "json", "read_json", "read_ndjson", "->>"];

/// Functions whose value has a time zone.
const TIME_ZONE_FUNCTIONS: [&str; 3] = ["timezone", "to_timestamp", "uuid_extract_timestamp"];
const STRPTIME_FUNCTIONS: [&str; 2] = ["strptime", "try_strptime"];
const TIME_ZONE_HINT: &str =
    "times are UTC: `event`, make_timestamp(…µs) or make_timestamp_ms(…ms) have no time zone";

/// Whether only builds with extensions have the function.
pub(super) fn is_extension_function(name: &str) -> bool {
    EXTENSION_FUNCTIONS.contains(&name)
        || EXTENSION_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Refuses a call that some builds of DuckDB do not know.
///
/// # Errors
/// Where it gives a time with a time zone, with the way without one.
pub(super) fn refuse_time_zones(text: &str, function: &str) -> Result<(), ExpressionError> {
    if TIME_ZONE_FUNCTIONS.contains(&function) {
        let what = format!("`{function}` gives a time with a time zone");
        return Err(ExpressionError::new(what, TIME_ZONE_HINT));
    }
    let lower = text.to_ascii_lowercase();
    if STRPTIME_FUNCTIONS.contains(&function) && lower.contains("%z") {
        let what = format!("`{function}` with %z gives a time with a time zone");
        return Err(ExpressionError::new(what, TIME_ZONE_HINT));
    }
    if function == "time_bucket" && arguments_max(&lower, function) > 2 {
        return Err(ExpressionError::new(
            "`time_bucket` with an offset or a time zone has no meaning here",
            "move the time instead: time_bucket(width, event - offset) + offset",
        ));
    }
    Ok(())
}

/// Most arguments of any call of a function in an expression whose quotes are closed.
fn arguments_max(text: &str, function: &str) -> usize {
    let calls = text.match_indices(function).map(|(at, _)| &text[at + function.len()..]);
    calls.map(|call| arguments(call.trim_start())).max().unwrap_or(0)
}

/// Number of arguments in a text that starts with the bracket of a call, else 0.
fn arguments(call: &str) -> usize {
    let (mut depth, mut commas, mut quote) = (0_usize, 0, None);
    for c in call.chars() {
        match (quote, c) {
            (Some(open), _) => quote = (c != open).then_some(open),
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') if depth <= 1 => return commas + 1,
            (None, ')' | ']') => depth -= 1,
            (None, ',') if depth == 1 => commas += 1,
            (None, _) if depth == 0 => return 0,
            (None, _) => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_extensions_are_known_by_name() {
        for name in ["json_extract", "icu_collate_de", "today", "to_json", "read_json_auto"] {
            assert!(is_extension_function(name), "{name}");
        }
        for name in ["epoch", "hour", "greatest", "to_days", "current_setting"] {
            assert!(!is_extension_function(name), "{name}");
        }
    }

    #[test]
    fn times_with_a_time_zone_are_refused() {
        let check = |text: &str, function: &str, expect: Result<(), &str>| {
            let found = refuse_time_zones(text, function).map_err(|error| error.what);
            assert_eq!(found, expect.map_err(str::to_owned), "{text}");
        };
        check("hour(event)", "hour", Ok(()));
        check(
            "epoch(to_timestamp(value))",
            "to_timestamp",
            Err("`to_timestamp` gives a time with a time zone"),
        );
        check("epoch(strptime(device, '%Y'))", "strptime", Ok(()));
        check(
            "epoch(strptime(device, '%Y %z'))",
            "strptime",
            Err("`strptime` with %z gives a time with a time zone"),
        );
        check("epoch(time_bucket(INTERVAL 1 DAY, event))", "time_bucket", Ok(()));
        check("time_bucket(to_days(greatest(1, 2, 3)), [event, event][1])", "time_bucket", Ok(()));
        check("time_bucket (to_days(1), event, ')')", "time_bucket", Err(OFFSET));
        check("device = ',),' AND time_bucket(to_days(1), event) > event", "time_bucket", Ok(()));
    }

    const OFFSET: &str = "`time_bucket` with an offset or a time zone has no meaning here";
}
