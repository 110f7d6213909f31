//! Real programs, brokers and ports for tests.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::Value;

/// Folder of the workspace.
pub(crate) fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Path of a program of this workspace. Each program has an integration test of its own, so
/// `cargo test --workspace` builds them all.
pub(crate) fn program_path(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_microclimate")).with_file_name(name);
    assert!(path.is_file(), "{} is missing: run `cargo test --workspace`", path.display());
    path
}

/// Finds two neighbouring free ports and returns the first.
pub(crate) fn free_port() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// Child process that does not outlive the test.
pub(crate) struct ChildProcess(pub(crate) Child);

impl ChildProcess {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends SIGTERM and returns the exit status.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How often a broker is started, each time on another port.
const BROKER_ATTEMPTS: usize = 3;

/// Broker that a program in `scripts/` starts and stops.
pub(crate) struct ScriptedBroker {
    script: PathBuf,
    pub(crate) port: u16,
    dir: PathBuf,
}

impl ScriptedBroker {
    /// Starts the broker. Returns `None`, with the reason printed, where a tool that it needs is
    /// missing; panics where the environment requires the broker.
    pub(crate) fn start(name: &str, needs: &[&str], dir: &Path) -> Option<Self> {
        let required = std::env::var_os("MICROCLIMATE_BROKERS").is_some_and(|v| v == "required");
        let has = |tool: &&&str| {
            let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
            std::env::split_paths(&paths).any(|path| path.join(tool).is_file())
        };
        if let Some(missing) = needs.iter().find(|tool| !has(tool)) {
            assert!(!required, "{name} is required here, and `{missing}` is missing");
            println!("skipped: {name} needs `{missing}`, which is not installed");
            return None;
        }
        // A port that is free now may be taken when the broker binds it.
        let mut problem = String::new();
        for attempt in 0..BROKER_ATTEMPTS {
            let broker = Self {
                script: workspace_root().join("scripts").join(name),
                port: free_port(),
                dir: dir.join(format!("{name}-{attempt}")),
            };
            // A file instead of a pipe: the broker would hold the pipe open.
            let log = dir.join(format!("{name}.start.log"));
            let to = std::fs::File::create(&log).unwrap();
            let mut command = broker.script_command("start");
            command.stdout(to.try_clone().unwrap()).stderr(to);
            if command.status().unwrap().success() {
                return Some(broker);
            }
            problem = std::fs::read_to_string(&log).unwrap_or_default();
        }
        assert!(!required, "{name} is required here, and does not start: {problem}");
        println!("skipped: {name} does not start here: {problem}");
        None
    }

    fn script_command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command.args([verb, &self.port.to_string()]).arg(&self.dir);
        command
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        let _ = self.script_command("stop").status();
    }
}

/// Publishes payloads to a topic at QoS 1, and waits until each is acknowledged.
pub(crate) async fn publish_messages(port: u16, topic: &str, payloads: &[String]) {
    let options = MqttOptions::new(format!("test-{}", free_port()), ("127.0.0.1", port));
    let (client, mut events) = AsyncClient::builder(options).capacity(256).try_build().unwrap();
    for payload in payloads {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        client.publish(topic, payload.clone().into_bytes(), options).await.unwrap();
    }
    let mut acknowledged = 0;
    while acknowledged < payloads.len() {
        let event = events.poll().await.unwrap();
        acknowledged += usize::from(matches!(event, Event::Incoming(Incoming::PubAck(_))));
    }
}

/// Waits for the JSON at a URL until `accept` accepts it.
pub(crate) async fn wait_for_json(url: &str, what: &str, accept: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    let mut last = String::from("no answer");
    while start.elapsed() < Duration::from_secs(120) {
        match get_json(url).await {
            Ok(answer) if accept(&answer) => return answer,
            Ok(answer) => last = answer.to_string(),
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url}: {what} was not reached in 120 s; last: {}", &last[..last.len().min(2000)]);
}

pub(crate) async fn get_json(url: &str) -> Result<Value, String> {
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    let (status, text) = (answer.status(), answer.text().await.map_err(|e| e.to_string())?);
    if status.is_success() {
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    } else {
        Err(format!("{status}: {text}"))
    }
}

/// Waits until a URL answers with success.
pub(crate) async fn wait_until_ready(url: &str) {
    for _ in 0..300 {
        if reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} is not ready after 30 s");
}
