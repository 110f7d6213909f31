//! SenML, Sensor Measurement Lists in JSON (RFC 8428): a pack → its resolved records.
//!
//! Base name, base time, base unit, base value and base version hold for their record and all
//! that follow it (section 4.1). A full name is the base name followed by the record's name
//! (4.5.1). A time below 2²⁸ seconds is relative to now (4.5.3).

use serde_json::{Map, Value};
use smol_str::SmolStr;

use crate::{DeadLetterReason, payload};

/// One resolved record with a numeric value.
#[derive(Clone, Debug, PartialEq)]
pub struct SenmlRecord {
    /// The full name: base name and name.
    pub name: SmolStr,
    /// The record's name without the base name; empty if the record has none.
    own_name: SmolStr,
    /// The unit of the record, or else the base unit.
    pub unit: Option<SmolStr>,
    /// When it was measured, UTC milliseconds.
    pub event_ms: i64,
    /// A number, or a boolean as 1 and 0.
    pub value: f64,
}

/// Times below this are relative to now, seconds (section 4.5.3).
const RELATIVE_BELOW_S: f64 = 268_435_456.0;
/// Times before 2016-01-01 come from a clock that was never set.
const CLOCK_SET_MS: i64 = 1_451_606_400_000;
/// The newest supported version of SenML (section 4.4).
const VERSION_MAX: u64 = 10;
/// Longest accepted name, bytes.
const NAME_BYTES_MAX: usize = 512;
/// Separators of the levels of a name. Section 4.5.1 allows all of them.
const SEPARATORS: [char; 5] = ['/', ':', '.', '_', '-'];

impl SenmlRecord {
    /// The name of the measured quantity: the record's own name, or the last level of the full
    /// name if the base name holds all of it.
    ///
    /// ```
    /// use serde_json::json;
    /// let pack = json!([{"bn": "urn:dev:mac:0024befffe804ff1/", "n": "temperature", "v": 21.5}]);
    /// let records = microclimate_telemetry::senml::resolve_records(pack.as_array().unwrap(), 1_700_000_000_000);
    /// assert_eq!(records[0].as_ref().unwrap().quantity(), "temperature");
    /// assert_eq!(records[0].as_ref().unwrap().device(), "urn:dev:mac:0024befffe804ff1");
    /// ```
    #[must_use]
    pub fn quantity(&self) -> &str {
        let last = |name: &'_ SmolStr| name.rfind(['/', ':']).map_or(0, |at| at + 1);
        if self.own_name.is_empty() {
            &self.name[last(&self.name)..]
        } else {
            &self.own_name[last(&self.own_name)..]
        }
    }

    /// The event time for a device that sends its values at once, UTC milliseconds. It is the
    /// arrival time if the device's clock was not set yet.
    #[must_use]
    pub fn live_event_ms(&self, received_ms: i64) -> i64 {
        if self.event_ms < CLOCK_SET_MS { received_ms } else { self.event_ms }
    }

    /// The name of the device: the full name without that of the quantity.
    #[must_use]
    pub fn device(&self) -> &str {
        let device = self.name.strip_suffix(self.quantity()).unwrap_or(&self.name);
        device.trim_end_matches(SEPARATORS)
    }
}

/// Whether a list is a SenML pack: its first record has a base, or a name and a value.
#[must_use]
pub fn is_pack(elements: &[Value]) -> bool {
    let Some(Value::Object(first)) = elements.first() else { return false };
    let has = |keys: &[&str]| keys.iter().any(|key| first.contains_key(*key));
    has(&["bn", "bt", "bu", "bv", "bver"]) || (has(&["n"]) && has(&["v", "vb", "vs", "vd", "s"]))
}

