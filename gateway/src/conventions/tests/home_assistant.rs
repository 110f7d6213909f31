use super::{ConventionBench, read_golden};

const BEDROOM: &str = "homeassistant/sensor/sensorBedroom/state";

fn announced_bench() -> ConventionBench {
    let mut bench = ConventionBench::from_example("home-assistant");
    for (topic, payload) in [
        ("homeassistant/sensor/sensorBedroomT/config", "bedroom-temperature"),
        ("homeassistant/sensor/sensorBedroomH/config", "bedroom-humidity"),
        ("homeassistant/binary_sensor/garden/config", "garden-motion"),
        ("homeassistant/switch/irrigation/config", "irrigation"),
        ("homeassistant/device/kitchen/config", "device"),
        ("homeassistant/sensor/gh/pressure/config", "esphome"),
        ("homeassistant/sensor/odd/config", "odd-template"),
    ] {
        bench.check(topic, read_golden(&format!("home-assistant/{payload}.json")), &[]);
    }
    bench
}

#[test]
fn readings() {
    let mut bench = announced_bench();
    bench.check(
        BEDROOM,
        read_golden("home-assistant/bedroom-state.json"),
        &[
            "home/bedroom sensorBedroomT live now: temperature 23.2",
            "home/bedroom sensorBedroomH live now: humidity 43.7",
        ],
    );
    let garden = "homeassistant/binary_sensor/garden/state";
    bench.check(garden, "ON", &["home/house garden live now: motion 1"]);
    bench.check(garden, "OFF", &["home/house garden live now: motion 0"]);
    // A device with several entities, one of them in °F.
    bench.check(
        "home/kitchen/state",
        r#"{"temperature": 71.62, "humidity": 40}"#,
        &[
            "home/house kitchen.some_unique_component_id1 live now: temperature 22",
            "home/house kitchen.some_unique_id2 live now: humidity 40",
        ],
    );
    // The suggested area is the zone.
    bench.check(
        "home/gh/sensor/pressure/state",
        "29.92",
        &["home/greenhouse gh.pressure live now: pressure 1013.2075888"],
    );
    // A switch is not a reading, unless a rule names its metric.
    bench.check(
        "homeassistant/switch/irrigation/state",
        "ON",
        &["home/house irrigation live now: irrigation 1"],
    );
}

#[test]
fn what_is_no_reading() {
    let mut bench = announced_bench();
    bench.check("homeassistant/switch/irrigation/set", "ON", &[]);
    bench.check("home/kitchen/status", "online", &[]);
    bench.check("homeassistant/status", "online", &[]);
    // The message has one entity's value only.
    bench.check(
        BEDROOM,
        r#"{"temperature": 20}"#,
        &["home/bedroom sensorBedroomT live now: temperature 20"],
    );
    assert_eq!(bench.decode_lines("home/nothing/announced", b"1"), None);
    // Predictions that this program announced itself.
    let prediction_config =
        r#"{"o": {"name": "Microclimate"}, "stat_t": "home/p", "dev_cla": "humidity"}"#;
    bench.check("homeassistant/sensor/p/config", prediction_config, &[]);
    assert_eq!(bench.decode_lines("home/p", b"40"), None);
}

