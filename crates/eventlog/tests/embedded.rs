//! The embedded log over real files: order, limits, damage, retention.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    task::Poll,
    time::Duration,
};

use microclimate_eventlog::{
    EventLog, EventLogConfig, FaultInjector, LogError, PartitionOffsets, Record, RetentionConfig,
    TopicReader, TopicRetention,
};

const TOPIC: &str = "sensor.readings";
const SOON: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

fn offset(n: usize) -> i64 {
    i64::try_from(n).unwrap()
}

fn record(n: usize) -> Record {
    let mut record =
        Record::new(format!("farm/bay-{}", n % 3), format!("reading {n}"), 1_000 + offset(n));
    record.headers.push(("n".to_owned(), n.to_string().into_bytes()));
    record
}

/// Appends records `from..to` and waits for all of them.
async fn append(log: &EventLog, from: usize, to: usize) {
    let writer = log.open_writer(TOPIC).unwrap();
    let mut receipts = Vec::new();
    for n in from..to {
        receipts.push((n, writer.append(record(n)).await.unwrap()));
    }
    for (n, receipt) in receipts {
        assert_eq!(receipt.await.unwrap(), (0, offset(n)));
    }
}

async fn read(reader: &mut TopicReader, count: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let batch = reader.next_batch(7, SOON).await.unwrap();
        assert!(!batch.is_empty(), "{} of {count} came", numbers.len());
        for entry in batch {
            let n = usize::try_from(entry.offset).unwrap();
            assert_eq!(entry.record, record(n));
            numbers.push(n);
        }
    }
    numbers
}

async fn check(log: &EventLog, from: Option<i64>, expect: std::ops::Range<usize>) {
    let from: PartitionOffsets = from.map(|offset| (0, offset)).into_iter().collect();
    let mut reader = log.open_reader(TOPIC, &from).unwrap();
    assert_eq!(read(&mut reader, expect.len()).await, expect.collect::<Vec<_>>());
    assert!(reader.next_batch(1, NOW).await.unwrap().is_empty());
}

