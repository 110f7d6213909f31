//! Conventions that are tables, with their examples and golden payloads.

use super::{ConventionBench, read_golden};

#[test]
fn chirpstack() {
    let mut bench = ConventionBench::from_example("chirpstack");
    let up = |eui: &str| format!("application/17c82e96/device/{eui}/event/up");
    // A tag names the zone. The list is what the device had buffered. An unset time is an error,
    // because the arrival time would be wrong.
    let of = |at: &str, what: &str| format!("farm/bay-2 bed-7 live {at}: {what}");
    let (now, first, second) =
        ("2022-07-18T09:34:15.775Z", "2022-07-18T09:30:00Z", "2022-07-18T09:20:00Z");
    bench.check(
        &up("24e124126a148401"),
        read_golden("chirpstack/up-object.json"),
        &[
            &of(now, "temperature 27.2"),
            &of(now, "soil_moisture 45.5"),
            &of(now, "ec 0.24"),
            &of(first, "temperature 26.9"),
            &of(first, "soil_moisture 45"),
            &of(first, "ec 0.238"),
            &of(second, "temperature 26.5"),
            &of(second, "soil_moisture 44.5"),
            &of(second, "ec 0.236"),
            "bad_time: `timestamp` of a record in a list is not set",
        ],
    );
    // Version 3: the object is a text, and Cayenne's channels are sensors.
    bench.check(
        &up("0202020202020202"),
        read_golden("chirpstack/up-v3.json"),
        &[
            "farm/field garden-sensor.1 live 2019-11-08T13:59:25.048Z: temperature 25",
            "farm/field garden-sensor.1 live 2019-11-08T13:59:25.048Z: humidity 32",
        ],
    );
    // Without a codec the dead letter asks for one.
    bench.check(
        &up("0101010101010101"),
        read_golden("chirpstack/up.json"),
        &["not_a_reading: …set a codec in the device profile…"],
    );
    bench.check(
        "application/17c82e96/device/01/event/join",
        read_golden("chirpstack/join.json"),
        &[],
    );
    bench.check("application/17c82e96/device/01/event/status", r#"{"batteryLevel": 88.3}"#, &[]);
    bench.check(&up("01"), "{", &["malformed: …"]);
}

#[test]
fn counters_of_uplinks_are_of_a_session() {
    let numbered = |example: &str, topic: &str, payload: &str| {
        let mapped =
            ConventionBench::from_example(example).decode_reports(topic, &read_golden(payload));
        let [report] = &mapped[..] else { panic!("{mapped:?}") };
        (report.seq, report.boot.clone().unwrap_or_default().to_string())
    };
    assert_eq!(
        numbered("the-things-stack", "v3/app1@ttn/devices/dev1/up", "the-things-stack/up.json"),
        (Some(1), "AXA50tHUGUucuzS.bCGMNw==".to_owned())
    );
    assert_eq!(
        numbered("chirpstack", "application/1/device/2/event/up", "chirpstack/up-object.json"),
        (Some(10), "00189440".to_owned())
    );
}

#[test]
fn the_things_stack() {
    let mut bench = ConventionBench::from_example("the-things-stack");
    let at = "2020-02-12T15:15:45.789Z";
    bench.check(
        "v3/app1@ttn/devices/dev1/up",
        read_golden("the-things-stack/up.json"),
        &[
            &format!("farm/field dev1 live {at}: temperature 1"),
            &format!("farm/field dev1 live {at}: light 0.64"),
        ],
    );
    // Numbers with their units as texts. The probe on the cable is not the one in the soil.
    let of = |part: &str, what: &str| {
        format!("farm/field eui-a8404194a1875ff3{part} live 2023-06-20T14:34:32.656Z: {what}")
    };
    bench.check(
        "v3/app1@ttn/devices/eui-a8404194a1875ff3/up",
        read_golden("the-things-stack/dragino-texts.json"),
        &[
            &of("", "battery 3.384"),
            &of(".ds18b20", "temperature 21.5"),
            &of("", "ec 0.64"),
            &of("", "soil_temperature 30.11"),
            &of("", "soil_moisture 12.73"),
        ],
    );
    // Each channel is a sensor.
    let of = |part: &str, what: &str| {
        format!("farm/bay-1 bay1-cayenne.{part} live 2023-06-20T14:34:32.656Z: {what}")
    };
    bench.check(
        "v3/app1@ttn/devices/bay1-cayenne/up",
        read_golden("the-things-stack/cayenne.json"),
        &[
            &of("1", "temperature 27.2"),
            &of("3", "temperature 18.5"),
            &of("2", "humidity 50"),
            &of("4", "pressure 1013.2"),
            &of("5", "light 300"),
            "unknown_metric: no metric is known for `bay1-cayenne/analog_in_6`…",
            "unknown_metric: no metric is known for `bay1-cayenne/digital_in_7`…",
        ],
    );
    let ack = read_golden("the-things-stack/down-ack.json");
    bench.check("v3/app1@ttn/devices/dev1/down/ack", ack, &[]);
    bench.check(
        "v3/app1@ttn/devices/dev1/up",
        r#"{"end_device_ids": {"device_id": "dev1"}, "uplink_message": {"frm_payload": "gkHe"}}"#,
        &["not_a_reading: …payload formatter…"],
    );
}

#[test]
fn values_with_their_units_beside_them() {
    // Values as Decentlab's decoders write them.
    let mut bench = ConventionBench::from_example("the-things-stack");
    let payload = r#"{"end_device_ids": {"device_id": "dl"}, "uplink_message": {"decoded_payload": {
        "air_temperature": {"displayName": "Air temperature", "unit": "°C", "value": 21.5},
        "wind_speed": {"displayName": "Wind speed", "unit": "km/h", "value": 36},
        "solar_radiation": {"displayName": "Solar radiation", "unit": "W⋅m⁻²", "value": 640},
        "battery_voltage": {"displayName": "Battery voltage", "unit": "V", "value": 3.1},
        "soil": {"temperature": 15.5}, "protocol_version": "2"}}}"#;
    let of = |what: &str| format!("farm/field dl live now: {what}");
    bench.check(
        "v3/app1/devices/dl/up",
        payload,
        &[
            &of("temperature 21.5"),
            &of("wind_speed 10"),
            &of("irradiance 640"),
            &of("battery 3.1"),
            // Another thermometer of the same device.
            "farm/field dl.soil live now: temperature 15.5",
        ],
    );
    bench.check(
        "v3/app1/devices/dl/up",
        r#"{"end_device_ids": {"device_id": "dl"}, "uplink_message": {"decoded_payload": {"ec": 240, "ph": "6,1"}}}"#,
        &[&of("ph 6.1"), "unknown_unit: `dl/ec` has no unit…"],
    );
}

