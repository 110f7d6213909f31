//! The embedded log on a real, small file system that is full, and then has room again. Needs the
//! right to mount one (root). Elsewhere the test reports that it was skipped.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use microclimate_eventlog::{EventLog, EventLogConfig, PartitionOffsets, Record};

const TOPIC: &str = "sensor.readings";
const AGES: Duration = Duration::from_mins(1);

/// A file system of its own, unmounted at the end.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(dir: &'a Path, megabytes: u64) -> Option<Self> {
        let options = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options.as_str(), "tmpfs"]).arg(dir);
        mount.output().is_ok_and(|ran| ran.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_acknowledgements_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path(), 8) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let settings = EventLogConfig {
        segment_bytes_max: 1 << 20,
        queue_bytes_max: 1 << 20,
        ..EventLogConfig::for_embedded(&dir.path().join("log"))
    };
    let log = EventLog::open(&settings).unwrap();
    let writer = log.open_writer(TOPIC).unwrap();
    let other = dir.path().join("other");
    fs::write(&other, vec![1; 3 << 20]).unwrap();
    // More records than there is room for.
    let appending = tokio::spawn(async move {
        let mut receipts = Vec::new();
        for n in 0..1_000 {
            let payload = vec![u8::try_from(n % 251).unwrap(); 10_000];
            receipts.push(writer.append(Record::new("zone", payload, n)).await.unwrap());
        }
        for (n, receipt) in receipts.into_iter().enumerate() {
            assert_eq!(receipt.await.unwrap(), (0, i64::try_from(n).unwrap()));
        }
    });
    let until = async |what: &str, is_so: &dyn Fn() -> bool| {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < AGES, "{what}: {:?}", log.topic_storage());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until("full", &|| log.is_disk_full()).await;
    let durable = log.topic_storage().unwrap()[TOPIC].next_offset;
    assert!(durable > 0 && !appending.is_finished());
    // The stored records can be read meanwhile.
    let mut reader = log.open_reader(TOPIC, &PartitionOffsets::new()).unwrap();
    assert!(!reader.next_batch(10, AGES).await.unwrap().is_empty());
    // Others have some room left, a twentieth of the disk.
    let rest = dir.path().join("rest");
    fs::write(&rest, vec![1; 300 << 10]).unwrap();
    fs::remove_file(rest).unwrap();
    // A little room becomes free and is used up; then there is enough.
    fs::write(&other, vec![1; 2 << 20]).unwrap();
    until("a little room", &|| log.topic_storage().unwrap()[TOPIC].next_offset > durable).await;
    until("full again", &|| log.is_disk_full()).await;
    fs::remove_file(other).unwrap();
    let storage = log.topic_storage().unwrap()[TOPIC].clone();
    assert!(storage.next_offset < 1_000);
    // Retention makes room too, because nobody needs the oldest records.
    drop(reader);
    log.commit_offsets(TOPIC, "feature-store", &PartitionOffsets::from([(0, storage.next_offset)]))
        .unwrap();
    remount(dir.path(), 32);
    tokio::time::timeout(AGES, appending).await.unwrap().unwrap();
    assert!(!log.is_disk_full());
    drop(log);
    let log = EventLog::open(&settings).unwrap();
    assert_eq!(log.offset_bounds(TOPIC).unwrap()[&0], 0..1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_disk_can_be_closed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path(), 4) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let settings = EventLogConfig::for_embedded(&dir.path().join("log"));
    let log = EventLog::open(&settings).unwrap();
    let writer = log.open_writer(TOPIC).unwrap();
    let mut receipts = Vec::new();
    for n in 0..600 {
        receipts.push(writer.append(Record::new("zone", vec![1; 10_000], n)).await.unwrap());
    }
    let durable = receipts.remove(0).await.unwrap();
    assert_eq!(durable, (0, 0));
    while !log.is_disk_full() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((log, writer));
    let (mut acknowledged, mut refused) = (1, 0);
    for receipt in receipts {
        match receipt.await {
            Ok(_) => acknowledged += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
    let log = EventLog::open(&settings).unwrap();
    assert_eq!(log.offset_bounds(TOPIC).unwrap()[&0], 0..acknowledged);
}

fn remount(dir: &Path, megabytes: u64) {
    let options = format!("remount,size={megabytes}m");
    let ran = Command::new("mount").args(["-o", options.as_str()]).arg(dir).status().unwrap();
    assert!(ran.success());
}