fn small_segments(dir: &Path) -> EventLogConfig {
    let record_bytes_max = 512;
    EventLogConfig {
        segment_bytes_max: 1024,
        record_bytes_max,
        ..EventLogConfig::for_embedded(dir)
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join(TOPIC)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_from_any_position_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    for settings in [
        EventLogConfig::for_embedded(&dir.path().join("one")),
        small_segments(&dir.path().join("many")),
    ] {
        let log = EventLog::open(&settings).unwrap();
        append(&log, 0, 100).await;
        check(&log, None, 0..100).await;
        drop(log);
        let log = EventLog::open(&settings).unwrap();
        append(&log, 100, 150).await;
        for from in [0, 1, 42, 100, 149, 150] {
            check(&log, Some(from), usize::try_from(from).unwrap()..150).await;
        }
        assert_eq!(log.offset_bounds(TOPIC).unwrap()[&0], 0..150);
    }
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_and_a_dropped_wait_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(&EventLogConfig::for_embedded(dir.path())).unwrap();
    let mut reader = log.open_reader(TOPIC, &PartitionOffsets::new()).unwrap();
    assert!(reader.next_batch(1, NOW).await.unwrap().is_empty());
    let (batch, ()) = tokio::join!(reader.next_batch(10, SOON), append(&log, 0, 1));
    assert_eq!(batch.unwrap().len(), 1);
    append(&log, 1, 20).await;
    // The call is polled once, which starts the read, and then dropped. A read that was quick
    // enough has returned its records instead.
    let polled = futures_util::poll!(std::pin::pin!(reader.next_batch(5, SOON)));
    let returned = match polled {
        Poll::Ready(batch) => batch.unwrap().len(),
        Poll::Pending => 0,
    };
    assert_eq!(read(&mut reader, 19 - returned).await, (1 + returned..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_is_durable_nor_readable_before_the_sync_nor_after_a_failed_one() {
    let dir = tempfile::tempdir().unwrap();
    let faults = FaultInjector::default();
    let log = EventLog::open_with_faults(&EventLogConfig::for_embedded(dir.path()), faults.clone())
        .unwrap();
    append(&log, 0, 1).await;
    faults.hold_syncs();
    let writer = log.open_writer(TOPIC).unwrap();
    let mut receipt = Box::pin(writer.append(record(1)).await.unwrap());
    check(&log, None, 0..1).await;
    assert!(futures_util::poll!(&mut receipt).is_pending());
    faults.release_syncs();
    assert_eq!(receipt.await.unwrap(), (0, 1));
    faults.fail_syncs();
    let receipt = writer.append(record(2)).await.unwrap();
    assert!(matches!(receipt.await, Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.append(record(3)).await, Err(LogError::Poisoned { .. })));
    check(&log, None, 0..2).await;
}

#[tokio::test]
async fn a_full_queue_makes_the_writer_wait() {
    let dir = tempfile::tempdir().unwrap();
    let faults = FaultInjector::default();
    let settings = EventLogConfig {
        record_bytes_max: 1000,
        queue_bytes_max: 1000,
        ..EventLogConfig::for_embedded(dir.path())
    };
    let log = EventLog::open_with_faults(&settings, faults.clone()).unwrap();
    faults.hold_syncs();
    let writer = log.open_writer(TOPIC).unwrap();
    let first = writer.append(Record::new("k", vec![0; 999], 0)).await.unwrap();
    let mut second = Box::pin(writer.append(Record::new("k", "x", 0)));
    assert!(futures_util::poll!(&mut second).is_pending());
    faults.release_syncs();
    assert_eq!(second.await.unwrap().await.unwrap(), (0, 1));
    assert_eq!(first.await.unwrap(), (0, 0));
    let too_large = writer.append(Record::new("k", vec![0; 1000], 0)).await;
    assert!(matches!(too_large, Err(LogError::TooLarge { found_bytes: 1001, .. })));
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    for cut_bytes in [1, 20, 50] {
        let settings = EventLogConfig::for_embedded(&dir.path().join(cut_bytes.to_string()));
        let log = EventLog::open(&settings).unwrap();
        append(&log, 0, 10).await;
        drop(log);
        let path = segments(&settings.dir).pop().unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - cut_bytes).unwrap();
        let log = EventLog::open(&settings).unwrap();
        check(&log, None, 0..9).await;
        append(&log, 9, 12).await;
        check(&log, None, 0..12).await;
    }
}

/// Flips a bit of the payload `reading <n>`. Returns its position.
fn damage(path: &Path, n: usize) -> u64 {
    let bytes = fs::read(path).unwrap();
    let text = format!("reading {n}");
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[at] ^ 4], at as u64).unwrap();
    at as u64
}

#[tokio::test]
async fn a_flipped_bit_that_was_durable_is_refused_with_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EventLogConfig::for_embedded(dir.path());
    let log = EventLog::open(&settings).unwrap();
    append(&log, 0, 5).await;
    append(&log, 5, 10).await;
    drop(log);
    let path = segments(dir.path()).pop().unwrap();
    let at = damage(&path, 3);
    let error = EventLog::open(&settings).unwrap().open_writer(TOPIC).unwrap_err();
    let LogError::Corrupt { path: found, position, .. } = &error else { panic!("{error}") };
    assert_eq!(found, &path);
    assert!((at - 60..at).contains(position), "{error}");
}

#[tokio::test]
async fn a_flipped_bit_in_an_old_segment_stops_the_reader_there() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small_segments(dir.path());
    let log = EventLog::open(&settings).unwrap();
    for n in 0..50 {
        append(&log, n, n + 1).await;
    }
    damage(&segments(dir.path())[0], 4);
    let mut reader = log.open_reader(TOPIC, &PartitionOffsets::new()).unwrap();
    assert_eq!(read(&mut reader, 4).await, [0, 1, 2, 3]);
    for _ in 0..2 {
        assert!(matches!(reader.next_batch(9, NOW).await, Err(LogError::Corrupt { .. })));
    }
}

