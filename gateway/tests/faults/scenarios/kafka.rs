//! Kafka ends, freezes, is far, is slow, loses a topic.

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

use super::{Scenario, scenario};
use crate::{
    bench::{Bench, Frail},
    process::HAS_SPOOL,
    scene::{Scene, Via},
    sender::{Fleet, Plan},
};

/// What happens to Kafka, or on the way to it.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Frozen,
    Cut,
    Away,
    AwayAtStart,
    HalfOpen,
    Far,
    Slow,
}

/// Longer than `log.spool.after_ms`, which is 2 s.
const OUTAGE: Duration = Duration::from_secs(5);

pub(super) fn all() -> Vec<Scenario> {
    let faults = [
        (Fault::HalfOpen, "half-open"),
        (Fault::Killed, "killed and started again"),
        (Fault::Frozen, "frozen (SIGSTOP)"),
        (Fault::Slow, "20 kB/s, then drained beside live"),
        (Fault::Far, "2 s round trip"),
        (Fault::Away, "refuses connections"),
        (Fault::AwayAtStart, "away while the gateway starts"),
        (Fault::Cut, "cut ten times"),
    ];
    let mut list = vec![scenario("Kafka: topic deleted", topic_deleted)];
    for (fault, what) in faults {
        for (via, through) in [(Via::Listener, "listener"), (Via::Bridge, "bridge")] {
            // What differs is the side to the devices; once through a broker
            // for each kind of outage is enough.
            if via == Via::Bridge && !matches!(fault, Fault::Killed | Fault::Away) {
                continue;
            }
            let name = format!("Kafka: {what}, {through}");
            let own = name.clone();
            let run = move |bench| async move { outage(bench, &own, via, fault).await };
            list.push(scenario(name, run));
        }
    }
    list.push(scenario("Kafka: partitions added", partitions_added));
    list
}

async fn outage(bench: &Bench, name: &str, via: Via, fault: Fault) -> Result<()> {
    let frail = bench.frail().await?;
    let Frail { kafka, line } = &*frail;
    let scene = Scene::open(bench, name, via, Some(frail.settings()), &[], None).await?;
    let fleet = scene.send(&Plan::default());
    fleet.more(500).await;
    match fault {
        Fault::Killed => {
            kafka.kill();
            last(&fleet).await;
            kafka.restart()?;
        }
        Fault::Frozen => {
            kafka.freeze();
            last(&fleet).await;
            kafka.thaw();
        }
        Fault::Cut => {
            for _ in 0..10 {
                line.cut();
                fleet.more(50).await;
            }
        }
        Fault::Away => {
            line.refuse();
            last(&fleet).await;
        }
        Fault::AwayAtStart => {
            line.refuse();
            scene.gateway.signal(Signal::SIGKILL);
            last(&fleet).await;
        }
        Fault::HalfOpen => {
            line.half_open();
            last(&fleet).await;
        }
        Fault::Far => {
            line.delay(Duration::from_secs(1));
            sleep(OUTAGE).await;
        }
        Fault::Slow => {
            line.throttle(20_000);
            sleep(OUTAGE).await;
        }
    }
    line.heal();
    fleet.more(500).await;
    let traffic = fleet.finish().await;
    let ends = scene.gateway.ends();
    let note = if ends == 0 { String::new() } else { format!("the gateway ended {ends} times") };
    scene.judge(traffic, &note).await
}

/// Lets the outage last; a gateway with a spool goes on acknowledging.
async fn last(fleet: &Fleet) {
    sleep(OUTAGE).await;
    if *HAS_SPOOL {
        fleet.more(500).await;
    }
}

/// What was in the topic is gone, by who deleted it. What is acknowledged from
/// then on must be in the new one.
async fn topic_deleted(bench: &Bench) -> Result<()> {
    let frail = bench.frail().await?;
    let log = frail.settings();
    let name = "Kafka: topic deleted";
    let scene = Scene::open(bench, name, Via::Listener, Some(log.clone()), &[], None).await?;
    let before = scene.send(&Plan { messages: Some(50), ..Plan::default() }).finish().await;
    ensure!(before.violations.is_empty(), "{:?}", before.violations);
    let deleted = admin(&log.kafka.brokers)?.delete_topics(&[READINGS], &options()).await?;
    ensure!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    // Another boot: else these would be repeats of the deleted ones.
    let payload = |serial| crate::sender::payload(serial).replace("b1", "b2");
    let fleet = scene.send(&Plan { payload, ..Plan::default() });
    fleet.more(500).await;
    let traffic = fleet.finish().await;
    let note = format!("the gateway ended {} times", scene.gateway.ends());
    scene.judge(traffic, &note).await
}

/// A running producer keeps to the partitions that it knows; a new one spreads
/// over all, so a zone moves.
async fn partitions_added(bench: &Bench) -> Result<()> {
    let frail = bench.frail().await?;
    let (name, log) = ("Kafka: partitions added", frail.settings());
    let mut scene = Scene::open(bench, name, Via::Listener, Some(log.clone()), &[], None).await?;
    scene.is_ordered = false;
    let fleet = scene.send(&Plan::default());
    fleet.more(300).await;
    let more = [NewPartitions::new(READINGS, 12)];
    let added = admin(&log.kafka.brokers)?.create_partitions(&more, &options()).await?;
    ensure!(added.iter().all(Result::is_ok), "{added:?}");
    fleet.more(300).await;
    scene.gateway.signal(Signal::SIGTERM);
    scene.gateway.ended(1).await?;
    fleet.more(300).await;
    scene.finish(fleet).await
}

pub(super) fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    let admin = ClientConfig::new().set("bootstrap.servers", brokers).create();
    admin.map_err(|error| anyhow!("no admin client: {error}"))
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(crate::AGES))
}
