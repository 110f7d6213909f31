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

mod numbers;

use serde_json::{Map, Value};
use smol_str::SmolStr;

use crate::{
    DeadLetterReason, DeviceAddress, MetricTable, ParsedTime, ReportSource, SensorReading,
    SensorReport, TimeParser, TimeUsage, senml, time::EXPECTED_SET, topic::MAX_LEVEL_BYTES, unit,
};
pub use numbers::{
    number_from_json, number_from_text, parse_lenient_json, parse_number, parse_quantity,
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
mod tests;