/// A retention of a topic that is large and young, or small and old.
fn retention(age_days: f64, bytes_max: u64) -> RetentionConfig {
    RetentionConfig { age_days, bytes_max, ..RetentionConfig::default() }
}

/// Returns the oldest offset after retention.
fn first_left(log: &EventLog) -> i64 {
    log.apply_retention().unwrap();
    log.offset_bounds(TOPIC).unwrap()[&0].start
}

#[tokio::test]
async fn retention_by_bytes_keeps_what_readers_and_consumers_need() {
    let dir = tempfile::tempdir().unwrap();
    let bytes_max = 4096;
    let settings =
        EventLogConfig { retention: retention(7.0, bytes_max), ..small_segments(dir.path()) };
    let log = EventLog::open(&settings).unwrap();
    let mut slow = log.open_reader(TOPIC, &PartitionOffsets::new()).unwrap();
    log.commit_offsets(TOPIC, "feature-store", &PartitionOffsets::new()).unwrap();
    for n in 0..100 {
        append(&log, n, n + 1).await;
    }
    assert_eq!(first_left(&log), 0, "an open reader and a consumer need all of it");
    let storage = &log.topic_storage().unwrap()[TOPIC];
    assert!(storage.is_held_back && storage.bytes > bytes_max, "{storage:?}");
    read(&mut slow, 100).await;
    assert_eq!(first_left(&log), 0, "a consumer needs all of it");
    log.commit_offsets(TOPIC, "feature-store", &PartitionOffsets::from([(0, 40)])).unwrap();
    let first = first_left(&log);
    assert!((1..=40).contains(&first), "{first}");
    log.commit_offsets(TOPIC, "feature-store", &PartitionOffsets::from([(0, 100)])).unwrap();
    let first = first_left(&log);
    let storage = &log.topic_storage().unwrap()[TOPIC];
    assert!(first > 40 && storage.bytes <= bytes_max && !storage.is_held_back, "{storage:?}");
    assert_eq!(storage.removed_records, u64::try_from(first).unwrap());
    check(&log, None, usize::try_from(first).unwrap()..100).await;
    let refused = log.open_reader(TOPIC, &PartitionOffsets::from([(0, 0)])).unwrap_err();
    assert!(matches!(refused, LogError::OutOfRange { offset: 0, .. }), "{refused}");
    let beyond = log.open_reader(TOPIC, &PartitionOffsets::from([(0, 101)])).unwrap_err();
    assert!(matches!(beyond, LogError::OutOfRange { offset: 101, .. }), "{beyond}");
}

#[tokio::test]
async fn what_a_consumer_needs_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EventLogConfig { retention: retention(7.0, 4096), ..small_segments(dir.path()) };
    let log = EventLog::open(&settings).unwrap();
    append(&log, 0, 1).await;
    log.commit_offsets(TOPIC, "feature-store", &PartitionOffsets::from([(0, 1)])).unwrap();
    drop(log);
    let log = EventLog::open(&settings).unwrap();
    for n in 1..100 {
        append(&log, n, n + 1).await;
    }
    assert!(first_left(&log) <= 1);
    assert_eq!(log.topic_storage().unwrap()[TOPIC].committed["feature-store"], 1);
}

#[tokio::test]
async fn a_topic_that_nobody_reads_keeps_to_its_retention_as_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let bytes_max = 4096;
    let settings =
        EventLogConfig { retention: retention(7.0, bytes_max), ..small_segments(dir.path()) };
    let log = EventLog::open(&settings).unwrap();
    for n in 0..1_000 {
        append(&log, n, n + 1).await;
        // Whole segments are removed, so there may be one more.
        let bytes = log.topic_storage().unwrap()[TOPIC].bytes;
        assert!(bytes <= bytes_max + settings.segment_bytes_max + 512, "{bytes} after {n}");
    }
    let first = log.offset_bounds(TOPIC).unwrap()[&0].start;
    check(&log, None, usize::try_from(first).unwrap()..1_000).await;
}

