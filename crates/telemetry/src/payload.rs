//! MQTT payload → [`SensorReport`].
//!
//! Four forms are accepted:
//! - a bare number: `21.5`, on a topic that names the metric
//! - one value: `{"value": 21.5, "unit": "°C", "ts": 1700000000000, "seq": 7}`, likewise
//! - several metrics: `{"temperature": 21.5, "humidity": 40, "ts": …, "seq": …}`,
//!   on a topic that ends with the device
//! - a list of these, which is several messages in one, or a SenML pack ([`crate::senml`])
//!
//! A number may be written as a text. Fields beside the metrics do no harm: a text, an object or
//! a list whose name is no metric is skipped. Only a *number* with such a name is rejected with a
//! reason, because the name may be misspelt.
//!
//! `ts` is the event time, in any form of [`crate::time`]. Without it, and where the device's
//! clock is not set, the arrival time is used. `seq` counts the device's messages and `boot`
//! names the run of the device that counts them. `source` (`replay`, `backfill`) and `arrival`
//! mark what is not live. `unit` is the unit of `value`, by default the metric's. A member that
//! is null counts as absent.

use serde_json::{Map, Value};
use smol_str::SmolStr;

use crate::{
    DeadLetterReason, DeviceAddress, MetricTable, ParsedTime, ReportSource, SensorReading,
    SensorReport, TimeParser, TimeUsage, senml, time::EXPECTED_SET, topic::MAX_LEVEL_BYTES, unit,
};

/// The limits of one message.
#[derive(Clone, Copy, Debug)]
pub struct PayloadLimits {
    /// Largest payload, bytes.
    pub payload_bytes_max: usize,
    /// Largest number of readings in one message.
    pub readings_max: usize,
}

impl Default for PayloadLimits {
    fn default() -> Self {
        Self { payload_bytes_max: 16 * 1024, readings_max: 64 }
    }
}

/// A message with at least one readable metric.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedPayload {
    /// The part that could be read.
    pub report: SensorReport,
    /// Further reports of a list: messages with other numbers or sources, and readings beyond the
    /// limit of one report.
    pub further_reports: Vec<SensorReport>,
    /// The readings that were rejected, each with its reason. If there are any, the message goes
    /// to the dead letters as well.
    pub rejected_readings: Vec<(DeadLetterReason, String)>,
}

/// Decodes one message that was received at `received_ms` (UTC milliseconds).
///
/// # Errors
/// Returns the reason, and for a person what was found and what was expected.
///
/// ```
/// use microclimate_telemetry::{MetricTable, PayloadLimits, payload::decode_payload};
/// let got = decode_payload(
///     "sensors/farm/bay-1/climate-1", br#"{"ts": 1700000000000, "temperature": 21.5, "humidity": 40}"#,
///     1_700_000_000_500, &MetricTable::default(), PayloadLimits::default(),
/// ).unwrap();
/// assert_eq!(got.report.readings.len(), 2);
/// assert_eq!(got.report.arrival_ms, 1_700_000_000_500);
/// ```
pub fn decode_payload(
    topic: &str,
    payload: &[u8],
    received_ms: i64,
    metrics: &MetricTable,
    limits: PayloadLimits,
) -> Result<DecodedPayload, (DeadLetterReason, String)> {
    decode_with_ignored(topic, payload, received_ms, metrics, limits, &|_| false)
}

/// Decodes one message as [`decode_payload`] does, but skips fields for whose names `is_ignored`
/// returns true. Metrics of the table are never skipped.
///
/// # Errors
/// Returns the reason, and for a person what was found and what was expected.
pub fn decode_with_ignored(
    topic: &str,
    payload: &[u8],
    received_ms: i64,
    metrics: &MetricTable,
    limits: PayloadLimits,
    is_ignored: &dyn Fn(&str) -> bool,
) -> Result<DecodedPayload, (DeadLetterReason, String)> {
    let address = DeviceAddress::parse(topic)?;
    if payload.len() > limits.payload_bytes_max {
        return Err((
            DeadLetterReason::Oversized,
            format!("{} bytes, expected at most {}", payload.len(), limits.payload_bytes_max),
        ));
    }
    let text = std::str::from_utf8(payload)
        .map_err(|e| {
            (DeadLetterReason::Malformed, format!("not UTF-8 at byte {}", e.valid_up_to()))
        })?
        .trim();
    if text.is_empty() {
        return Err((DeadLetterReason::Empty, "the payload is empty".into()));
    }
    let decoder = ObjectDecoder { address, received_ms, metrics, limits, is_ignored };
    match parse_lenient_json(text)? {
        Value::Array(elements) if senml::is_pack(&elements) => decoder.decode_pack(&elements),
        Value::Array(elements) => decoder.decode_list(elements),
        Value::Object(fields) => decoder.decode_object(&fields),
        bare => decoder.decode_object(&Map::from_iter([("value".to_owned(), bare)])),
    }
}

