//! The program `trainer` by itself: what it says when something is missing.

use std::process::Command;

fn check(args: &[&str], parts: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_trainer")).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success(), "{args:?}");
    for part in parts {
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

#[test]
fn what_is_wrong_is_said_with_a_hint() {
    let nobody = ["--set", "source.url=http://127.0.0.1:9"];
    check(&[&["compare"], &nobody[..]].concat(), &["127.0.0.1:9", "hint: is `feature-store run`"]);
    check(&["compare", "--models", "oracle"], &["no model `oracle`", "ridge"]);
    check(&["compare", "--task", "weather"], &["temperature-10m"]);
    check(&["compare", "--from", "yesterday"], &["2013-08-29"]);
    check(&["serve", "--set", "rest.listen=0.0.0.0:0"], &["rest.token"]);
    check(&["serve", "--set", "split.train=0.9"], &["split"]);
}
