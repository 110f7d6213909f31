//! `kill -9` at any point, and start again: the same state as without.

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
    history::{self, Dice, Plan},
    support::{Broker, Running, program},
};

/// How often each log's feature store is killed, unless the environment says.
const CRASHES: usize = 12;
const CRASHES_KEY: &str = "MICROCLIMATE_CRASHES";
/// Longest time for anything to happen.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn killed_anywhere_over_the_embedded_log_it_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let settings = eventlog::Settings::embedded(&dir.path().join("log"));
    fill(&settings);
    let set = vec![format!("log.dir={}", settings.dir.display())];
    println!("{}", Bench { dir: dir.path(), set, log: "embedded" }.run());
}

#[test]
fn killed_anywhere_over_kafka_it_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kafka) = Broker::start("kafka", &["java", "mvn"], dir.path()) else { return };
    let brokers = format!("127.0.0.1:{}", kafka.port);
    fill(&eventlog::Settings::kafka(&brokers));
    let set = vec!["log.kind=kafka".to_owned(), format!("log.kafka.brokers={brokers}")];
    println!("{}", Bench { dir: dir.path(), set, log: "Kafka" }.run());
}

fn fill(settings: &eventlog::Settings) {
    let records = history::records(&Plan { zones: 6, days: 2, seed: 7 });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        history::append(&EventLog::open(settings).unwrap(), &records).await;
    });
}

/// One log, read by one feature store after the other.
struct Bench<'a> {
    dir: &'a Path,
    set: Vec<String>,
    log: &'static str,
}

/// Where a program was when it was killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Start,
    Commit,
    Between,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    log: &'static str,
    at: Vec<At>,
    rounds: usize,
    took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |at: At| self.at.iter().filter(|own| **own == at).count();
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | 0 | {:.0} s |",
            self.log,
            self.at.len(),
            count(At::Start),
            count(At::Commit),
            count(At::Between),
            self.rounds,
            self.took.as_secs_f64()
        )
    }
}

/// When to kill.
#[derive(Clone, Copy)]
enum Aim {
    /// So long after the start.
    Time(Duration),
    /// So long after that many commits.
    Commits(u64, Duration),
}

impl Bench<'_> {
    fn run(&self) -> Outcome {
        let crashes = std::env::var(CRASHES_KEY).map_or(CRASHES, |n| n.parse().unwrap());
        let start = Instant::now();
        let whole = self.dir.join("whole.duckdb");
        assert!(self.start(&whole).live(None).is_none(), "it is left alone");
        history::check_consistent(&whole);
        let expect = history::state(&whole);
        let mut dice = Dice(20_250_602);
        let mut outcome = Outcome { log: self.log, ..Outcome::default() };
        while outcome.at.len() < crashes {
            let path = self.dir.join(format!("round-{}.duckdb", outcome.rounds));
            loop {
                let left = crashes - outcome.at.len();
                let aim = (left > 0).then(|| aim(&mut dice));
                let Some(at) = self.start(&path).live(aim) else { break };
                outcome.at.push(at);
                println!("{}: kill {} {at:?}", self.log, outcome.at.len());
                // Not always: to look replays the write-ahead log, which the
                // next start is to do.
                if dice.below(2) == 0 && path.exists() && at != At::Start {
                    history::check_consistent(&path);
                }
            }
            outcome.rounds += 1;
            history::check_consistent(&path);
            let state = history::state(&path);
            for (key, value) in &expect {
                assert_eq!(state.get(key), Some(value), "{key:?}");
            }
            assert_eq!(state.len(), expect.len());
            std::fs::remove_file(path).unwrap();
        }
        outcome.took = start.elapsed();
        outcome
    }

    fn start(&self, path: &Path) -> Program {
        let mut command = Command::new(program("feature-store"));
        command.arg("run").current_dir(self.dir).env("RUST_LOG", "warn,feature_store=debug");
        let own = [
            format!("store.path={}", path.display()),
            "rest.listen=127.0.0.1:0".to_owned(),
            "commit.interval_ms=5".to_owned(),
            "commit.readings_max=2000".to_owned(),
            "engine.late_max_s=7200".to_owned(),
        ];
        command.args(self.set.iter().chain(&own).flat_map(|set| ["--set", set]));
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
        Program { path: path.to_owned(), running: Running(child), lines }
    }
}

fn aim(dice: &mut Dice) -> Aim {
    if dice.below(2) == 0 {
        Aim::Time(Duration::from_micros(dice.below(900_000)))
    } else {
        Aim::Commits(1 + dice.below(12), Duration::from_micros(dice.below(30_000)))
    }
}

/// A feature store that tells what it does.
struct Program {
    path: PathBuf,
    running: Running,
    lines: Receiver<String>,
}

impl Program {
    /// Lives until it is killed, and tells where that was; or until it has
    /// taken in the whole log and ended in peace.
    fn live(mut self, aim: Option<Aim>) -> Option<At> {
        let (mut at, mut commits, mut said) = (At::Start, 0, String::new());
        let start = Instant::now();
        let mut end = match aim {
            Some(Aim::Time(after)) => Some(start + after),
            _ => None,
        };
        loop {
            let patience = end.unwrap_or(start + PATIENCE);
            match self.lines.recv_timeout(patience.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains("caught up") => break,
                Ok(line) => {
                    if line.contains(" committing ") {
                        at = At::Commit;
                    } else if line.contains(" committed ") {
                        (at, commits) = (At::Between, commits + 1);
                        if let Some(Aim::Commits(wanted, after)) = aim
                            && commits == wanted
                        {
                            end = Some(Instant::now() + after);
                        }
                    }
                    said = line;
                }
                Err(RecvTimeoutError::Timeout) if end.is_some() => {
                    self.running.kill();
                    return Some(at);
                }
                Err(error) => panic!("{}: {error}; last: {said}", self.path.display()),
            }
        }
        let status = self.running.terminate();
        assert!(status.success(), "{status}, last: {said}");
        None
    }
}