/// The inputs of decoding that are the same for every object of a message.
struct ObjectDecoder<'a> {
    address: DeviceAddress,
    received_ms: i64,
    metrics: &'a MetricTable,
    limits: PayloadLimits,
    is_ignored: &'a dyn Fn(&str) -> bool,
}

impl ObjectDecoder<'_> {
    /// Decodes one message.
    fn decode_object(
        &self,
        fields: &Map<String, Value>,
    ) -> Result<DecodedPayload, (DeadLetterReason, String)> {
        let mut rejected = Vec::new();
        let envelope = MessageEnvelope::read_fields(fields, self.received_ms, &mut rejected)?;
        let event_ms = envelope.event_ms;
        let readings = match &self.address.metric {
            Some(metric) => vec![decode_single_metric(metric, fields, event_ms, self.metrics)?],
            None => self.decode_metrics(fields, event_ms, &mut rejected)?,
        };
        let report = self.build_report(envelope, readings);
        Ok(DecodedPayload { report, further_reports: Vec::new(), rejected_readings: rejected })
    }

    /// Decodes a list of several messages. Its readable part is used, as with one message.
    fn decode_list(
        &self,
        elements: Vec<Value>,
    ) -> Result<DecodedPayload, (DeadLetterReason, String)> {
        let (mut reports, mut rejected) = (Vec::<SensorReport>::new(), Vec::new());
        for element in elements {
            let decoded = match &element {
                Value::Object(fields) => self.decode_object(fields),
                // Values without a time of their own would all have the same time.
                other => {
                    let what = format!(
                        "a list has {}, expected objects with `ts` and values",
                        shorten_value(other)
                    );
                    Err((DeadLetterReason::NotAReading, what))
                }
            };
            match decoded {
                Ok(decoded) => {
                    rejected.extend(decoded.rejected_readings);
                    self.add_report(decoded.report, &mut reports);
                }
                Err(why) => rejected.push(why),
            }
        }
        join_reports(reports, rejected)
    }

    /// Decodes a SenML pack. The device is that of the topic, whatever the names begin with.
    fn decode_pack(
        &self,
        elements: &[Value],
    ) -> Result<DecodedPayload, (DeadLetterReason, String)> {
        let (mut reports, mut rejected) = (Vec::<SensorReport>::new(), Vec::new());
        for resolved in senml::resolve_records(elements, self.received_ms) {
            let read = resolved.and_then(|record| {
                let name = self.address.metric.as_deref().unwrap_or_else(|| record.quantity());
                let Some((metric, known)) = self.metrics.resolve_name(name) else {
                    return if (self.is_ignored)(name) {
                        Ok(None)
                    } else {
                        Err(unknown_metric_error(name, self.metrics))
                    };
                };
                let value = match record.unit.as_deref() {
                    None => record.value,
                    Some(unit) => convert_to_metric_unit(metric, record.value, unit, &known.unit)?,
                };
                let event_ms = record.live_event_ms(self.received_ms);
                Ok(Some(SensorReading { metric: metric.clone(), event_ms, value }))
            });
            match read {
                Ok(Some(reading)) => {
                    let envelope = MessageEnvelope::live_at(self.received_ms);
                    self.add_report(self.build_report(envelope, vec![reading]), &mut reports);
                }
                Ok(None) => {}
                Err(why) => rejected.push(why),
            }
        }
        join_reports(reports, rejected)
    }

    /// Adds a report to an earlier one of the same kind. Unnumbered messages of a device are
    /// merged into one report.
    fn add_report(&self, report: SensorReport, reports: &mut Vec<SensorReport>) {
        let same = reports.iter_mut().find(|existing| {
            existing.seq.is_none()
                && report.seq.is_none()
                && existing.boot == report.boot
                && existing.source == report.source
                && (existing.source != ReportSource::Replay
                    || existing.arrival_ms == report.arrival_ms)
                && existing.readings.len() + report.readings.len() <= self.limits.readings_max
        });
        match same {
            Some(existing) => existing.readings.extend(report.readings),
            None => reports.push(report),
        }
    }

    fn build_report(
        &self,
        envelope: MessageEnvelope,
        readings: Vec<SensorReading>,
    ) -> SensorReport {
        SensorReport {
            zone: self.address.zone.clone(),
            device: self.address.device.clone(),
            boot: envelope.boot,
            seq: envelope.seq,
            arrival_ms: envelope.arrival_ms,
            source: envelope.source,
            readings,
        }
    }

    fn decode_metrics(
        &self,
        fields: &Map<String, Value>,
        event_ms: i64,
        rejected: &mut Vec<(DeadLetterReason, String)>,
    ) -> Result<Vec<SensorReading>, (DeadLetterReason, String)> {
        let mut readings: Vec<SensorReading> = Vec::new();
        let readings_max = self.limits.readings_max;
        // A unit of the whole message applies to those metrics that can have it.
        let unit =
            fields.get("unit").and_then(Value::as_str).filter(|unit| !unit.trim().is_empty());
        let mut is_unit_used = false;
        for (key, value) in fields.iter().filter(|(key, _)| !ENVELOPE.contains(&key.as_str())) {
            let Some((metric, known)) = self.metrics.resolve_name(key) else {
                if is_numeric(value) && !(self.is_ignored)(key) {
                    rejected.push(unknown_metric_error(key, self.metrics));
                }
                continue;
            };
            let reading = if readings.iter().any(|earlier| earlier.metric == *metric) {
                let what = format!("`{key}` is the metric `{metric}`, which already has a value");
                Err((DeadLetterReason::NotAReading, what))
            } else if readings.len() >= readings_max {
                let what = format!("`{key}`: expected at most {readings_max} metrics");
                Err((DeadLetterReason::Oversized, what))
            } else {
                let read = match value.as_str().and_then(parse_quantity) {
                    Some((value, unit)) => convert_to_metric_unit(metric, value, unit, &known.unit),
                    None => number_from_json(key, value).map(|value| {
                        let converted =
                            unit.map(|unit| unit::convert_unit(value, unit, &known.unit));
                        is_unit_used |= matches!(converted, Some(Ok(_)));
                        converted.and_then(Result::ok).unwrap_or(value)
                    }),
                };
                read.map(|value| SensorReading { metric: metric.clone(), event_ms, value })
            };
            match reading {
                Ok(reading) => readings.push(reading),
                Err(why) => rejected.push(why),
            }
        }
        if let Some(unit) = unit.filter(|_| !is_unit_used && !readings.is_empty()) {
            let what =
                format!("`unit` is `{}`, which none of the metrics can be in", truncate_text(unit));
            rejected.push((DeadLetterReason::UnknownUnit, what));
        }
        if readings.is_empty() {
            return Err(if rejected.is_empty() { no_metric_error() } else { rejected.remove(0) });
        }
        Ok(readings)
    }
}

