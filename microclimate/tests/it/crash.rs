//! Kills a feature store with `kill -9` at any point and starts it again: the state is the same as
//! without the kills.

use std::{
    fmt,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use eventlog::EventLog;

use crate::{
    history::{self, HistoryPlan, HistoryRng},
    support::{ChildProcess, ScriptedBroker, program_path},
};

/// Number of kills for each log, unless the environment sets another.
const CRASH_COUNT: usize = 12;
const CRASH_COUNT_VARIABLE: &str = "MICROCLIMATE_CRASHES";
/// Longest time for a store to report anything.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

#[test]
fn killed_anywhere_over_the_embedded_log_it_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let settings = eventlog::EventLogConfig::for_embedded(&dir.path().join("log"));
    fill_log(&settings);
    let set = vec![format!("log.dir={}", settings.dir.display())];
    println!("{}", CrashTest { dir: dir.path(), set, log: "embedded" }.run_crashes());
}

#[test]
fn killed_anywhere_over_kafka_it_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kafka) = ScriptedBroker::start("kafka", &["java", "mvn"], dir.path()) else { return };
    let brokers = format!("127.0.0.1:{}", kafka.port);
    fill_log(&eventlog::EventLogConfig::for_kafka(&brokers));
    let set = vec!["log.kind=kafka".to_owned(), format!("log.kafka.brokers={brokers}")];
    println!("{}", CrashTest { dir: dir.path(), set, log: "Kafka" }.run_crashes());
}

fn fill_log(settings: &eventlog::EventLogConfig) {
    let records = history::generate_records(&HistoryPlan { zones: 6, days: 2, seed: 7 });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        history::append_records(&EventLog::open(settings).unwrap(), &records).await;
    });
}

/// One log, which several feature stores read one after the other.
struct CrashTest<'a> {
    dir: &'a Path,
    set: Vec<String>,
    log: &'static str,
}

/// Point at which a program was killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CrashPoint {
    Start,
    Commit,
    BetweenCommits,
}

/// Result of a test.
#[derive(Default)]
struct CrashStatistics {
    log: &'static str,
    at: Vec<CrashPoint>,
    rounds: usize,
    took: Duration,
}

impl fmt::Display for CrashStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |at: CrashPoint| self.at.iter().filter(|point| **point == at).count();
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | 0 | {:.0} s |",
            self.log,
            self.at.len(),
            count(CrashPoint::Start),
            count(CrashPoint::Commit),
            count(CrashPoint::BetweenCommits),
            self.rounds,
            self.took.as_secs_f64()
        )
    }
}

/// Time at which to kill.
#[derive(Clone, Copy)]
enum KillTime {
    /// Time after the start.
    AfterStart(Duration),
    /// Time after a number of commits.
    AfterCommits(u64, Duration),
}

impl CrashTest<'_> {
    fn run_crashes(&self) -> CrashStatistics {
        let crashes =
            std::env::var(CRASH_COUNT_VARIABLE).map_or(CRASH_COUNT, |n| n.parse().unwrap());
        let start = Instant::now();
        let whole = self.dir.join("whole.duckdb");
        assert!(self.start_store(&whole).run_until_killed(None).is_none(), "it is left alone");
        history::check_consistent(&whole);
        let expect = history::read_store_state(&whole);
        let mut rng = HistoryRng(20_250_602);
        let mut outcome = CrashStatistics { log: self.log, ..CrashStatistics::default() };
        while outcome.at.len() < crashes {
            let path = self.dir.join(format!("round-{}.duckdb", outcome.rounds));
            loop {
                let left = crashes - outcome.at.len();
                let aim = (left > 0).then(|| choose_kill_time(&mut rng));
                let Some(at) = self.start_store(&path).run_until_killed(aim) else { break };
                outcome.at.push(at);
                println!("{}: kill {} {at:?}", self.log, outcome.at.len());
                // Only sometimes: reading the file replays the write-ahead log, which the next
                // start should do.
                if rng.next_below(2) == 0 && path.exists() && at != CrashPoint::Start {
                    history::check_consistent(&path);
                }
            }
            outcome.rounds += 1;
            history::check_consistent(&path);
            let state = history::read_store_state(&path);
            for (key, value) in &expect {
                assert_eq!(state.get(key), Some(value), "{key:?}");
            }
            assert_eq!(state.len(), expect.len());
            std::fs::remove_file(path).unwrap();
        }
        outcome.took = start.elapsed();
        outcome
    }

    fn start_store(&self, path: &Path) -> StoreProcess {
        let mut command = Command::new(program_path("feature-store"));
        command.arg("run").current_dir(self.dir).env("RUST_LOG", "warn,feature_store=debug");
        let store_settings = [
            format!("store.path={}", path.display()),
            "rest.listen=127.0.0.1:0".to_owned(),
            "commit.interval_ms=5".to_owned(),
            "commit.readings_max=2000".to_owned(),
            "engine.late_max_s=7200".to_owned(),
        ];
        command.args(self.set.iter().chain(&store_settings).flat_map(|set| ["--set", set]));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        StoreProcess { path: path.to_owned(), running: ChildProcess(child), lines }
    }
}

fn choose_kill_time(rng: &mut HistoryRng) -> KillTime {
    if rng.next_below(2) == 0 {
        KillTime::AfterStart(Duration::from_micros(rng.next_below(900_000)))
    } else {
        KillTime::AfterCommits(
            1 + rng.next_below(12),
            Duration::from_micros(rng.next_below(30_000)),
        )
    }
}

/// Feature store whose log is watched.
struct StoreProcess {
    path: PathBuf,
    running: ChildProcess,
    lines: Receiver<String>,
}

impl StoreProcess {
    /// Runs until the store is killed, and returns the point at which that happened. Returns `None`
    /// if the store has ingested the whole log and ended normally.
    fn run_until_killed(mut self, aim: Option<KillTime>) -> Option<CrashPoint> {
        let (mut at, mut commits, mut last_line) = (CrashPoint::Start, 0, String::new());
        let start = Instant::now();
        let mut end = match aim {
            Some(KillTime::AfterStart(after)) => Some(start + after),
            _ => None,
        };
        loop {
            let patience = end.unwrap_or(start + TEST_TIMEOUT);
            match self.lines.recv_timeout(patience.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains("caught up") => break,
                Ok(line) => {
                    if line.contains(" committing ") {
                        at = CrashPoint::Commit;
                    } else if line.contains(" committed ") {
                        (at, commits) = (CrashPoint::BetweenCommits, commits + 1);
                        if let Some(KillTime::AfterCommits(wanted, after)) = aim
                            && commits == wanted
                        {
                            end = Some(Instant::now() + after);
                        }
                    }
                    last_line = line;
                }
                Err(RecvTimeoutError::Timeout) if end.is_some() => {
                    self.running.kill();
                    return Some(at);
                }
                Err(error) => panic!("{}: {error}; last: {last_line}", self.path.display()),
            }
        }
        let status = self.running.terminate();
        assert!(status.success(), "{status}, last: {last_line}");
        None
    }
}
