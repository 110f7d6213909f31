//! A watched folder over a real embedded log, with the real program.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use duckdb::{AccessMode, Config, Connection};
use tempfile::TempDir;

/// The program, killed when this goes out of scope.
struct StoreProgram(Child);

impl StoreProgram {
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
            .stderr(File::options().create(true).append(true).open(dir.join("stderr.log")).unwrap())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    fn stop(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for StoreProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn query_count(dir: &Path, sql: &str) -> u64 {
    let config = Config::default().access_mode(AccessMode::ReadOnly).unwrap();
    let path = dir.join("microclimate.duckdb");
    let connection = Connection::open_with_flags(path, config).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the program reports that it has ingested a file.
fn wait_until_ingested(dir: &Path, file: &str) {
    wait_until(file, || {
        let log = std::fs::read_to_string(dir.join("stderr.log")).unwrap_or_default();
        log.lines().any(|line| line.contains("file ingested") && line.contains(file))
    });
}

fn csv_of_readings(zone: &str, readings: i64) -> String {
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
    std::fs::write(folder.join("a.csv"), csv_of_readings("farm/bay-1", 500)).unwrap();
    std::fs::write(
        folder.join("b.jsonl"),
        r#"{"zone":"farm/bay-2","device":"d","metric":"co2","ts":1700000000000,"value":400}
not json
{"zone":"farm/bay-2","device":"d","arrival_ms":1700000060000,"readings":[{"metric":"co2","ts":1700000060000,"value":410}]}
"#,
    )
    .unwrap();
    std::fs::write(folder.join(".hidden.csv"), csv_of_readings("farm/hidden", 9)).unwrap();
    let listed = folder.join("rejects/b.jsonl.csv");
    // Killed as soon as one of them was read, which may be committed by then or not.
    let program = StoreProgram::start(dir);
    wait_until("rejects", || listed.exists());
    program.kill();
    let rest = StoreProgram::start(dir);
    std::fs::write(folder.join("c.csv"), "nonsense\n1\n").unwrap();
    wait_until_ingested(dir, "c.csv");
    rest.stop();
    assert_eq!(query_count(dir, "SELECT count(*) FROM meta.watched"), 3);
    // The same file again, and the same content under its name: nothing is new.
    let again = StoreProgram::start(dir);
    std::fs::write(folder.join("a.csv"), csv_of_readings("farm/bay-1", 500)).unwrap();
    std::fs::write(folder.join("d.csv"), csv_of_readings("farm/bay-3", 3)).unwrap();
    wait_until_ingested(dir, "d.csv");
    again.stop();
    let rejects = std::fs::read_to_string(&listed).unwrap();
    assert!(rejects.contains("2,1,\"not json\""), "{rejects}");
    let of = |zone: &str| {
        query_count(dir, &format!("SELECT count(*) FROM silver.readings WHERE zone = '{zone}'"))
    };
    assert_eq!((of("bay-1"), of("bay-2"), of("bay-3"), of("hidden")), (1000, 2, 6, 0));
    let once = "SELECT count(DISTINCT (zone, metric, event)) FROM silver.readings";
    assert_eq!(query_count(dir, once), 1008);
    assert!(query_count(dir, "SELECT count(*) FROM features.rows WHERE zone = 'bay-1'") > 490);
}

/// Waits until the program has reported `times` times that it has ingested a file.
fn wait_until_ingested_times(dir: &Path, file: &str, times: usize) {
    wait_until(file, || {
        let log = std::fs::read_to_string(dir.join("stderr.log")).unwrap_or_default();
        let lines = log.lines().filter(|line| line.contains("file ingested"));
        lines.filter(|line| line.contains(file)).count() >= times
    });
}

/// Writes a file and renames it into the folder, so that it is not read half.
fn move_into_folder(dir: &Path, name: &str, text: &str) {
    let hidden = dir.join("in").join(format!(".{name}"));
    std::fs::write(&hidden, text).unwrap();
    std::fs::rename(hidden, dir.join("in").join(name)).unwrap();
}

#[test]
fn a_file_that_grows_gives_its_new_lines() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("in")).unwrap();
    let line = |i: i64| format!("{},farm/bay-1,d,{}\n", 1_700_000_000 + i * 60, 20 + i);
    let text = |lines: i64| {
        "time,zone,device,temperature\n".to_owned() + &(0..lines).map(line).collect::<String>()
    };
    let program = StoreProgram::start(dir);
    move_into_folder(dir, "log.csv", &text(2));
    wait_until_ingested_times(dir, "log.csv", 1);
    move_into_folder(dir, "log.csv", &(text(3) + "soon,farm/bay-1,d,1\n"));
    wait_until_ingested_times(dir, "log.csv", 2);
    program.stop();
    // The next process also knows which lines were ingested; the last line has no end yet.
    let program = StoreProgram::start(dir);
    let longer = text(3) + "soon,farm/bay-1,d,1\n" + &line(3) + line(4).trim_end();
    move_into_folder(dir, "log.csv", &longer);
    wait_until_ingested_times(dir, "log.csv", 3);
    move_into_folder(dir, "log.csv", &format!("{longer}\n{}", line(5)));
    wait_until_ingested_times(dir, "log.csv", 4);
    program.stop();
    let events = "SELECT count(DISTINCT event) FROM silver.readings";
    assert_eq!(query_count(dir, events), 6);
    assert_eq!(query_count(dir, "SELECT count(*) FROM silver.readings"), 6, "no line twice");
    assert_eq!(query_count(dir, "SELECT sum(readings)::UBIGINT FROM meta.watched"), 6);
    assert_eq!(query_count(dir, "SELECT sum(rejects)::UBIGINT FROM meta.watched"), 1);
    let listed = std::fs::read_to_string(dir.join("in/rejects/log.csv.csv")).unwrap();
    assert!(listed.contains("5,1,\"soon\""), "{listed}");
}

#[test]
fn what_is_counted_is_stored_and_the_rest_is_listed() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("in")).unwrap();
    let program = StoreProgram::start(dir);
    move_into_folder(
        dir,
        "a.jsonl",
        "{\"zone\":\"farm/a\",\"device\":\"d\",\"metric\":\"co2\",\"ts\":1700000000,\"value\":400}\n\
         {\"zone\":\"farm/a\",\"device\":\"d\",\"metric\":\"co2\",\"ts\":75,\"value\":400}\n\
         {\"zone\":\"farm/a\",\"device\":\"d\",\"metric\":\"c02\",\"ts\":1700000000,\"value\":400}\n",
    );
    move_into_folder(
        dir,
        "german.csv",
        "\u{feff}Zeit;Raum;Temperatur\r\n29.11.2023 13:00;farm/a;21,5\r\n",
    );
    move_into_folder(dir, "quoted.csv", "time,zone,temperature\n1700000000,farm/a,\"21,5\"\n");
    move_into_folder(dir, "semicolons.csv", "time;zone;temperature\n1700000000;farm/b;21,5\n");
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(&format!(
            "COPY (SELECT to_timestamp(1700000000 + i * 60) AS time, 'farm/bay' AS zone, 'p' AS device,
                          'temperature' AS metric, 20.0 + i AS value FROM range(3) t(i))
             TO '{}' (FORMAT parquet)",
            dir.join("in/a.parquet").display()
        ))
        .unwrap();
    for file in ["a.jsonl", "german.csv", "quoted.csv", "semicolons.csv", "a.parquet"] {
        wait_until_ingested(dir, file);
    }
    program.stop();
    let watched = |file: &str| {
        let of = |column: &str| {
            query_count(dir, &format!("SELECT {column} FROM meta.watched WHERE path = '{file}'"))
        };
        (of("readings"), of("rejects"))
    };
    assert_eq!(watched("a.jsonl"), (1, 2));
    assert_eq!(watched("german.csv"), (0, 1));
    assert_eq!(watched("quoted.csv"), (0, 1));
    assert_eq!(watched("semicolons.csv"), (1, 0));
    assert_eq!(watched("a.parquet"), (3, 0));
    let stored = |zone: &str| {
        query_count(dir, &format!("SELECT count(*) FROM silver.readings WHERE zone = '{zone}'"))
    };
    assert_eq!((stored("a"), stored("b"), stored("bay")), (1, 1, 3));
    assert_eq!(query_count(dir, "SELECT count(*) FROM silver.readings WHERE value = 21.5"), 1);
    let listed = |file: &str, part: &str| {
        let path = dir.join("in/rejects").join(format!("{file}.csv"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(part), "{text}");
    };
    listed("a.jsonl", "3,1,\"c02\",\"expected as its metric a metric of the table");
    listed("a.jsonl", "did you mean `co2`?");
    listed("german.csv", "1,1,\"the columns Zeit;Raum;Temperatur\"");
    listed("quoted.csv", "2,19,\"21,5\"");
}
