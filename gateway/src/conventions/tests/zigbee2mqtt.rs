use super::{ConventionBench, read_golden};

fn announced_bench() -> ConventionBench {
    let mut bench = ConventionBench::from_example("zigbee2mqtt");
    bench.check("zigbee2mqtt/bridge/devices", read_golden("zigbee2mqtt/devices.json"), &[]);
    bench
}

#[test]
fn readings() {
    let mut bench = announced_bench();
    let of = |what| format!("home/kitchen kitchen.climate live 2024-05-01T08:00:00Z: {what}");
    // The battery's charge is not a voltage; its voltage is announced in mV.
    bench.check(
        "zigbee2mqtt/kitchen/climate",
        read_golden("zigbee2mqtt/climate.json"),
        &[
            &of("humidity 44.72"),
            &of("pressure 987"),
            &of("temperature 27.34"),
            &of("battery 3.025"),
        ],
    );
    bench.check(
        "zigbee2mqtt/hall",
        read_golden("zigbee2mqtt/motion.json"),
        &["home/house hall live now: motion 1"],
    );
    bench.check(
        "zigbee2mqtt/bay1-x",
        r#"{"temperature": null}"#,
        &["home/bay-1 bay1-x live now: temperature NaN"],
    );
}

#[test]
fn what_is_no_reading() {
    let mut bench = announced_bench();
    // The mains voltage is not that of a battery.
    bench.check(
        "zigbee2mqtt/bay1-plug",
        read_golden("zigbee2mqtt/plug.json"),
        &["unknown_metric: no metric is known for `bay1-plug/consumption`…"],
    );
    bench.check("zigbee2mqtt/plug/lamp", read_golden("zigbee2mqtt/plug.json"), &[]);
    bench.check("zigbee2mqtt/lamp", read_golden("zigbee2mqtt/bulb.json"), &[]);
    bench.check("zigbee2mqtt/button", read_golden("zigbee2mqtt/switch.json"), &[]);
    bench.check("zigbee2mqtt/bridge/state", r#"{"state": "online"}"#, &[]);
    bench.check("zigbee2mqtt/bridge/logging", r#"{"level": "info", "message": "x"}"#, &[]);
    bench.check("zigbee2mqtt/lamp/availability", "online", &[]);
    bench.check("zigbee2mqtt/lamp/set", r#"{"state": "ON"}"#, &[]);
    bench.check("zigbee2mqtt/lamp/set/brightness", "10", &[]);
    bench.check("zigbee2mqtt/lamp", "", &[]);
    assert_eq!(bench.decode_lines("zigbee2mqtt2/lamp", b"{}"), None);
}

#[test]
fn units_must_be_known() {
    let mut bench = ConventionBench::from_example("zigbee2mqtt");
    bench.check(
        "zigbee2mqtt/hall",
        r#"{"voltage": 3025, "temperature": 20}"#,
        &["home/house hall live now: temperature 20", "unknown_unit: `hall/voltage` has no unit…"],
    );
    let devices = r#"[{"friendly_name": "hall", "definition": {"exposes":
        [{"type": "x", "features": [{"property": "temperature", "unit": "°F"}]}]}}]"#;
    bench.check("zigbee2mqtt/bridge/devices", devices, &[]);
    bench.check(
        "zigbee2mqtt/hall",
        r#"{"temperature": 50}"#,
        &["home/house hall live now: temperature 10"],
    );
    // A list that cannot be parsed leaves the known units.
    bench.check("zigbee2mqtt/bridge/devices", "{", &[]);
    bench.check(
        "zigbee2mqtt/hall",
        r#"{"temperature": 50}"#,
        &["home/house hall live now: temperature 10"],
    );
}

