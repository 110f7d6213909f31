//! `microclimate doctor`: what would keep it from running here, and what to do.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use eventlog::EventLogKind;
use gateway::settings::MqttMode;
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};
use service::disk::DiskSpace;

use crate::{cli::CommonArgs, settings::AppSettings};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Free room under which a warning is due, bytes.
const FREE_BYTES_WARN: u64 = 2 << 30;
/// 2026-01-01, before which no clock that is set can be.
const CLOCK_EARLIEST_S: u64 = 1_767_225_600;
/// DuckDB's magic number is at this offset of its files.
const DUCKDB_MAGIC: (u64, &[u8; 4]) = (8, b"DUCK");

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckOutcome {
    Good,
    Warning,
    Failure,
}

/// One check: what was looked at, what was found and what to do.
#[derive(Debug)]
struct DoctorFinding {
    subject: &'static str,
    outcome: CheckOutcome,
    detail: String,
    hint: Option<String>,
}

impl DoctorFinding {
    fn good(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { subject, outcome: CheckOutcome::Good, detail: detail.into(), hint: None }
    }

    fn bad(
        subject: &'static str,
        outcome: CheckOutcome,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { subject, outcome, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// An error whose text ends with a line `hint: …`.
    fn error(subject: &'static str, error: &dyn fmt::Display) -> Self {
        let text = error.to_string();
        match text.split_once("\nhint: ") {
            Some((what, hint)) => Self::bad(subject, CheckOutcome::Failure, what, hint),
            None => Self { subject, outcome: CheckOutcome::Failure, detail: text, hint: None },
        }
    }
}

impl fmt::Display for DoctorFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.outcome {
            CheckOutcome::Good => "ok  ",
            CheckOutcome::Warning => "warn",
            CheckOutcome::Failure => "FAIL",
        };
        write!(f, "{mark}  {:<13} {}", self.subject, self.detail)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n      hint: {hint}"))
    }
}

/// Checks everything and prints it. Whether nothing failed.
pub(crate) fn run_checks(common: &CommonArgs) -> bool {
    let findings = examine(common);
    for finding in &findings {
        println!("{finding}");
    }
    let count = |outcome| findings.iter().filter(|own| own.outcome == outcome).count();
    let (failures, warnings) = (count(CheckOutcome::Failure), count(CheckOutcome::Warning));
    println!("\n{} checks, {warnings} warnings, {failures} failures", findings.len());
    failures == 0
}

fn examine(common: &CommonArgs) -> Vec<DoctorFinding> {
    let mut findings = vec![version(), clock(SystemTime::now())];
    let loaded = AppSettings::load(&common.data_dir, &[], common.config.as_deref(), &common.set);
    findings.push(data_folder(&common.data_dir));
    findings.push(disk(&common.data_dir));
    match loaded {
        Err(error) => findings.push(DoctorFinding::error("configuration", &error)),
        Ok(settings) => {
            let from =
                common.config.as_deref().map_or("the defaults".into(), Path::to_string_lossy);
            findings.push(DoctorFinding::good("configuration", format!("{from}, no error")));
            findings.push(log_lock(&settings.gateway.log.dir));
            findings.push(duckdb_file(&settings.feature_store.store.path));
            findings.push(port("page and REST", "rest.listen", &settings.rest.listen));
            let mqtt = &settings.gateway.mqtt;
            if mqtt.mode == MqttMode::Listener {
                findings.push(port("MQTT", "gateway.mqtt.listen", &mqtt.listen));
            } else {
                let address = format!("{}:{}", mqtt.host, mqtt.port);
                findings.push(broker("MQTT broker", &address, "gateway.mqtt.host"));
            }
            if settings.gateway.log.kind == EventLogKind::Kafka {
                for address in settings.gateway.log.kafka.brokers.split(',') {
                    findings.push(broker("Kafka", address.trim(), "log.kafka.brokers"));
                }
            }
        }
    }
    findings
}

fn version() -> DoctorFinding {
    let duckdb = duckdb_library::DUCKDB_VERSION;
    let origin = duckdb_library::DUCKDB_ORIGIN;
    let own = env!("CARGO_PKG_VERSION");
    DoctorFinding::good("version", format!("microclimate {own}, DuckDB {duckdb} ({origin})"))
}