/// Resolves the records of a pack that have a number, and describes the invalid ones. Texts, data
/// and sums are skipped.
#[must_use]
pub fn resolve_records(
    elements: &[Value],
    received_ms: i64,
) -> Vec<Result<SenmlRecord, (DeadLetterReason, String)>> {
    let mut base = SenmlBase::default();
    let mut records = Vec::new();
    for element in elements {
        let Value::Object(fields) = element else {
            let what = "a record of the pack is not an object".to_owned();
            records.push(Err((DeadLetterReason::NotAReading, what)));
            continue;
        };
        if let Err(what) = base.update_from(fields) {
            // The following records cannot be understood without this base.
            records.push(Err((DeadLetterReason::NotAReading, what)));
            return records;
        }
        records.extend(base.resolve_record(fields, received_ms).transpose());
    }
    records
}

/// The base fields, which hold for all records that follow.
#[derive(Debug, Default)]
struct SenmlBase {
    name: SmolStr,
    time_s: f64,
    unit: Option<SmolStr>,
    value: f64,
}

impl SenmlBase {
    fn update_from(&mut self, fields: &Map<String, Value>) -> Result<(), String> {
        if let Some(name) = fields.get("bn") {
            let base_name = name.as_str().filter(|name| name.len() <= NAME_BYTES_MAX);
            self.name = base_name.ok_or("`bn` is not a name")?.into();
        }
        if let Some(unit) = fields.get("bu") {
            self.unit = Some(unit.as_str().ok_or("`bu` is not a unit")?.into());
        }
        let number = |key: &str| {
            let Some(value) = fields.get(key) else { return Ok(None) };
            let number =
                payload::number_from_json(key, value).ok().filter(|number| number.is_finite());
            number.map(Some).ok_or(format!("`{key}` is not a number"))
        };
        self.time_s = number("bt")?.unwrap_or(self.time_s);
        self.value = number("bv")?.unwrap_or(self.value);
        match fields.get("bver").map(Value::as_u64) {
            None => Ok(()),
            Some(Some(version)) if version <= VERSION_MAX => Ok(()),
            // Section 4.4: a pack of a later version must not be processed.
            Some(_) => Err(format!("`bver` is over {VERSION_MAX}, the version of RFC 8428")),
        }
    }

