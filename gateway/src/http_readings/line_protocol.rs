//! One line of InfluxDB's line protocol → topic and payload of the gateway's own
//! convention.
//!
//! The syntax is `measurement[,tag=value…] field=value[,field=value…] [timestamp]`, as in
//! InfluxDB's documentation, except that a line break inside a text ends the line. The tag
//! `device` (or `host`) is the device, and `site` and `zone` are the place. Fields are metrics by
//! name, and a field `value` is the metric that the measurement names. Other tags are ignored.

use serde::Deserialize;
use serde_json::{Map, Number, Value};
use utoipa::ToSchema;

use super::{RefusedLine, ZoneDefaults, device_topic};

/// The unit of timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TimestampPrecision {
    /// Nanoseconds, InfluxDB's default.
    #[default]
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
}

/// Timestamps before 1973-03-03 come from a clock that is not set, or have another precision; UTC
/// milliseconds. The decoder distinguishes seconds and milliseconds at this value.
const FIRST_STAMP_MS: i128 = 100_000_000_000;
/// Timestamps after the end of 2099 are refused; UTC milliseconds.
const LAST_STAMP_MS: i128 = 4_102_444_800_000;

impl TimestampPrecision {
    const ALL: [Self; 4] = [Self::Ns, Self::Us, Self::Ms, Self::S];

    fn to_ms(self, stamp: i64) -> i128 {
        let stamp = i128::from(stamp);
        match self {
            Self::Ns => stamp.div_euclid(1_000_000),
            Self::Us => stamp.div_euclid(1_000),
            Self::Ms => stamp,
            Self::S => stamp * 1_000,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Us => "us",
            Self::Ms => "ms",
            Self::S => "s",
        }
    }

    /// Returns the event time, UTC milliseconds; 0 for a clock that is not set.
    fn event_ms(self, stamp: i64) -> Result<i64, RefusedLine> {
        let is_time = |ms: &i128| (FIRST_STAMP_MS..LAST_STAMP_MS).contains(ms);
        let ms = self.to_ms(stamp);
        if let Some(ms) = i64::try_from(ms).ok().filter(|_| is_time(&ms)) {
            return Ok(ms);
        }
        let other = Self::ALL.into_iter().find(|other| is_time(&other.to_ms(stamp)));
        match other {
            Some(other) => Err(RefusedLine::new(format!(
                "the timestamp {stamp} is not a time from 1973 to 2099 in {}",
                self.name()
            ))
            .with_hint(format!("it is one with ?precision={}", other.name()))),
            None if ms < FIRST_STAMP_MS => Ok(0),
            None => Err(RefusedLine::new(format!("the timestamp {stamp} is after 2099"))),
        }
    }
}

/// Parses one line into topic and payload.
pub(crate) fn parse_line_protocol(
    line: &str,
    place: &ZoneDefaults,
    precision: TimestampPrecision,
) -> Result<(String, String), RefusedLine> {
    let mut rest = line;
    let measurement = take_name(&mut rest, &[',', ' ']);
    if measurement.is_empty() {
        return Err(syntax_error("a measurement", rest));
    }
    let (mut place, mut device, mut host) = (place.clone(), None, None);
    while take_char(&mut rest, ',') {
        let (key, value) = take_tag(&mut rest)?;
        match key.as_str() {
            "site" => place.site = Some(value),
            "zone" => place.zone = Some(value),
            "device" => device = Some(value),
            "host" => host = Some(value),
            _ => {}
        }
    }
    if !take_char(&mut rest, ' ') {
        return Err(syntax_error("a space and fields", rest));
    }
    rest = rest.trim_start_matches(' ');
    let mut payload = Map::new();
    loop {
        let key = take_name(&mut rest, &['=', ',', ' ']);
        if key.is_empty() || !take_char(&mut rest, '=') {
            return Err(syntax_error("`field=value`", rest));
        }
        let value = take_field_value(&mut rest)?;
        let key = if key == "value" { measurement.clone() } else { key };
        if payload.insert(key.clone(), value).is_some() {
            return Err(RefusedLine::new(format!("the field `{key}` occurs twice")));
        }
        if !take_char(&mut rest, ',') {
            break;
        }
    }
    let stamp = rest.trim_matches(' ');
    if !stamp.is_empty() {
        let stamp: i64 = stamp.parse().map_err(|_| syntax_error("a timestamp in digits", stamp))?;
        let event_ms = precision.event_ms(stamp)?;
        if payload.insert("ts".to_owned(), event_ms.into()).is_some() {
            return Err(RefusedLine::new("both a field `ts` and a timestamp")
                .with_hint("the timestamp is enough"));
        }
    }
    let device = device.or(host).ok_or_else(|| {
        RefusedLine::new("no device is named").with_hint("add the tag `device`, or `host`")
    })?;
    Ok((device_topic(&place, &device, None)?, Value::Object(payload).to_string()))
}