#[test]
fn rules_and_single_attributes() {
    let mut bench = announced_bench();
    bench.check(
        "zigbee2mqtt/greenhouse/valve",
        r#"{"state": "ON"}"#,
        &["home/greenhouse greenhouse.valve live now: irrigation 1"],
    );
    bench.check(
        "zigbee2mqtt/kitchen/climate/temperature",
        "21.5",
        &["home/kitchen kitchen.climate live now: temperature 21.5"],
    );
    bench.check(
        "zigbee2mqtt/hall",
        r#"{"temperature": "warm"}"#,
        &["not_a_reading: `temperature` is `warm`…"],
    );
    bench.check("zigbee2mqtt/hall", r#"{"temperature": 1, "last_seen": "noon"}"#, &["bad_time: …"]);
}

#[test]
fn memory_is_bounded() {
    let mut bench = ConventionBench::from_mapping(
        "convention = \"zigbee2mqtt\"\nsite = \"s\"\nzone = \"z\"\nentities_max = 1",
    );
    let devices = r#"[{"friendly_name": "a", "definition": {"exposes":
        [{"property": "voltage", "unit": "mV"}]}},
        {"friendly_name": "b", "definition": {"exposes": [{"property": "voltage", "unit": "mV"}]}}]"#;
    bench.check("zigbee2mqtt/bridge/devices", devices, &[]);
    bench.check("zigbee2mqtt/a", r#"{"voltage": 3000}"#, &["unknown_unit: …"]);
    bench.check("zigbee2mqtt/b", r#"{"voltage": 3000}"#, &["s/z b live now: battery 3"]);
    assert_eq!(bench.entity_counts(), (1, 1));
}

#[test]
fn the_illuminance_of_version_1_is_raw() {
    // Version 1 has both names, or is recognised by the exposed features.
    let mut bench = announced_bench();
    bench.check(
        "zigbee2mqtt/porch",
        read_golden("zigbee2mqtt/illuminance-v1.json"),
        &[
            "home/house porch live now: light 145",
            "home/house porch live now: motion 1",
            "home/house porch live now: temperature 20.53",
        ],
    );
    // Version 2, which announces the unit or nothing.
    bench.check(
        "zigbee2mqtt/attic",
        r#"{"illuminance": 145}"#,
        &["home/house attic live now: light 145"],
    );
    let devices = r#"[{"friendly_name": "porch", "definition": {"exposes": [
        {"property": "illuminance"}, {"property": "illuminance_lux", "unit": "lx"}]}}]"#;
    bench.check("zigbee2mqtt/bridge/devices", devices, &[]);
    bench.check("zigbee2mqtt/porch", r#"{"illuminance": 21614}"#, &[]);
}

#[test]
fn what_growers_have() {
    let mut bench = announced_bench();
    let of = |what| format!("home/bay-1 bay1-soil live now: {what}");
    // Tuya's soil sensors with fertility, and a pool tester.
    bench.check(
        "zigbee2mqtt/bay1-soil",
        r#"{"soil_moisture": 34, "soil_temperature": 18.5, "soil_fertility": 640, "dry": false,
            "temperature": 21.5, "humidity": 55, "soil_sampling": 1800, "soil_calibration": 0,
            "temperature_unit": "celsius", "soil_warning": 70, "water_warning": "none",
            "battery": 87, "linkquality": 120}"#,
        &[
            &of("soil_moisture 34"),
            &of("soil_temperature 18.5"),
            &of("ec 0.64"),
            &of("temperature 21.5"),
            &of("humidity 55"),
        ],
    );
    bench.check(
        "zigbee2mqtt/bay1-soil",
        r#"{"ec": 1240, "ph": 6.1, "tds": 620, "orp": 250, "salinity": 0.1}"#,
        &[&of("ec 1.24"), &of("ph 6.1")],
    );
}

#[test]
fn numbers_as_texts() {
    announced_bench().check(
        "zigbee2mqtt/bay1-x",
        r#"{"temperature": "71.6 °F", "humidity": "44,5", "soil_moisture": "warm"}"#,
        &[
            "home/bay-1 bay1-x live now: temperature 22",
            "home/bay-1 bay1-x live now: humidity 44.5",
            "not_a_reading: `soil_moisture` is `warm`…",
        ],
    );
}

#[test]
fn what_is_not_for_us() {
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "zigbee2mqtt"
        site = "s"
        zone = "z"
        ignore = ["neighbour-*", "consumption", "zigbee2mqtt/old/#"]"#,
    );
    let payload = r#"{"temperature": 20, "consumption": 3}"#;
    bench.check("zigbee2mqtt/probe", payload, &["s/z probe live now: temperature 20"]);
    bench.check("zigbee2mqtt/neighbour-7", payload, &[]);
    bench.check("zigbee2mqtt/old/x", payload, &[]);
}
