//! A fast parser for reports exactly as [`SensorReport::to_json`] writes them. Nearly all of the
//! log has this form, and it is read at several times the speed of a general JSON parser.

use smol_str::SmolStr;

use crate::{ReportSource, SensorReading, SensorReport};

/// Reads a report in its canonical form: fields in order, no spaces, no escapes in texts, no
/// exponents in numbers. Anything else returns `None` and is left to the general parser, which
/// also reports errors.
pub(crate) fn read_report(json: &[u8]) -> Option<SensorReport> {
    let mut rest = JsonCursor(json);
    rest.skip_prefix(br#"{"zone":""#)?;
    let zone = rest.read_text()?.parse().ok()?;
    rest.skip_prefix(br#","device":""#)?;
    let device = rest.read_text()?.into();
    let boot = match rest.skip_prefix(br#","boot":""#) {
        Some(()) => Some(rest.read_text()?.into()),
        None => None,
    };
    let seq = match rest.skip_prefix(br#","seq":"#) {
        Some(()) => Some(rest.read_digits()?),
        None => None,
    };
    rest.skip_prefix(br#","arrival_ms":"#)?;
    let arrival_ms = rest.read_integer()?;
    rest.skip_prefix(br#","source":""#)?;
    let source = rest.read_text()?;
    let source = ReportSource::ALL.into_iter().find(|known| known.as_str() == source)?;
    rest.skip_prefix(br#","readings":["#)?;
    let mut readings = Vec::with_capacity(rest.0.len() / READING_BYTES + 1);
    loop {
        readings.push(rest.read_reading()?);
        if rest.skip_prefix(b",").is_none() {
            break;
        }
    }
    (rest.0 == b"]}").then_some(SensorReport {
        zone,
        device,
        boot,
        seq,
        arrival_ms,
        source,
        readings,
    })
}

/// Typical length of a reading in bytes, with a short name and a short number.
const READING_BYTES: usize = 48;

/// The bytes that have not been read yet.
struct JsonCursor<'a>(&'a [u8]);

impl<'a> JsonCursor<'a> {
    fn skip_prefix(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// Takes the bytes up to the first one that `is_accepted` rejects.
    fn take_while(&mut self, is_accepted: impl Fn(&u8) -> bool) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| !is_accepted(byte))?;
        let (accepted, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(accepted)
    }

    /// Takes a text and the quotation mark that ends it.
    fn read_text(&mut self) -> Option<&'a str> {
        let text = self.take_while(|byte| !matches!(byte, 0..0x20 | b'"' | b'\\'))?;
        self.skip_prefix(b"\"")?;
        std::str::from_utf8(text).ok()
    }

    fn read_digits(&mut self) -> Option<u64> {
        let digits = self.take_while(u8::is_ascii_digit)?;
        let is_number = digits.len() == 1 || digits.first().is_some_and(|first| *first != b'0');
        let mut number = 0_u64;
        for digit in digits {
            number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        }
        is_number.then_some(number)
    }

    fn read_integer(&mut self) -> Option<i64> {
        let is_negative = self.skip_prefix(b"-").is_some();
        let digits = i64::try_from(self.read_digits()?).ok()?;
        match (is_negative, digits) {
            (false, digits) => Some(digits),
            // The general parser reads this as a floating-point number.
            (true, 0) => None,
            (true, digits) => Some(-digits),
        }
    }

    fn read_number(&mut self) -> Option<f64> {
        let before = self.0;
        let _ = self.skip_prefix(b"-");
        self.read_digits()?;
        if self.skip_prefix(b".").is_some() && self.take_while(u8::is_ascii_digit)?.is_empty() {
            return None;
        }
        let text = &before[..before.len() - self.0.len()];
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    fn read_reading(&mut self) -> Option<SensorReading> {
        self.skip_prefix(br#"{"metric":""#)?;
        let metric = SmolStr::from(self.read_text()?);
        self.skip_prefix(br#","ts":"#)?;
        let event_ms = self.read_integer()?;
        self.skip_prefix(br#","value":"#)?;
        let value =
            if self.skip_prefix(b"null").is_some() { f64::NAN } else { self.read_number()? };
        self.skip_prefix(b"}")?;
        Some(SensorReading { metric, event_ms, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::ZoneId;

    fn general(json: &[u8]) -> Option<SensorReport> {
        serde_json::from_slice(json).ok()
    }

    /// Whether two reports are equal to the bit, including NaN and −0.
    fn same(a: &SensorReport, b: &SensorReport) -> bool {
        let bits = |report: &SensorReport| -> Vec<u64> {
            report.readings.iter().map(|reading| reading.value.to_bits()).collect()
        };
        bits(a) == bits(b) && a.to_json() == b.to_json()
    }

    const REPORT: &str = r#"{"zone":"a/b","device":"d","boot":"x","seq":7,"arrival_ms":-5,"source":"live","readings":[{"metric":"co2","ts":1,"value":400},{"metric":"ph","ts":2,"value":-6.50}]}"#;

    #[test]
    fn a_report_as_it_is_written() {
        let report = read_report(REPORT.as_bytes()).unwrap();
        assert!(same(&report, &general(REPORT.as_bytes()).unwrap()));
        assert_eq!((report.seq, report.readings[1].value), (Some(7), -6.5));
    }

    #[test]
    fn what_is_not_written_so_is_left_to_the_general_parser() {
        for (part, other) in [
            ("a/b", "a"),
            (":7", ": 7"),
            (":7", ":07"),
            (":-5", ":-0"),
            (":7", ":18446744073709551616"),
            ("live", "elsewhere"),
            ("400", "4e2"),
            ("400", "400."),
            ("400", "+400"),
            ("400", ""),
            ("400", "Infinity"),
            ("co2", "co\\u0032"),
            ("co2", "co\n2"),
            ("]}", "]"),
            ("]}", "]} "),
            ("]}", ",]}"),
        ] {
            let json = REPORT.replace(part, other);
            assert!(read_report(json.as_bytes()).is_none(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn both_parsers_read_the_same(
            value in prop_oneof![any::<f64>(), (-1_000_000..1_000_000_i64).prop_map(|v| v as f64 / 100.0)],
            (ts, seq) in (any::<i64>(), any::<Option<u64>>()),
            (device, boot) in ("\\PC{1,12}", proptest::option::of("[a-z0-9]{1,30}")),
        ) {
            let reading = SensorReading { metric: "temperature".into(), event_ms: ts, value };
            let report = SensorReport {
                zone: ZoneId::new("farm", "bay-1"),
                device: device.into(),
                boot: boot.map(Into::into),
                seq,
                arrival_ms: ts,
                source: ReportSource::Replay,
                readings: vec![reading.clone(), reading],
            };
            let json = report.to_json();
            if let Some(read) = read_report(&json) {
                prop_assert!(same(&read, &general(&json).unwrap()));
            }
        }

        #[test]
        fn no_bytes_are_read_otherwise_than_by_the_general_parser(
            at in 0..REPORT.len(), byte in any::<u8>(),
        ) {
            let mut json = REPORT.as_bytes().to_vec();
            json[at] = byte;
            if let Some(read) = read_report(&json) {
                prop_assert!(same(&read, &general(&json).unwrap()));
            }
        }
    }
}
