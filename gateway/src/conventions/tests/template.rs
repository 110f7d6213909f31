use super::{ConventionBench, read_golden};

#[test]
fn fields_pointers_and_units() {
    let mut bench = ConventionBench::from_example("template");
    bench.check(
        "plant/bay-1/probe-7/state",
        read_golden("template/plant.json"),
        &[
            "farm/bay-1 probe-7 live now: soil_moisture 31",
            "farm/bay-1 probe-7 live now: light 120",
            "farm/bay-1 probe-7 live now: temperature 22",
        ],
    );
    bench.check(
        "plant/bay-1/probe-7/state",
        r#"{"hum": "44.5 %", "lux_raw": "0.1 klx"}"#,
        &["farm/bay-1 probe-7 live now: humidity 44.5", "farm/bay-1 probe-7 live now: light 120"],
    );
    bench.check("plant/bay-1/probe-7/state", "", &[]);
}

#[test]
fn a_topic_may_name_the_metric() {
    let mut bench = ConventionBench::from_example("template");
    bench.check(
        "weather/mast/outdoor_temperature",
        "-3.5",
        &["farm/outside mast live now: outdoor_temperature -3.5"],
    );
    bench.check("weather/mast/wind", "36", &["farm/outside mast live now: wind_speed 10"]);
    bench.check("weather/mast/status", "online", &[]);
    bench.check("weather/mast/hail", "1", &["unknown_metric: …`\"hail\" = \"<metric>\"`…"]);
    bench.check("weather/mast/wind", "strong", &["malformed: …"]);
}

#[test]
fn several_records_in_a_message() {
    ConventionBench::from_example("template").check(
        "plant/upload",
        r#"{"sent": 1700000000, "nodes": {"n1": {"samples": [{"at": 1699999940, "t_air": 21.5}, {"rh": 40}]}}}"#,
        &[
            "farm/house n1 live 2023-11-14T22:12:20Z: temperature 21.5",
            "farm/house n1 live now: humidity 40",
        ],
    );
}

#[test]
fn a_pointer_may_lead_into_a_list() {
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "template"
        topic = "x/{device}"
        site = "s"
        zone = "z"
        metrics = { "/0/t" = "temperature", "/1/t" = "soil_temperature" }"#,
    );
    bench.check(
        "x/d",
        r#"[{"t": 21}, {"t": 18}]"#,
        &["s/z d live now: temperature 21", "s/z d live now: soil_temperature 18"],
    );
}

#[test]
fn what_cannot_be_read() {
    let mut bench = ConventionBench::from_example("template");
    let topic = "plant/bay-1/probe-7/state";
    bench.check(topic, "{", &["malformed: …"]);
    bench.check(topic, r#"{"x": 1}"#, &["not_a_reading: …`temp`…"]);
    bench.check(
        topic,
        r#"{"temp": 50, "hum": [1], "time": 1700000000}"#,
        &["farm/bay-1 probe-7 live now: temperature 10", "not_a_reading: `hum` is…"],
    );
    bench.check(topic, r#"{"temp": 50, "time": "noon"}"#, &["bad_time: `/time`…"]);
    bench.check(topic, "9".repeat(20_000), &["oversized: 20000 bytes…"]);
    assert_eq!(bench.decode_lines("plant/bay-1/probe-7/set", b"1"), None);
    assert_eq!(bench.decode_lines("sensors/farm/bay-1/probe/temperature", b"1"), None);
}

#[test]
fn a_notification_about_something_else_is_no_reading() {
    let rule = |unknown: &str| {
        ConventionBench::from_mapping(&format!(
            r#"convention = "template"
            topic = "{{device}}/events/rpc"
            site = "s"
            zone = "z"
            timestamp = "/params/ts"
            unknown = "{unknown}"
            metrics = {{ "/params/temperature:100/tC" = "temperature" }}"#,
        ))
    };
    let topic = "shellyplus1-a8032abe54dc/events/rpc";
    let mut bench = rule("ignore");
    bench.check(
        topic,
        read_golden("template/shelly-temperature.json"),
        &["s/z shellyplus1-a8032abe54dc live 2023-11-14T22:13:10.5Z: temperature 23.5"],
    );
    bench.check(topic, read_golden("template/shelly-switch.json"), &[]);
    bench.check(topic, read_golden("template/shelly-event.json"), &[]);
    bench.check(topic, "online", &[]);
    // A mistake in the pointer is reported if messages without the field are unusual.
    let mut bench = rule("dead-letter");
    bench.check(
        topic,
        read_golden("template/shelly-switch.json"),
        &["not_a_reading: …`unknown = \"ignore\"`…"],
    );
}

#[test]
fn a_component_without_its_probe_gives_no_value() {
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "template"
        topic = "{device}/status/temperature:100"
        site = "s"
        zone = "z"
        metrics = { tC = "temperature" }"#,
    );
    let topic = "plus1/status/temperature:100";
    bench.check(topic, r#"{"id": 100, "tC": 21.8}"#, &["s/z plus1 live now: temperature 21.8"]);
    bench.check(
        topic,
        r#"{"id": 100, "tC": null, "errors": ["read"]}"#,
        &["s/z plus1 live now: temperature NaN"],
    );
}

#[test]
fn times_without_a_zone() {
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "template"
        topic = "x/{device}"
        site = "s"
        zone = "z"
        timestamp = "/at"
        time_zone = "Europe/Berlin"
        metrics = { t = "temperature" }"#,
    );
    bench.check(
        "x/d",
        r#"{"at": "2024-07-15 12:00:00", "t": 1}"#,
        &["s/z d live 2024-07-15T10:00:00Z: temperature 1"],
    );
}

#[test]
fn names_become_names_of_ours() {
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "template"
        topic = "{site}/{zone}/{device}/{metric}"
        site = "s"
        ignore = ["$SYS/#"]"#,
    );
    bench.check("north/bay 1/d/co2", "412", &["north/bay 1 d live now: co2 412"]);
    bench.check("$SYS/broker/clients/co2", "4", &[]);
    bench.is_retained = true;
    bench.check("north/bay 1/d/co2", "412", &["north/bay 1 d retained now: co2 412"]);
}
