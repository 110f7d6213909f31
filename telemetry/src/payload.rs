//! MQTT payload → [`Report`].
//!
//! Three forms are understood:
//! - a bare number: `21.5`, on a topic that names the metric
//! - one value: `{"value": 21.5, "unit": "°C", "ts": 1700000000000, "seq": 7}`, likewise
//! - several metrics: `{"temperature": 21.5, "humidity": 40, "ts": …, "seq": …}`,
//!   on a topic that ends with the device
//!
//! `ts` is the event time, in any form of [`crate::time`]; without it, and where
//! the device's clock is not set, the arrival is taken. `seq` counts the device's
//! messages, `boot` names the run of the device that counts them. `source`
//! (`replay`, `backfill`) and `arrival` mark what is not live. `unit` is that of
//! `value`, the metric's where none is given. A member that is null is not there.

use serde_json::{Map, Value};
use smol_str::SmolStr;

use crate::{
    Address, MetricTable, ParsedTime, Reading, Reason, Report, Source, TimeParser, TimeUsage,
    time::EXPECTED_SET, topic::MAX_LEVEL_BYTES, unit,
};

/// What a message may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a payload.
    pub payload_bytes_max: usize,
    /// Metrics in one message.
    pub readings_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes_max: 16 * 1024, readings_max: 64 }
    }
}

/// A message with at least one readable metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The readable part.
    pub report: Report,
    /// The metrics that were left out, each with its reason: the message goes
    /// to the dead letters too when there are any.
    pub left_out: Vec<(Reason, String)>,
}

/// Decodes one message that was received at `received_ms` (UTC milliseconds).
///
/// # Errors
/// The reason and, for a person, what was found and what was expected.
///
/// ```
/// use telemetry::{payload::decode, Limits, MetricTable};
/// let got = decode(
///     "sensors/farm/bay-1/climate-1", br#"{"ts": 1700000000000, "temperature": 21.5, "humidity": 40}"#,
///     1_700_000_000_500, &MetricTable::default(), Limits::default(),
/// ).unwrap();
/// assert_eq!(got.report.readings.len(), 2);
/// assert_eq!(got.report.arrival_ms, 1_700_000_000_500);
/// ```
pub fn decode(
    topic: &str,
    payload: &[u8],
    received_ms: i64,
    metrics: &MetricTable,
    limits: Limits,
) -> Result<Decoded, (Reason, String)> {
    let address = Address::parse(topic)?;
    if payload.len() > limits.payload_bytes_max {
        return Err((
            Reason::Oversized,
            format!("{} bytes, at most {} are taken", payload.len(), limits.payload_bytes_max),
        ));
    }
    let text = std::str::from_utf8(payload)
        .map_err(|e| (Reason::Malformed, format!("not UTF-8 at byte {}", e.valid_up_to())))?
        .trim();
    if text.is_empty() {
        return Err((Reason::Empty, "the payload is empty".into()));
    }
    let fields = match parse(text)? {
        Value::Object(fields) => fields,
        bare => Map::from_iter([("value".to_owned(), bare)]),
    };
    let envelope = Envelope::read(&fields, received_ms)?;
    let (readings, left_out) = match &address.metric {
        Some(metric) => single(metric, &fields, envelope.event_ms, metrics)?,
        None => several(&fields, envelope.event_ms, metrics, limits.readings_max)?,
    };
    let report = Report {
        zone: address.zone,
        device: address.device,
        boot: envelope.boot,
        seq: envelope.seq,
        arrival_ms: envelope.arrival_ms,
        source: envelope.source,
        readings,
    };
    Ok(Decoded { report, left_out })
}

/// Keys of a payload that are not metrics.
const ENVELOPE: [&str; 5] = ["ts", "seq", "boot", "source", "arrival"];

struct Envelope {
    event_ms: i64,
    arrival_ms: i64,
    seq: Option<u64>,
    boot: Option<SmolStr>,
    source: Source,
}