fn join_reports(
    mut reports: Vec<SensorReport>,
    rejected: Vec<(DeadLetterReason, String)>,
) -> Result<DecodedPayload, (DeadLetterReason, String)> {
    if reports.is_empty() {
        return Err(rejected.into_iter().next().unwrap_or_else(no_metric_error));
    }
    let report = reports.remove(0);
    Ok(DecodedPayload { report, further_reports: reports, rejected_readings: rejected })
}

fn no_metric_error() -> (DeadLetterReason, String) {
    let what = "no metric in the message: name one in the topic or give `{\"<metric>\": …}`";
    (DeadLetterReason::NotAReading, what.to_owned())
}

/// Whether a value is a number, written as a number or as a text.
fn is_numeric(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::String(text) => parse_number(text).is_some_and(f64::is_finite),
        _ => false,
    }
}

/// Keys of a payload that are not metrics.
const ENVELOPE: [&str; 5] = ["ts", "seq", "boot", "source", "arrival"];

struct MessageEnvelope {
    event_ms: i64,
    arrival_ms: i64,
    seq: Option<u64>,
    boot: Option<SmolStr>,
    source: ReportSource,
}

impl MessageEnvelope {
    /// The envelope of a live message that has nothing but its values.
    fn live_at(received_ms: i64) -> Self {
        let (event_ms, arrival_ms) = (received_ms, received_ms);
        Self { event_ms, arrival_ms, seq: None, boot: None, source: ReportSource::Live }
    }

