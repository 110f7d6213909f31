//! The four services as separate programs, over a real Mosquitto and a real Apache Kafka.

use std::process::Command;

use serde_json::Value;

use crate::support::{
    ChildProcess, ScriptedBroker, free_port, get_json, program_path, wait_for_json,
    wait_until_ready,
};

#[tokio::test(flavor = "multi_thread")]
async fn from_mosquitto_over_kafka_to_a_served_prediction() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mosquitto) = ScriptedBroker::start("mosquitto", &["mosquitto"], dir.path()) else {
        return;
    };
    let Some(kafka) = ScriptedBroker::start("kafka", &["java", "mvn"], dir.path()) else { return };
    let log = ["log.kind=kafka".to_owned(), format!("log.kafka.brokers=127.0.0.1:{}", kafka.port)];
    let command = |name: &str, verb: &str, set: &[String]| {
        let mut command = Command::new(program_path(name));
        command.current_dir(dir.path()).arg(verb);
        command.args(set.iter().flat_map(|set| ["--set", set]));
        command
    };

    let (gateway_port, store_port, trainer_port) = (free_port(), free_port(), free_port());
    let listen = |port: u16| format!("rest.listen=127.0.0.1:{port}");
    let mqtt = ["mqtt.mode=bridge".to_owned(), format!("mqtt.port={}", mosquitto.port)];
    let gateway_set = [&mqtt[..], &log, &[listen(gateway_port)]].concat();
    let _gateway = ChildProcess::start(&mut command("gateway", "run", &gateway_set));
    let path = format!("store.path={}", dir.path().join("store.duckdb").display());
    let lateness = "engine.lateness_s=600".to_owned();
    let store_set = [&log[..], &[listen(store_port), path, lateness]].concat();
    let mut store = ChildProcess::start(&mut command("feature-store", "run", &store_set));
    let gateway_url = format!("http://127.0.0.1:{gateway_port}");
    let store_url = format!("http://127.0.0.1:{store_port}");
    wait_until_ready(&format!("{gateway_url}/readyz")).await;

    // A day and a half of twelve devices, with faults.
    let simulator_set = [
        format!("broker.port={}", mosquitto.port),
        "simulate.live=false".to_owned(),
        "simulate.days=1.5".to_owned(),
        format!("simulate.labels={}", dir.path().join("labels.csv").display()),
    ];
    let simulated = command("firmware-sim", "simulate", &simulator_set).output().unwrap();
    assert!(simulated.status.success(), "{}", String::from_utf8_lossy(&simulated.stderr));
    let sent: Value = serde_json::from_slice(&simulated.stdout).unwrap();
    let published = sent["readings_published"].as_u64().unwrap();
    assert!(published > 40_000, "{sent}");
    // Mosquitto acknowledges malformed messages too.
    assert_eq!(sent["readings_acknowledged"], sent["readings_published"], "{sent}");

    let ledger = wait_for_json(&format!("{gateway_url}/ledger"), "everything received", |ledger| {
        let totals = &ledger["totals"];
        totals["received"].as_u64() >= Some(published) && totals["in_flight"] == 0
    })
    .await;
    let totals = &ledger["totals"];
    assert_eq!(totals["received"], published, "{totals}");
    assert_eq!(totals["unaccounted"], 0, "{totals}");

    // A store that is killed while it works continues after the last commit.
    store.kill();
    drop(store);
    let mut store = ChildProcess::start(&mut command("feature-store", "run", &store_set));
    let logged = totals["logged"].as_u64().unwrap();
    let counts = wait_for_json(&format!("{store_url}/v1/counts"), "everything stored", |counts| {
        counts["readings"].as_u64() >= Some(logged)
    })
    .await;
    assert_eq!(counts["readings"], logged, "each once: {counts}");
    assert!(counts["rows"].as_u64() > Some(5_000), "{counts}");

    let trainer_set = [format!("source.url={store_url}"), listen(trainer_port)];
    let mut compare = command("trainer", "compare", &trainer_set);
    let compared = compare.args(["--task", "temperature-10m", "--json"]).output().unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
    let comparison: Value = serde_json::from_slice(&compared.stdout).unwrap();
    let leaderboard = comparison["tasks"][0]["leaderboard"].as_array().unwrap();
    assert!(leaderboard.len() >= 5, "{comparison}");

    let mut trainer = ChildProcess::start(&mut command("trainer", "serve", &trainer_set));
    let url =
        format!("http://127.0.0.1:{trainer_port}/v1/predict/temperature-10m?zone=house/room-1");
    let prediction =
        wait_for_json(&url, "a prediction", |prediction| prediction["value"].is_number()).await;
    let latest =
        format!("{store_url}/v1/features/latest?zones=house/room-1&names=temperature_last");
    let now = get_json(&latest).await.unwrap()["rows"][0]["features"]["temperature_last"]
        .as_f64()
        .unwrap();
    let (value, interval) = (prediction["value"].as_f64().unwrap(), &prediction["interval"]);
    assert!((value - now).abs() < 3.0, "{value} in ten minutes, {now} now");
    assert!(
        interval[0].as_f64() <= Some(value) && Some(value) <= interval[1].as_f64(),
        "{prediction}"
    );
    let unknown = get_json(&url.replace("house/room-1", "house/attic")).await.unwrap_err();
    assert!(unknown.contains("404") && unknown.contains("house/attic"), "{unknown}");

    assert!(trainer.terminate().success() && store.terminate().success(), "both drain on SIGTERM");
}
