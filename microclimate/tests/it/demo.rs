//! Runs `microclimate demo` as a user does.

use std::{
    fmt::Write,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::program_path;

fn run_demo(dir: &std::path::Path, args: &[&str]) -> Output {
    Command::new(program_path("microclimate"))
        .args(["demo", "--once", "--json", "--data-dir"])
        .arg(dir)
        .args(["--set", "gateway.mqtt.listen=127.0.0.1:0", "--set", "rest.listen=127.0.0.1:0"])
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn two_simulated_days_become_leaderboards_and_predictions() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run_demo(&dir.path().join("data"), &["--days", "2"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let summary: Value = serde_json::from_slice(&ran.stdout).expect("one JSON on stdout, no more");
    let readings = &summary["readings"];
    assert!(readings["published"].as_u64() > Some(60_000), "{readings}");
    assert_eq!(readings["acknowledged"], readings["published"], "{readings}");
    assert_eq!(readings["unaccounted"], 0, "{readings}");
    assert_eq!(summary["features"]["zones"], 3);
    let tasks = summary["tasks"].as_object().unwrap();
    assert_eq!(tasks.len(), 13);
    for (name, task) in tasks {
        // Whether the weather calls for heating depends on the hour at which the test runs.
        if let Some(why) = task["not_applicable"].as_str() {
            assert!(!["temperature-10m", "anomaly"].contains(&name.as_str()), "{name}: {why}");
            continue;
        }
        assert!(task["leaderboard"].as_array().unwrap().len() >= 4, "{name}: {task}");
        assert!(task["prediction"]["value"].is_number(), "{name}: {task}");
    }
    // Two days are too short for targets that are known only after two days.
    let why = tasks["watering"]["not_applicable"].as_str().unwrap();
    assert!(why.contains("too short"), "{why}");
    for file in ["report.html", "report.md", "leaderboard.csv", "leaderboard.json"] {
        let latest = dir.path().join("data/reports/latest_run.json");
        let latest: Value = serde_json::from_slice(&std::fs::read(latest).unwrap()).unwrap();
        let run = dir.path().join("data/reports").join(latest["dir"].as_str().unwrap());
        assert!(run.join(file).metadata().unwrap().len() > 200, "{file}");
    }
}

#[test]
fn recorded_rooms_without_soil_say_so_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let room = dir.path().join("KETI/413");
    std::fs::create_dir_all(&room).unwrap();
    let mut temperature = String::new();
    for minute in 0..2 * 1440_u32 {
        let hours = f64::from(minute) / 60.0;
        let celsius = 21.0 + 3.0 * (hours / 3.8).sin() + 0.02 * f64::from(minute * 7 % 5);
        writeln!(temperature, "{}, {celsius:.2}", 1_377_302_400 + minute * 60).unwrap();
    }
    temperature += "nonsense\n";
    std::fs::write(room.join("temperature.csv"), temperature).unwrap();
    let replay = dir.path().display().to_string();
    let ran = run_demo(
        &dir.path().join("data"),
        &["--replay", &replay, "--layout", "keti", "--rooms", "413"],
    );
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let summary: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(summary["readings"]["logged"], 2880);
    let tasks = &summary["tasks"];
    assert_eq!(tasks["watering"]["not_applicable"], "no soil_moisture in these zones");
    assert_eq!(tasks["light"]["not_applicable"], "no light in these zones");
    assert!(tasks["temperature-10m"]["leaderboard"].as_array().unwrap().len() >= 5, "{tasks}");
    assert_eq!(tasks["temperature-10m"]["prediction"]["zone"], "keti/413");
}

#[test]
fn invalid_arguments_are_refused_with_place_and_hint() {
    let dir = tempfile::tempdir().unwrap();
    let check = |args: &[&str], parts: &[&str]| {
        let ran = run_demo(&dir.path().join("data"), args);
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success(), "{args:?}");
        for part in parts {
            assert!(stderr.contains(part), "{args:?}: {stderr}");
        }
    };
    let config = dir.path().join("wrong.toml");
    std::fs::write(&config, "[rest]\nlisten = \"127.0.0.1:0\"\n[gateway.mqtt]\nlissten = \"x\"\n")
        .unwrap();
    let path = config.display().to_string();
    check(&["--config", &path], &["wrong.toml:4", "lissten", "listen"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let set = format!("rest.listen={}", taken.local_addr().unwrap());
    check(&["--set", &set], &["in use", "--set rest.listen=127.0.0.1:0"]);
    check(&["--set", "rest.listen=0.0.0.0:0"], &["no token", "rest.token"]);
    let foreign = dir.path().join("data");
    std::fs::remove_dir_all(&foreign).ok();
    std::fs::create_dir_all(&foreign).unwrap();
    std::fs::write(foreign.join("thesis.txt"), "mine").unwrap();
    check(&[], &["not empty", "--data-dir"]);
    assert!(foreign.join("thesis.txt").exists());
}
