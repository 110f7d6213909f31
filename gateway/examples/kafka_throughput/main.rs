//! Measures QoS 1 messages of 256 B from devices to Apache Kafka on one machine: through
//! Mosquitto and the gateway as its client, or through the gateway's own listener. For comparison
//! it measures what the peers achieve alone.
//!
//! ```sh
//! cargo run -p microclimate-gateway --example kafka_throughput -- [SECONDS] [CONNECTIONS] [PART…]
//! ```
//!
//! Parts are `peers`, `listener` and `bridge`; by default all.
//!
//! Needs Mosquitto, Java and Maven. Every message is one reading. It is acknowledged by Mosquitto
//! or the gateway, and checked in Kafka at the end.
//!
//! # Layout
//! - `load`: the devices
//! - `node`: the gateway, as a separate process of this program
//! - `peers`: Mosquitto with a plain subscriber; Kafka with a plain producer
//! - `kafka`, `mosquitto`, `mqtt`, `skip`: shared with the fault bench

#[allow(dead_code)] // restarts are the fault bench's
#[path = "../../tests/faults/kafka.rs"]
mod kafka;
mod load;
#[allow(dead_code)]
#[path = "../../tests/faults/mosquitto.rs"]
mod mosquitto;
#[allow(dead_code)]
#[path = "../../tests/faults/mqtt.rs"]
mod mqtt;
mod node;
mod peers;
#[allow(dead_code)]
#[path = "../../tests/faults/skip.rs"]
mod skip;

