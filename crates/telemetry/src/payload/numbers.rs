//! Numbers as devices write them: in lenient JSON, as texts, with a unit.

use serde_json::Value;

use super::shorten_value;
use crate::{DeadLetterReason, unit};

/// Parses JSON, or a bare number as devices print it. A decimal comma is accepted. What
/// `printf("%f")` writes for no number becomes `null`, a reading that is not a number, so that it
/// is counted where people look. The same words inside JSON become `null` too, so that the values
/// beside them are not lost.
///
/// # Errors
/// Returns [`DeadLetterReason::Malformed`] with the position and what was expected.
pub fn parse_lenient_json(text: &str) -> Result<Value, (DeadLetterReason, String)> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some(number) = parse_number(text) {
        return Ok(Value::from(number)); // `null` for NaN
    }
    if let Some(value) = replace_with_nulls(text).and_then(|text| serde_json::from_str(&text).ok())
    {
        return Ok(value);
    }
    Err((DeadLetterReason::Malformed, format!("neither a number nor JSON: {error}")))
}

/// The words that `printf` writes for a value that is not a number, in lower case.
const NO_NUMBER: [&str; 3] = ["nan", "inf", "infinity"];

/// Replaces the words of `printf` that stand outside of texts by `null`. Returns `None` if there
/// are none.
fn replace_with_nulls(text: &str) -> Option<String> {
    let mut replaced = String::with_capacity(text.len() + 8);
    let (mut is_text, mut is_escaped, mut is_replaced) = (false, false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphabetic() || matches!(c, '-' | '+');
        if !is_text && is_word(c) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let word = rest[..end].trim_start_matches(['-', '+']);
            let is_none = NO_NUMBER.iter().any(|none| word.eq_ignore_ascii_case(none));
            replaced.push_str(if is_none { "null" } else { &rest[..end] });
            is_replaced |= is_none;
            rest = &rest[end..];
            continue;
        }
        if c == '"' && !is_escaped {
            is_text = !is_text;
        }
        is_escaped = is_text && c == '\\' && !is_escaped;
        replaced.push(c);
        rest = &rest[c.len_utf8()..];
    }
    is_replaced.then_some(replaced)
}

/// Parses a text as a number, as programs write it or with a decimal comma (`21,5`). The words
/// for no number give NaN. Returns `None` for any other text, and for `1,234`, which is
/// ambiguous.
///
/// ```
/// use microclimate_telemetry::payload::parse_number;
/// assert_eq!(parse_number(" 21.5 "), Some(21.5));
/// assert_eq!(parse_number("21,5"), Some(21.5));
/// assert_eq!(parse_number("1,234"), None);
/// assert!(parse_number("nan").unwrap().is_nan());
/// ```
#[must_use]
pub fn parse_number(text: &str) -> Option<f64> {
    let text = text.trim();
    let bare = text.trim_start_matches(['-', '+']);
    if NO_NUMBER.iter().any(|none| bare.eq_ignore_ascii_case(none)) {
        return Some(f64::NAN);
    }
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let (whole, decimals) = bare.split_once(',')?;
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let may_be_thousands = decimals.len() == 3 && whole.len() <= 3 && !whole.starts_with('0');
    if !is_digits(whole) || !is_digits(decimals) || may_be_thousands {
        return None;
    }
    text.replacen(',', ".", 1).parse().ok()
}

/// Parses a text that is a number followed by a unit that [`is_unit`](crate::unit::is_unit)
/// accepts.
///
/// ```
/// use microclimate_telemetry::payload::parse_quantity;
/// assert_eq!(parse_quantity("30.11 °C"), Some((30.11, "°C")));
/// assert_eq!(parse_quantity("640uS/cm"), Some((640.0, "uS/cm")));
/// assert_eq!(parse_quantity("30.11"), None);
/// assert_eq!(parse_quantity("1.2.3"), None);
/// ```
#[must_use]
pub fn parse_quantity(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let is_numeric_char = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-' | '+');
    let (number, unit) = text.split_at(text.find(|c| !is_numeric_char(c))?);
    let unit = unit.trim();
    let number = parse_number(number).filter(|_| unit::is_unit(unit))?;
    Some((number, unit))
}

/// Reads a value as payloads carry it. True and false are 1 and 0, null is NaN, and a text may
/// hold any of these.
///
/// # Errors
/// Returns [`DeadLetterReason::NotAReading`] with what was found.
///
/// ```
/// use microclimate_telemetry::payload::number_from_json;
/// assert_eq!(number_from_json("co2", &serde_json::json!(412)), Ok(412.0));
/// assert_eq!(number_from_json("co2", &serde_json::json!("412")), Ok(412.0));
/// ```
pub fn number_from_json(key: &str, value: &Value) -> Result<f64, (DeadLetterReason, String)> {
    let read = match value {
        Value::Number(number) => Some(number.as_f64().unwrap_or(f64::NAN)),
        Value::Bool(on) => Some(f64::from(u8::from(*on))),
        Value::Null => Some(f64::NAN),
        Value::String(text) => number_from_text(text),
        _ => None,
    };
    read.ok_or_else(|| {
        (
            DeadLetterReason::NotAReading,
            format!(
                "`{}` is {}, expected a number, true, false or null",
                key,
                shorten_value(value)
            ),
        )
    })
}

/// Parses a text as a number, as a switch that is on (1) or off (0), or as what senders write
/// while a sensor gives no value (NaN).
#[must_use]
pub fn number_from_text(text: &str) -> Option<f64> {
    let text = text.trim();
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["on", "true", "open"]) {
        Some(1.0)
    } else if is(&["off", "false", "closed"]) {
        Some(0.0)
    } else if is(&["none", "null", "na", "n/a", "unknown", "unavailable", ""]) {
        Some(f64::NAN)
    } else {
        parse_number(text)
    }
}
