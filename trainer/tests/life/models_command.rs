//! The program `trainer models`.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{TASK, TestTrainer};

/// Runs `trainer models`; returns its output, and whether it succeeded.
fn run_models(life: &TestTrainer, args: &str) -> (bool, String) {
    let dir = life.dir.path().join("models");
    let ran = Command::new(env!("CARGO_BIN_EXE_trainer"))
        .arg("models")
        .args(args.split(' '))
        .args(["--set", &format!("registry_dir={}", dir.display())])
        .output()
        .unwrap();
    let text = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8(text).unwrap())
}

fn run_models_json(life: &TestTrainer, args: &str) -> Value {
    let (done, text) = run_models(life, &format!("{args} --json"));
    assert!(done, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn versions_are_seen_and_changed() {
    let life = TestTrainer::start().await;
    assert_eq!(run_models(&life, "list"), (true, "no versions yet\n".to_owned()));
    for model in ["decision tree", "ridge", "decision tree", "decision tree"] {
        life.train_model(model).await;
    }
    let list = run_models_json(&life, "list");
    let roles: Vec<&str> =
        list.as_array().unwrap().iter().map(|v| v["alias"].as_str().unwrap()).collect();
    assert_eq!(roles, ["challenger", "", "champion", "before"]);
    assert_eq!(list[2]["model"], "ridge");
    let show = run_models_json(&life, "show temperature-10m");
    assert_eq!((&show["version"], &show["verdict"]["passed"]), (&2.into(), &true.into()));
    let diff = run_models_json(&life, "diff temperature-10m 1 2");
    assert_eq!(
        (&diff["fields"][0]["from"], &diff["fields"][0]["to"]),
        (&"decision tree".into(), &"ridge".into())
    );

    let (done, text) = run_models(&life, "promote temperature-10m 3");
    assert!(!done && text.contains("stays out") && text.contains("hint: "), "{text}");
    let (done, text) = run_models(&life, "promote temperature-10m 3 --force");
    assert!(!done && text.contains("--why"), "a reason is needed: {text}");
    let (done, text) = run_models(&life, "promote temperature-10m 3 --force --why because");
    assert!(done && text.contains("version 3 is champion"), "{text}");
    assert_eq!(run_models_json(&life, "rollback temperature-10m")["champion"], 2);
    assert_eq!(
        run_models_json(&life, "gc temperature-10m --keep 1 --dry-run")["versions"],
        serde_json::json!([3])
    );
    assert_eq!(run_models_json(&life, "gc temperature-10m --keep 1")["removed"], true);
    let nothing = (true, "temperature-10m: nothing to remove\n".to_owned());
    assert_eq!(run_models(&life, "gc --keep 1"), nothing);
    assert_eq!(life.trainer.registry().list_versions(TASK).unwrap(), [1, 2, 4]);

    let (done, log) = run_models(&life, "log temperature-10m --limit 3 --json");
    let whys: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(done && whys.len() == 3, "{log}");
    assert_eq!((&whys[0]["what"], &whys[1]["what"]), (&"removed".into(), &"rolled_back".into()));
    assert_eq!((&whys[2]["what"], &whys[2]["why"]), (&"forced".into(), &"because".into()));
    let (_, table) = run_models(&life, "log temperature-10m");
    assert!(table.contains("rolled back") && table.contains("trainer compare"), "{table}");
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_failure() {
    let life = TestTrainer::with_champion("ridge").await;
    let dir = life.dir.path().join("models");
    // As `trainer models show temperature-10m | head -0` does, many times over.
    for _ in 0..5 {
        let mut started = Command::new(env!("CARGO_BIN_EXE_trainer"))
            .args(["models", "show", TASK])
            .args(["--set", &format!("registry_dir={}", dir.display())])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(started.stdout.take());
        let ended = started.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && !said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn what_is_served_was_fitted_on_all_rows() {
    let life = TestTrainer::with_champion("ridge").await;
    let show = run_models_json(&life, "show temperature-10m");
    let (card, before) = (&show["card"], &show["card"]["facts"]["evaluated"]);
    let ms = |own: &Value| own.as_i64().unwrap();
    assert!(ms(&before["trained_ms"][1]) < ms(&before["test_ms"][0]), "{before}");
    assert!(ms(&card["trained_ms"][1]) + 60_000 >= ms(&before["test_ms"][1]), "{card}");
    let (_, text) = run_models(&life, "show temperature-10m");
    assert!(text.contains("metrics of") && text.contains("the fit before this one"), "{text}");
}

#[test]
fn invalid_settings_are_refused() {
    let check = |set: &str, part: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_trainer"));
        let ran = program.args(["models", "list", "--set", set]).output().unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && stderr.contains(part), "{set}: {stderr}");
    };
    check("gate.p_max=0.9", "gate.p_max");
    check("gate.latency_p99_us_max=0", "gate.latency_p99_us_max");
    check("serving.missing_max=2", "serving.missing_max");
    check("watch.every_s=0", "watch.every_s");
    check("watch.journal_days=1", "watch.journal_days");
    check("mqtt.topic=predictions/#", "mqtt.topic");
    check("registry_dir=s3://bucket/models", "s3.secret_key");
}