    /// Reads the envelope of a message. An unreadable `seq` or `boot` is rejected with its reason
    /// and then treated as absent, so that the message's values are not lost.
    fn read_fields(
        fields: &Map<String, Value>,
        received_ms: i64,
        rejected: &mut Vec<(DeadLetterReason, String)>,
    ) -> Result<Self, (DeadLetterReason, String)> {
        let not = |key: &str, found: &Value, expected: &str| {
            (
                DeadLetterReason::NotAReading,
                format!("`{key}` is {}, expected {expected}", shorten_value(found)),
            )
        };
        let present_field = |key: &str| fields.get(key).filter(|value| !value.is_null());
        let mut seq = present_field("seq").and_then(parse_count);
        if let Some(other) = present_field("seq").filter(|_| seq.is_none()) {
            rejected.push(not("seq", other, "a count from 0"));
        }
        let boot = match present_field("boot") {
            None => None,
            Some(Value::String(s)) if s.len() <= MAX_LEVEL_BYTES => Some(SmolStr::from(s)),
            Some(Value::Number(n)) => Some(SmolStr::from(n.to_string())),
            Some(other) => {
                rejected.push(not("boot", other, "a short text or a number"));
                // A number means nothing when its run is not known.
                seq = None;
                None
            }
        };
        let source = match present_field("source") {
            None => ReportSource::Live,
            Some(v) => match v.as_str().map(str::trim) {
                Some("live") => ReportSource::Live,
                Some("replay") => ReportSource::Replay,
                Some("backfill") => ReportSource::Backfill,
                _ => return Err(not("source", v, "`live`, `replay` or `backfill`")),
            },
        };
        let recorded = TimeParser::new(TimeUsage::Recorded);
        let arrival_ms = match (source, fields.get("arrival")) {
            (ReportSource::Replay, Some(value)) => parse_time("arrival", value, &recorded, None)?,
            _ => None,
        };
        let known_ms = arrival_ms.or((source != ReportSource::Replay).then_some(received_ms));
        let parser = match source {
            ReportSource::Live => &TimeParser::new(TimeUsage::Live),
            _ => &recorded,
        };
        let event_ms = match fields.get("ts") {
            None => received_ms,
            Some(value) => match (parse_time("ts", value, parser, known_ms)?, source) {
                (Some(event_ms), _) => event_ms,
                // A live value was measured at about the time of its arrival.
                (None, ReportSource::Live) => received_ms,
                (None, _) => {
                    let what = format!("`ts` is {}, expected {EXPECTED_SET}", shorten_value(value));
                    return Err((DeadLetterReason::BadTime, what));
                }
            },
        };
        let arrival_ms = match source {
            ReportSource::Replay => arrival_ms.unwrap_or(event_ms),
            _ => received_ms,
        };
        Ok(Self { event_ms, arrival_ms, seq, boot, source })
    }
}