#[tokio::test]
async fn retention_by_age_lets_go_of_what_is_old_in_topics_that_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings =
        EventLogConfig { retention: retention(30.0, 1 << 30), ..small_segments(dir.path()) };
    let log = EventLog::open(&settings).unwrap();
    for n in 0..50 {
        append(&log, n, n + 1).await;
    }
    drop(log);
    let days_ago = |days: u64| std::time::SystemTime::now() - Duration::from_hours(24 * days);
    let files = segments(dir.path());
    for path in &files[..files.len() / 2] {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(days_ago(8)).unwrap();
    }
    let log = EventLog::open(&settings).unwrap();
    let writer = log.open_writer(TOPIC).unwrap();
    assert_eq!(first_left(&log), 0);
    drop((log, writer));
    let week = TopicRetention { age_days: 7.0, bytes_max: 1 << 30 };
    settings.retention.topics.insert(TOPIC.to_owned(), week);
    let log = EventLog::open(&settings).unwrap();
    let _opened = log.open_writer(TOPIC).unwrap();
    let first = first_left(&log);
    assert_eq!(segments(dir.path()).len(), files.len() - files.len() / 2);
    check(&log, None, usize::try_from(first).unwrap()..50).await;
}

#[tokio::test]
async fn a_file_that_is_gone_ends_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(&EventLogConfig::for_embedded(dir.path())).unwrap();
    append(&log, 0, 10).await;
    fs::rename(dir.path().join(TOPIC), dir.path().join("elsewhere")).unwrap();
    let receipt = log.open_writer(TOPIC).unwrap().append(record(10)).await.unwrap();
    let LogError::Poisoned { cause, .. } = receipt.await.unwrap_err() else { panic!() };
    assert!(matches!(*cause, LogError::Vanished { .. }), "{cause}");
}

#[test]
fn a_folder_is_waited_for_while_its_user_ends_and_refused_while_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small_segments(dir.path());
    let first = EventLog::open(&settings).unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(first);
    });
    let second = EventLog::open(&settings).unwrap();
    ending.join().unwrap();
    assert!(matches!(EventLog::open(&settings), Err(LogError::Locked { .. })));
    drop(second);
    EventLog::open(&settings).unwrap();
}

#[tokio::test]
async fn names_and_folders_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(&EventLogConfig::for_embedded(dir.path())).unwrap();
    for topic in ["", ".", "..", "a/b", "ä", &"x".repeat(201)] {
        assert!(
            matches!(log.open_writer(topic), Err(LogError::InvalidTopicName { .. })),
            "{topic}"
        );
    }
    let second = EventLog::open(&EventLogConfig::for_embedded(dir.path())).unwrap_err();
    assert!(second.to_string().contains("another process uses this log"), "{second}");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let check = |settings: EventLogConfig, expect: &str| {
        let text = EventLog::open(&settings).unwrap_err().to_string();
        assert!(text.starts_with(expect), "{text}");
    };
    check(
        EventLogConfig { record_bytes_max: 0, ..EventLogConfig::default() },
        "log.record_bytes_max = 0: expected 1 to",
    );
    check(
        EventLogConfig { queue_bytes_max: 9, ..EventLogConfig::default() },
        "log.queue_bytes_max = 9: expected 1048576 (one record)",
    );
    check(
        EventLogConfig { segment_bytes_max: 9, ..EventLogConfig::default() },
        "log.segment_bytes_max = 9: expected at least",
    );
    check(
        EventLogConfig { retention: retention(0.0, 1 << 30), ..EventLogConfig::default() },
        "log.retention.age_days = 0: expected a number of days over 0",
    );
    check(
        EventLogConfig { retention: retention(1.0, 1000), ..EventLogConfig::default() },
        "log.retention.bytes_max = 1000: expected at least four records",
    );
}
