//! Records the versions of the libraries that fit models, so that artifacts can state them.

use std::fs;

const CRATES: [&str; 5] =
    ["hessboost", "linfa", "linfa-clustering", "linfa-elasticnet", "smartcore"];

fn main() {
    let lock = "../Cargo.lock";
    println!("cargo:rerun-if-changed={lock}");
    // Built without the workspace there is no lock file, and no version is recorded.
    let lock = fs::read_to_string(lock).unwrap_or_default();
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        line.and_then(|rest| rest.strip_suffix('"')).map(str::to_owned)
    };
    let mut found: Vec<String> = lock
        .split("[[package]]")
        .filter_map(|block| Some((value(block, "name")?, value(block, "version")?)))
        .filter(|(name, _)| CRATES.contains(&name.as_str()))
        .map(|(name, version)| format!("{name}={version}"))
        .collect();
    // If a library occurs in two versions, the older one sorts first and the newer one counts.
    found.sort();
    println!("cargo:rustc-env=MODELS_CRATES={}", found.join(" "));
}