/// Parses a count from 0, written as a number or as a text. A counter that has passed through a
/// script may be `7.0`.
#[must_use]
pub fn parse_count(value: &Value) -> Option<u64> {
    /// The largest integer up to which a double represents every integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64()?;
            let is_count = float.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&float);
            is_count.then_some(float as u64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn decode_single_metric(
    metric: &SmolStr,
    fields: &Map<String, Value>,
    event_ms: i64,
    metrics: &MetricTable,
) -> Result<SensorReading, (DeadLetterReason, String)> {
    let Some((metric, known)) = metrics.resolve_name(metric) else {
        return Err(unknown_metric_error(metric, metrics));
    };
    let value = fields.get("value").ok_or_else(|| {
        (DeadLetterReason::NotAReading, "there is no `value` in the object".to_owned())
    })?;
    let with_unit = value.as_str().and_then(parse_quantity);
    if let Some((value, unit)) = with_unit {
        let value = convert_to_metric_unit(metric, value, unit, &known.unit)?;
        return Ok(SensorReading { metric: metric.clone(), event_ms, value });
    }
    let value = number_from_json("value", value)?;
    let value = match fields.get("unit").filter(|unit| !unit.is_null()) {
        None => value,
        Some(Value::String(unit)) if unit.trim().is_empty() => value,
        Some(Value::String(unit)) => convert_to_metric_unit(metric, value, unit, &known.unit)?,
        Some(other) => {
            let what = format!("`unit` is {}, expected a text as in \"°C\"", shorten_value(other));
            return Err((DeadLetterReason::UnknownUnit, what));
        }
    };
    Ok(SensorReading { metric: metric.clone(), event_ms, value })
}

/// Converts a value to the unit of its metric.
fn convert_to_metric_unit(
    metric: &str,
    value: f64,
    from: &str,
    to: &str,
) -> Result<f64, (DeadLetterReason, String)> {
    unit::convert_unit(value, from, to).map_err(|error| {
        (DeadLetterReason::UnknownUnit, format!("`unit`: {error}, the unit of `{metric}`"))
    })
}

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

/// Reads a timestamp as payloads carry it, UTC milliseconds. Returns `None` if it states no time.
/// `key` is the field's name in error messages.
///
/// # Errors
/// Returns [`DeadLetterReason::BadTime`] with what was found and what was expected.
///
/// ```
/// use microclimate_telemetry::{TimeParser, TimeUsage, payload::parse_time};
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
) -> Result<Option<i64>, (DeadLetterReason, String)> {
    match parser.parse_json(value, arrival_ms) {
        Ok(ParsedTime::Instant(ms)) => Ok(Some(ms)),
        Ok(ParsedTime::Unset) => Ok(None),
        Err(error) => Err((
            DeadLetterReason::BadTime,
            format!("`{key}` is {}, expected {}", shorten_value(value), error.expected),
        )),
    }
}

fn unknown_metric_error(name: &str, metrics: &MetricTable) -> (DeadLetterReason, String) {
    let what = metrics.explain_unknown(name);
    (
        DeadLetterReason::UnknownMetric,
        format!("{what}; or name it in `ignore` if it is not a reading"),
    )
}

