//! Checks docker-compose.yml with the real programs.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use crate::support::{program_path, workspace_root};

/// Reads the commands and environments of our services from the file.
fn read_compose_services() -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let text = std::fs::read_to_string(workspace_root().join("docker-compose.yml")).unwrap();
    let (mut services, mut name): (BTreeMap<String, (Vec<String>, Vec<String>)>, _) =
        (BTreeMap::new(), String::new());
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if indent == 2 && line.ends_with(':') {
            line.trim_end_matches(':').clone_into(&mut name);
        } else if let Some(list) = line.strip_prefix("entrypoint: ") {
            let program: Vec<PathBuf> = serde_json::from_str(list).unwrap();
            let program = program[0].file_name().unwrap().to_str().unwrap().to_owned();
            services.entry(name.clone()).or_default().0 = vec![program];
        } else if let Some(list) = line.strip_prefix("command: ") {
            let command: Vec<String> = serde_json::from_str(list).unwrap();
            services.entry(name.clone()).or_default().0.extend(command);
        } else if let Some((key, _)) = line.split_once(": ")
            && key.contains("__")
            && key.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        {
            services.entry(name.clone()).or_default().1.push(key.to_owned());
        }
    }
    services
}

#[test]
fn programs_accept_its_commands_configurations_and_variables() {
    let services = read_compose_services();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["feature-store", "firmware-sim", "gateway", "trainer"]);
    for (name, (command, variables)) in &services {
        let [binary, verb, flag, config] = command.as_slice() else { panic!("{command:?}") };
        assert_eq!((binary, flag.as_str()), (name, "--config"));
        let help = Command::new(program_path(binary)).args([verb, "--help"]).output().unwrap();
        assert!(help.status.success(), "{binary} has no command `{verb}`");
        let config = workspace_root().join("deploy").join(config.rsplit('/').next().unwrap());
        // `defaults` loads the whole configuration and starts nothing.
        let mut load = Command::new(program_path(binary));
        load.arg("--config").arg(&config).arg("defaults");
        load.envs(variables.iter().map(|name| (name, "a-token")));
        let loaded = load.output().unwrap();
        let stderr = String::from_utf8_lossy(&loaded.stderr);
        assert!(loaded.status.success(), "{name}: {stderr}");

        // The check itself can fail: an unknown key is refused.
        let prefix = binary.replace('-', "_").to_uppercase();
        let refused = load.env(format!("{prefix}__NO__SUCH_KEY"), "1").output().unwrap();
        assert!(!refused.status.success(), "{name} accepts an unknown variable");
    }
}
