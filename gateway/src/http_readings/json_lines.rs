//! One line of JSON → topic and payload.
//!
//! A line is an object with the place and the measured values. The place is `topic`, as over
//! MQTT, or `site`, `zone` and `device`, and `metric` if the payload does not name it. The values
//! are all other members, or `payload` alone, whose text is used unchanged.

use serde_json::{Map, Value};

use super::{RefusedLine, ZoneDefaults, device_topic};

/// Largest topic of MQTT, bytes.
const TOPIC_BYTES_MAX: usize = 65_535;

/// Parses one line into topic and payload.
pub(crate) fn parse_json_line(
    line: &str,
    place: &ZoneDefaults,
) -> Result<(String, String), RefusedLine> {
    let value: Value = serde_json::from_str(line)
        .map_err(|error| RefusedLine::new(format!("not JSON: {error}")))?;
    let Value::Object(mut members) = value else {
        return Err(RefusedLine::new("not an object").with_hint(EXAMPLE));
    };
    let topic = match take_text(&mut members, "topic")? {
        Some(topic) => checked_topic(topic)?,
        None => {
            let mut text = |key| take_text(&mut members, key);
            let (site, zone) = (text("site")?, text("zone")?);
            let device = text("device")?
                .ok_or_else(|| RefusedLine::new("no device is named").with_hint(EXAMPLE))?;
            let metric = text("metric")?;
            let place = ZoneDefaults {
                site: site.or_else(|| place.site.clone()),
                zone: zone.or_else(|| place.zone.clone()),
            };
            device_topic(&place, &device, metric.as_deref())?
        }
    };
    let payload = match members.remove("payload") {
        None => Value::Object(members).to_string(),
        Some(_) if !members.is_empty() => {
            let others: Vec<&str> = members.keys().map(String::as_str).collect();
            let what =
                format!("`payload` is the whole payload; found also `{}`", others.join("`, `"));
            return Err(RefusedLine::new(what));
        }
        Some(Value::String(text)) => text,
        Some(payload) => payload.to_string(),
    };
    Ok((topic, payload))
}

const EXAMPLE: &str = r#"as in {"topic": "sensors/farm/bay-1/probe", "temperature": 21.5}, or with `site`, `zone` and `device` in place of `topic`"#;

fn take_text(members: &mut Map<String, Value>, key: &str) -> Result<Option<String>, RefusedLine> {
    match members.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(RefusedLine::new(format!("`{key}` is {other}, expected a text"))),
    }
}

/// Checks that a topic is valid in MQTT (4.7.1, 4.7.3).
fn checked_topic(topic: String) -> Result<String, RefusedLine> {
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || topic.contains(['+', '#', '\0']) {
        let what = "`topic` is empty, longer than 65,535 bytes, or has `+`, `#` or NUL in it";
        return Err(RefusedLine::new(what));
    }
    Ok(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with_farm(line: &str) -> Result<(String, String), String> {
        let place = ZoneDefaults { site: Some("farm".into()), zone: None };
        parse_json_line(line, &place).map_err(|refused| refused.to_string())
    }

    fn check(line: &str, topic: &str, payload: &str) {
        assert_eq!(parse_with_farm(line), Ok((topic.to_owned(), payload.to_owned())), "{line}");
    }

    fn refuse(line: &str, expect: &str) {
        let text = parse_with_farm(line).unwrap_err();
        assert!(text.contains(expect), "{line}: {text}");
    }

    #[test]
    fn lines_become_topics_and_payloads() {
        check(
            r#"{"topic": "a/b", "temperature": 21.5, "zone": "z"}"#,
            "a/b",
            r#"{"temperature":21.5,"zone":"z"}"#,
        );
        check(r#"{"zone": "z", "device": "d", "co2": 1}"#, "sensors/farm/z/d", r#"{"co2":1}"#);
        check(
            r#"{"site": "s", "zone": "z", "device": "d", "metric": "co2", "value": 400, "seq": 7}"#,
            "sensors/s/z/d/co2",
            r#"{"seq":7,"value":400}"#,
        );
        check(r#"{"topic": "a/b", "payload": "21.5"}"#, "a/b", "21.5");
        check(r#"{"topic": "a/b", "payload": {"x": [1]}}"#, "a/b", r#"{"x":[1]}"#);
        check(r#"{"topic": "a/b", "payload": null}"#, "a/b", "null");
    }

    #[test]
    fn bad_lines_are_refused() {
        refuse("{", "not JSON: EOF");
        refuse("[1]", "not an object");
        refuse(r#"{"temperature": 1}"#, "no device is named");
        refuse(r#"{"device": "d"}"#, "no zone is named");
        refuse(r#"{"zone": "z", "device": "a/b"}"#, "`/`");
        refuse(r#"{"zone": "z", "device": 7}"#, "`device` is 7, expected a text");
        refuse(r#"{"topic": "a/#"}"#, "`+`, `#`");
        refuse(r#"{"topic": ""}"#, "is empty");
        refuse(r#"{"topic": "a", "payload": 1, "co2": 2}"#, "found also `co2`");
    }
}
