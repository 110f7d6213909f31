//! Runs over librdkafka's own mock of a cluster in this process, and over a real cluster if
//! `MICROCLIMATE_KAFKA=host:port` names one.

use std::time::Duration;

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use crate::{EventLog, EventLogConfig, LogError, PartitionOffsets, Record};

const SOON: Duration = Duration::from_secs(30);

fn mock(topic: &str, partitions: i32) -> (MockCluster<'static, DefaultProducerContext>, EventLog) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(topic, partitions, 1).unwrap();
    let log = EventLog::open(&EventLogConfig::for_kafka(&cluster.bootstrap_servers())).unwrap();
    (cluster, log)
}

/// Appends `count` records over a few keys. Then each key's records must be there in order, in
/// one partition, at the offsets that the receipts state.
async fn round_trip(log: &EventLog, topic: &str, count: usize) {
    let writer = log.open_writer(topic).unwrap();
    let mut receipts = Vec::new();
    for n in 0..count {
        let mut record =
            Record::new(format!("farm/bay-{}", n % 5), n.to_string(), 1_700_000_000_000);
        record.headers.push(("reason".to_owned(), b"none".to_vec()));
        receipts.push(writer.append(record).await.unwrap());
    }
    let mut written = Vec::new();
    for (n, receipt) in receipts.into_iter().enumerate() {
        written.push((receipt.await.unwrap(), n));
    }
    let first = log.offset_bounds(topic).unwrap();
    let mut reader = log.open_reader(topic, &PartitionOffsets::new()).unwrap();
    let mut read = Vec::new();
    while read.len() < count {
        for entry in reader.next_batch(100, SOON).await.unwrap() {
            assert_eq!(entry.record.header_value("reason"), Some(&b"none"[..]));
            assert_eq!(entry.record.timestamp_ms, 1_700_000_000_000);
            let n: usize = std::str::from_utf8(&entry.record.payload).unwrap().parse().unwrap();
            read.push(((entry.partition, entry.offset), n));
        }
    }
    for key in 0..5 {
        let of_key = |all: &[((i32, i64), usize)]| -> Vec<_> {
            all.iter().filter(|(_, n)| n % 5 == key).copied().collect()
        };
        assert_eq!(of_key(&read), of_key(&written));
    }
    let ends: PartitionOffsets =
        first.iter().map(|(partition, range)| (*partition, range.end)).collect();
    let mut reader = log.open_reader(topic, &ends).unwrap();
    assert!(reader.next_batch(1, Duration::ZERO).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_appended_is_read_per_key_in_order() {
    let (_cluster, log) = mock("sensor.readings", 3);
    round_trip(&log, "sensor.readings", 2_000).await;
    let from = PartitionOffsets::from([(0, 1_000_000)]);
    let error = log.open_reader("sensor.readings", &from).unwrap_err();
    assert!(matches!(error, LogError::OutOfRange { partition: 0, .. }), "{error}");
}

#[tokio::test]
async fn a_full_queue_waits_and_keeps_order() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("full", 1, 1).unwrap();
    let mut settings = EventLogConfig::for_kafka(&cluster.bootstrap_servers());
    (settings.record_bytes_max, settings.queue_bytes_max) = (1024, 1024);
    let log = EventLog::open(&settings).unwrap();
    round_trip(&log, "full", 500).await;
}

#[tokio::test]
async fn no_record_is_lost_while_the_broker_is_away() {
    let (cluster, log) = mock("away", 1);
    let writer = log.open_writer("away").unwrap();
    writer.append(Record::new("k", "0", 1)).await.unwrap().await.unwrap();
    cluster.broker_down(1).unwrap();
    let mut waiting = Box::pin(writer.append(Record::new("k", "1", 1)).await.unwrap());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    cluster.broker_up(1).unwrap();
    assert_eq!(waiting.await.unwrap(), (0, 1));
}

#[test]
fn brokers_that_do_not_answer_are_named() {
    let mut settings = EventLogConfig::for_kafka("127.0.0.1:1");
    settings.kafka.connect_timeout_ms = 200;
    let error = EventLog::open(&settings).unwrap().open_writer("t").unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1 does not answer") && error.contains("hint: "), "{error}");
}

#[tokio::test]
async fn over_a_real_kafka() {
    let Ok(brokers) = std::env::var("MICROCLIMATE_KAFKA") else {
        eprintln!("skipped: MICROCLIMATE_KAFKA=host:port names no running Kafka");
        return;
    };
    let log = EventLog::open(&EventLogConfig::for_kafka(&brokers)).unwrap();
    let topic = format!("eventlog-test-{}", std::process::id());
    round_trip(&log, &topic, 20_000).await;
}