fn take_tag(rest: &mut &str) -> Result<(String, String), RefusedLine> {
    let key = take_name(rest, &['=', ',', ' ']);
    if key.is_empty() || !take_char(rest, '=') {
        return Err(syntax_error("`tag=value`", rest));
    }
    let value = take_name(rest, &['=', ',', ' ']);
    if value.is_empty() {
        return Err(syntax_error(&format!("a value of the tag `{key}`"), rest));
    }
    Ok((key, value))
}

/// Takes a name up to the first unescaped character of `ends`.
fn take_name(rest: &mut &str, ends: &[char]) -> String {
    let mut name = String::new();
    let mut chars = rest.chars();
    while let Some(next) = chars.clone().next() {
        if ends.contains(&next) {
            break;
        }
        chars.next();
        let escaped = chars.clone().next().filter(|c| next == '\\' && [',', '=', ' '].contains(c));
        name.push(escaped.unwrap_or(next));
        if escaped.is_some() {
            chars.next();
        }
    }
    *rest = chars.as_str();
    name
}

fn take_field_value(rest: &mut &str) -> Result<Value, RefusedLine> {
    if take_char(rest, '"') {
        return take_text(rest).map(Value::String);
    }
    let end = rest.find([',', ' ']).unwrap_or(rest.len());
    let (text, after) = rest.split_at(end);
    *rest = after;
    let number = match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "f" | "F" | "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ if text.ends_with('i') => text[..end - 1].parse::<i64>().ok().map(Number::from),
        _ if text.ends_with('u') => text[..end - 1].parse::<u64>().ok().map(Number::from),
        _ => text.parse().ok().and_then(Number::from_f64),
    };
    number.map(Value::Number).ok_or_else(|| {
        syntax_error("a number, `1i`, `1u`, true, false or a text in double quotes", text)
    })
}

/// Takes a text after its opening quote.
fn take_text(rest: &mut &str) -> Result<String, RefusedLine> {
    let (mut text, mut chars) = (String::new(), rest.chars());
    while let Some(next) = chars.next() {
        match next {
            '"' => {
                *rest = chars.as_str();
                return Ok(text);
            }
            '\\' if chars.as_str().starts_with(['"', '\\']) => text.extend(chars.next()),
            _ => text.push(next),
        }
    }
    Err(syntax_error("a closing double quote", ""))
}

fn take_char(rest: &mut &str, first: char) -> bool {
    let after = rest.strip_prefix(first);
    *rest = after.unwrap_or(rest);
    after.is_some()
}

