//! `microclimate backup` beside a running Microclimate that takes readings, and one that is
//! killed.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    ChildProcess, free_port, get_json, program_path, wait_for_json, wait_until_ready,
};

/// Readings that are acknowledged before the first backup.
const BEFORE: u64 = 300;

fn start_microclimate(data: &Path) -> (ChildProcess, String) {
    let rest = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(program_path("microclimate"));
    command.args(["up", "--data-dir"]).arg(data).args(["--set", &format!("rest.listen={rest}")]);
    command.args(["--set", "gateway.mqtt.listen=127.0.0.1:0"]);
    (ChildProcess::start(&mut command), format!("http://{rest}"))
}

fn command(verb: &str, backup: &Path, data: &Path) -> Command {
    let mut command = Command::new(program_path("microclimate"));
    command.arg(verb).arg(backup).arg("--data-dir").arg(data);
    command
}

fn run(verb: &str, backup: &Path, data: &Path) -> Output {
    command(verb, backup, data).output().unwrap()
}

/// Sends the reading `number` and waits until it is acknowledged. Its value is its number.
async fn send_reading(url: &str, number: u64) {
    let line = json!({ "topic": "sensors/farm/bay-1/probe", "co2": 300 + number });
    let request = reqwest::Client::new().post(format!("{url}/v1/readings")).body(line.to_string());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// Numbers of all stored readings.
async fn stored_numbers(url: &str) -> Vec<u64> {
    let answer = get_json(&format!("{url}/v1/readings?metric=co2&limit=10000")).await.unwrap();
    let rows = answer["readings"].as_array().unwrap();
    rows.iter().map(|row| row["value"].as_f64().unwrap() as u64 - 300).collect()
}

#[tokio::test]
async fn a_backup_of_a_running_microclimate_has_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (mut running, url) = start_microclimate(&path("data"));
    wait_until_ready(&format!("{url}/readyz")).await;
    let (acknowledged, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let sending = tokio::spawn({
        let (url, acknowledged, is_over) = (url.clone(), acknowledged.clone(), is_over.clone());
        async move {
            while !is_over.load(Ordering::SeqCst) {
                send_reading(&url, acknowledged.load(Ordering::SeqCst)).await;
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    while acknowledged.load(Ordering::SeqCst) < BEFORE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for number in 0..3 {
        let (backup, back) = (path(&format!("backup-{number}")), path(&format!("back-{number}")));
        let before = acknowledged.load(Ordering::SeqCst);
        let data = path("data");
        let made = tokio::task::spawn_blocking({
            let backup = backup.clone();
            move || run("backup", &backup, &data)
        });
        let made = made.await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert!(!path("data/backup-staging").exists(), "the copy is removed");

        let restored = run("restore", &backup, &back);
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        let (_restored, url) = start_microclimate(&back);
        let enough = |answer: &Value| answer["readings"].as_array().unwrap().len() as u64 >= before;
        let readings = format!("{url}/v1/readings?metric=co2&limit=10000");
        wait_for_json(&readings, "all readings", enough).await;
        let numbers = stored_numbers(&url).await;
        let different: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(different.len(), numbers.len(), "none is there twice");
        assert!((0..before).all(|number| different.contains(&number)), "{before}: {numbers:?}");
    }
    is_over.store(true, Ordering::SeqCst);
    sending.await.unwrap();
    // The running one has lost nothing meanwhile.
    let sent = acknowledged.load(Ordering::SeqCst);
    let all = |answer: &Value| answer["readings"].as_array().unwrap().len() as u64 == sent;
    wait_for_json(&format!("{url}/v1/readings?metric=co2&limit=10000"), "all", all).await;
    assert!(running.terminate().success());
    assert!(!path("data/backup.sock").exists(), "the socket is removed");
}

#[tokio::test]
async fn a_killed_backup_leaves_nothing_under_its_name_and_the_next_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (_running, url) = start_microclimate(&path("data"));
    wait_until_ready(&format!("{url}/readyz")).await;
    for number in 0..20 {
        send_reading(&url, number).await;
    }
    // Something that takes a moment to copy.
    std::fs::create_dir_all(path("data/reports")).unwrap();
    std::fs::write(path("data/reports/large"), vec![7; 64 << 20]).unwrap();
    for wait_ms in [0, 5, 20, 60] {
        let mut killed = command("backup", &path("backup"), &path("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let _ = killed.kill();
        killed.wait().unwrap();
        if path("backup").exists() {
            // It was quicker than the signal.
            let restored = run("restore", &path("backup"), &path(&format!("back-{wait_ms}")));
            assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        }
        let _ = std::fs::remove_dir_all(path("backup"));
    }
    let data = path("data");
    let backup = path("backup");
    let made = tokio::task::spawn_blocking(move || run("backup", &backup, &data)).await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let restored = run("restore", &path("backup"), &path("back"));
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let large = std::fs::read(path("back/reports/large")).unwrap();
    assert!(large.len() == 64 << 20 && large.iter().all(|byte| *byte == 7));
    send_reading(&url, 20).await;
}
