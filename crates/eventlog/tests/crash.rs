//! kill -9 of a writing process: every receipt that it saw is in the log.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use microclimate_eventlog::{EventLog, EventLogConfig, PartitionOffsets, Record};

const TOPIC: &str = "sensor.readings";
/// Set when this test binary runs as the process to be killed.
const CHILD: &str = "EVENTLOG_CRASH_TEST_DIR";

/// Appends without end. Prints each offset once it is durable.
#[tokio::test]
#[ignore = "the child of `every_receipt_seen_before_a_kill_is_in_the_log`, not a test"]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let writer = EventLog::open(&settings(Path::new(&dir))).unwrap().open_writer(TOPIC).unwrap();
    let (sender, mut receipts) = tokio::sync::mpsc::channel(256);
    tokio::spawn(async move {
        for n in 0_u64.. {
            let receipt = writer.append(Record::new("zone", n.to_string(), 0)).await.unwrap();
            sender.send((n, receipt)).await.unwrap();
        }
    });
    while let Some((n, receipt)) = receipts.recv().await {
        let (_, offset) = receipt.await.unwrap();
        // One write for each line, so that the kill comes between lines.
        std::io::stderr().write_all(format!("durable {offset} {n}\n").as_bytes()).unwrap();
    }
}

fn settings(dir: &Path) -> EventLogConfig {
    EventLogConfig { segment_bytes_max: 1 << 20, ..EventLogConfig::for_embedded(dir) }
}

#[tokio::test]
async fn every_receipt_seen_before_a_kill_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((offset, n)) = line.strip_prefix("durable ").and_then(|l| l.split_once(' ')) {
            seen.push((offset.parse::<i64>().unwrap(), n.to_owned()));
        }
        if seen.len() == 20_000 {
            child.kill().unwrap(); // SIGKILL; lines written after it are seen too
        }
    }
    child.wait().unwrap();
    assert!(seen.len() >= 20_000, "{}", seen.len());

    let log = EventLog::open(&settings(dir.path())).unwrap();
    let mut reader = log.open_reader(TOPIC, &PartitionOffsets::new()).unwrap();
    let mut logged = Vec::new();
    loop {
        let batch = reader.next_batch(10_000, Duration::ZERO).await.unwrap();
        if batch.is_empty() {
            break;
        }
        logged.extend(
            batch
                .into_iter()
                .map(|e| (e.offset, String::from_utf8(e.record.payload.to_vec()).unwrap())),
        );
    }
    assert_eq!(logged[..seen.len()], seen[..]);
}
