//! The gateway as a separate process, restarted whenever it ends, as a service manager would.

use std::{
    fs::{self, OpenOptions},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use eventlog::fault_injection::KILL_AT;
use microclimate_gateway::ledger::LedgerSnapshot;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::sleep;

use super::TEST_TIMEOUT;

/// Time between an end and the next start, like systemd's RestartSec.
const RESTART_AFTER: Duration = Duration::from_millis(200);

/// Whether the gateway under test has a spool for when Kafka is away.
pub(crate) static HAS_SPOOL: LazyLock<bool> = LazyLock::new(|| {
    let defaults = Command::new(env!("CARGO_BIN_EXE_gateway")).arg("defaults").output();
    defaults.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("[log.spool]"))
});

/// A supervised gateway.
#[derive(Debug)]
pub(crate) struct GatewayProcess {
    pub(crate) mqtt: u16,
    rest: u16,
    args: Vec<String>,
    log_path: PathBuf,
    shared: Arc<ProcessState>,
    supervisor: Option<JoinHandle<Result<ExitStatus>>>,
}

#[derive(Debug, Default)]
struct ProcessState {
    /// The process id; 0 while none runs.
    pid: AtomicI32,
    /// Number of times that it ended, intended or not.
    ends: AtomicU64,
    is_stopping: AtomicBool,
    peak_rss_bytes: AtomicU64,
}

impl GatewayProcess {
    /// Starts the gateway with `dir`/gateway.toml, if that exists, overridden by the given
    /// settings (`key=value`). `kill_at` is the point where the first run ends itself: `point:n`.
    pub(crate) fn start_gateway(dir: &Path, set: &[String], kill_at: Option<&str>) -> Result<Self> {
        let (mqtt, rest) = (free_port()?, free_port()?);
        let defaults =
            [format!("mqtt.listen=127.0.0.1:{mqtt}"), format!("rest.listen=127.0.0.1:{rest}")];
        let mut args = vec!["run".to_owned()];
        let config = dir.join("gateway.toml");
        if config.exists() {
            args.extend(["--config".to_owned(), config.display().to_string()]);
        }
        for setting in defaults.iter().chain(set) {
            args.extend(["--set".to_owned(), setting.clone()]);
        }
        if *HAS_SPOOL {
            args.push("--set".to_owned());
            args.push(format!("log.spool.dir={}", dir.join("spool").display()));
        }
        let (log_path, shared) = (dir.join("gateway.log"), Arc::default());
        let mut gateway = Self { mqtt, rest, args, log_path, shared, supervisor: None };
        gateway.supervise(kill_at.map(str::to_owned));
        Ok(gateway)
    }

    /// Starts it again after [`GatewayProcess::stop_gateway`], on the same ports.
    pub(crate) fn start_again(&mut self) {
        self.shared.is_stopping.store(false, Ordering::SeqCst);
        self.supervise(None);
    }

    fn supervise(&mut self, mut kill_at: Option<String>) {
        let Self { args, log_path, shared, .. } = self;
        let (args, log_path, shared) = (args.clone(), log_path.clone(), shared.clone());
        self.supervisor = Some(thread::spawn(move || {
            loop {
                let log = OpenOptions::new().create(true).append(true).open(&log_path)?;
                let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
                command.args(&args).stdout(log.try_clone()?).stderr(log);
                // To print where a connection's task panicked, it would read its whole program
                // into memory.
                command.env_remove("RUST_BACKTRACE");
                if let Some(place) = kill_at.take() {
                    command.env(KILL_AT, place);
                }
                let mut child = command.spawn()?;
                shared.pid.store(child.id().cast_signed(), Ordering::SeqCst);
                let status = child.wait()?;
                shared.pid.store(0, Ordering::SeqCst);
                shared.ends.fetch_add(1, Ordering::SeqCst);
                if !shared.is_stopping.load(Ordering::SeqCst) {
                    thread::sleep(RESTART_AFTER);
                }
                if shared.is_stopping.load(Ordering::SeqCst) {
                    return Ok(status);
                }
            }
        }));
    }

    /// Waits until it accepts messages.
    pub(crate) async fn wait_until_ready(&self) -> Result<()> {
        let url = self.rest_url("readyz");
        self.wait_until("ready", async || {
            reqwest::get(&url).await.is_ok_and(|r| r.status().is_success())
        })
        .await
    }

    /// Waits until it has ended `times` times.
    pub(crate) async fn wait_until_ended(&self, times: u64) -> Result<()> {
        self.wait_until(&format!("ended {times} times"), async || self.end_count() >= times).await
    }

    pub(crate) async fn wait_until(&self, what: &str, is_so: impl AsyncFn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_so().await {
            ensure!(
                began.elapsed() < TEST_TIMEOUT,
                "the gateway is not {what}:\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(crate) fn end_count(&self) -> u64 {
        self.shared.ends.load(Ordering::SeqCst)
    }

    /// Returns a JSON response; an error if the gateway refuses.
    pub(crate) async fn get_json(&self, path: &str) -> Result<serde_json::Value> {
        let answer = reqwest::get(self.rest_url(path.trim_start_matches('/'))).await?;
        let text = answer.error_for_status()?.text().await?;
        serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
    }

    pub(crate) async fn get_ledger(&self) -> Result<LedgerSnapshot> {
        let text = reqwest::get(self.rest_url("ledger")).await?.text().await?;
        serde_json::from_str(&text).with_context(|| format!("/ledger: {text}"))
    }

    /// Returns the number of records in the spool that wait for Kafka, or the largest possible
    /// number if it is unknown.
    pub(crate) async fn spooled_count(&self) -> u64 {
        let text = async || reqwest::get(self.rest_url("metrics")).await?.text().await;
        let Ok(text) = text().await else { return u64::MAX };
        let lines = text.lines();
        let records = lines.filter(|line| line.starts_with("microclimate_gateway_spool_records{"));
        records.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// Sends a signal to the running process, if there is one.
    pub(crate) fn send_signal(&self, signal: Signal) {
        self.note_peak();
        let pid = self.pid();
        if pid != 0 {
            // It may end at this very moment.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.shared.pid.load(Ordering::SeqCst)
    }

    /// Returns the largest resident set of any of its processes, as far as it was measured
    /// (before a signal of this bench, and at the end).
    pub(crate) fn peak_rss_bytes(&self) -> u64 {
        self.note_peak();
        self.shared.peak_rss_bytes.load(Ordering::SeqCst)
    }

    /// Reads VmHWM of proc(5).
    fn note_peak(&self) {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        self.shared.peak_rss_bytes.fetch_max(kib.unwrap_or_default() * 1024, Ordering::SeqCst);
    }

    /// Sends SIGTERM and waits for the orderly end.
    pub(crate) async fn stop_gateway(&mut self) -> Result<()> {
        self.wait_until_ready().await?;
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        let ends = self.end_count();
        self.send_signal(Signal::SIGTERM);
        self.wait_until_ended(ends + 1).await?;
        let supervisor = self.supervisor.take().context("stopped twice")?;
        let status = supervisor.join().expect("the supervisor does not panic")?;
        ensure!(status.success(), "SIGTERM: the gateway ended with {status}:\n{}", self.log_tail());
        Ok(())
    }

    /// Returns the whole log text.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(&self.log_path).unwrap_or_default()
    }

    /// Returns the end of the log text.
    pub(crate) fn log_tail(&self) -> String {
        let log_text = self.log_text();
        let lines: Vec<&str> = log_text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn rest_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.rest)
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        self.send_signal(Signal::SIGKILL);
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