fn truncate_text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn shorten_value(value: &Value) -> String {
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

    fn run(topic: &str, payload: &[u8]) -> Result<DecodedPayload, (DeadLetterReason, String)> {
        decode_payload(topic, payload, NOW, &MetricTable::default(), PayloadLimits::default())
    }

    fn check(topic: &str, payload: &str, expect: &[(&str, i64, f64)]) {
        let got = run(topic, payload.as_bytes()).unwrap_or_else(|e| panic!("{payload}: {e:?}"));
        let got: Vec<_> =
            got.report.readings.iter().map(|r| (r.metric.as_str(), r.event_ms, r.value)).collect();
        assert_eq!(got, expect, "{payload}");
    }

    fn refuse(topic: &str, payload: &[u8], expect: DeadLetterReason) {
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
        // Names and units as other systems write them.
        check(
            MANY,
            r#"{"Temperature": 1, "Soil-Moisture": 2}"#,
            &[("soil_moisture", NOW, 2.0), ("temperature", NOW, 1.0)],
        );
        check("sensors/s/z/d/CO2", "400", &[("co2", NOW, 400.0)]);
        check(ONE, r#"{"value": 212, "unit": "°F"}"#, &[("temperature", NOW, 100.0)]);
        check(ONE, r#"{"value": 21, "unit": null}"#, &[("temperature", NOW, 21.0)]);
        // Optional members that are null count as absent.
        let nulls = r#"{"value": 1, "ts": null, "seq": null, "boot": null, "source": null, "arrival": null}"#;
        check(ONE, nulls, &[("temperature", NOW, 1.0)]);
    }

    #[test]
    fn a_value_is_not_lost_for_the_stamp_of_a_clock_that_is_not_set() {
        for stamp in ["null", "0", "\"\"", "75", "75000", "\"1970-01-01T00:01:15Z\"", "946684800"] {
            let payload = format!(r#"{{"value": 20.5, "ts": {stamp}}}"#);
            check(ONE, &payload, &[("temperature", NOW, 20.5)]);
            // A recording without a time is refused.
            let payload = format!(r#"{{"value": 20.5, "ts": {stamp}, "source": "replay"}}"#);
            refuse(ONE, payload.as_bytes(), DeadLetterReason::BadTime);
        }
        let recorded = r#"{"value": 1, "ts": 1377299108, "source": "replay"}"#;
        check(ONE, recorded, &[("temperature", 1_377_299_108_000, 1.0)]);
    }

    #[test]
    fn one_metric_has_one_value_in_a_message() {
        let got = run(MANY, br#"{"Temperature": 1, "temperature": 2}"#).unwrap();
        assert_eq!(got.report.readings.len(), 1);
        assert_eq!(got.rejected_readings[0].0, DeadLetterReason::NotAReading);
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
        refuse(ONE, b"", DeadLetterReason::Empty);
        refuse(ONE, b"1,234", DeadLetterReason::Malformed);
        refuse(ONE, b"21,5,0", DeadLetterReason::Malformed);
        refuse(ONE, b"{\"value\": ", DeadLetterReason::Malformed);
        refuse(ONE, &[0xff, 0xfe], DeadLetterReason::Malformed);
        refuse(ONE, br#"{"value": "warm"}"#, DeadLetterReason::NotAReading);
        refuse(ONE, br#"{"v": 1}"#, DeadLetterReason::NotAReading);
        refuse(ONE, br#"{"value": 1, "ts": "noon"}"#, DeadLetterReason::BadTime);
        refuse(ONE, br#"{"value": 1, "ts": -5}"#, DeadLetterReason::BadTime);
        refuse(ONE, br#"{"value": 1, "ts": 1e300}"#, DeadLetterReason::BadTime);
        refuse(ONE, br#"{"value": 1, "ts": 20240115120000}"#, DeadLetterReason::BadTime);
        refuse(ONE, br#"{"value": 1, "ts": true}"#, DeadLetterReason::BadTime);
        refuse(ONE, br#"{"value": 1, "unit": "lx"}"#, DeadLetterReason::UnknownUnit);
        refuse(ONE, br#"{"value": 1, "unit": 5}"#, DeadLetterReason::UnknownUnit);
        refuse(ONE, br#"{"value": 1, "source": "dream"}"#, DeadLetterReason::NotAReading);
        refuse(ONE, "9".repeat(17 * 1024).as_bytes(), DeadLetterReason::Oversized);
        refuse(MANY, b"21.5", DeadLetterReason::UnknownMetric);
        refuse(MANY, br#"{"seq": 1}"#, DeadLetterReason::NotAReading);
        refuse("sensors/s/z/d/warmth", b"1", DeadLetterReason::UnknownMetric);
        refuse("sensors/s", b"1", DeadLetterReason::BadTopic);
        refuse(MANY, b"[]", DeadLetterReason::NotAReading);
        refuse(MANY, br"[21.5, 22]", DeadLetterReason::NotAReading);
        refuse(MANY, br#"[{"ts": "noon", "temperature": 1}]"#, DeadLetterReason::BadTime);
        refuse(MANY, br#"[{"n": "warmth", "v": 1}]"#, DeadLetterReason::UnknownMetric);
    }

    #[test]
    fn numbers_as_people_and_printf_write_them() {
        let check_text =
            |text: &str, expect: f64| check(ONE, text, &[("temperature", NOW, expect)]);
        check_text(r#"{"value": " 21.5 "}"#, 21.5);
        check_text(r#"{"value": "21,5"}"#, 21.5);
        check_text(r#"{"value": "-0,125"}"#, -0.125);
        check_text("21,5", 21.5);
        check_text("+21.5", 21.5);
        check_text(r#"{"value": true}"#, 1.0);
        check_text(r#"{"value": "ON"}"#, 1.0);
        let none = run(ONE, br#"{"value": "n/a"}"#).unwrap();
        assert!(none.report.readings[0].value.is_nan());
        check(MANY, r#"{"temperature": "21.5"}"#, &[("temperature", NOW, 21.5)]);
        check(
            MANY,
            r#"{"temperature": "212 °F", "ec": "640 uS/cm"}"#,
            &[("ec", NOW, 0.64), ("temperature", NOW, 100.0)],
        );
        check_text(r#"{"value": "212°F"}"#, 100.0);
        // What printf writes for no number is replaced within JSON, but not inside texts.
        for word in ["nan", "NaN", "-nan", "inf", "-Infinity"] {
            let payload =
                format!(r#"{{"temperature": {word}, "humidity": 40, "x": "a nan\" inf"}}"#);
            let got = run(MANY, payload.as_bytes()).unwrap();
            assert_eq!(got.report.readings[0].value, 40.0, "{payload}");
            assert!(got.report.readings[1].value.is_nan(), "{payload}");
            assert_eq!(got.rejected_readings, [], "{payload}");
        }
    }

    #[test]
    fn a_unit_of_the_whole_message_is_that_of_what_it_can_be_of() {
        check(MANY, r#"{"temperature": 212, "unit": "°F"}"#, &[("temperature", NOW, 100.0)]);
        check(
            MANY,
            r#"{"temperature": 212, "humidity": 40, "unit": "°F"}"#,
            &[("humidity", NOW, 40.0), ("temperature", NOW, 100.0)],
        );
        check(MANY, r#"{"temperature": 21, "unit": ""}"#, &[("temperature", NOW, 21.0)]);
        let got = run(MANY, br#"{"temperature": 21, "unit": "furlongs"}"#).unwrap();
        assert_eq!(got.rejected_readings[0].0, DeadLetterReason::UnknownUnit);
    }

    /// Checks a payload against its number, its run and how many fields were rejected.
    #[test]
    fn a_value_is_not_lost_for_a_number_that_cannot_be_read() {
        let check = |envelope: &str, seq: Option<u64>, boot: Option<&str>, rejected: usize| {
            let payload = format!(r#"{{"value": 1, {envelope}}}"#);
            let got = run(ONE, payload.as_bytes()).unwrap();
            let numbered = (got.report.seq, got.report.boot.as_deref());
            assert_eq!(
                (numbered, got.rejected_readings.len()),
                ((seq, boot), rejected),
                "{payload}"
            );
        };
        check(r#""seq": 7"#, Some(7), None, 0);
        check(r#""seq": "7""#, Some(7), None, 0);
        check(r#""seq": 7.0"#, Some(7), None, 0);
        check(r#""seq": -1"#, None, None, 1);
        check(r#""seq": 7.5"#, None, None, 1);
        check(r#""seq": 7, "boot": "a""#, Some(7), Some("a"), 0);
        check(r#""seq": 7, "boot": [1]"#, None, None, 1);
    }

    #[test]
    fn what_is_no_metric_disturbs_no_metric() {
        let got = run(
            MANY,
            br#"{"temperature": 1, "name": "probe", "ip": "10.0.0.5", "on": true, "x": null,
                 "gps": {"lat": 52.1}, "list": [1, 2], "warmth": 2, "heat": "3.5"}"#,
        )
        .unwrap();
        assert_eq!(got.report.readings.len(), 1);
        // Numbers may be misspelt metrics.
        let reasons: Vec<_> = got.rejected_readings.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, [DeadLetterReason::UnknownMetric; 2]);
        assert!(got.rejected_readings[0].1.contains("`ignore`"), "{:?}", got.rejected_readings);
        let got = decode_with_ignored(
            MANY,
            br#"{"temperature": 1, "warmth": 2, "humidity": 3}"#,
            NOW,
            &MetricTable::default(),
            PayloadLimits::default(),
            &|name| ["warmth", "humidity"].contains(&name),
        )
        .unwrap();
        // A metric of the table is a reading, whatever the list of ignored names contains.
        assert_eq!((got.report.readings.len(), got.rejected_readings.len()), (2, 0));
    }

    #[test]
    fn a_list_is_several_messages() {
        let got = run(
            MANY,
            br#"[{"temperature": 1, "ts": 1600000000}, {"temperature": 2, "ts": 1600000060},
                 {"warmth": 3}, 4, {"temperature": 5, "ts": 1600000120, "seq": 9}]"#,
        )
        .unwrap();
        let times: Vec<_> =
            got.report.readings.iter().map(|reading| (reading.event_ms, reading.value)).collect();
        assert_eq!(times, [(1_600_000_000_000, 1.0), (1_600_000_060_000, 2.0)]);
        assert_eq!(got.further_reports.len(), 1);
        assert_eq!(got.further_reports[0].seq, Some(9));
        assert_eq!(got.rejected_readings.len(), 2);
        check(
            ONE,
            r#"[{"value": 1, "ts": 1600000000}, {"value": 2, "ts": 1600000060}]"#,
            &[("temperature", 1_600_000_000_000, 1.0), ("temperature", 1_600_000_060_000, 2.0)],
        );
    }

    #[test]
    fn a_pack_of_senml() {
        check(
            MANY,
            r#"[{"bn": "urn:dev:mac:0024befffe804ff1/", "bt": 1600000000, "bu": "Cel",
                 "n": "temperature", "v": 21.5},
                {"n": "humidity", "u": "%RH", "v": 40, "t": 60},
                {"n": "ec", "u": "S/m", "v": 0.24}, {"n": "label", "vs": "bay"}]"#,
            &[
                ("temperature", 1_600_000_000_000, 21.5),
                ("humidity", 1_600_000_060_000, 40.0),
                ("ec", 1_600_000_000_000, 2.4),
            ],
        );
    }

    #[test]
    fn a_pack_of_a_clock_that_is_not_set() {
        check(MANY, r#"[{"bn": "d/", "bt": 946684800, "n": "co2", "v": 1}]"#, &[("co2", NOW, 1.0)]);
        check(MANY, r#"[{"n": "co2", "v": 1, "t": -5}]"#, &[("co2", NOW - 5_000, 1.0)]);
    }

    #[test]
    fn more_metrics_than_a_report_may_have() {
        let limits = PayloadLimits { readings_max: 2, ..PayloadLimits::default() };
        let payload =
            br#"{"co2": 400, "humidity": 1, "temperature": 2, "a": "", "b": "", "c": ""}"#;
        let got = decode_payload(MANY, payload, NOW, &MetricTable::default(), limits).unwrap();
        assert_eq!(got.report.readings.len(), 2);
        assert_eq!(got.rejected_readings[0].0, DeadLetterReason::Oversized);
        // In a list, each of them is a report.
        let list = br#"[{"co2": 1}, {"co2": 2}, {"co2": 3}]"#;
        let got = decode_payload(MANY, list, NOW, &MetricTable::default(), limits).unwrap();
        assert_eq!((got.report.readings.len(), got.further_reports.len()), (2, 1));
    }

    #[test]
    fn the_good_part_of_a_message_is_kept_beside_the_bad() {
        let got = run(MANY, br#"{"temperature": 1, "warmth": 2, "humidity": "x"}"#).unwrap();
        assert_eq!(got.report.readings.len(), 1);
        let reasons: Vec<_> = got.rejected_readings.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, [DeadLetterReason::NotAReading, DeadLetterReason::UnknownMetric]);
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

    /// Generates JSON values that may stand beside metrics.
    fn junk() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{1,8}", inner, 0..4)
                    .prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn good_values_are_read_whatever_stands_beside_them(
            good in proptest::collection::btree_map(
                prop_oneof!["temperature", "humidity", "co2", "ec", "ph", "par"],
                (-1_000.0..1_000.0_f64, 0..4_u8), 1..6),
            beside in proptest::collection::btree_map("[A-Za-z_ µ.]{0,12}", junk(), 0..12),
        ) {
            let table = MetricTable::default();
            let is_free = |name: &str| table.resolve_name(name).is_none() && !ENVELOPE.contains(&name);
            let mut fields: Map<String, Value> =
                beside.into_iter().filter(|(name, _)| is_free(name)).collect();
            for (name, (value, form)) in &good {
                let value = match form {
                    0 => Value::from(*value),
                    1 => Value::from(value.to_string()),
                    2 => Value::from(format!(" {value} ")),
                    _ => Value::from(format!("{value:.4}").replace('.', ",")),
                };
                fields.insert(name.clone(), value);
            }
            let payload = Value::Object(fields).to_string();
            let got = run(MANY, payload.as_bytes()).unwrap();
            prop_assert_eq!(got.report.readings.len(), good.len());
            for reading in &got.report.readings {
                let (value, form) = good[reading.metric.as_str()];
                let within = if form == 3 { 1e-4 } else { 0.0 };
                prop_assert!((reading.value - value).abs() <= within, "{} {}", payload, reading.value);
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(topic in ".{0,60}", payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = run(&topic, &payload);
            let _ = run(ONE, &payload);
        }
    }
}
