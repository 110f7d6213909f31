use super::{ConventionBench, read_golden};

#[test]
fn attributes_of_version_3_and_4() {
    let mut bench = ConventionBench::from_example("homie");
    bench.check(
        "homie/super-car/engine/temperature",
        "70.7",
        &["farm/house super-car.engine live now: temperature 70.7"],
    );
    let property = "homie/greenhouse/climate/temperature";
    bench.check(property, "70.7", &["unknown_unit: `greenhouse/climate/temperature` has no unit…"]);
    for (attribute, text) in
        [("$name", "Air"), ("$settable", "false"), ("$datatype", "float"), ("$unit", "°F")]
    {
        bench.check(&format!("{property}/{attribute}"), text, &[]);
    }
    bench.check(property, "71.6", &["farm/greenhouse greenhouse.climate live now: temperature 22"]);
    bench.check(property, "warm", &["not_a_reading: …`warm`…"]);
    bench.check(&format!("{property}/$unit"), "", &[]);
    bench.check(property, "71.6", &["unknown_unit: …"]);
}

#[test]
fn description_of_version_5() {
    let mut bench = ConventionBench::from_example("homie");
    bench.check("homie/5/device123/$description", read_golden("homie/description5.json"), &[]);
    let node = "homie/5/device123/mythermostat";
    bench.check(
        &format!("{node}/temperature"),
        "71.6",
        &["farm/house device123.mythermostat live now: temperature 22"],
    );
    bench.check(
        &format!("{node}/humidity"),
        "40",
        &["farm/house device123.mythermostat live now: humidity 40"],
    );
    bench.check(&format!("{node}/mode"), "heat", &[]);
    bench.check(&format!("{node}/temperature/set"), "20", &[]);
    bench.check(&format!("{node}/temperature/$target"), "20", &[]);
    bench.check("homie/5/device123/$description", "", &[]);
    bench.check(&format!("{node}/temperature"), "71.6", &["unknown_unit: …"]);
    bench.check("homie/5/device123/$description", "{", &[]);
}

#[test]
fn what_is_no_reading() {
    let mut bench = ConventionBench::from_example("homie");
    for (topic, payload) in [
        ("homie/super-car/$homie", "4.0.0"),
        ("homie/super-car/$state", "ready"),
        ("homie/super-car/$stats/uptime", "100"),
        ("homie/super-car/engine/$properties", "speed,temperature"),
        ("homie/super-car/engine/speed", "50"),
        ("homie/super-car/engine/gear/set", "2"),
        ("homie/super-car/engine/gear", "reverse"),
        ("homie/$broadcast/alert", "Intruder detected"),
        ("homie/super-car", "x"),
    ] {
        bench.check(topic, payload, &[]);
    }
    // A number whose name is not known.
    bench.check("homie/super-car/engine/oil/$datatype", "float", &[]);
    bench.check("homie/super-car/engine/oil/$unit", "L", &[]);
    bench.check(
        "homie/super-car/engine/oil",
        "3",
        &["unknown_metric: no metric is known for `super-car/engine/oil` (L)…"],
    );
    assert_eq!(bench.decode_lines("homier/x/y/z", b"1"), None);
}

#[test]
fn memory_is_bounded() {
    let mut bench = ConventionBench::from_mapping(
        "convention = \"homie\"\nsite = \"s\"\nzone = \"z\"\nentities_max = 1",
    );
    bench.check("homie/a/n/temperature/$unit", "°C", &[]);
    bench.check("homie/b/n/temperature/$unit", "°C", &[]);
    // The least recently used property is forgotten.
    bench.check("homie/a/n/temperature", "1", &["unknown_unit: …"]);
    bench.check("homie/b/n/temperature", "1", &["s/z b.n live now: temperature 1"]);
    assert_eq!(bench.entity_counts(), (1, 1));
    // A single device may not exceed the limit either.
    bench.check("homie/b/n/humidity/$unit", "%", &[]);
    bench.check("homie/b/n/temperature", "1", &["s/z b.n live now: temperature 1"]);
    assert_eq!(bench.entity_counts(), (1, 2));
    // A device that is removed makes room.
    bench.check("homie/b/$homie", "", &[]);
    bench.check("homie/a/n/temperature/$unit", "°C", &[]);
    bench.check("homie/a/n/temperature", "1", &["s/z a.n live now: temperature 1"]);
    assert_eq!(bench.entity_counts(), (1, 2));
    // A description that arrives again takes no more room.
    bench.check("homie/b/$homie", "", &[]);
    let described =
        r#"{"nodes": {"n": {"properties": {"temperature": {"unit": "°C", "datatype": "float"}}}}}"#;
    for _ in 0..3 {
        bench.check("homie/5/c/$description", described, &[]);
        bench.check("homie/5/c/n/temperature", "1", &["s/z c.n live now: temperature 1"]);
    }
}
