//! A real Apache Kafka, by `scripts/kafka`.

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

/// What `scripts/kafka` says where Java or Maven is missing.
const EXIT_MISSING: i32 = 3;

/// A running Kafka; dropping it kills it.
#[derive(Debug)]
pub(crate) struct KafkaProcess {
    pub(crate) port: u16,
    /// The port that it tells its clients to use.
    advertised: u16,
    dir: PathBuf,
}

impl KafkaProcess {
    /// Starts one with its data in `dir`, which tells clients to use port
    /// `advertised` where that is given. Blocks for some seconds.
    ///
    /// # Errors
    /// [`MissingTool`] where Java or Maven is missing.
    pub(crate) fn start_kafka(dir: &Path, advertised: Option<u16>) -> Result<Self> {
        let port = two_free_ports();
        let advertised = advertised.unwrap_or(port);
        let kafka = Self { port, advertised, dir: dir.to_owned() };
        kafka.run_script("start")?;
        Ok(kafka)
    }

    /// As it is configured for clients.
    pub(crate) fn broker_address(&self) -> String {
        format!("127.0.0.1:{}", self.advertised)
    }

    /// SIGKILL: no goodbye, no clean end of its log.
    pub(crate) fn kill(&self) {
        self.send_signal(Signal::SIGKILL);
        // Else its port would still be taken when it is started again.
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

    /// SIGSTOP: connections stay, nothing is answered.
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
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => Ok(()),
            Some(EXIT_MISSING) => bail!(MissingTool(said)),
            _ => bail!("{} {verb}: {said}", script.display()),
        }
    }

    fn send_signal(&self, signal: Signal) {
        // One that is gone already needs no signal.
        let _ = kill(self.pid(), signal);
    }

    fn pid(&self) -> Pid {
        let text = fs::read_to_string(self.dir.join("pid")).expect("scripts/kafka wrote it");
        Pid::from_raw(text.trim().parse().expect("a process id"))
    }

    /// Killed, and its end not yet asked for by the process above it.
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

/// The script takes a port and the one after it.
fn two_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("a bound socket").port();
        if port.checked_add(1).is_some_and(|next| TcpListener::bind(("127.0.0.1", next)).is_ok()) {
            return port;
        }
    }
}
