use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use duckdb::Connection;
use eventlog::EventLog;
use microclimate_feature_store::FeatureStoreSettings;
use tempfile::TempDir;

use super::{
    NEW_DEFINITIONS, OLD_DEFINITIONS, generate_reports,
    support::{append, readings, run},
    version_settings,
};

/// Number of kills, unless the environment sets it.
const CRASHES: u32 = 12;
/// Longest wait for any event.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Phase in which the program was killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum KillPoint {
    Start,
    Backfill,
    Switched,
}

/// Runs `feature-store run` until it is killed, a given time after its start or after the
/// recomputation of rows began, or until it has caught up with the log and ended normally.
fn run_until_killed(
    settings: &FeatureStoreSettings,
    kill: Option<(bool, Duration)>,
) -> Option<KillPoint> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_feature-store"))
        .arg("run")
        .env("RUST_LOG", "info")
        .args(["--set", &format!("store.path={}", settings.store.path.display())])
        .args(["--set", &format!("log.dir={}", settings.log.dir.display())])
        .args(["--set", &format!("engine.features={}", settings.engine.features.display())])
        .args(["--set", "rest.listen=127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let start = Instant::now();
    let mut end = kill.filter(|(in_backfill, _)| !in_backfill).map(|(_, after)| start + after);
    let (mut at, mut last_line) = (KillPoint::Start, String::new());
    loop {
        let patience = end.unwrap_or(start + TEST_TIMEOUT);
        match lines.recv_timeout(patience.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("caught up with the log") => break,
            Ok(line) => {
                if line.contains("definitions have changed") {
                    at = KillPoint::Backfill;
                    end = end.or(kill.map(|(_, after)| Instant::now() + after));
                } else if line.contains("switched") {
                    at = KillPoint::Switched;
                }
                last_line = line;
            }
            Err(RecvTimeoutError::Timeout) if end.is_some() => {
                child.kill().unwrap();
                child.wait().unwrap();
                return Some(at);
            }
            Err(error) => {
                let _ = child.kill();
                panic!("{error}, last: {last_line}");
            }
        }
    }
    let ended = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(ended.success() && child.wait().unwrap().success(), "last: {last_line}");
    None
}

/// Reads everything that a switch changes, so that any difference shows.
fn read_state(path: &Path) -> Vec<(String, u64, String)> {
    let file = Connection::open(path).unwrap();
    let mut tables = file
        .prepare(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables()
             WHERE schema_name = 'features' OR schema_name || '.' || table_name IN
                   ('silver.data', 'meta.zones', 'meta.counters', 'meta.positions', 'meta.schemas')
             ORDER BY 1",
        )
        .unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut state: Vec<(String, u64, String)> = tables
        .map(|table| {
            let table = table.unwrap();
            // The number of transactions does not matter.
            let of = match table.as_str() {
                "meta.counters" => "meta.counters WHERE name <> 'commits'",
                table => table,
            };
            let sql = format!("SELECT count(*), sum(hash(t)::HUGEINT)::VARCHAR FROM (FROM {of}) t");
            let (count, sum) = file
                .query_row(&sql, [], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))
                .unwrap();
            (table, count, sum.unwrap_or_default())
        })
        .collect();
    // The creation time does not matter.
    let versions = "SELECT count(*), string_agg(version || hash || active, ' ' ORDER BY version)
                    FROM meta.definitions";
    let (count, versions) =
        file.query_row(versions, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    state.push(("meta.definitions".to_owned(), count, versions));
    state
}

/// Checks that the rows are either the old or the new ones.
fn check_old_or_new(path: &Path, whole: &BTreeSet<(i32, u64)>) {
    let file = Connection::open(path).unwrap();
    let sql =
        "SELECT version, (SELECT count(*) FROM features.rows) FROM meta.definitions WHERE active";
    let found: (i32, u64) = file.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert!(whole.contains(&found), "{found:?} is not one of {whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_a_switch_ends_the_same() {
    let crashes = std::env::var("MICROCLIMATE_CRASHES").map_or(CRASHES, |n| n.parse().unwrap());
    let dir = TempDir::new().unwrap();
    let old = version_settings(dir.path(), "old.duckdb", OLD_DEFINITIONS);
    let log = EventLog::open(&old.log).unwrap();
    // Eleven days, so that rows are written in several transactions.
    let reports = generate_reports(48_000);
    append(&log, &reports).await;
    drop(run(&old, &log, readings(&reports)).await);
    drop(log);
    let at_first = |name: &str| {
        let settings = version_settings(dir.path(), name, NEW_DEFINITIONS);
        std::fs::copy(&old.store.path, &settings.store.path).unwrap();
        settings
    };
    let whole = at_first("whole.duckdb");
    let started = Instant::now();
    assert_eq!(run_until_killed(&whole, None), None);
    let took = started.elapsed();
    let expect = read_state(&whole.store.path);
    let rows = |table: &str| expect.iter().find(|entry| entry.0 == table).unwrap().1;
    let wholes = BTreeSet::from([(1, rows("features.rows_v1")), (2, rows("features.rows"))]);
    assert!(rows("features.rows") > 20_000, "{expect:?}");

    let mut at = Vec::new();
    let (mut round, mut attempt) = (0, 0);
    while at.len() < crashes as usize {
        let settings = at_first(&format!("round-{round}.duckdb"));
        // One to three kills on the same file, each after another share of the time, whether or
        // not the previous kill came too late.
        for _ in 0..=round % 3 {
            let share = (attempt * 37 + 11) % 100;
            let kill = Some((attempt % 4 != 0, took * share / 100));
            attempt += 1;
            match run_until_killed(&settings, kill) {
                Some(found) => at.push(found),
                None => break,
            }
            // Not always, as opening the file replays the write-ahead log, which the next start
            // should do.
            if at.len() % 2 == 0 && settings.store.path.exists() {
                check_old_or_new(&settings.store.path, &wholes);
            }
        }
        assert_eq!(run_until_killed(&settings, None), None);
        assert_eq!(read_state(&settings.store.path), expect, "round {round}");
        std::fs::remove_file(&settings.store.path).unwrap();
        round += 1;
        assert!(round < 10 * crashes, "it is never killed: {at:?}");
    }
    let count = |point: KillPoint| at.iter().filter(|reached| **reached == point).count();
    let (start, backfill, switched) =
        (count(KillPoint::Start), count(KillPoint::Backfill), count(KillPoint::Switched));
    println!(
        "{} kills: {start} before, {backfill} while rows were recomputed, {switched} after",
        at.len()
    );
    assert!(backfill > 0);
}
