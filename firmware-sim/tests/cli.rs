//! The program `firmware-sim`: its errors have a hint.

use std::process::Command;

fn check(args: &[&str], parts: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_firmware-sim")).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success(), "{args:?}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}

#[test]
fn what_is_wrong_is_said_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    check(&["replay", path, "--layout", "keti"], &[path, "hint: `--layout keti` wants"]);
    check(&["replay", path, "--layout", "tarot"], &["wide-csv"]);
    check(&["replay", "/nowhere", "--layout", "jsonl"], &["/nowhere"]);
    check(&["replay", path, "--layout", "keti", "--speed", "fast"], &["x60"]);
    check(&["simulate", "--set", "simulate.interval_s=0"], &["simulate.interval_s", "1 to 3600"]);
}