impl Envelope {
    fn read(fields: &Map<String, Value>, received_ms: i64) -> Result<Self, (Reason, String)> {
        let not = |key: &str, found: &Value, expected: &str| {
            (Reason::NotAReading, format!("`{key}` is {}, expected {expected}", shorten(found)))
        };
        let given = |key: &str| fields.get(key).filter(|value| !value.is_null());
        let seq = given("seq")
            .map(|v| v.as_u64().ok_or_else(|| not("seq", v, "a count from 0")))
            .transpose()?;
        let boot = match given("boot") {
            None => None,
            Some(Value::String(s)) if s.len() <= MAX_LEVEL_BYTES => Some(SmolStr::from(s)),
            Some(Value::Number(n)) => Some(SmolStr::from(n.to_string())),
            Some(other) => return Err(not("boot", other, "a short text or a number")),
        };
        let source = match given("source") {
            None => Source::Live,
            Some(v) => match v.as_str() {
                Some("live") => Source::Live,
                Some("replay") => Source::Replay,
                Some("backfill") => Source::Backfill,
                _ => return Err(not("source", v, "`live`, `replay` or `backfill`")),
            },
        };
        let recorded = TimeParser::new(TimeUsage::Recorded);
        let arrival_ms = match (source, fields.get("arrival")) {
            (Source::Replay, Some(value)) => parse_time("arrival", value, &recorded, None)?,
            _ => None,
        };
        let known_ms = arrival_ms.or((source != Source::Replay).then_some(received_ms));
        let parser = match source {
            Source::Live => &TimeParser::new(TimeUsage::Live),
            _ => &recorded,
        };
        let event_ms = match fields.get("ts") {
            None => received_ms,
            Some(value) => match (parse_time("ts", value, parser, known_ms)?, source) {
                (Some(event_ms), _) => event_ms,
                // What is measured now was measured about when it arrived.
                (None, Source::Live) => received_ms,
                (None, _) => {
                    let what = format!("`ts` is {}, expected {EXPECTED_SET}", shorten(value));
                    return Err((Reason::BadTime, what));
                }
            },
        };
        let arrival_ms = match source {
            Source::Replay => arrival_ms.unwrap_or(event_ms),
            _ => received_ms,
        };
        Ok(Self { event_ms, arrival_ms, seq, boot, source })
    }
}

type Readings = (Vec<Reading>, Vec<(Reason, String)>);

fn single(
    metric: &SmolStr,
    fields: &Map<String, Value>,
    event_ms: i64,
    metrics: &MetricTable,
) -> Result<Readings, (Reason, String)> {
    let Some((metric, known)) = metrics.resolve(metric) else {
        return Err(unknown(metric, metrics));
    };
    let value = fields
        .get("value")
        .ok_or_else(|| (Reason::NotAReading, "there is no `value` in the object".to_owned()))?;
    let value = number("value", value)?;
    let value = match fields.get("unit").filter(|unit| !unit.is_null()) {
        None => value,
        Some(Value::String(unit)) if unit.trim().is_empty() => value,
        Some(Value::String(unit)) => unit::convert(value, unit, &known.unit).map_err(|error| {
            (Reason::UnknownUnit, format!("`unit`: {error}, the unit of `{metric}`"))
        })?,
        Some(other) => {
            let what = format!("`unit` is {}, expected a text as in \"°C\"", shorten(other));
            return Err((Reason::UnknownUnit, what));
        }
    };
    Ok((vec![Reading { metric: metric.clone(), event_ms, value }], Vec::new()))
}

fn several(
    fields: &Map<String, Value>,
    event_ms: i64,
    metrics: &MetricTable,
    readings_max: usize,
) -> Result<Readings, (Reason, String)> {
    let values = || fields.iter().filter(|(key, _)| !ENVELOPE.contains(&key.as_str()));
    if values().count() > readings_max {
        let what = format!("{} metrics, at most {readings_max} are taken", values().count());
        return Err((Reason::Oversized, what));
    }
    let (mut readings, mut left_out) = (Vec::new(), Vec::new());
    for (key, value) in values() {
        let reading = match metrics.resolve(key) {
            None => Err(unknown(key, metrics)),
            Some((metric, _)) if readings.iter().any(|own: &Reading| own.metric == *metric) => {
                let what = format!("`{key}` is the metric `{metric}`, of which there is a value");
                Err((Reason::NotAReading, what))
            }
            Some((metric, _)) => number(key, value).map(|value| (metric.clone(), value)),
        };
        match reading {
            Ok((metric, value)) => readings.push(Reading { metric, event_ms, value }),
            Err(why) => left_out.push(why),
        }
    }
    if !readings.is_empty() {
        return Ok((readings, left_out));
    }
    Err(left_out.into_iter().next().unwrap_or_else(|| {
        let what = "no metric in the message: name one in the topic or give `{\"<metric>\": …}`";
        (Reason::NotAReading, what.to_owned())
    }))
}

/// JSON, or what `printf("%f")` of a firmware writes for no number: kept as a
/// reading that is not a number (`null`), so that it is counted where people
/// look.
///
/// # Errors
/// [`Reason::Malformed`] with where and what was expected.
pub fn parse(text: &str) -> Result<Value, (Reason, String)> {
    let bare = text.trim_start_matches(['-', '+']);
    if ["nan", "inf", "infinity"].iter().any(|word| bare.eq_ignore_ascii_case(word)) {
        return Ok(Value::Null);
    }
    serde_json::from_str(text)
        .map_err(|e| (Reason::Malformed, format!("neither a number nor JSON: {e}")))
}

