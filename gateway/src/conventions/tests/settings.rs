use std::path::Path;

use super::{ConventionBench, repository_dir};
use crate::GatewaySettings;

fn load_mapping(text: &str) -> Result<GatewaySettings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    GatewaySettings::load(Some(&path), &[]).map_err(|e| e.to_string())
}

/// Checks that a mapping is refused with this message.
fn refuse(text: &str, expect: &str) {
    let error = load_mapping(&format!("[[mappings]]\n{text}")).unwrap_err();
    assert!(error.contains(expect), "{text}\n{error}");
}

#[test]
fn refusals() {
    let homie = |rest: &str| format!("convention = \"homie\"\nsite = \"s\"\nzone = \"z\"\n{rest}");
    refuse("convention = \"homey\"\nsite = \"s\"", "homey");
    refuse("convention = \"homie\"", "site");
    refuse(&homie("bsae = \"x\""), "bsae");
    refuse(&homie("time_zone = \"UTC\""), "`time_zone` is not a key of this convention");
    refuse(&homie("base = \"homie/#\""), "expected levels of a topic");
    refuse(&homie("zones = [{ devices = \"{x}\" }]"), "{x}");
    refuse(&homie("metrics = { x = \"warmth\" }"), "[metrics.warmth]");
    refuse(&homie("ignore = [\"a/#/b\"]"), "ignore");
    let template = |rest: &str| format!("convention = \"template\"\nsite = \"s\"\n{rest}");
    refuse(&template(""), "`topic` is missing");
    refuse(&template("topic = \"x/{zone}\""), "{device}");
    refuse(&template("topic = \"x/{device}\""), "{zone}");
    refuse(&template("topic = \"x/{zone}\"\ndevice = \"{id}\""), "{/id}");
    refuse(&template("topic = \"x/{zone}\"\nrecords = \"a/b\""), "expected a JSON pointer");
    refuse(&template("topic = \"x/{zone}\"\nfields = [1]"), "expected a text or a list of texts");
    refuse("convention = \"senml\"\nsite = \"s\"\nzone = \"z\"", "`topic` is missing");
    refuse(
        "convention = \"shelly\"\nsite = \"s\"\nzone = \"z\"\nrecords = \"/x\"",
        "`records` is not a key",
    );
    refuse("convention = \"shelly\"\nsite = \"s\"", "set `zone` or `zones`");
    refuse(&template("topic = \"x/{zone}/{device}\""), "`metrics` is empty");
    refuse(&template("topic = \"x/{zone}/{device}/{metric}\"\ntimestamp = \"t\""), "\"/t\"");
    let tasmota =
        |rest: &str| format!("convention = \"tasmota\"\nsite = \"s\"\nzone = \"z\"\n{rest}");
    refuse(&tasmota("time_zone = \"Berlin\""), "Europe/Berlin");
    refuse(&tasmota("topic = \"tele/{device}\""), "SENSOR");
}

#[test]
fn all_wrong_mappings_are_named() {
    let wrong = "[[mappings]]\nconvention = \"homie\"\nsite = \"a/b\"\n".repeat(2);
    let error = load_mapping(&wrong).unwrap_err();
    assert!(error.contains("mappings: [0]") && error.contains("mappings[1]"), "{error}");
}

#[test]
fn a_mapping_may_use_an_own_metric() {
    let settings = "[metrics.brix]\nunit = \"brix\"\nmin = 0\nmax = 40\n[[mappings]]\nconvention = \"homie\"\nsite = \"s\"\nmetrics = { sugar = \"brix\" }";
    load_mapping(settings).unwrap();
}

#[test]
fn each_example_is_tested() {
    let files = std::fs::read_dir(repository_dir().join("deploy/examples")).unwrap();
    let mut names: Vec<String> = files
        .filter_map(|file| {
            let path = file.unwrap().path();
            Some(Path::new(path.file_name()?).file_stem()?.to_str()?.to_owned())
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "chirpstack",
            "esphome",
            "home-assistant",
            "homie",
            "openmqttgateway",
            "rtl_433",
            "senml",
            "shelly",
            "sparkplug",
            "tasmota",
            "template",
            "the-things-stack",
            "thingsboard",
            "zigbee2mqtt"
        ]
    );
    // Their filters are added by the mappings.
    let filters = |name| ConventionBench::from_example(name).conventions.metadata_filters();
    assert_eq!(filters("zigbee2mqtt"), ["zigbee2mqtt/bridge/devices"]);
    assert_eq!(filters("template"), [""; 0]);
    assert_eq!(filters("homie").len(), 3);
}
