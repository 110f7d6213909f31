use super::{ConventionBench, read_golden};

#[test]
fn readings() {
    let mut bench = ConventionBench::from_example("tasmota");
    let at = "2018-12-31T23:00:00Z";
    bench.check(
        "tele/bay1-th/SENSOR",
        read_golden("tasmota/am2301.json"),
        &[
            &format!("farm/bay-1 bay1-th.AM2301 live {at}: temperature 24.6"),
            &format!("farm/bay-1 bay1-th.AM2301 live {at}: humidity 58.2"),
        ],
    );
    let of = |what| format!("farm/house attic.BME280 live 2019-11-03T18:34:28Z: {what}");
    bench.check(
        "tele/attic/SENSOR",
        read_golden("tasmota/bme280.json"),
        &[&of("humidity 66.6"), &of("pressure 988.585596"), &of("temperature 21.7")],
    );
    bench.check(
        "tele/bed/SENSOR",
        read_golden("tasmota/ds18b20.json"),
        &[
            "farm/house bed.DS18B20-00000566C5B6 live 2021-01-02T08:09:44Z: temperature 24.9",
            "farm/house bed.DS18B20-000005A88BCB live 2021-01-02T08:09:44Z: soil_temperature 18.1",
        ],
    );
    // The first probe has failed, so the others have moved up. Each keeps its identity.
    bench.check(
        "tele/bed/SENSOR",
        read_golden("tasmota/ds18b20-two-of-three.json"),
        &[
            "farm/house bed.DS18B20-000005A88BCB live 2021-01-02T09:09:44Z: soil_temperature 18.2",
            "farm/house bed.DS18B20-00000566C5B7 live 2021-01-02T09:09:44Z: temperature 40.1",
        ],
    );
    bench.check(
        "tele/bed/SENSOR",
        read_golden("tasmota/ds18b20-one.json"),
        &["farm/house bed.DS18B20-000005A88BCB live 2021-01-02T10:09:44Z: soil_temperature 18.3"],
    );
    // The register's value after power-on, a probe that does not answer, and no value: flagged.
    bench.check(
        "tele/bed/SENSOR",
        read_golden("tasmota/ds18b20-power-on.json"),
        &[
            "farm/house bed.DS18B20-00000566C5B6 live 2021-01-02T11:09:44Z: temperature NaN",
            "farm/house bed.DS18B20-000005A88BCB live 2021-01-02T11:09:44Z: soil_temperature -127",
            "farm/house bed.DS18B20-00000566C5B7 live 2021-01-02T11:09:44Z: temperature NaN",
        ],
    );
    // A device that does not know the time yet; an analog input with a rule.
    bench.check(
        "tele/pot/SENSOR",
        read_golden("tasmota/analog.json"),
        &["farm/house pot.ANALOG live now: soil_moisture 63.833333333"],
    );
}

#[test]
fn what_is_no_reading() {
    let mut bench = ConventionBench::from_example("tasmota");
    bench.check("tele/plug/SENSOR", read_golden("tasmota/energy.json"), &[]);
    bench.check("tele/plug/STATE", read_golden("tasmota/state.json"), &[]);
    bench.check("tele/plug/LWT", "Online", &[]);
    bench.check("tele/plug/INFO1", r#"{"Info1": {"Module": "x"}}"#, &[]);
    assert_eq!(bench.decode_lines("stat/plug/RESULT", b"{}"), None);
}

#[test]
fn what_cannot_be_read() {
    let mut bench = ConventionBench::from_example("tasmota");
    let topic = "tele/x/SENSOR";
    bench.check(
        topic,
        r#"{"SCD40": {"Sulfur": 1, "CarbonDioxide": 612}}"#,
        &[
            "farm/house x.SCD40 live now: co2 612",
            "unknown_metric: no metric is known for `SCD40.Sulfur`…",
        ],
    );
    bench.check(
        topic,
        r#"{"AM2301": {"Temperature": null}}"#,
        &["farm/house x.AM2301 live now: temperature NaN"],
    );
    bench.check(
        topic,
        r#"{"AM2301": {"Temperature": 1}, "TempUnit": "R"}"#,
        &["unknown_unit: …`R`…"],
    );
    bench.check(topic, "7", &["not_a_reading: …"]);
    bench.check(topic, r#"{"Time": "noon"}"#, &["bad_time: …"]);
}

#[test]
fn a_rule_reaches_into_what_is_passed_over() {
    let mut bench = ConventionBench::from_mapping(
        r#"convention = "tasmota"
        topic = "home/{device}/tele/SENSOR"
        site = "s"
        zone = "z"
        metrics = { "ESP32.Temperature" = "temperature", Switch1 = "heater" }"#,
    );
    bench.check(
        "home/x/tele/SENSOR",
        read_golden("tasmota/energy.json"),
        &["s/z x.ESP32 live 2024-02-05T15:04:58Z: temperature 53.3"],
    );
    bench.check("home/x/tele/SENSOR", r#"{"Switch1": "ON"}"#, &["s/z x live now: heater 1"]);
    bench.check("home/x/tele/STATE", read_golden("tasmota/state.json"), &[]);
}

#[test]
fn raw_values_and_analog_inputs() {
    let mut bench = ConventionBench::from_example("tasmota");
    // A capacitance and a darkness are raw, unless a rule names their metrics.
    bench.check(
        "tele/pot/SENSOR",
        read_golden("tasmota/chirp.json"),
        &["farm/house pot.CHIRP0 live 2019-11-03T18:34:28Z: temperature 21.5"],
    );
    let mut ruled = ConventionBench::from_mapping(
        r#"convention = "tasmota"
        site = "s"
        zone = "z"
        # Dry 250, wet 500.
        metrics = { "CHIRP0.Moisture" = { metric = "soil_moisture", scale = 0.4, offset = -100 } }"#,
    );
    ruled.check(
        "tele/pot/SENSOR",
        read_golden("tasmota/chirp.json"),
        &[
            "s/z pot.CHIRP0 live 2019-11-03T19:34:28Z: temperature 21.5",
            "s/z pot.CHIRP0 live 2019-11-03T19:34:28Z: soil_moisture 12.8",
        ],
    );
    let at = "2025-02-19T10:30:57Z";
    let mut bench =
        ConventionBench::from_mapping("convention = \"tasmota\"\nsite = \"s\"\nzone = \"z\"");
    bench.check(
        "tele/pot/SENSOR",
        read_golden("tasmota/analog-sensors.json"),
        &[
            &format!("s/z pot.ANALOG1 live {at}: temperature -3.2"),
            &format!("s/z pot.ANALOG2 live {at}: temperature 8.5"),
            &format!("s/z pot.ANALOG3 live {at}: light 300"),
            &format!("s/z pot.SCD30 live {at}: co2 598"),
            &format!("s/z pot.SCD30 live {at}: temperature 24.7"),
            &format!("s/z pot.SCD30 live {at}: humidity 46.4"),
        ],
    );
    let of = |what| format!("s/z pot.Flora6AB577 live {at}: {what}");
    bench.check(
        "tele/pot/SENSOR",
        read_golden("tasmota/mi-flora.json"),
        &[&of("temperature 21.5"), &of("light 121"), &of("soil_moisture 0"), &of("ec 0.64")],
    );
}
