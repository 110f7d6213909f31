//! Values and times in payloads of other systems.

use serde_json::Value;
use telemetry::{DeadLetterReason, TimeParser, TimeUsage, payload, time::parse_time_zone};

use super::{ReadingRefusal, zone_resolver::shorten_text};
use crate::message::InboundMessage;

/// Parses a payload as JSON, or as a bare number.
pub(super) fn parse_document(payload: &[u8]) -> Result<Value, ReadingRefusal> {
    payload::parse_lenient_json(payload_text(payload)?)
}

/// Returns a payload as text, without surrounding space.
pub(super) fn payload_text(payload: &[u8]) -> Result<&str, ReadingRefusal> {
    std::str::from_utf8(payload).map(str::trim).map_err(|e| {
        (DeadLetterReason::Malformed, format!("not UTF-8 at byte {}", e.valid_up_to()))
    })
}

/// Parses a JSON value as a number, with the unit in its text, as in `30.11 °C`.
pub(super) fn parse_json_quantity<'v>(
    name: &str,
    value: &'v Value,
) -> Result<(f64, Option<&'v str>), ReadingRefusal> {
    match value {
        Value::String(text) => parse_text_quantity(name, text),
        other => Ok((payload::number_from_json(name, other)?, None)),
    }
}

/// Parses a text as a number with the unit after it.
pub(super) fn parse_text_quantity<'t>(
    name: &str,
    text: &'t str,
) -> Result<(f64, Option<&'t str>), ReadingRefusal> {
    match payload::parse_quantity(text) {
        Some((number, unit)) => Ok((number, Some(unit))),
        None => Ok((parse_text_number(name, text)?, None)),
    }
}

/// Parses a text as a number.
pub(super) fn parse_text_number(name: &str, text: &str) -> Result<f64, ReadingRefusal> {
    payload::number_from_text(text).ok_or_else(|| {
        let what = format!(
            "`{}` is `{}`, expected a number",
            shorten_text(name),
            shorten_text(text.trim())
        );
        (DeadLetterReason::NotAReading, what)
    })
}

/// Returns the event time, UTC milliseconds. For a device that does not know the time yet, it is
/// the arrival time of the message.
pub(super) fn event_ms(
    name: &str,
    stamp: &Value,
    parser: &TimeParser,
    message: &InboundMessage,
) -> Result<i64, ReadingRefusal> {
    let received_ms = message.received_ms;
    let stamped_ms = payload::parse_time(name, stamp, parser, Some(received_ms))?;
    Ok(stamped_ms.unwrap_or(received_ms))
}

/// Builds the parser of a mapping's timestamps. `time_zone` is the IANA name of the zone of local
/// times.
pub(super) fn build_time_parser(time_zone: Option<&str>) -> Result<TimeParser, String> {
    let parser = TimeParser::new(TimeUsage::Live);
    match time_zone {
        None => Ok(parser),
        Some(name) => parse_time_zone(name)
            .map(|zone| parser.with_time_zone(zone))
            .map_err(|what| format!("time_zone: {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_735_689_600_000;

    fn check_time(value: &Value, zone: &str, received_ms: i64, expect: Option<i64>) {
        let message = InboundMessage {
            topic: "t".into(),
            payload: bytes::Bytes::new(),
            is_retained: false,
            is_redelivery: false,
            received_ms,
        };
        let got = event_ms("Time", value, &build_time_parser(Some(zone)).unwrap(), &message).ok();
        assert_eq!(got, expect, "{value} {zone}");
    }

    #[test]
    fn times_are_parsed() {
        let check = |value: Value, zone: &str, expect: Option<i64>| {
            check_time(&value, zone, NOW, expect);
        };
        let berlin = "Europe/Berlin";
        check(json!("2024-01-15T12:00:00"), "UTC", Some(1_705_320_000_000));
        check(json!("2024-01-15T12:00:00"), berlin, Some(1_705_316_400_000));
        check(json!("2024-07-15T12:00:00"), berlin, Some(1_721_037_600_000));
        check(json!("2024-01-15 12:00:00.250"), berlin, Some(1_705_316_400_250));
        check(json!("2024-01-15T12:00"), berlin, Some(1_705_316_400_000));
        check(json!("2024-01-15T12:00:00+01:00"), "UTC", Some(1_705_316_400_000));
        check(json!("2024-01-15T12:00:00Z"), berlin, Some(1_705_320_000_000));
        check(json!(1_705_320_000), berlin, Some(1_705_320_000_000));
        check(json!("1705320000"), berlin, Some(1_705_320_000_000));
        // The device has not received the time yet.
        for unset in [json!("1970-01-01T00:00:12"), json!(""), json!(0), json!(75), json!(null)] {
            check(unset, berlin, Some(NOW));
        }
        // A backlog in the hour that occurs twice, and in the one that never does.
        check(json!("2024-10-27T02:30:00"), berlin, None);
        check(json!("2024-03-31T02:30:00"), berlin, None);
        check(json!("noon"), berlin, None);
        check(json!(true), berlin, None);
        assert!(build_time_parser(Some("Mars/Base")).unwrap_err().contains("IANA"));
    }

    #[test]
    fn the_hour_that_occurs_twice_is_the_one_of_the_arrival() {
        let (first_ms, second_ms) = (1_729_989_000_000, 1_729_992_600_000);
        for at_ms in [first_ms, second_ms] {
            let stamp = json!("2024-10-27T02:30:00");
            check_time(&stamp, "Europe/Berlin", at_ms + 700, Some(at_ms));
        }
    }

    #[test]
    fn numbers_are_parsed() {
        let check = |value: Value, expect: Option<f64>| {
            let got = parse_json_quantity("x", &value).ok();
            assert_eq!(got, expect.map(|number| (number, None)), "{value}");
        };
        check(json!(21.5), Some(21.5));
        check(json!(" 21.5 "), Some(21.5));
        check(json!("ON"), Some(1.0));
        check(json!(false), Some(0.0));
        check(json!("warm"), None);
        check(json!({"x": 1}), None);
        assert!(parse_json_quantity("x", &json!("None")).unwrap().0.is_nan());
        assert_eq!(parse_json_quantity("x", &json!("30.1 °C")), Ok((30.1, Some("°C"))));
    }
}
