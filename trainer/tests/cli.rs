//! Errors and output of the program `trainer`, without other programs.

use std::process::Command;

fn check(args: &[&str], parts: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_trainer")).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success(), "{args:?}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}

/// Arguments for a store that does not listen, and for writing no reports.
fn with_unreachable_store(args: &[&'static str]) -> Vec<&'static str> {
    let nobody = ["--set", "source.url=http://127.0.0.1:9", "--out", env!("CARGO_TARGET_TMPDIR")];
    [args, &nobody].concat()
}

#[test]
fn errors_have_a_hint() {
    check(&with_unreachable_store(&["compare"]), &["127.0.0.1:9", "hint: is `feature-store run`"]);
    check(&["compare", "--models", "oracle"], &["no model `oracle`", "ridge"]);
    check(&["compare", "--task", "weather"], &["temperature-10m"]);
    check(
        &["compare", "--from", "yesterday"],
        &["`yesterday` is not a time", "2026-11-29T13:00:00Z"],
    );
    check(&["serve", "--set", "rest.listen=0.0.0.0:0"], &["rest.token"]);
    check(&["serve", "--set", "split.train=0.9"], &["split"]);
}

/// Refused before the feature store is asked for anything.
#[test]
fn a_comparison_without_meaning_is_refused_at_once() {
    let check = |args: &[&'static str], parts: &[&str]| check(&with_unreachable_store(args), parts);
    check(&["compare", "--fail-if", "skill < 0.1"], &["no colon", "temperature-10m: skill < 0.1"]);
    check(&["compare", "--fail-if", "heating: luck < 1"], &["no quantity `luck`", "skill_low"]);
    check(&["compare", "--split", "0.9,0.2"], &["leave some of 1 for testing"]);
    check(&["compare", "--folds", "99"], &["99 is not in 1..=20"]);
    check(
        &["compare", "--from", "2013-08-29", "--to", "2013-08-24"],
        &["--from is not before --to"],
    );
    check(&["compare", "--zones", "a/b", "--hold-out", "a/c"], &["a/c is to be held out"]);
    check(&["relevance", "--model", "oracle"], &["no model `oracle`"]);
}
