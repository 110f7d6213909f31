//! The Protocol Buffers of Sparkplug B, as far as readings need them. The decoder skips the other
//! fields (data sets, templates, metadata).
//!
//! Source: Eclipse Tahu, `sparkplug_b/sparkplug_b.proto`; the values of
//! `datatype` from the Sparkplug specification 3.0, 6.4.16.

use prost::{Message, Oneof};

/// The payload of every message except `STATE`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SparkplugPayload {
    /// When it was sent, UTC milliseconds.
    #[prost(uint64, optional, tag = "1")]
    pub(super) timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<SparkplugMetric>,
    /// Sequence number, 0 to 255, counted over all messages of an edge node.
    #[prost(uint64, optional, tag = "3")]
    pub(super) seq: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SparkplugMetric {
    /// The name; only in births if there is an alias.
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) alias: Option<u64>,
    /// When it was measured, UTC milliseconds.
    #[prost(uint64, optional, tag = "3")]
    pub(super) timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    pub(super) datatype: Option<u32>,
    #[prost(bool, optional, tag = "5")]
    pub(super) is_historical: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(super) is_null: Option<bool>,
    #[prost(message, optional, tag = "9")]
    pub(super) properties: Option<PropertySet>,
    #[prost(oneof = "Value", tags = "10, 11, 12, 13, 14, 15")]
    pub(super) value: Option<Value>,
}

/// Keys and values by position.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PropertySet {
    #[prost(string, repeated, tag = "1")]
    pub(super) keys: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) values: Vec<PropertyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PropertyValue {
    #[prost(string, optional, tag = "8")]
    pub(super) string_value: Option<String>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Value {
    #[prost(uint32, tag = "10")]
    Int(u32),
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    Text(String),
}

/// `datatype` of a metric.
pub(super) mod datatype {
    pub(crate) const INT8: u32 = 1;
    pub(crate) const INT16: u32 = 2;
    pub(crate) const INT32: u32 = 3;
    pub(crate) const INT64: u32 = 4;
    pub(crate) const UINT8: u32 = 5;
    pub(crate) const UINT16: u32 = 6;
    pub(crate) const UINT32: u32 = 7;
    // 8 is UInt64, 9 Float, 10 Double: their fields determine the type.
    pub(crate) const BOOLEAN: u32 = 11;
}

impl SparkplugMetric {
    /// Converts the value to a number, by its own datatype or the one that its birth announced.
    /// Returns `None` if it is not a number (a text, a date, a file). Signed integers are two's
    /// complement within unsigned fields.
    pub(super) fn to_number(&self, datatype: Option<u32>) -> Option<f64> {
        use datatype::{BOOLEAN, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32};
        let is_numeric = datatype.is_none_or(|datatype| (INT8..=BOOLEAN).contains(&datatype));
        if !is_numeric {
            return None;
        }
        if self.is_null == Some(true) {
            return Some(f64::NAN);
        }
        // Encoders differ in which of the two integer fields they use.
        let bits = match self.value.as_ref()? {
            Value::Int(bits) => u64::from(*bits),
            Value::Long(bits) => *bits,
            // The shortest decimal with the same `f32`: 21.4, not 21.399999618530273.
            Value::Float(value) => return value.to_string().parse().ok(),
            Value::Double(value) => return Some(*value),
            Value::Boolean(on) => return Some(f64::from(u8::from(*on))),
            Value::Text(_) => return None,
        };
        Some(match datatype {
            Some(INT8) => f64::from(bits as u8 as i8),
            Some(INT16) => f64::from(bits as u16 as i16),
            Some(INT32) => f64::from(bits as u32 as i32),
            Some(INT64) => bits.cast_signed() as f64,
            Some(UINT8) => f64::from(bits as u8),
            Some(UINT16) => f64::from(bits as u16),
            Some(UINT32) => f64::from(bits as u32),
            Some(BOOLEAN) => f64::from(u8::from(bits != 0)),
            // UInt64, or no datatype was announced.
            _ => bits as f64,
        })
    }

    /// Returns the unit among its properties: `engUnit`, as Ignition and Tahu name it.
    pub(super) fn unit(&self) -> Option<&str> {
        let PropertySet { keys, values } = self.properties.as_ref()?;
        let mut pairs = keys.iter().zip(values);
        let (_, unit) = pairs.find(|(key, _)| {
            ["engUnit", "unit", "units", "Engineering Units"]
                .iter()
                .any(|name| key.eq_ignore_ascii_case(name))
        })?;
        unit.string_value.as_deref().map(str::trim).filter(|unit| !unit.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_numbers() {
        let check = |value: Value, datatype: u32, expect: Option<f64>| {
            let metric =
                SparkplugMetric { value: Some(value.clone()), ..SparkplugMetric::default() };
            assert_eq!(metric.to_number(Some(datatype)), expect, "{value:?} {datatype}");
        };
        check(Value::Int(0xFFFF_FFFF), datatype::INT8, Some(-1.0));
        check(Value::Int(0xFF), datatype::INT8, Some(-1.0));
        check(Value::Int(0xFFFF_FF38), datatype::INT16, Some(-200.0));
        check(Value::Int(0x8000_0000), datatype::INT32, Some(-2_147_483_648.0));
        check(Value::Long(u64::MAX), datatype::INT64, Some(-1.0));
        check(Value::Long(0xFFFF_FFFF), datatype::INT32, Some(-1.0));
        check(Value::Int(200), datatype::UINT8, Some(200.0));
        check(Value::Int(0xFFFF), datatype::UINT16, Some(65_535.0));
        check(Value::Long(0xFFFF_FFFF), datatype::UINT32, Some(4_294_967_295.0));
        check(Value::Long(1 << 63), 8, Some(9.223_372_036_854_776e18));
        check(Value::Float(21.4), 9, Some(21.4));
        check(Value::Double(21.4), 10, Some(21.4));
        check(Value::Boolean(true), datatype::BOOLEAN, Some(1.0));
        check(Value::Text("21.4".into()), 12, None);
        check(Value::Long(1_700_000_000_000), 13, None);
        let null = SparkplugMetric { is_null: Some(true), ..SparkplugMetric::default() };
        assert!(null.to_number(Some(9)).unwrap().is_nan());
        assert_eq!(null.to_number(Some(12)), None);
        assert_eq!(SparkplugMetric::default().to_number(None), None);
    }
}