    fn resolve_record(
        &self,
        fields: &Map<String, Value>,
        received_ms: i64,
    ) -> Result<Option<SenmlRecord>, (DeadLetterReason, String)> {
        let own_name = fields.get("n").and_then(Value::as_str).unwrap_or_default();
        let name = SmolStr::from(format!("{}{own_name}", self.name));
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let what = "a record has no name, or one that is too long".to_owned();
            return Err((DeadLetterReason::NotAReading, what));
        }
        let value = match (fields.get("v"), fields.get("vb")) {
            (Some(value), _) => payload::number_from_json(&name, value)? + self.value,
            (None, Some(value)) => payload::number_from_json(&name, value)?,
            // The record is a text, data, a sum, or a base alone. A base value alone is a value
            // too.
            (None, None) if fields.contains_key("bv") && fields.contains_key("n") => self.value,
            (None, None) => return Ok(None),
        };
        let time_s = match fields.get("t") {
            None => self.time_s,
            Some(time) => self.time_s + payload::number_from_json("t", time)?,
        };
        let event_ms = if time_s.abs() < RELATIVE_BELOW_S {
            received_ms.saturating_add((time_s * 1000.0).round() as i64)
        } else {
            let ms = (time_s * 1000.0).round();
            // Times up to the year 9999 are accepted.
            if !(0.0..253_402_300_800_000.0).contains(&ms) {
                let what = format!("`t` is {time_s}, expected seconds since 1970");
                return Err((DeadLetterReason::BadTime, what));
            }
            ms as i64
        };
        let own_unit = fields.get("u").and_then(Value::as_str).map(SmolStr::from);
        let unit = own_unit.or_else(|| self.unit.clone());
        Ok(Some(SenmlRecord { name, own_name: own_name.into(), unit, event_ms, value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    /// Checks a pack against lines of device, quantity, value, unit and time, one for each
    /// record.
    fn check(pack: &str, expect: &[&str]) {
        let elements: Vec<Value> = serde_json::from_str(pack).unwrap();
        let got: Vec<String> = resolve_records(&elements, NOW)
            .into_iter()
            .map(|record| match record {
                Ok(record) => {
                    let unit = record.unit.as_deref().unwrap_or("-");
                    let (device, quantity) = (record.device(), record.quantity());
                    format!("{device} {quantity} {} {unit} {}", record.value, record.event_ms)
                }
                Err((reason, what)) => format!("{reason}: {what}"),
            })
            .collect();
        assert_eq!(got, expect, "{pack}");
    }

    /// The examples of RFC 8428, section 5.1.
    #[test]
    fn examples_of_the_standard() {
        // 5.1.1
        check(
            r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#,
            &["urn:dev:ow 10e2073a01080063 23.1 Cel 1700000000000"],
        );
        // 5.1.2
        check(
            r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},
                {"n":"current","u":"A","v":1.2}]"#,
            &[
                "urn:dev:ow:10e2073a01080063 voltage 120.1 V 1700000000000",
                "urn:dev:ow:10e2073a01080063 current 1.2 A 1700000000000",
            ],
        );
        // 5.1.2
        check(
            r#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,
                 "n":"voltage","u":"V","v":120.1},
                {"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3}]"#,
            &[
                "urn:dev:ow:10e2073a0108006 voltage 120.1 V 1276020076001",
                "urn:dev:ow:10e2073a0108006 current 1.2 A 1276020071001",
                "urn:dev:ow:10e2073a0108006 current 1.3 A 1276020072001",
            ],
        );
        // 5.1.4
        check(
            r#"[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},
                {"u":"lon","v":24.30621},{"t":60,"v":20.3}]"#,
            &[
                "urn:dev:ow 10e2073a01080063 20 %RH 1320067464000",
                "urn:dev:ow 10e2073a01080063 24.30621 lon 1320067464000",
                "urn:dev:ow 10e2073a01080063 20.3 %RH 1320067524000",
            ],
        );
        // 5.1.5: several data types; a text is no reading.
        check(
            r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},
                {"n":"label","vs":"Machine Room"},{"n":"open","vb":false}]"#,
            &[
                "urn:dev:ow:10e2073a01080063 temp 23.1 Cel 1700000000000",
                "urn:dev:ow:10e2073a01080063 open 0 - 1700000000000",
            ],
        );
    }

    #[test]
    fn bases_and_times() {
        // A base value is added; times below 2^28 are relative to now.
        check(
            r#"[{"bn":"d/","bv":20,"bu":"Cel"},{"n":"t","v":1.5},{"n":"t","v":2,"t":-60}]"#,
            &["d t 21.5 Cel 1700000000000", "d t 22 Cel 1699999940000"],
        );
        check(
            r#"[{"bn":"d/","bver":11,"n":"t","v":1}]"#,
            &["not_a_reading: `bver` is over 10, the version of RFC 8428"],
        );
        check(
            r#"[{"n":"t","v":1},7]"#,
            &[" t 1 - 1700000000000", "not_a_reading: a record of the pack is not an object"],
        );
        check(
            r#"[{"bt":0,"v":1}]"#,
            &["not_a_reading: a record has no name, or one that is too long"],
        );
        check(
            r#"[{"n":"t","v":1,"t":1e30}]"#,
            &["bad_time: `t` is 1000000000000000000000000000000, expected seconds since 1970"],
        );
    }

    #[test]
    fn packs_among_lists() {
        let check = |list: &str, expect: bool| {
            let elements: Vec<Value> = serde_json::from_str(list).unwrap();
            assert_eq!(is_pack(&elements), expect, "{list}");
        };
        check(r#"[{"n":"t","v":1}]"#, true);
        check(r#"[{"bn":"d:"},{"n":"t","v":1}]"#, true);
        check(r#"[{"temperature":1,"ts":1700000000}]"#, false);
        check("[1,2]", false);
        check("[]", false);
    }
}
