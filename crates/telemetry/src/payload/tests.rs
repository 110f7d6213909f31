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
    check(ONE, r#"{"value": 1, "ts": 1600000000.5}"#, &[("temperature", 1_600_000_000_500, 1.0)]);
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
    let nulls =
        r#"{"value": 1, "ts": null, "seq": null, "boot": null, "source": null, "arrival": null}"#;
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
    let check_text = |text: &str, expect: f64| check(ONE, text, &[("temperature", NOW, expect)]);
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
        let payload = format!(r#"{{"temperature": {word}, "humidity": 40, "x": "a nan\" inf"}}"#);
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
        assert_eq!((numbered, got.rejected_readings.len()), ((seq, boot), rejected), "{payload}");
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
    let payload = br#"{"co2": 400, "humidity": 1, "temperature": 2, "a": "", "b": "", "c": ""}"#;
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
            proptest::collection::btree_map("[a-z]{1,8}", inner, 0..4).prop_map(Value::from_iter),
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
