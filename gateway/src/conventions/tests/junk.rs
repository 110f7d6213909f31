//! Good values are read whatever stands beside them, in any convention of JSON.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use telemetry::topic::check_level;

use super::ConventionBench;

/// Generates any JSON value.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(Value::from("21.5 µs")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,8}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

/// A test case: the configuration, the topic, and the message around the fields.
type JunkCase = (&'static str, &'static str, fn(Value) -> Value);

const CASES: [JunkCase; 8] = [
    ("convention = \"zigbee2mqtt\"", "zigbee2mqtt/probe", |fields| fields),
    ("convention = \"tasmota\"", "tele/probe/SENSOR", |fields| json!({"BME280": fields})),
    ("convention = \"openmqttgateway\"", "home/gw/BTtoMQTT/A4C1", |fields| fields),
    ("convention = \"rtl_433\"", "rtl_433/host/events", |mut fields| {
        fields["model"] = json!("Acurite-Tower");
        fields
    }),
    ("convention = \"thingsboard\"", "v1/devices/me/telemetry", |fields| json!({"values": fields})),
    (
        "convention = \"chirpstack\"",
        "application/1/device/2/event/up",
        |fields| json!({"deviceInfo": {"deviceName": "probe"}, "object": fields}),
    ),
    (
        "convention = \"the-things-stack\"",
        "v3/app/devices/probe/up",
        |fields| json!({"uplink_message": {"decoded_payload": fields}}),
    ),
    (
        "convention = \"template\"\ntopic = \"x/{device}\"\nmetrics = { temperature = \"temperature\", humidity = \"humidity\" }",
        "x/probe",
        |fields| fields,
    ),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn good_values_are_read_whatever_stands_beside_them(
        temperature in -20.0..40.0_f64,
        humidity in 1.0..99.0_f64,
        form in 0..3_u8,
        beside in proptest::collection::btree_map("zz[a-z_]{0,8}", any_json(), 0..8),
    ) {
        let write = |value: f64| match form {
            0 => json!(value),
            1 => json!(format!(" {value} ")),
            _ => json!(format!("{value:.2}").replace('.', ",")),
        };
        let within = if form == 2 { 0.006 } else { 1e-12 };
        for (mapping, topic, around) in CASES {
            // Tasmota's names begin with capitals, and rtl_433's end with the unit.
            let names = match mapping {
                "convention = \"tasmota\"" => ["Temperature", "Humidity"],
                "convention = \"rtl_433\"" => ["temperature_C", "humidity"],
                _ => ["temperature", "humidity"],
            };
            let mut fields: Map<String, Value> = beside.clone().into_iter().collect();
            fields.insert(names[0].to_owned(), write(temperature));
            fields.insert(names[1].to_owned(), write(humidity));
            let payload = around(Value::Object(fields)).to_string();
            let mut bench = ConventionBench::from_mapping(&format!("{mapping}\nsite = \"s\"\nzone = \"z\""));
            let readings: Vec<_> = bench
                .decode_reports(topic, payload.as_bytes())
                .into_iter()
                .flat_map(|report| report.readings)
                .collect();
            for (metric, value) in [("temperature", temperature), ("humidity", humidity)] {
                let is_there = readings.iter().any(|reading| {
                    reading.metric == metric && (reading.value - value).abs() <= within
                });
                prop_assert!(is_there, "{mapping} {metric} {payload} {readings:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_message_is_read_or_refused(
        document in any_json(),
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        list in proptest::collection::vec(any_json(), 0..4),
    ) {
        let senml = ("convention = \"senml\"\ntopic = \"x/{device#}\"", "x/a/b", CASES[0].2);
        let shelly = ("convention = \"shelly\"", "plus1/events/rpc", (|params| json!({"params": params})) as fn(Value) -> Value);
        for (mapping, topic, around) in CASES.into_iter().chain([senml, shelly]) {
            let mut bench = ConventionBench::from_mapping(&format!("{mapping}\nsite = \"s\"\nzone = \"z\""));
            let whole = match &document {
                // Only objects have fields beside others.
                Value::Object(_) => around(document.clone()),
                other => other.clone(),
            };
            let payloads =
                [whole.to_string().into_bytes(), Value::from(list.clone()).to_string().into_bytes(), bytes.clone()];
            for payload in payloads {
                for report in bench.decode_reports(topic, &payload) {
                    prop_assert!(!report.readings.is_empty());
                    for name in [&report.zone.site, &report.zone.zone, &report.device] {
                        prop_assert_eq!(check_level(name), Ok(()));
                    }
                    for reading in &report.readings {
                        // Up to the year 9999.
                        prop_assert!((0..=253_402_300_799_999).contains(&reading.event_ms));
                        prop_assert!(bench.metrics.get(&reading.metric).is_some());
                    }
                }
            }
        }
    }
}
