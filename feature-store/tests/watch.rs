//! A watched folder over a real embedded log, with the real program.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use duckdb::{AccessMode, Config, Connection};
use tempfile::TempDir;

/// The program, killed when it goes out of scope.
struct Program(Child);

impl Program {
    fn start(dir: &Path) -> Self {
        let set = |key: &str, value: &str| format!("--set={key}={value}");
        let path = |name: &str| dir.join(name).display().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_feature-store"))
            .args(["run", "--watch", &path("in")])
            .arg(set("store.path", &path("microclimate.duckdb")))
            .arg(set("log.dir", &path("log")))
            .arg(set("rest.listen", "127.0.0.1:0"))
            .arg(set("watch.settle_s", "0"))
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(dir.join("said")).unwrap())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end, and waits.
    fn stop(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn count(dir: &Path, sql: &str) -> u64 {
    let config = Config::default().access_mode(AccessMode::ReadOnly).unwrap();
    let path = dir.join("microclimate.duckdb");
    let connection = Connection::open_with_flags(path, config).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the program says that it took a file in.
fn until_taken(dir: &Path, file: &str) {
    until(file, || {
        let said = std::fs::read_to_string(dir.join("said")).unwrap_or_default();
        said.lines().any(|line| line.contains("file taken in") && line.contains(file))
    });
}

fn csv(zone: &str, readings: i64) -> String {
    let mut text = "time,zone,device,temperature,humidity\n".to_owned();
    for i in 0..readings {
        text += &format!("{},{zone},d,{},{}\n", 1_700_000_000 + i * 60, 20 + i % 5, 50 + i % 7);
    }
    text
}

#[test]
fn each_file_once_whatever_is_killed_or_repeated() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let folder = dir.join("in");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.csv"), csv("farm/bay-1", 500)).unwrap();
    std::fs::write(
        folder.join("b.jsonl"),
        r#"{"zone":"farm/bay-2","device":"d","metric":"co2","ts":1700000000000,"value":400}
not json
{"zone":"farm/bay-2","device":"d","arrival_ms":1700000060000,"readings":[{"metric":"co2","ts":1700000060000,"value":410}]}
"#,
    )
    .unwrap();
    std::fs::write(folder.join(".hidden.csv"), csv("farm/hidden", 9)).unwrap();
    let listed = folder.join("rejects/b.jsonl.csv");
    // Killed as soon as one of them was read: it may be committed by then, or not.
    let program = Program::start(dir);
    until("rejects", || listed.exists());
    program.kill();
    let rest = Program::start(dir);
    std::fs::write(folder.join("c.csv"), "nonsense\n1\n").unwrap();
    until_taken(dir, "c.csv");
    rest.stop();
    assert_eq!(count(dir, "SELECT count(*) FROM meta.watched"), 3);
    // Once more, and the same content under its name again: nothing is new.
    let again = Program::start(dir);
    std::fs::write(folder.join("a.csv"), csv("farm/bay-1", 500)).unwrap();
    std::fs::write(folder.join("d.csv"), csv("farm/bay-3", 3)).unwrap();
    until_taken(dir, "d.csv");
    again.stop();
    let rejects = std::fs::read_to_string(&listed).unwrap();
    assert!(rejects.contains("2,1,\"not json\""), "{rejects}");
    let of = |zone: &str| {
        count(dir, &format!("SELECT count(*) FROM silver.readings WHERE zone = '{zone}'"))
    };
    assert_eq!((of("bay-1"), of("bay-2"), of("bay-3"), of("hidden")), (1000, 2, 6, 0));
    let once = "SELECT count(DISTINCT (zone, metric, event)) FROM silver.readings";
    assert_eq!(count(dir, once), 1008);
    assert!(count(dir, "SELECT count(*) FROM features.rows WHERE zone = 'bay-1'") > 490);
}