fn syntax_error(what: &str, found: &str) -> RefusedLine {
    const FOUND_CHARS_MAX: usize = 40;
    let found: String = found.chars().take(FOUND_CHARS_MAX).collect();
    let found =
        if found.is_empty() { "the end of the line".to_owned() } else { format!("`{found}`") };
    RefusedLine::new(format!("not line protocol: expected {what}, found {found}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_with_place(
        line: &str,
        precision: TimestampPrecision,
    ) -> Result<(String, String), String> {
        let place = ZoneDefaults { site: Some("farm".into()), zone: Some("bay-1".into()) };
        parse_line_protocol(line, &place, precision).map_err(|refused| refused.to_string())
    }

    /// Checks a line against its topic and payload.
    fn check(line: &str, topic: &str, payload: &str) {
        let got = parse_with_place(line, TimestampPrecision::Ns);
        assert_eq!(got, Ok((topic.to_owned(), payload.to_owned())), "{line}");
    }

    fn refuse(line: &str, expect: &str) {
        let text = parse_with_place(line, TimestampPrecision::Ns).unwrap_err();
        assert!(text.contains(expect), "{line}: {text}");
    }

    #[test]
    fn lines_become_topics_and_payloads() {
        let probe = "sensors/farm/bay-1/probe";
        check("climate,device=probe temperature=21.5", probe, r#"{"temperature":21.5}"#);
        check("climate,host=probe co2=412i,light=3u", probe, r#"{"co2":412,"light":3}"#);
        check("climate,host=h,device=probe motion=t", probe, r#"{"motion":true}"#);
        check("temperature,device=probe value=1e1", probe, r#"{"temperature":10.0}"#);
        check(
            "c,site=s,zone=z,device=d,room=kitchen t=-1 1700000000000000000",
            "sensors/s/z/d",
            r#"{"t":-1.0,"ts":1700000000000}"#,
        );
        check(
            r#"c\ d,device=a\ b\,c\=d t\=x="a \"b\" \\c, d=e" "#,
            "sensors/farm/bay-1/a b,c=d",
            r#"{"t=x":"a \"b\" \\c, d=e"}"#,
        );
        check(
            "c,device=probe  t=1  1700000000000000000 ",
            probe,
            r#"{"t":1.0,"ts":1700000000000}"#,
        );
        check("c,device=probe seq=7i,t=1", probe, r#"{"seq":7,"t":1.0}"#);
    }

    #[test]
    fn bad_lines_are_refused() {
        refuse("climate temperature=21.5", "add the tag `device`");
        refuse("climate,device=probe", "expected a space and fields, found the end of the line");
        refuse("climate,device= t=1", "a value of the tag `device`, found ` t=1`");
        refuse("climate,device=probe t", "expected `field=value`, found the end of the line");
        refuse("climate,device=probe t=", "expected a number");
        refuse("climate,device=probe t=NaN", "expected a number");
        refuse("climate,device=probe t=\"a", "a closing double quote");
        refuse("climate,device=probe t=1,", "expected `field=value`");
        refuse("climate,device=probe t=1,t=2", "twice");
        refuse("climate,device=probe t=1 noon", "a timestamp in digits, found `noon`");
        refuse("climate,device=probe t=1 1700000000000", "?precision=ms");
        refuse("climate,device=a/b t=1", "`/`");
        refuse(",device=a t=1", "expected a measurement");
        refuse("{\"temperature\": 1}", "not line protocol");
    }

    #[test]
    fn timestamps_follow_the_precision() {
        let check = |stamp: i64, precision: TimestampPrecision, expect: Option<i64>| {
            assert_eq!(precision.event_ms(stamp).ok(), expect, "{stamp} {precision:?}");
        };
        check(1_700_000_000_123_456_789, TimestampPrecision::Ns, Some(1_700_000_000_123));
        check(1_700_000_000_123_456, TimestampPrecision::Us, Some(1_700_000_000_123));
        check(1_700_000_000_123, TimestampPrecision::Ms, Some(1_700_000_000_123));
        check(1_700_000_000, TimestampPrecision::S, Some(1_700_000_000_000));
        // Seconds since the start of a device whose clock is not set.
        check(12, TimestampPrecision::S, Some(0));
        check(0, TimestampPrecision::Ns, Some(0));
        check(-5, TimestampPrecision::Ns, Some(0));
        // A timestamp of another precision.
        check(1_700_000_000, TimestampPrecision::Ns, None);
        check(1_700_000_000_000_000_000, TimestampPrecision::S, None);
        check(i64::MAX, TimestampPrecision::S, None);
    }

    proptest! {
        /// Any line is parsed or refused.
        #[test]
        fn any_line_is_read_or_refused(line in "\\PC*") {
            let _ = parse_with_place(&line, TimestampPrecision::Ns);
        }

        /// Texts that are escaped as InfluxDB's documentation states are read back unchanged.
        #[test]
        fn names_and_texts_survive_their_escapes(
            device in "[a-z,= ]{1,20}", field in "[a-z,= ]{1,20}", text in "[a-z\"\\\\ ,=]{0,20}",
        ) {
            let name = |name: &str| {
                name.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
            };
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("m,device={} {}=\"{quoted}\"", name(&device), name(&field));
            let (topic, payload) = parse_with_place(&line, TimestampPrecision::Ns).unwrap();
            prop_assert_eq!(topic, format!("sensors/farm/bay-1/{device}"));
            let payload: Value = serde_json::from_str(&payload).unwrap();
            let field = if field == "value" { "m".to_owned() } else { field };
            prop_assert_eq!(&payload[field], &Value::String(text));
        }
    }
}