use std::{
    collections::HashSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use eventlog::{EventLog, EventLogConfig, PartitionOffsets};
use kafka::KafkaProcess;
use load::LoadPlan;
use mosquitto::MosquittoProcess;
use node::MeasuredGateway;
use telemetry::{SensorReport, topic::READINGS};
use tokio::{runtime::Runtime, time::sleep};

/// Time-out that nothing correct reaches.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Rate at which latency is measured, messages per second in all.
const LIVE_PER_S: u64 = 5000;
/// Rate of live messages while the backlog is drained, messages per second in all.
const DRAINED_PER_S: u64 = 2000;
/// How long Kafka is away before that.
const AWAY: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == node::ROLE) {
        return node::run_gateway(&args[1..]);
    }
    let seconds: u64 = args.first().map_or(Ok(10), |text| text.parse())?;
    let connections: u64 = args.get(1).map_or(Ok(12), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let kafka = KafkaProcess::start_kafka(&dir.path().join("kafka"), None)?;
    let bench = ThroughputBench {
        log: EventLog::open(&EventLogConfig::for_kafka(&kafka.broker_address()))?,
        kafka,
        seconds,
    };
    let load = |site: &'static str, port, per_s| LoadPlan { port, site, connections, per_s };
    let runtime = Runtime::new()?;
    println!("| what | measured |\n|---|--:|");
    let parts: Vec<&str> = args.iter().skip(2).map(String::as_str).collect();
    let is_wanted = |part| parts.is_empty() || parts.contains(&part);
    runtime.block_on(async {
        if is_wanted("peers") {
            let produced = peers::measure_producer(&bench.kafka.broker_address(), seconds).await?;
            println!(
                "| peer: plain rdkafka producer, acks=all, idempotent | {produced:.0} msg/s |"
            );
            let broker = MosquittoProcess::start_mosquitto(&dir.path().join("mosquitto"), true)?;
            let relayed = peers::measure_relay(&load("peer", broker.port, None), seconds).await?;
            println!(
                "| peer: Mosquitto → plain subscriber, acknowledges at once | {relayed:.0} msg/s |"
            );
        }
        if is_wanted("listener") {
            let node = MeasuredGateway::start_gateway(
                &dir.path().join("listener"),
                &bench.kafka.broker_address(),
                None,
            )?;
            let port = node.mqtt;
            bench.measure_throughput("listener", &node, load("listener-max", port, None)).await?;
            bench
                .measure_latency("listener", &node, load("listener-live", port, Some(LIVE_PER_S)))
                .await?;
            bench
                .measure_drain("listener", load("listener-drain", port, Some(DRAINED_PER_S)))
                .await?;
            println!("| listener: largest resident set | {:.1} MB |", node.peak_rss_mb());
        }
        if is_wanted("bridge") {
            let broker = MosquittoProcess::start_mosquitto(&dir.path().join("mosquitto-2"), true)?;
            let (folder, port) = (dir.path().join("bridge"), broker.port);
            let node =
                MeasuredGateway::start_gateway(&folder, &bench.kafka.broker_address(), Some(port))?;
            bench.measure_throughput("bridge", &node, load("bridge-max", port, None)).await?;
            bench
                .measure_latency("bridge", &node, load("bridge-live", port, Some(LIVE_PER_S)))
                .await?;
            bench.measure_drain("bridge", load("bridge-drain", port, Some(DRAINED_PER_S))).await?;
            println!("| bridge: largest resident set | {:.1} MB |", node.peak_rss_mb());
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let others = fs::read_to_string("/proc/loadavg")?;
    let cores = std::thread::available_parallelism()?;
    let arguments = args.join(" ");
    println!(
        "\n`cargo run -p microclimate-gateway --example kafka_throughput -- {arguments}`, \
         {cores} cores shared by all of it, load averages at the end {}",
        others.split(' ').take(3).collect::<Vec<_>>().join(" ")
    );
    Ok(())
}

struct ThroughputBench {
    log: EventLog,
    kafka: KafkaProcess,
    seconds: u64,
}

impl ThroughputBench {
    /// Measures as many messages as are accepted, and then checks that none is missing.
    async fn measure_throughput(
        &self,
        via: &str,
        node: &MeasuredGateway,
        load: LoadPlan,
    ) -> Result<()> {
        node.wait_until_ready().await?;
        let (site, before, began) = (load.site, self.count_records()?, Instant::now());
        let running = load.start_load();
        sleep(Duration::from_secs(self.seconds)).await;
        let (after, took_s) = (self.count_records()?, began.elapsed().as_secs_f64());
        let done = running.finish_load().await?;
        self.wait_until_complete(site, done.acknowledged).await?;
        println!("| {via}: devices → … → Kafka | {:.0} msg/s |", (after - before) as f64 / took_s);
        println!("| {via}: of these acknowledged, and lost | {}, 0 |", done.acknowledged);
        Ok(())
    }

    /// Measures the time of a PUBACK at a moderate rate: to the device, and from the gateway's
    /// receipt to its acknowledgement.
    async fn measure_latency(
        &self,
        via: &str,
        node: &MeasuredGateway,
        load: LoadPlan,
    ) -> Result<()> {
        let (site, before, wanted_per_s) = (load.site, node.read_lag().await?, load.per_s);
        let running = load.start_load();
        sleep(Duration::from_secs(self.seconds)).await;
        let done = running.finish_load().await?;
        self.wait_until_complete(site, done.acknowledged).await?;
        let per_s = done.acknowledged as f64 / done.seconds;
        println!("| {via}: at {per_s:.0} msg/s (wanted {wanted_per_s:?}) | |");
        let [p50, p99] = [0.5, 0.99].map(|share| done.latency_ms(share));
        println!("| {via}: PUBACK to the device, p50, p99 | {p50:.1}, {p99:.1} ms |");
        if let (Some(before), Some(after)) = (before, node.read_lag().await?) {
            let [p50, p99] =
                [0.5, 0.99].map(|share| after.difference_from(&before).quantile_ms(share));
            println!(
                "| {via}: received → durable in the gateway, p50, p99 | ≤ {p50}, ≤ {p99} ms |"
            );
        }
        Ok(())
    }

    /// Measures how fast a backlog reaches Kafka beside live messages.
    async fn measure_drain(&self, via: &str, load: LoadPlan) -> Result<()> {
        let site = load.site;
        let start = self.count_records()?;
        let running = load.start_load();
        sleep(Duration::from_secs(2)).await;
        self.kafka.freeze();
        sleep(AWAY).await;
        self.kafka.thaw();
        let (thawed, began) = (self.count_records()?, Instant::now());
        let backlog = running.acknowledged_count() as i64 - (thawed - start);
        let nearly = DRAINED_PER_S as i64 / 5;
        let mut now = thawed;
        while now - start < running.acknowledged_count() as i64 - nearly {
            ensure!(began.elapsed() < TEST_TIMEOUT, "{via}: the backlog does not drain");
            sleep(Duration::from_millis(50)).await;
            now = self.count_records()?;
        }
        let (drained, took_s) = (now - thawed, began.elapsed().as_secs_f64());
        let done = running.finish_load().await?;
        self.wait_until_complete(site, done.acknowledged).await?;
        println!(
            "| {via}: drain of {backlog} beside live {DRAINED_PER_S} msg/s, after {} s without Kafka | {:.0} msg/s |",
            AWAY.as_secs(),
            drained as f64 / took_s
        );
        Ok(())
    }

    /// Counts the records of the topic.
    fn count_records(&self) -> Result<i64> {
        let bounds = tokio::task::block_in_place(|| self.log.offset_bounds(READINGS))?;
        Ok(bounds.values().map(|offsets| offsets.end).sum())
    }

    /// Waits until all acknowledged messages of a site are in Kafka.
    async fn wait_until_complete(&self, site: &str, acknowledged: u64) -> Result<()> {
        let opened = || self.log.open_reader(READINGS, &PartitionOffsets::new());
        let mut reader = tokio::task::block_in_place(opened)?;
        let (mut found, began) = (HashSet::new(), Instant::now());
        while (found.len() as u64) < acknowledged {
            ensure!(
                began.elapsed() < TEST_TIMEOUT,
                "{site}: {} of {acknowledged} in Kafka",
                found.len()
            );
            for entry in reader.next_batch(10_000, Duration::from_secs(1)).await? {
                let is_of_site = entry
                    .record
                    .key
                    .split_once('/')
                    .is_some_and(|(zone_site, _)| zone_site == site);
                if is_of_site {
                    let report = SensorReport::from_json(&entry.record.payload)?;
                    found.insert((entry.record.key, report.seq));
                }
            }
        }
        Ok(())
    }
}