#[test]
fn what_cannot_be_read() {
    let mut bench = announced_bench();
    bench.check(
        "home/odd/state",
        r#"{"ok": true, "t": 20}"#,
        &["not_a_reading: entity `odd`: value_template `{{ states('sensor.other')…is not supported…"],
    );
    bench.check("homeassistant/binary_sensor/garden/state", "MAYBE", &["not_a_reading: …`MAYBE`…"]);
    bench.check(BEDROOM, "warm", &["not_a_reading: …", "not_a_reading: …"]);
    let config = |unit: &str, class: &str| {
        format!(r#"{{"stat_t": "home/x", "dev_cla": "{class}", "unit_of_meas": "{unit}"}}"#)
    };
    let topic = "homeassistant/sensor/x/config";
    bench.check(topic, config("µg/m³", "pm25"), &[]);
    bench.check(
        "home/x",
        "12",
        &["unknown_metric: no metric is known for `x` (µg/m³); add `\"x\" = \"<metric>\"`…"],
    );
    bench.check("home/x", "unavailable", &[]);
    bench.check(topic, config("furlong", "temperature"), &[]);
    bench.check("home/x", "12", &["unknown_unit: `x`: `furlong` cannot be converted to `°C`…"]);
    bench.check(topic, config("", "battery"), &[]);
    bench.check("home/x", "80", &[]);
    // A configuration that cannot be parsed changes nothing.
    bench.check(topic, "{", &[]);
    bench.check("home/x", "80", &[]);
}

#[test]
fn what_is_about_the_device_is_no_reading_of_the_place() {
    let mut bench = announced_bench();
    for (topic, payload) in [
        ("homeassistant/sensor/gh/internal_temperature/config", "esphome-chip"),
        (
            "homeassistant/sensor/0x00158d0003/device_temperature/config",
            "zigbee2mqtt-device-temperature",
        ),
    ] {
        bench.check(topic, read_golden(&format!("home-assistant/{payload}.json")), &[]);
    }
    bench.check("gh/sensor/internal_temperature/state", "54.0", &[]);
    bench.check("zigbee2mqtt/door", r#"{"device_temperature": 31, "contact": true}"#, &[]);
    // An entity whose discovery does not state it, recognised by its usual name.
    let config = |name: &str| {
        format!(
            r#"{{"stat_t": "x/{name}", "dev_cla": "temperature", "unit_of_meas": "°C", "name": "{name}"}}"#
        )
    };
    for (name, is_reading) in
        [("CPU temperature", false), ("Chip", false), ("esp32_temperature", false), ("Air", true)]
    {
        let object = name.replace(' ', "_").to_lowercase();
        bench.check(&format!("homeassistant/sensor/{object}/config"), config(name), &[]);
        let got = bench.decode_lines(&format!("x/{name}"), b"54").unwrap();
        assert_eq!(got.len(), usize::from(is_reading), "{name}: {got:?}");
    }
}

#[test]
fn a_rule_may_name_what_is_about_the_device() {
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "home-assistant"
        site = "s"
        zone = "z"
        metrics = { "gh/internal_temperature" = "temperature" }"#,
    );
    let topic = "homeassistant/sensor/gh/internal_temperature/config";
    bench.check(topic, read_golden("home-assistant/esphome-chip.json"), &[]);
    bench.check(
        "gh/sensor/internal_temperature/state",
        "54.0",
        &["s/z gh.internal_temperature live now: temperature 54"],
    );
}

#[test]
fn a_field_that_is_not_there_is_no_reading() {
    let mut bench = announced_bench();
    let topic = "homeassistant/sensor/ems/outdoortemp/config";
    bench.check(topic, read_golden("home-assistant/ems-esp.json"), &[]);
    let at = "ems-esp/boiler_data";
    bench.check(
        at,
        r#"{"outdoortemp": -3.5, "curflowtemp": 35.0}"#,
        &["home/house ems.outdoortemp live now: temperature -3.5"],
    );
    bench.check(at, r#"{"curflowtemp": 35.2}"#, &[]);
    bench.check("ems-esp/status", "online", &[]);
}

#[test]
fn an_empty_configuration_removes() {
    let mut bench = announced_bench();
    bench.check("homeassistant/sensor/sensorBedroomH/config", "", &[]);
    bench.check(
        BEDROOM,
        r#"{"temperature": 20, "humidity": 40}"#,
        &["home/bedroom sensorBedroomT live now: temperature 20"],
    );
    bench.check("homeassistant/device/kitchen/config", "", &[]);
    assert_eq!(bench.decode_lines("home/kitchen/state", b"{}"), None);
    assert_eq!(bench.decode_lines("home/kitchen/status", b"online"), None);
}

#[test]
fn memory_is_bounded() {
    let mut bench = ConventionBench::from_mapping(
        "convention = \"home-assistant\"\nsite = \"s\"\nzone = \"z\"\nentities_max = 1",
    );
    for i in 0..3 {
        let config = format!(r#"{{"stat_t": "x/{i}", "dev_cla": "humidity"}}"#);
        bench.check(&format!("homeassistant/sensor/{i}/config"), config, &[]);
    }
    // The newest entity is known, the earlier ones are forgotten.
    bench.check("x/2", "40", &["s/z 2 live now: humidity 40"]);
    assert_eq!(bench.decode_lines("x/1", b"40"), None);
    assert_eq!(bench.entity_counts(), (1, 2));
    // An entity that is announced again takes no more room.
    bench.check("homeassistant/sensor/2/config", r#"{"stat_t": "y", "dev_cla": "humidity"}"#, &[]);
    bench.check("y", "40", &["s/z 2 live now: humidity 40"]);
    assert_eq!(bench.decode_lines("x/2", b"40"), None);
    assert_eq!(bench.entity_counts(), (1, 2));
}

#[test]
fn what_is_used_is_kept() {
    let mut bench = ConventionBench::from_mapping(
        "convention = \"home-assistant\"\nsite = \"s\"\nzone = \"z\"\nentities_max = 2",
    );
    let announce = |bench: &mut ConventionBench, i: usize| {
        let config = format!(r#"{{"stat_t": "x/{i}", "dev_cla": "humidity"}}"#);
        bench.check(&format!("homeassistant/sensor/{i}/config"), config, &[]);
    };
    announce(&mut bench, 0);
    announce(&mut bench, 1);
    for i in 2..6 {
        bench.check("x/0", "40", &["s/z 0 live now: humidity 40"]);
        announce(&mut bench, i);
    }
    bench.check("x/0", "40", &["s/z 0 live now: humidity 40"]);
    bench.check("x/5", "40", &["s/z 5 live now: humidity 40"]);
    assert_eq!(bench.entity_counts(), (2, 4));
}

#[test]
fn state_topics_with_wildcards() {
    // OpenMQTTGateway and Theengs announce values that any gateway receives.
    let mut bench = announced_bench();
    for (object, payload) in [
        ("A4C138DBBC6F-tempc", "openmqttgateway-tempc"),
        ("A4C138DBBC6F-hum", "openmqttgateway-hum"),
        ("A4C138DBBC6F-batt", "openmqttgateway-batt"),
        ("C47C8D6D0CD2-fer", "theengs-fer"),
    ] {
        let config = read_golden(&format!("home-assistant/{payload}.json"));
        bench.check(&format!("homeassistant/sensor/{object}/config"), config, &[]);
    }
    let payload = read_golden("openmqttgateway/lywsd03mmc.json");
    let expected = |what| format!("home/house A4C138DBBC6F-{what}");
    for gateway in ["OpenMQTTGateway", "cellar"] {
        bench.check(
            &format!("home/{gateway}/BTtoMQTT/A4C138DBBC6F"),
            &payload,
            &[
                &expected("tempc live now: temperature 21.5"),
                &expected("hum live now: humidity 50"),
            ],
        );
    }
    // A message without one of the values does not affect it.
    bench.check(
        "home/OpenMQTTGateway/BTtoMQTT/A4C138DBBC6F",
        r#"{"id": "A4:C1:38:DB:BC:6F", "rssi": -70}"#,
        &[],
    );
    bench.check(
        "home/TheengsGateway/BTtoMQTT/C47C8D6D0CD2",
        r#"{"id":"C4:7C:8D:6D:0C:D2","rssi":-80,"brand":"Xiaomi","model":"RoPot","model_id":"HHCCPOT002","fer":640}"#,
        &["home/house C47C8D6D0CD2-fer live now: ec 0.64"],
    );
    assert_eq!(bench.decode_lines("home/OpenMQTTGateway/BTtoMQTT/B4C138DBBC6F", &payload), None);
}
