//! Runs over librdkafka's own mock of a cluster, which can be switched off.

use std::{path::Path, time::Duration};

use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use crate::{
    EventLog, EventLogConfig, FaultInjector, LogError, PartitionOffsets, Record, SpoolStatus,
    TopicWriter,
};

const TOPIC: &str = "sensor.readings";
const AGES: Duration = Duration::from_mins(1);

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 3, 1).unwrap();
    cluster
}

fn settings(cluster: &Cluster, dir: &Path) -> EventLogConfig {
    let mut settings = EventLogConfig::for_kafka(&cluster.bootstrap_servers());
    settings.kafka.connect_timeout_ms = 500;
    settings.spool.dir = dir.to_owned();
    // Long enough for a busy machine.
    settings.spool.after_ms = 1_000;
    settings
}

/// Appends the numbers, and waits until all are durable.
async fn append(writer: &TopicWriter, numbers: std::ops::Range<usize>) {
    let mut receipts = Vec::new();
    for n in numbers {
        let record = Record::new(format!("farm/bay-{}", n % 5), n.to_string(), 1_700_000_000_000);
        receipts.push(writer.append(record).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
}

async fn until(log: &EventLog, is_so: impl Fn(&SpoolStatus) -> bool) {
    let wait = async {
        while !is_so(&log.spool_statuses()[TOPIC]) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(AGES, wait).await;
    waited.unwrap_or_else(|_| panic!("{:?}", log.spool_statuses()));
}

/// Repeats `attempt` until it succeeds: the mock refuses connections at times, and a dropped log
/// releases its folder a moment later.
async fn patiently<T>(attempt: impl Fn() -> Result<T, LogError>) -> T {
    let give_up = tokio::time::Instant::now() + AGES;
    loop {
        match attempt() {
            Ok(found) => break found,
            Err(error) => assert!(tokio::time::Instant::now() < give_up, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Checks that Kafka has the numbers up to `count`, with the first copies of each key in order.
async fn check(log: &EventLog, count: usize) {
    let bounds = patiently(|| log.offset_bounds(TOPIC)).await;
    let records: i64 = bounds.values().map(|available| available.end - available.start).sum();
    let mut reader = patiently(|| log.open_reader(TOPIC, &PartitionOffsets::new())).await;
    let mut read = Vec::new();
    while read.len() < usize::try_from(records).unwrap() {
        for entry in reader.next_batch(1_000, AGES).await.unwrap() {
            let n: usize = std::str::from_utf8(&entry.record.payload).unwrap().parse().unwrap();
            read.push(n);
        }
    }
    for key in 0..5 {
        let mut seen = std::collections::HashSet::new();
        let first: Vec<_> = read.iter().filter(|n| *n % 5 == key && seen.insert(**n)).collect();
        let expect: Vec<_> = (0..count).filter(|n| n % 5 == key).collect();
        assert!(first.iter().copied().eq(&expect), "{key}: {first:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_durable_while_kafka_is_away_and_follow_in_order() {
    let (cluster, dir) = (cluster(), tempfile::tempdir().unwrap());
    let log = EventLog::open(&settings(&cluster, dir.path())).unwrap();
    let writer = log.open_writer(TOPIC).unwrap();
    // Until Kafka is reached, records go through the spool.
    append(&writer, 0..10).await;
    until(&log, |status| status.records == 0).await;
    append(&writer, 10..200).await;
    let before = log.spool_statuses()[TOPIC].clone();
    assert!(before.is_direct && before.spooled <= 10, "{before:?}");
    cluster.broker_down(1).unwrap();
    append(&writer, 200..400).await;
    let status = log.spool_statuses()[TOPIC].clone();
    assert!(!status.is_direct && status.records == 200 && status.bytes > 0, "{status:?}");
    assert_eq!((status.spooled, status.drained), (before.spooled + 200, before.drained));
    cluster.broker_up(1).unwrap();
    append(&writer, 400..600).await;
    until(&log, |status| status.records == 0).await;
    append(&writer, 600..700).await;
    assert!(log.spool_statuses()[TOPIC].is_direct);
    check(&log, 700).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_without_kafka_takes_records() {
    let (cluster, dir) = (cluster(), tempfile::tempdir().unwrap());
    cluster.broker_down(1).unwrap();
    let log = EventLog::open(&settings(&cluster, dir.path())).unwrap();
    append(&log.open_writer(TOPIC).unwrap(), 0..300).await;
    drop(log);
    // Records that one process spooled are sent first by the next.
    let log = EventLog::open(&settings(&cluster, dir.path())).unwrap();
    let writer = patiently(|| log.open_writer(TOPIC)).await;
    assert_eq!(log.spool_statuses()[TOPIC].records, 300);
    append(&writer, 300..400).await;
    cluster.broker_up(1).unwrap();
    until(&log, |status| status.records == 0).await;
    check(&log, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_waits_for_kafka() {
    let (cluster, dir) = (cluster(), tempfile::tempdir().unwrap());
    cluster.broker_down(1).unwrap();
    let mut settings = settings(&cluster, dir.path());
    (settings.record_bytes_max, settings.spool.bytes_max) = (1024, 4096);
    let log = EventLog::open(&settings).unwrap();
    let writer = log.open_writer(TOPIC).unwrap();
    let appending = tokio::spawn({
        let writer = writer.clone();
        async move { append(&writer, 0..500).await }
    });
    until(&log, |status| status.is_full).await;
    assert!(log.spool_statuses()[TOPIC].bytes <= 4096 && !appending.is_finished());
    cluster.broker_up(1).unwrap();
    tokio::time::timeout(AGES, appending).await.unwrap().unwrap();
    until(&log, |status| status.records == 0).await;
    check(&log, 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_durable_after_the_disk_has_failed() {
    let (cluster, dir) = (cluster(), tempfile::tempdir().unwrap());
    cluster.broker_down(1).unwrap();
    let faults = FaultInjector::default();
    let log = EventLog::open_with_faults(&settings(&cluster, dir.path()), faults.clone()).unwrap();
    let writer = log.open_writer(TOPIC).unwrap();
    append(&writer, 0..10).await;
    faults.fail_syncs();
    let receipt = writer.append(Record::new("k", "10", 1)).await.unwrap();
    assert!(matches!(receipt.await, Err(LogError::Poisoned { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_to_the_errors_of_brokers_fatal_ones_among_them() {
    use RDKafkaRespErr as Code;
    let errors = [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        // An idempotent producer gives up at these errors.
        Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        // No record is ever too large here, and still it is stored.
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
    ];
    for error in errors {
        let (cluster, dir) = (cluster(), tempfile::tempdir().unwrap());
        let log = EventLog::open(&settings(&cluster, dir.path())).unwrap();
        let writer = log.open_writer(TOPIC).unwrap();
        append(&writer, 0..10).await;
        until(&log, |status| status.records == 0).await;
        cluster.request_errors(RDKafkaApiKey::Produce, &[error; 3]);
        append(&writer, 10..200).await;
        until(&log, |status| status.records == 0).await;
        append(&writer, 200..210).await;
        until(&log, |status| status.records == 0).await;
        check(&log, 210).await;
    }
}
