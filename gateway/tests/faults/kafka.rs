//! A real Apache Kafka, started by `scripts/kafka`.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::skip::MissingTool;

/// Exit status of `scripts/kafka` if Java or Maven is missing.
const EXIT_MISSING: i32 = 3;

/// A running Kafka. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct KafkaProcess {
    pub(crate) port: u16,
    /// The port that it advertises to its clients.
    advertised: u16,
    dir: PathBuf,
}

impl KafkaProcess {
    /// Starts Kafka with its data in `dir`. It advertises the port `advertised`, if given. Blocks
    /// for some seconds.
    ///
    /// # Errors
    /// Returns [`MissingTool`] if Java or Maven is missing.
    pub(crate) fn start_kafka(dir: &Path, advertised: Option<u16>) -> Result<Self> {
        let port = two_free_ports();
        let advertised = advertised.unwrap_or(port);
        let kafka = Self { port, advertised, dir: dir.to_owned() };
        kafka.run_script("start")?;
        Ok(kafka)
    }

    /// Returns the address for clients.
    pub(crate) fn broker_address(&self) -> String {
        format!("127.0.0.1:{}", self.advertised)
    }

    /// Sends SIGKILL, so that its log is not closed in order.
    pub(crate) fn kill(&self) {
        self.send_signal(Signal::SIGKILL);
        // Otherwise its port would still be in use when it is started again.
        while self.is_running() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        kill(self.pid(), None).is_ok_and(|()| !self.is_zombie())
    }

    /// Starts it again over the same data.
    pub(crate) fn restart(&self) -> Result<()> {
        self.run_script("start")
    }

    /// Sends SIGSTOP: connections stay, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.send_signal(Signal::SIGSTOP);
    }

    pub(crate) fn thaw(&self) {
        self.send_signal(Signal::SIGCONT);
    }

    fn run_script(&self, verb: &str) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka");
        let mut command = Command::new(&script);
        command.arg(verb).arg(self.port.to_string()).arg(&self.dir);
        command.env("KAFKA_ADVERTISED_PORT", self.advertised.to_string());
        let output = command.output().with_context(|| format!("{}", script.display()))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => Ok(()),
            Some(EXIT_MISSING) => bail!(MissingTool(stderr)),
            _ => bail!("{} {verb}: {stderr}", script.display()),
        }
    }

    fn send_signal(&self, signal: Signal) {
        // A process that has already ended needs no signal.
        let _ = kill(self.pid(), signal);
    }

    fn pid(&self) -> Pid {
        let text = fs::read_to_string(self.dir.join("pid")).expect("scripts/kafka wrote it");
        Pid::from_raw(text.trim().parse().expect("a process id"))
    }

    /// Whether it was killed and its parent has not collected it yet.
    fn is_zombie(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        status.is_ok_and(|text| text.contains("State:\tZ"))
    }
}

impl Drop for KafkaProcess {
    fn drop(&mut self) {
        self.send_signal(Signal::SIGKILL);
    }
}

/// Returns a free port whose successor is free too, because the script uses both.
fn two_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("a bound socket").port();
        if port.checked_add(1).is_some_and(|next| TcpListener::bind(("127.0.0.1", next)).is_ok()) {
            return port;
        }
    }
}
