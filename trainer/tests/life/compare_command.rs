use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{TASK, fake_store::FakeStore};

/// Runs `trainer` with the store; its files go to `dir`.
async fn run_trainer(store: &FakeStore, dir: &TempDir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    let registry = dir.path().join("models");
    command
        .args(args)
        .args(["--set", &format!("source.url=http://{}", store.address)])
        .args(["--set", &format!("registry_dir={}", registry.display())])
        .args(["--set", "split.train_rows_max=1000"])
        .args(["--task", TASK, "--out", &dir.path().join("reports").display().to_string()]);
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn as_utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fail_if_sets_the_exit_status() {
    let (store, dir) = (FakeStore::start().await, TempDir::new().unwrap());
    let compare = ["compare", "--models", "ridge", "--quick", "--dry-run", "--fail-if"];
    let with_condition = |condition| [&compare[..], &[condition]].concat();
    let ran = run_trainer(&store, &dir, &with_condition("temperature-10m, ridge: skill < 2")).await;
    assert_eq!(ran.status.code(), Some(2), "{}", as_utf8(&ran.stderr));
    let stderr = as_utf8(&ran.stderr);
    assert!(stderr.contains("failed: temperature-10m, ridge: skill < 2: ridge has "), "{stderr}");
    let ran = run_trainer(&store, &dir, &with_condition("temperature-10m, ridge: skill > 2")).await;
    assert_eq!(ran.status.code(), Some(0), "{}", as_utf8(&ran.stderr));
    assert!(!dir.path().join("models").exists(), "a dry run keeps nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn held_out_zones_are_tested_and_not_trained_on() {
    let (store, dir) = (FakeStore::start().await, TempDir::new().unwrap());
    let common = ["compare", "--models", "ridge", "--quick", "--dry-run", "--json"];
    let args = [&common[..], &["--hold-out", "s/b", "--folds", "2", "--seed", "3"]].concat();
    let ran = run_trainer(&store, &dir, &args).await;
    assert!(ran.status.success(), "{}", as_utf8(&ran.stderr));
    let found: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let facts = &found["tasks"][0]["facts"];
    assert_eq!(facts["folds"].as_array().unwrap().len(), 2, "{found}");
    let rows = |zone: usize, part: &str| facts["zones"][zone][part].as_u64().unwrap();
    assert!(rows(0, "train") > 0 && rows(0, "calibration") > 0 && rows(0, "test") == 0);
    assert!(rows(1, "train") == 0 && rows(1, "calibration") == 0 && rows(1, "test") > 0);
    assert_eq!((&found["run"]["seed"], &found["run"]["folds"]), (&3.into(), &2.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn relevance_says_what_a_model_rests_on_and_changes_nothing() {
    let (store, dir) = (FakeStore::start().await, TempDir::new().unwrap());
    let ran = run_trainer(&store, &dir, &["relevance", "--model", "ridge"]).await;
    assert!(ran.status.success(), "{}", as_utf8(&ran.stderr));
    let stdout = as_utf8(&ran.stdout);
    for part in [
        "importance of the inputs of ridge",
        "error without",
        "windows, refitted without",
        "report: ",
    ] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    assert!(!dir.path().join("models").exists());
    assert!(dir.path().join("reports/latest_run.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn late_readings_are_in_no_input() {
    let (store, dir) = (FakeStore::start().await, TempDir::new().unwrap());
    let args = ["compare", "--models", "ridge", "--quick", "--dry-run", "--json"];
    let ran = run_trainer(&store, &dir, &args).await;
    assert!(ran.status.success(), "{}", as_utf8(&ran.stderr));
    let found: Value = serde_json::from_slice(&ran.stdout).unwrap();
    for entry in found["tasks"][0]["leaderboard"].as_array().unwrap() {
        // By corrected slopes, which know the future, the line would be exact.
        let error = entry["value"].as_f64().unwrap();
        assert!(error > 0.02, "{} has an error of {error} °C", entry["model"]);
    }
}
