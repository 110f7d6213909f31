//! Who may depend on whom. ARCHITECTURE.md has the same in words.
//!
//! A new crate, or a new edge between crates, is a decision about the architecture: it
//! is made here, and is seen in review.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use crate::support::workspace_root;

/// Each crate of this workspace, and those that it may be built with.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("duckdb-library", &[]),
    ("telemetry", &[]),
    ("service", &[]),
    ("agronomy", &["telemetry"]),
    ("recordings", &["telemetry"]),
    ("object-store", &["service"]),
    ("eventlog", &["service", "telemetry"]),
    ("feature-engine", &["agronomy", "telemetry"]),
    ("feature-api", &["service", "telemetry"]),
    ("alerts", &["service", "telemetry"]),
    ("models", &[]),
    ("firmware-sim", &["recordings", "service", "telemetry"]),
    ("gateway", &["eventlog", "service", "telemetry"]),
    (
        "feature-store",
        &[
            "agronomy",
            "alerts",
            "duckdb-library",
            "eventlog",
            "feature-api",
            "feature-engine",
            "object-store",
            "recordings",
            "service",
            "telemetry",
        ],
    ),
    ("trainer", &["feature-api", "models", "object-store", "service", "telemetry"]),
    // All in one process.
    (
        "microclimate",
        &[
            "alerts",
            "duckdb-library",
            "eventlog",
            "feature-api",
            "feature-store",
            "firmware-sim",
            "gateway",
            "service",
            "telemetry",
            "trainer",
        ],
    ),
];

/// Crates that only the tests and examples of a crate may use beside those.
const ALLOWED_IN_TESTS: [(&str, &[&str]); 4] = [
    ("agronomy", &["recordings"]),
    ("feature-engine", &["recordings"]),
    ("models", &["telemetry"]),
    ("microclimate", &["models"]),
];

/// Libraries that only some crates may be built with.
const ALLOWED_USERS: [(&str, &[&str]); 2] =
    [("duckdb", &["feature-store"]), ("rdkafka", &["eventlog"])];

/// Crates that do no I/O, and what they therefore do without.
const WITHOUT_IO: [&str; 3] = ["telemetry", "agronomy", "feature-engine"];
const IO_LIBRARIES: [&str; 8] =
    ["axum", "duckdb", "hyper", "object_store", "rdkafka", "reqwest", "rumqttc-next", "tokio"];

/// Crates whose tests, too, are built without these, through whatever they depend on:
/// DuckDB and Kafka's client take most of the time of a first build.
const NEVER_BUILT_WITH: [(&str, &[&str]); 6] = [
    ("models", &["duckdb", "rdkafka", "eventlog", "feature-store"]),
    ("trainer", &["duckdb", "rdkafka", "eventlog", "feature-store"]),
    ("feature-api", &["duckdb", "rdkafka", "eventlog", "feature-store"]),
    ("feature-engine", &["duckdb", "rdkafka", "eventlog", "feature-store"]),
    ("alerts", &["duckdb", "rdkafka", "eventlog", "feature-store"]),
    ("gateway", &["duckdb", "feature-store", "trainer"]),
];

/// Dependencies that the packages of this workspace declare.
struct DeclaredDependencies {
    /// By crate: what programs and libraries are built with.
    build: BTreeMap<String, BTreeSet<String>>,
    /// By crate: what tests and examples are built with beside that.
    tests: BTreeMap<String, BTreeSet<String>>,
}

impl DeclaredDependencies {
    /// Those of this workspace, without the prefix of its package names.
    fn read() -> Self {
        let answer = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(workspace_root())
            .output()
            .unwrap();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        let metadata: Value = serde_json::from_slice(&answer.stdout).unwrap();
        let crate_name = |name: &Value| {
            let name = name.as_str().unwrap();
            name.strip_prefix("microclimate-").unwrap_or(name).to_owned()
        };
        let mut own = Self { build: BTreeMap::new(), tests: BTreeMap::new() };
        for package in metadata["packages"].as_array().unwrap() {
            let user = crate_name(&package["name"]);
            let (mut build, mut tests) = (BTreeSet::new(), BTreeSet::new());
            for used in package["dependencies"].as_array().unwrap() {
                let part = if used["kind"] == "dev" { &mut tests } else { &mut build };
                part.insert(crate_name(&used["name"]));
            }
            own.build.insert(user.clone(), build);
            own.tests.insert(user, tests);
        }
        own
    }

    fn is_own(&self, name: &str) -> bool {
        self.build.contains_key(name)
    }

    /// Everything that the tests of a crate are built with, as far as the packages of
    /// this workspace declare it.
    fn reachable(&self, user: &str) -> BTreeSet<&str> {
        let direct = [&self.build, &self.tests].map(|part| part.get(user).into_iter().flatten());
        let mut waiting: Vec<&str> = direct.into_iter().flatten().map(String::as_str).collect();
        let mut found = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            if found.insert(name) {
                waiting.extend(self.build.get(name).into_iter().flatten().map(String::as_str));
            }
        }
        found
    }
}

fn allowed(
    table: &[(&str, &'static [&'static str])],
    user: &str,
) -> Option<&'static [&'static str]> {
    table.iter().find(|(name, _)| *name == user).map(|(_, used)| *used)
}

#[test]
fn crates_depend_only_on_those_below_them() {
    let declared = DeclaredDependencies::read();
    assert!(declared.is_own("telemetry") && declared.is_own("microclimate"));
    let mut wrong = Vec::new();
    for (user, used) in &declared.build {
        let Some(may_use) = allowed(&ALLOWED, user) else {
            wrong.push(format!("{user} has no line in ALLOWED"));
            continue;
        };
        let own = |used: &&String| declared.is_own(used);
        for name in used.iter().filter(own).filter(|name| !may_use.contains(&name.as_str())) {
            wrong.push(format!("{user} depends on {name}"));
        }
        let in_tests = allowed(&ALLOWED_IN_TESTS, user).unwrap_or_default();
        let may_use = |name: &&str| may_use.contains(name) || in_tests.contains(name);
        for name in declared.tests[user].iter().filter(own).map(String::as_str) {
            if !may_use(&name) {
                wrong.push(format!("the tests of {user} depend on {name}"));
            }
        }
        for (library, users) in ALLOWED_USERS {
            if used.contains(library) && !users.contains(&user.as_str()) {
                wrong.push(format!("{user} depends on {library}"));
            }
        }
    }
    for user in WITHOUT_IO {
        let used = declared.build.get(user).into_iter().flatten();
        for name in used.filter(|name| IO_LIBRARIES.contains(&name.as_str())) {
            wrong.push(format!("{user} does no I/O, and depends on {name}"));
        }
    }
    assert!(wrong.is_empty(), "not as ARCHITECTURE.md has it:\n{}", wrong.join("\n"));
}

#[test]
fn models_and_the_trainer_are_built_without_duckdb_and_kafka() {
    let declared = DeclaredDependencies::read();
    let mut wrong = Vec::new();
    for (user, never) in NEVER_BUILT_WITH {
        let reachable = declared.reachable(user);
        for name in never.iter().filter(|name| reachable.contains(*name)) {
            wrong.push(format!("{user} is built with {name}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The search finds what is there.
    assert!(declared.reachable("microclimate").contains("duckdb"));
}