#[test]
fn shelly() {
    let mut bench = ConventionBench::from_example("shelly");
    let at = "2023-04-08T14:07:59.62Z";
    let of = |what: &str| format!("home/house shellyplusht-b8d61a8b17cc.0 live {at}: {what}");
    bench.check(
        "shellyplusht-b8d61a8b17cc/events/rpc",
        read_golden("shelly/ht-full-status.json"),
        &[&of("temperature 19.8"), &of("humidity 42.2"), &of("battery 5.43")],
    );
    // Channels are sensors; the relay's own temperature is not a reading.
    let of = |channel: &str, what: &str| {
        format!("home/house shellyplus1-a8032abe54dc.{channel} live 2023-11-14T22:16:30.5Z: {what}")
    };
    bench.check(
        "shellyplus1-a8032abe54dc/events/rpc",
        read_golden("shelly/addon.json"),
        &[
            &of("100", "temperature 23.5"),
            &of("101", "temperature 18.1"),
            &of("100", "humidity 55.1"),
            &of("100", "soil_moisture 41.5"),
        ],
    );
    for file in ["shelly-switch", "shelly-event"] {
        let payload = read_golden(&format!("template/{file}.json"));
        bench.check("shellyplus1-a8032abe54dc/events/rpc", payload, &[]);
    }
    bench.check(
        "shellyplus1-a8032abe54dc/status/temperature:100",
        r#"{"id": 100, "tC": 999, "tF": 1830.2}"#,
        &["home/house shellyplus1-a8032abe54dc.100 live now: temperature NaN"],
    );
    bench.check(
        "shellyhtg3-84fce63ad204/status/humidity:0",
        r#"{"id": 0, "rh": null, "errors": ["read"]}"#,
        &["home/greenhouse shellyhtg3-84fce63ad204.0 live now: humidity NaN"],
    );
    bench.check("shellyplus1-a8032abe54dc/status/sys", r#"{"uptime": 3}"#, &[]);
    bench.check("shellyplus1-a8032abe54dc/online", "true", &[]);
    assert_eq!(bench.decode_lines("a/b/c/events/rpc", b"{}"), None);
}

#[test]
fn rtl_433() {
    let mut bench = ConventionBench::from_example("rtl_433");
    let events = "rtl_433/raspberry/events";
    bench.check(
        events,
        read_golden("rtl_433/wh51.json"),
        &[
            "farm/bay-1 Fineoffset-WH51.00cf82 live now: soil_moisture 42",
            "farm/bay-1 Fineoffset-WH51.00cf82 live now: battery 1.6",
        ],
    );
    let of =
        |what| format!("farm/outside Fineoffset-WS90.0041c5 live 2023-11-14T21:13:05Z: {what}");
    bench.check(
        events,
        read_golden("rtl_433/ws90.json"),
        &[
            &of("temperature 11.4"),
            &of("humidity 83"),
            &of("pressure 1004.2"),
            &of("wind_direction 231"),
            &of("wind_speed 2.4"),
            &of("light 8230"),
            &of("rain 107.7"),
            &of("battery 3.12"),
        ],
    );
    bench.check(
        events,
        read_golden("rtl_433/acurite.json"),
        &[
            "farm/shed Acurite-Tower.A.2097 live 2023-11-14T22:13:05Z: temperature 14.8",
            "farm/shed Acurite-Tower.A.2097 live 2023-11-14T22:13:05Z: humidity 61",
        ],
    );
    // Sensors of the neighbours.
    bench.check(events, read_golden("rtl_433/tpms.json"), &[]);
    // Each value has its own topic; names in topics have no other characters.
    bench.check(
        "rtl_433/raspberry/devices/Acurite-Tower/A/2097/temperature_C",
        "14.8",
        &["farm/shed Acurite-Tower.A.2097 live now: temperature 14.8"],
    );
    bench.check("rtl_433/raspberry/devices/Acurite-Tower/A/2097/mic", "CHECKSUM", &[]);
    bench.check("rtl_433/raspberry/devices/Acurite-Tower/A/2097/battery_ok", "1", &[]);
    bench.check("rtl_433/raspberry/states", r#"{"enabled": 200}"#, &[]);
}

#[test]
fn a_local_time_of_nobody_knows_where_is_the_arrival() {
    let mut bench =
        ConventionBench::from_mapping("convention = \"rtl_433\"\nsite = \"s\"\nzone = \"z\"");
    let mut check = |time: &str, at: &str| {
        let payload = format!(r#"{{"time": "{time}", "model": "X", "id": 7, "humidity": 40}}"#);
        bench.check("rtl_433/h/events", payload, &[&format!("s/z X.7 live {at}: humidity 40")]);
    };
    check("2023-11-14 23:13:05", "now");
    check("2023-11-14T22:13:05+0100", "2023-11-14T21:13:05Z");
    check("1699999940.25", "2023-11-14T22:12:20.25Z");
}

#[test]
fn openmqttgateway() {
    let mut bench = ConventionBench::from_example("openmqttgateway");
    let of = |what| format!("home/greenhouse A4C138DBBC6F live now: {what}");
    bench.check(
        "home/OpenMQTTGateway/BTtoMQTT/A4C138DBBC6F",
        read_golden("openmqttgateway/lywsd03mmc.json"),
        &[&of("temperature 21.5"), &of("humidity 50"), &of("battery 2.9")],
    );
    // Received by another gateway of an older version, which writes numbers as texts.
    bench.check(
        "home/cellar/BTtoMQTT/A4C138DBBC6F",
        read_golden("openmqttgateway/text-numbers.json"),
        &[&of("temperature 19.2"), &of("humidity 52.6")],
    );
    bench.check(
        "home/TheengsGateway/BTtoMQTT/C47C8D6D0CD2",
        read_golden("openmqttgateway/miflora.json"),
        &[
            "home/pots C47C8D6D0CD2 live now: soil_moisture 3",
            "home/pots C47C8D6D0CD2 live now: ec 0.64",
        ],
    );
    bench.check(
        "home/OpenMQTTGateway/BTtoMQTT/A4C138000001",
        read_golden("openmqttgateway/bbq.json"),
        &[
            "home/house A4C138000001.1 live now: temperature 23",
            "home/house A4C138000001.2 live now: temperature 115",
        ],
    );
    // A dew point is not a second thermometer.
    bench.check(
        "home/OpenMQTTGateway/BTtoMQTT/D40000000002",
        read_golden("openmqttgateway/tempo-disc.json"),
        &[
            "home/house D40000000002 live now: temperature 23.9",
            "home/house D40000000002 live now: humidity 43.5",
        ],
    );
    bench.check(
        "home/OpenMQTTGateway/BTtoMQTT/6087574C9BC2",
        read_golden("openmqttgateway/beacon.json"),
        &[],
    );
    bench.check(
        "home/OpenMQTTGateway/RTL_433toMQTT/Acurite-Tower/A/2097",
        read_golden("rtl_433/acurite.json"),
        &[
            "home/house Acurite-Tower.A.2097 live now: temperature 14.8",
            "home/house Acurite-Tower.A.2097 live now: humidity 61",
        ],
    );
    bench.check(
        "home/OpenMQTTGateway/RTL_433toMQTT",
        read_golden("rtl_433/acurite.json"),
        &[
            "home/house Acurite-Tower.A.2097 live now: temperature 14.8",
            "home/house Acurite-Tower.A.2097 live now: humidity 61",
        ],
    );
    bench.check("home/OpenMQTTGateway/LWT", "online", &[]);
    // Other systems may have topics below the same base.
    assert_eq!(bench.decode_lines("home/kitchen/state", b"21.5"), None);
    bench.check("home/OpenMQTTGateway/SYStoMQTT", r#"{"uptime": 3, "tempc": 53.2}"#, &[]);
}

#[test]
fn esphome() {
    let mut bench = ConventionBench::from_example("esphome");
    bench.check(
        "bay1-node/sensor/bench_soil_moisture/state",
        "41.5",
        &["farm/bay-1 bay1-node.bench live now: soil_moisture 41.5"],
    );
    bench.check(
        "node/sensor/bme280_temperature/state",
        "21.53",
        &["farm/house node.bme280 live now: temperature 21.53"],
    );
    bench.check(
        "node/sensor/temperature/state",
        "nan",
        &["farm/house node live now: temperature NaN"],
    );
    bench.check("node/sensor/ppfd/state", "640", &["farm/house node live now: par 640"]);
    bench.check(
        "node/sensor/dosing_ec/state",
        "1240",
        &["farm/house node.dosing live now: ec 1.24"],
    );
    // A board's own temperature, its radio link and raw values are ignored.
    bench.check("node/sensor/internal_temperature/state", "53.3", &[]);
    bench.check("node/sensor/wifi_signal/state", "-61", &[]);
    bench.check("node/sensor/adc_raw/state", "0.41", &[]);
    bench.check("node/sensor/version/state", "2024.11.0", &[]);
    bench.check(
        "node/binary_sensor/hall_motion/state",
        "ON",
        &["farm/house node.hall live now: motion 1"],
    );
    bench.check("node/binary_sensor/door/state", "OFF", &[]);
    bench.check("node/switch/relay/state", "ON", &[]);
    assert_eq!(bench.decode_lines("plant/bay-1/probe-7/state", b"1"), None);
    bench.check("node/status", "online", &[]);
    bench.check("node/debug", "[I][app:100]: x", &[]);
    bench.check(
        "node/sensor/tank_weight/state",
        "12.5",
        &["unknown_metric: no metric is known for `node/tank_weight`…"],
    );
}

#[test]
fn thingsboard() {
    let mut bench = ConventionBench::from_example("thingsboard");
    let of = |device: &str, at: &str, what: &str| {
        let zone = if device == "Device A" { "bay-1" } else { "house" };
        format!("farm/{zone} {device} live {at}: {what}")
    };
    let (first, second) = ("2017-01-01T00:00:00Z", "2017-01-01T00:00:01Z");
    bench.check(
        "v1/gateway/telemetry",
        read_golden("thingsboard/gateway.json"),
        &[
            &of("Device A", first, "temperature 42"),
            &of("Device A", first, "humidity 80"),
            &of("Device A", second, "temperature 43"),
            &of("Device A", second, "humidity 82"),
            &of("Device B", first, "temperature 42"),
            &of("Device B", first, "humidity 80"),
        ],
    );
    // Three forms of one message (docs/reference/mqtt-api), and a list of them.
    let topic = "v1/devices/me/telemetry";
    bench.check(
        topic,
        r#"{"temperature": 42, "deviceName": "dev-7", "model": "x"}"#,
        &[&of("dev-7", "now", "temperature 42")],
    );
    bench.check(
        topic,
        r#"[{"temperature": 42}, {"humidity": 80}]"#,
        &[&of("me", "now", "temperature 42"), &of("me", "now", "humidity 80")],
    );
    let stamped = r#"[{"ts": 1483228800000, "values": {"temperature": 42}},
        {"ts": 1483228801000, "values": {"temperature": 43, "key2": 1}}]"#;
    bench.check(
        topic,
        stamped,
        &[
            &of("me", first, "temperature 42"),
            &of("me", second, "temperature 43"),
            "unknown_metric: no metric is known for `me/key2`…",
        ],
    );
    bench.check("v1/devices/me/attributes", r#"{"attribute1": 42}"#, &[]);
    bench.check("v1/gateway/connect", r#"{"device": "Device A"}"#, &[]);
}

#[test]
fn senml() {
    let mut bench = ConventionBench::from_example("senml");
    let of =
        |at: &str, what: &str| format!("farm/bay-1 urn:dev:mac:0024befffe804ff1 live {at}: {what}");
    bench.check(
        "senml/x",
        read_golden("senml/weather.json"),
        &[
            &of("now", "temperature 21.5"),
            &of("2023-11-14T22:12:20Z", "humidity 40"),
            &of("now", "battery 3.1"),
            &of("now", "soil_moisture 31"),
        ],
    );
    // A name without a device belongs to the topic's device.
    bench.check(
        "senml/bay/probe",
        r#"[{"n": "temperature", "u": "K", "v": 294.65}, {"n": "warmth", "v": 1}]"#,
        &[
            "farm/house bay.probe live now: temperature 21.5",
            "unknown_metric: no metric is known for `bay/probe/warmth`…",
        ],
    );
    bench.check("senml/x", r#"{"n": "temperature"}"#, &["not_a_reading: not a list…"]);
}

#[test]
fn own_records_in_a_template() {
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "template"
        topic = "logger/upload"
        site = "farm"
        records = "/nodes/{device}/samples/*"
        zone_at = "/place/zone"
        timestamp = ["/at", "/sent"]
        metrics = { "t_*" = "temperature", rh = "humidity" }"#,
    );
    bench.check(
        "logger/upload",
        r#"{"sent": 1700000000, "place": {"zone": "bay-7"}, "nodes": {
            "a": {"samples": [{"at": 1699999940, "t_air": 21.5, "x": 1}, {"at": null, "rh": 40}]},
            "b": {"samples": [{"t_air": "19,5"}]}}}"#,
        &[
            "farm/bay-7 a live 2023-11-14T22:12:20Z: temperature 21.5",
            "farm/bay-7 a live now: humidity 40",
            "farm/bay-7 b live now: temperature 19.5",
        ],
    );
    bench.check(
        "logger/upload",
        r#"{"nodes": {}}"#,
        &["not_a_reading: the message has no record…"],
    );
    // Names, values and units side by side.
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "template"
        topic = "plc/{zone}"
        device = "{/dev|/node}"
        site = "farm"
        records = "/values"
        metric = "/name"
        value = "/v"
        unit = "/u"
        metrics = { T1 = "temperature", door = false }"#,
    );
    bench.check(
        "plc/hall",
        r#"{"node": 7, "values": [{"name": "T1", "v": 71.6, "u": "°F"}, {"name": "co2", "v": "412"},
            {"name": "door", "v": "x"}, {"name": "hum", "v": 4}]}"#,
        &[
            "farm/hall 7 live now: temperature 22",
            "farm/hall 7 live now: co2 412",
            "unknown_metric: …`\"hum\" = \"<metric>\"`…",
        ],
    );
}