fn clock(now: SystemTime) -> DoctorFinding {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let shown = jiff::Timestamp::from_second(seconds as i64).unwrap_or_default();
    if seconds < CLOCK_EARLIEST_S {
        return DoctorFinding::bad(
            "clock",
            CheckOutcome::Failure,
            format!("{shown} is in the past: readings would be stamped wrongly"),
            "set the clock, and let it be kept: systemctl enable --now systemd-timesyncd",
        );
    }
    // systemd's own sign that a time server has answered since the start.
    let keeps_time = Path::new("/run/systemd/timesync").is_dir();
    if keeps_time && !Path::new("/run/systemd/timesync/synchronized").exists() {
        return DoctorFinding::bad(
            "clock",
            CheckOutcome::Warning,
            format!("{shown}, not compared with a time server since the start"),
            "timedatectl timesync-status says why",
        );
    }
    DoctorFinding::good("clock", shown.to_string())
}

/// The folder, or the one in which it will be made.
fn existing(folder: &Path) -> Option<&Path> {
    folder
        .ancestors()
        .map(|own| if own.as_os_str().is_empty() { Path::new(".") } else { own })
        .find(|own| own.exists())
}

fn data_folder(folder: &Path) -> DoctorFinding {
    const SUBJECT: &str = "data folder";
    let shown = folder.display();
    let Some(place) = existing(folder) else {
        return DoctorFinding::bad(
            SUBJECT,
            CheckOutcome::Failure,
            format!("{shown}: no such disk"),
            "--data-dir",
        );
    };
    let probe = place.join(format!(".microclimate-doctor-{}", std::process::id()));
    let wrote = File::create_new(&probe).and_then(|mut file| {
        file.write_all(b"probe")?;
        file.sync_all()
    });
    drop(fs::remove_file(&probe));
    match wrote {
        Ok(()) if place == folder => {
            DoctorFinding::good(SUBJECT, format!("{shown} can be written"))
        }
        Ok(()) => DoctorFinding::good(SUBJECT, format!("{shown} will be made at the first start")),
        Err(error) => DoctorFinding::bad(
            SUBJECT,
            CheckOutcome::Failure,
            format!("{shown} cannot be written: {error}"),
            "run it as the folder's owner, or choose another with --data-dir",
        ),
    }
}

fn disk(folder: &Path) -> DoctorFinding {
    const SUBJECT: &str = "disk";
    let space = existing(folder).ok_or(None).and_then(|own| DiskSpace::at_path(own).map_err(Some));
    match space {
        Ok(DiskSpace { free_bytes, total_bytes }) => {
            let detail = format!(
                "{:.1} GB free of {:.1} GB",
                free_bytes as f64 / 1e9,
                total_bytes as f64 / 1e9
            );
            if free_bytes < FREE_BYTES_WARN {
                let hint = "nothing is acknowledged once log.free_bytes_min is reached: make room";
                DoctorFinding::bad(SUBJECT, CheckOutcome::Warning, detail, hint)
            } else {
                DoctorFinding::good(SUBJECT, detail)
            }
        }
        Err(error) => {
            let why = error.map_or_else(|| "no such disk".to_owned(), |error| error.to_string());
            DoctorFinding::bad(SUBJECT, CheckOutcome::Failure, why, "--data-dir")
        }
    }
}

fn log_lock(folder: &Path) -> DoctorFinding {
    const SUBJECT: &str = "log";
    let shown = folder.display();
    let Ok(file) = File::open(folder.join("lock")) else {
        return DoctorFinding::good(SUBJECT, format!("{shown} is not in use"));
    };
    match file.try_lock() {
        Ok(()) => DoctorFinding::good(SUBJECT, format!("{shown} is not in use")),
        Err(TryLockError::WouldBlock) => DoctorFinding::bad(
            SUBJECT,
            CheckOutcome::Warning,
            format!("{shown} is in use: Microclimate is running"),
            "end it before a second one is started on this folder",
        ),
        Err(TryLockError::Error(error)) => DoctorFinding::bad(
            SUBJECT,
            CheckOutcome::Failure,
            format!("{shown}: the file system has no locks: {error}"),
            "choose a local disk with --data-dir",
        ),
    }
}

