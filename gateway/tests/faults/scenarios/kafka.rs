//! Kafka ends, freezes, is far away, is slow, or loses a topic.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use nix::sys::signal::Signal;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
};
use telemetry::topic::READINGS;
use tokio::time::sleep;

use super::{FaultScenario, build_scenario};
use crate::{
    fault_bench::{DisturbedKafka, FaultBench},
    fault_scene::{DeviceRoute, FaultScene},
    gateway_process::HAS_SPOOL,
    sender::{DeviceFleet, FleetPlan},
};

/// The fault of Kafka, or on the way to it.
#[derive(Clone, Copy, Debug)]
enum KafkaFault {
    Killed,
    Frozen,
    Cut,
    Away,
    AwayAtStart,
    HalfOpen,
    Far,
    Slow,
}

/// Duration of an outage, longer than `log.spool.after_ms`, which is 2 s.
const OUTAGE: Duration = Duration::from_secs(5);

pub(super) fn kafka_scenarios() -> Vec<FaultScenario> {
    let faults = [
        (KafkaFault::HalfOpen, "half-open"),
        (KafkaFault::Killed, "killed and started again"),
        (KafkaFault::Frozen, "frozen (SIGSTOP)"),
        (KafkaFault::Slow, "20 kB/s, then drained beside live"),
        (KafkaFault::Far, "2 s round trip"),
        (KafkaFault::Away, "refuses connections"),
        (KafkaFault::AwayAtStart, "away while the gateway starts"),
        (KafkaFault::Cut, "cut ten times"),
    ];
    let mut list = vec![build_scenario("Kafka: topic deleted", delete_topic)];
    for (fault, what) in faults {
        for (via, through) in [(DeviceRoute::Listener, "listener"), (DeviceRoute::Bridge, "bridge")]
        {
            // The sides differ only in how devices connect. One run through a broker for each
            // kind of outage is enough.
            if via == DeviceRoute::Bridge && !matches!(fault, KafkaFault::Killed | KafkaFault::Away)
            {
                continue;
            }
            let name = format!("Kafka: {what}, {through}");
            let scenario_name = name.clone();
            let run =
                move |bench| async move { run_outage(bench, &scenario_name, via, fault).await };
            list.push(build_scenario(name, run));
        }
    }
    list.push(build_scenario("Kafka: partitions added", add_partitions));
    list
}

async fn run_outage(
    bench: &FaultBench,
    name: &str,
    via: DeviceRoute,
    fault: KafkaFault,
) -> Result<()> {
    let frail = bench.lock_disturbed().await?;
    let DisturbedKafka { kafka, line } = &*frail;
    let scene =
        FaultScene::open_scene(bench, name, via, Some(frail.log_settings()), &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(500).await;
    match fault {
        KafkaFault::Killed => {
            kafka.kill();
            let_outage_last(&fleet).await;
            kafka.restart()?;
        }
        KafkaFault::Frozen => {
            kafka.freeze();
            let_outage_last(&fleet).await;
            kafka.thaw();
        }
        KafkaFault::Cut => {
            for _ in 0..10 {
                line.cut_connections();
                fleet.wait_for_more(50).await;
            }
        }
        KafkaFault::Away => {
            line.refuse_connections();
            let_outage_last(&fleet).await;
        }
        KafkaFault::AwayAtStart => {
            line.refuse_connections();
            scene.gateway.send_signal(Signal::SIGKILL);
            let_outage_last(&fleet).await;
        }
        KafkaFault::HalfOpen => {
            line.hold_half_open();
            let_outage_last(&fleet).await;
        }
        KafkaFault::Far => {
            line.delay_bytes(Duration::from_secs(1));
            sleep(OUTAGE).await;
        }
        KafkaFault::Slow => {
            line.throttle_bytes(20_000);
            sleep(OUTAGE).await;
        }
    }
    line.restore_line();
    fleet.wait_for_more(500).await;
    let traffic = fleet.finish_fleet().await;
    let ends = scene.gateway.end_count();
    let note = if ends == 0 { String::new() } else { format!("the gateway ended {ends} times") };
    scene.check_delivery(traffic, &note).await
}

/// Lets the outage last. A gateway with a spool continues to acknowledge.
async fn let_outage_last(fleet: &DeviceFleet) {
    sleep(OUTAGE).await;
    if *HAS_SPOOL {
        fleet.wait_for_more(500).await;
    }
}

/// The deleted topic's records are lost through the deletion. Messages that are acknowledged
/// afterwards must be in the new topic.
async fn delete_topic(bench: &FaultBench) -> Result<()> {
    let frail = bench.lock_disturbed().await?;
    let log = frail.log_settings();
    let name = "Kafka: topic deleted";
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, Some(log.clone()), &[], None)
            .await?;
    let before = scene
        .start_fleet(&FleetPlan { messages: Some(50), ..FleetPlan::default() })
        .finish_fleet()
        .await;
    ensure!(before.violations.is_empty(), "{:?}", before.violations);
    let deleted =
        admin_client(&log.kafka.brokers)?.delete_topics(&[READINGS], &admin_options()).await?;
    ensure!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    // Another boot, because these would otherwise be duplicates of the deleted messages.
    let payload = |serial| crate::sender::default_payload(serial).replace("b1", "b2");
    let fleet = scene.start_fleet(&FleetPlan { payload, ..FleetPlan::default() });
    fleet.wait_for_more(500).await;
    let traffic = fleet.finish_fleet().await;
    let note = format!("the gateway ended {} times", scene.gateway.end_count());
    scene.check_delivery(traffic, &note).await
}

/// A running producer uses only the partitions that it knows, and a new one uses all, so a zone
/// moves.
async fn add_partitions(bench: &FaultBench) -> Result<()> {
    let frail = bench.lock_disturbed().await?;
    let (name, log) = ("Kafka: partitions added", frail.log_settings());
    let mut scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, Some(log.clone()), &[], None)
            .await?;
    scene.is_ordered = false;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(300).await;
    let more = [NewPartitions::new(READINGS, 12)];
    let added =
        admin_client(&log.kafka.brokers)?.create_partitions(&more, &admin_options()).await?;
    ensure!(added.iter().all(Result::is_ok), "{added:?}");
    fleet.wait_for_more(300).await;
    scene.gateway.send_signal(Signal::SIGTERM);
    scene.gateway.wait_until_ended(1).await?;
    fleet.wait_for_more(300).await;
    scene.finish_fleet(fleet).await
}

pub(super) fn admin_client(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    let admin = ClientConfig::new().set("bootstrap.servers", brokers).create();
    admin.map_err(|error| anyhow!("no admin client: {error}"))
}

pub(super) fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(crate::TEST_TIMEOUT))
}