/// A value as payloads carry it: a number, or true and false as 1 and 0, or
/// null for no number (NaN).
///
/// # Errors
/// [`Reason::NotAReading`] with what was found.
///
/// ```
/// assert_eq!(telemetry::payload::number("co2", &serde_json::json!(412)), Ok(412.0));
/// ```
pub fn number(key: &str, value: &Value) -> Result<f64, (Reason, String)> {
    match value {
        Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::NAN)),
        Value::Bool(on) => Ok(f64::from(u8::from(*on))),
        Value::Null => Ok(f64::NAN),
        other => Err((
            Reason::NotAReading,
            format!("`{key}` is {}, expected a number, true, false or null", shorten(other)),
        )),
    }
}

/// A time stamp as payloads carry it, UTC milliseconds; `None` where it says no
/// time. `key` is what the message of a refusal calls it.
///
/// # Errors
/// [`Reason::BadTime`] with what was found and what was expected.
///
/// ```
/// use telemetry::{TimeParser, TimeUsage, payload::parse_time};
/// let parser = TimeParser::new(TimeUsage::Live);
/// let check = |stamp, expect| assert_eq!(parse_time("ts", &stamp, &parser, None), expect);
/// check(serde_json::json!(1_700_000_000.5), Ok(Some(1_700_000_000_500)));
/// check(serde_json::json!("2023-11-14T22:13:20Z"), Ok(Some(1_700_000_000_000)));
/// check(serde_json::json!(0), Ok(None));
/// ```
pub fn parse_time(
    key: &str,
    value: &Value,
    parser: &TimeParser,
    arrival_ms: Option<i64>,
) -> Result<Option<i64>, (Reason, String)> {
    match parser.parse_json(value, arrival_ms) {
        Ok(ParsedTime::Instant(ms)) => Ok(Some(ms)),
        Ok(ParsedTime::Unset) => Ok(None),
        Err(error) => Err((
            Reason::BadTime,
            format!("`{key}` is {}, expected {}", shorten(value), error.expected),
        )),
    }
}