fn duckdb_file(path: &Path) -> DoctorFinding {
    const SUBJECT: &str = "database";
    let shown = path.display();
    let Ok(mut file) = File::options().read(true).write(true).open(path) else {
        let what = if path.exists() {
            return DoctorFinding::bad(
                SUBJECT,
                CheckOutcome::Failure,
                format!("{shown} cannot be written"),
                "run it as the file's owner",
            );
        } else {
            "will be made at the first start"
        };
        return DoctorFinding::good(SUBJECT, format!("{shown} {what}"));
    };
    if let Some(process) = lock_holder(&file) {
        return DoctorFinding::bad(
            SUBJECT,
            CheckOutcome::Warning,
            format!("{shown} is in use by process {process}"),
            "end it before a second one is started on this file",
        );
    }
    let (offset, magic) = DUCKDB_MAGIC;
    let mut found = [0; 4];
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut found));
    if read.is_err() || &found != magic {
        return DoctorFinding::bad(
            SUBJECT,
            CheckOutcome::Failure,
            format!("{shown} is no DuckDB file"),
            "restore it from a backup, or move it away: what the log still has is computed again",
        );
    }
    DoctorFinding::good(SUBJECT, format!("{shown} is a DuckDB file, not in use"))
}

/// The process that has a lock on a file which another would need, as DuckDB takes it.
fn lock_holder(file: &File) -> Option<i32> {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    (lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid)
}

fn port(subject: &'static str, key: &str, address: &SocketAddr) -> DoctorFinding {
    match TcpListener::bind(address) {
        Ok(_) => DoctorFinding::good(subject, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let who = if is_microclimate(address) { "Microclimate" } else { "another program" };
            DoctorFinding::bad(
                subject,
                CheckOutcome::Warning,
                format!("{address} is in use by {who}"),
                format!(
                    "`ss -ltnp 'sport = :{}'` names it; another port: --set {key}={}:0",
                    address.port(),
                    address.ip()
                ),
            )
        }
        Err(error) => DoctorFinding::bad(
            subject,
            CheckOutcome::Failure,
            format!("{address}: {error}"),
            format!("set {key} to an address of this machine"),
        ),
    }
}

/// Whether what listens there answers as Microclimate's health page does.
fn is_microclimate(address: &SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let request = format!("GET /healthz HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().is_ok_and(|answer| answer.contains(" 200 ") && answer.ends_with("ok"))
}

fn broker(subject: &'static str, address: &str, key: &str) -> DoctorFinding {
    let connected = address.to_socket_addrs().and_then(|mut found| {
        let address =
            found.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
        TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
    });
    match connected {
        Ok(_) => DoctorFinding::good(subject, format!("{address} takes connections")),
        Err(error) => DoctorFinding::bad(
            subject,
            CheckOutcome::Failure,
            format!("{address}: {error}"),
            format!("is it running, and is {key} right? Until it answers, nothing comes in"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(folder: &Path, set: &[&str]) -> CommonArgs {
        let set = set.iter().map(|own| (*own).to_owned()).collect();
        CommonArgs { data_dir: folder.to_owned(), config: None, set }
    }

    fn outcome(findings: &[DoctorFinding], subject: &str) -> CheckOutcome {
        findings.iter().find(|own| own.subject == subject).unwrap().outcome
    }

    #[test]
    fn an_empty_folder_has_nothing_against_it() {
        let folder = tempfile::tempdir().unwrap();
        let own =
            common(folder.path(), &["rest.listen=127.0.0.1:0", "gateway.mqtt.listen=127.0.0.1:0"]);
        let findings = examine(&own);
        assert!(findings.iter().all(|own| own.outcome != CheckOutcome::Failure), "{findings:?}");
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let rest = format!("rest.listen={}", taken.local_addr().unwrap());
        fs::write(folder.path().join("microclimate.duckdb"), "no database").unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        let lock = File::create(folder.path().join("log/lock")).unwrap();
        lock.lock().unwrap();
        let own =
            common(folder.path(), &[&rest, "gateway.mqtt.mode=bridge", "gateway.mqtt.port=1"]);
        let findings = examine(&own);
        assert_eq!(outcome(&findings, "page and REST"), CheckOutcome::Warning);
        assert_eq!(outcome(&findings, "database"), CheckOutcome::Failure);
        assert_eq!(outcome(&findings, "log"), CheckOutcome::Warning);
        assert_eq!(outcome(&findings, "MQTT broker"), CheckOutcome::Failure);
        assert!(findings.iter().all(|own| own.outcome == CheckOutcome::Good || own.hint.is_some()));
    }

    #[test]
    fn a_mistake_in_the_configuration_is_shown_with_its_hint() {
        let folder = tempfile::tempdir().unwrap();
        let findings = examine(&common(folder.path(), &["rest.port=1"]));
        assert_eq!(outcome(&findings, "configuration"), CheckOutcome::Failure);
    }

    #[test]
    fn a_clock_that_was_never_set_is_found() {
        assert_eq!(clock(UNIX_EPOCH).outcome, CheckOutcome::Failure);
    }
}
