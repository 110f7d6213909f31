//! Values and times as payloads of other systems carry them.

use jiff::{civil::DateTime, tz::TimeZone};
use serde_json::Value;
use telemetry::{Reason, payload};

use super::{Refusal, place::shorten};

/// A payload as JSON; a text that only reads as a number is one.
pub(super) fn document(payload: &[u8]) -> Result<Value, Refusal> {
    payload::parse(text(payload)?)
}

/// A payload as text, without the space around it.
pub(super) fn text(payload: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(payload)
        .map(str::trim)
        .map_err(|e| (Reason::Malformed, format!("not UTF-8 at byte {}", e.valid_up_to())))
}

/// A JSON value as a number: as in the gateway's own payloads, and also a text
/// that says a number, on or off.
pub(super) fn number(name: &str, value: &Value) -> Result<f64, Refusal> {
    match value {
        Value::String(text) => words(name, text),
        other => payload::number(name, other),
    }
}

/// A text as a number.
pub(super) fn words(name: &str, text: &str) -> Result<f64, Refusal> {
    let text = text.trim();
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["on", "true", "open"]) {
        Ok(1.0)
    } else if is(&["off", "false", "closed"]) {
        Ok(0.0)
    } else if is(&["none", "null", "nan"]) {
        // What senders write while a sensor gives nothing.
        Ok(f64::NAN)
    } else {
        text.parse().map_err(|_| {
            let what = format!("`{}` is `{}`, expected a number", shorten(name), shorten(text));
            (Reason::NotAReading, what)
        })
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A time stamp, UTC milliseconds; one without a zone is in `zone`.
pub(super) fn time_ms(name: &str, value: &Value, zone: &TimeZone) -> Result<i64, Refusal> {
    let Some(local) = value.as_str().and_then(local) else { return payload::time_ms(name, value) };
    let ms = local.to_zoned(zone.clone()).map(|time| time.timestamp().as_millisecond());
    match ms {
        // Midnight of 1970 east of Greenwich, by a clock that was never set.
        Ok(ms) if ms >= -DAY_MS => Ok(ms.max(0)),
        _ => payload::time_ms(name, value),
    }
}

/// A date and time that says no zone, with `T` or a space between them.
fn local(text: &str) -> Option<DateTime> {
    // Jiff takes an offset that it does not need, but not a `Z`.
    let has_offset = text.get(19..).is_some_and(|rest| rest.contains(['+', '-', 'Z', 'z']));
    if has_offset { None } else { text.parse().ok() }
}

/// A time zone by its IANA name.
pub(super) fn time_zone(name: Option<&str>) -> Result<TimeZone, String> {
    let name = name.unwrap_or("UTC");
    TimeZone::get(name).map_err(|_| {
        format!(
            "time_zone = \"{name}\": expected a name of the IANA database, as in \"Europe/Berlin\""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times() {
        let check = |value: Value, zone: &str, expect: Option<i64>| {
            let got = time_ms("Time", &value, &time_zone(Some(zone)).unwrap()).ok();
            assert_eq!(got, expect, "{value} {zone}");
        };
        let berlin = "Europe/Berlin";
        check(json!("2024-01-15T12:00:00"), "UTC", Some(1_705_320_000_000));
        check(json!("2024-01-15T12:00:00"), berlin, Some(1_705_316_400_000));
        check(json!("2024-07-15T12:00:00"), berlin, Some(1_721_037_600_000));
        check(json!("2024-01-15 12:00:00.250"), berlin, Some(1_705_316_400_250));
        // In the hour that summer time repeats the first one is taken, in the
        // hour that it leaves out the time goes on by one hour (RFC 5545).
        check(json!("2024-10-27T02:30:00"), berlin, Some(1_729_989_000_000));
        check(json!("2024-03-31T02:30:00"), berlin, Some(1_711_848_600_000));
        check(json!("2024-01-15T12:00:00+01:00"), "UTC", Some(1_705_316_400_000));
        check(json!("2024-01-15T12:00:00Z"), berlin, Some(1_705_320_000_000));
        check(json!(1_705_320_000), berlin, Some(1_705_320_000_000));
        check(json!("1970-01-01T00:00:12"), berlin, Some(0));
        check(json!("1969-01-01T00:00:00"), berlin, None);
        check(json!("0001-01-01T00:00:00"), berlin, None);
        check(json!("noon"), berlin, None);
    }

    #[test]
    fn numbers() {
        let check = |value: Value, expect: Option<f64>| {
            assert_eq!(number("x", &value).ok(), expect, "{value}");
        };
        check(json!(21.5), Some(21.5));
        check(json!(" 21.5 "), Some(21.5));
        check(json!("ON"), Some(1.0));
        check(json!(false), Some(0.0));
        check(json!("warm"), None);
        check(json!({"x": 1}), None);
        assert!(number("x", &json!("None")).unwrap().is_nan());
    }
}