fn unknown(name: &str, metrics: &MetricTable) -> (Reason, String) {
    (Reason::UnknownMetric, metrics.explain_unknown(name))
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_700_000_000_000;

    fn run(topic: &str, payload: &[u8]) -> Result<Decoded, (Reason, String)> {
        decode(topic, payload, NOW, &MetricTable::default(), Limits::default())
    }

    fn check(topic: &str, payload: &str, expect: &[(&str, i64, f64)]) {
        let got = run(topic, payload.as_bytes()).unwrap_or_else(|e| panic!("{payload}: {e:?}"));
        let got: Vec<_> =
            got.report.readings.iter().map(|r| (r.metric.as_str(), r.event_ms, r.value)).collect();
        assert_eq!(got, expect, "{payload}");
    }

    fn refuse(topic: &str, payload: &[u8], expect: Reason) {
        let (reason, detail) = run(topic, payload).expect_err("decodes");
        assert_eq!(reason, expect, "{detail}");
    }

    const ONE: &str = "sensors/s/z/d/temperature";
    const MANY: &str = "sensors/s/z/d";

    #[test]
    fn forms() {
        check(ONE, "21.5", &[("temperature", NOW, 21.5)]);
        check(ONE, " -3\n", &[("temperature", NOW, -3.0)]);
        check(
            ONE,
            r#"{"value": 1e1, "ts": 1600000000123}"#,
            &[("temperature", 1_600_000_000_123, 10.0)],
        );
        check(
            ONE,
            r#"{"value": 1, "ts": 1600000000.5}"#,
            &[("temperature", 1_600_000_000_500, 1.0)],
        );
        check(
            ONE,
            r#"{"value": 1, "ts": "2020-09-13T12:26:40Z"}"#,
            &[("temperature", 1_600_000_000_000, 1.0)],
        );
        check(
            MANY,
            r#"{"temperature": 1, "humidity": 2}"#,
            &[("humidity", NOW, 2.0), ("temperature", NOW, 1.0)],
        );
        check(MANY, r#"{"irrigation": true, "seq": 3}"#, &[("irrigation", NOW, 1.0)]);
        // Names as other systems write them, units as the sender has them.
        check(
            MANY,
            r#"{"Temperature": 1, "Soil-Moisture": 2}"#,
            &[("soil_moisture", NOW, 2.0), ("temperature", NOW, 1.0)],
        );
        check("sensors/s/z/d/CO2", "400", &[("co2", NOW, 400.0)]);
        check(ONE, r#"{"value": 212, "unit": "°F"}"#, &[("temperature", NOW, 100.0)]);
        check(ONE, r#"{"value": 21, "unit": null}"#, &[("temperature", NOW, 21.0)]);
        // Optional members that are null are not there.
        let nulls = r#"{"value": 1, "ts": null, "seq": null, "boot": null, "source": null, "arrival": null}"#;
        check(ONE, nulls, &[("temperature", NOW, 1.0)]);
    }

    #[test]
    fn a_value_is_not_lost_for_the_stamp_of_a_clock_that_is_not_set() {
        for stamp in ["null", "0", "\"\"", "75", "75000", "\"1970-01-01T00:01:15Z\"", "946684800"] {
            let payload = format!(r#"{{"value": 20.5, "ts": {stamp}}}"#);
            check(ONE, &payload, &[("temperature", NOW, 20.5)]);
            // A recording without its time is none.
            let payload = format!(r#"{{"value": 20.5, "ts": {stamp}, "source": "replay"}}"#);
            refuse(ONE, payload.as_bytes(), Reason::BadTime);
        }
        let recorded = r#"{"value": 1, "ts": 1377299108, "source": "replay"}"#;
        check(ONE, recorded, &[("temperature", 1_377_299_108_000, 1.0)]);
    }

    #[test]
    fn one_metric_has_one_value_in_a_message() {
        let got = run(MANY, br#"{"Temperature": 1, "temperature": 2}"#).unwrap();
        assert_eq!(got.report.readings.len(), 1);
        assert_eq!(got.left_out[0].0, Reason::NotAReading);
    }

    #[test]
    fn not_a_number_is_kept_as_a_reading() {
        for payload in ["nan", "-NaN", "inf", "null", r#"{"value": null}"#] {
            assert!(
                run(ONE, payload.as_bytes()).unwrap().report.readings[0].value.is_nan(),
                "{payload}"
            );
        }
    }

    #[test]
    fn refusals() {
        refuse(ONE, b"", Reason::Empty);
        refuse(ONE, b"21,5", Reason::Malformed);
        refuse(ONE, b"{\"value\": ", Reason::Malformed);
        refuse(ONE, &[0xff, 0xfe], Reason::Malformed);
        refuse(ONE, br#"{"value": NaN}"#, Reason::Malformed);
        refuse(ONE, br#"{"value": "warm"}"#, Reason::NotAReading);
        refuse(ONE, br#"{"v": 1}"#, Reason::NotAReading);
        refuse(ONE, br#"{"value": 1, "ts": "noon"}"#, Reason::BadTime);
        refuse(ONE, br#"{"value": 1, "ts": -5}"#, Reason::BadTime);
        refuse(ONE, br#"{"value": 1, "ts": 1e300}"#, Reason::BadTime);
        refuse(ONE, br#"{"value": 1, "ts": 20240115120000}"#, Reason::BadTime);
        refuse(ONE, br#"{"value": 1, "ts": true}"#, Reason::BadTime);
        refuse(ONE, br#"{"value": 1, "unit": "lx"}"#, Reason::UnknownUnit);
        refuse(ONE, br#"{"value": 1, "unit": 5}"#, Reason::UnknownUnit);
        refuse(ONE, br#"{"value": 1, "seq": -1}"#, Reason::NotAReading);
        refuse(ONE, br#"{"value": 1, "source": "dream"}"#, Reason::NotAReading);
        refuse(ONE, "9".repeat(17 * 1024).as_bytes(), Reason::Oversized);
        refuse(MANY, b"21.5", Reason::UnknownMetric);
        refuse(MANY, br#"{"seq": 1}"#, Reason::NotAReading);
        refuse("sensors/s/z/d/warmth", b"1", Reason::UnknownMetric);
        refuse("sensors/s", b"1", Reason::BadTopic);
    }

    #[test]
    fn the_good_part_of_a_message_is_kept_beside_the_bad() {
        let got = run(MANY, br#"{"temperature": 1, "warmth": 2, "humidity": "x"}"#).unwrap();
        assert_eq!(got.report.readings.len(), 1);
        let reasons: Vec<_> = got.left_out.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, [Reason::NotAReading, Reason::UnknownMetric]);
    }

    #[test]
    fn a_replay_brings_its_own_arrival_and_a_live_message_cannot() {
        let replay =
            br#"{"value": 1, "ts": 1600000000000, "arrival": 1600000060000, "source": "replay"}"#;
        assert_eq!(run(ONE, replay).unwrap().report.arrival_ms, 1_600_000_060_000);
        let replay = br#"{"value": 1, "ts": 1600000000000, "source": "replay"}"#;
        assert_eq!(run(ONE, replay).unwrap().report.arrival_ms, 1_600_000_000_000);
        let live = br#"{"value": 1, "ts": 1600000000000, "arrival": 1600000060000}"#;
        assert_eq!(run(ONE, live).unwrap().report.arrival_ms, NOW);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(topic in ".{0,60}", payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = run(&topic, &payload);
            let _ = run(ONE, &payload);
        }
    }
}
