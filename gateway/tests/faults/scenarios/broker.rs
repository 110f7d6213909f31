//! The MQTT broker ends, or another client takes the gateway's name.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{Scenario, scenario};
use crate::{
    bench::Bench,
    mqtt::{self, Framer, Version},
    process::Gateway,
    scene::{Scene, Via},
    sender::{Plan, next},
};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        scenario("MQTT broker ends, session kept", async |bench| ends(bench, Via::Bridge).await),
        scenario("MQTT broker killed, session lost", async |bench| {
            ends(bench, Via::ForgetfulBridge).await
        }),
        scenario("MQTT broker with a backlog", backlog),
        scenario("duplicate client id, bridge", duplicate_bridge),
        scenario("duplicate client id, listener", duplicate_device),
    ]
}

async fn ends(bench: &Bench, via: Via) -> Result<()> {
    let name = match via {
        Via::ForgetfulBridge => "MQTT broker killed, session lost",
        _ => "MQTT broker ends, session kept",
    };
    let mut scene = Scene::open(bench, name, via, Some(bench.steady().await?), &[], None).await?;
    let fleet = scene.send(&Plan::default());
    fleet.more(500).await;
    let broker = scene.broker.as_mut().context("a bridge has a broker")?;
    if via == Via::ForgetfulBridge {
        broker.kill()?;
    } else {
        broker.stop()?;
    }
    broker.restart()?;
    scene.subscribed(2).await?;
    fleet.more(500).await;
    let traffic = fleet.finish().await;
    let lost = scene.gateway.ledger().await?.lost_sessions;
    let expect = u64::from(via == Via::ForgetfulBridge);
    ensure!(lost == expect, "the ledger counts {lost} lost sessions, expected {expect}");
    let mut note = format!("lost sessions {lost}");
    if via == Via::ForgetfulBridge {
        note.push_str("; what only the broker had acknowledged went with it");
    }
    scene.judge(traffic, &note).await
}

/// Mosquitto 2.0.11 with a backlog does not keep to Receive Maximum. The gateway
/// holds it back; else it would run into its limit, leave, and get the same
/// messages again.
async fn backlog(bench: &Bench) -> Result<()> {
    const BACKLOG: u64 = 20_000;
    let (name, set) = ("MQTT broker with a backlog", ["limits.in_flight_bytes_max=600000"]);
    let log = Some(bench.steady().await?);
    let mut scene = Scene::open(bench, name, Via::Bridge, log, &set, None).await?;
    scene.gateway.stop().await?;
    let before = scene.tap.heard().connections;
    let (messages, every) = (Some(BACKLOG / 6), Duration::ZERO);
    let traffic =
        scene.send(&Plan { messages, every, window: 128, ..Plan::default() }).finish().await;
    scene.gateway.start_again();
    scene.subscribed(2).await?;
    scene.delivered(&traffic).await?;
    // One to subscribe and one to publish.
    let times = scene.tap.heard().connections - before;
    ensure!(times <= 2, "{times} connections:\n{}", scene.gateway.last_words());
    scene.judge(traffic, "").await
}

/// Two gateways of one name throw each other out, and each reconnects. Nothing
/// is lost; but each keeps an order of its own alone. What one has acknowledged
/// from its spool, because its Kafka was not found yet, comes after what the
/// other sent to Kafka directly in the meantime.
async fn duplicate_bridge(bench: &Bench) -> Result<()> {
    let log = bench.steady().await?;
    let brokers = format!("log.kafka.brokers={}", log.kafka.brokers);
    let mut scene =
        Scene::open(bench, "duplicate client id, bridge", Via::Bridge, Some(log), &[], None)
            .await?;
    scene.is_ordered = false;
    let fleet = scene.send(&Plan::default());
    fleet.more(300).await;
    let (dir, port) = (tempfile::tempdir()?, format!("mqtt.port={}", scene.line.port));
    let set = ["mqtt.mode=bridge", "log.kind=kafka", port.as_str(), brokers.as_str()];
    let mut other = Gateway::start(dir.path(), &set.map(str::to_owned), None)?;
    other.ready().await?;
    sleep(Duration::from_secs(3)).await;
    // Its folder goes with it, and a spool would.
    other.until("done with its spool", async || other.spooled().await == 0).await?;
    other.stop().await?;
    let times = scene.tap.heard().connections;
    fleet.more(300).await;
    let traffic = fleet.finish().await;
    scene.judge(traffic, &format!("{times} connections")).await
}

/// Another device of the same name takes the place of the first, again and again.
async fn duplicate_device(bench: &Bench) -> Result<()> {
    let (name, log) = ("duplicate client id, listener", bench.steady().await?);
    let scene = Scene::open(bench, name, Via::Listener, Some(log), &[], None).await?;
    let fleet = scene.send(&Plan::default());
    let mut takeovers = 0;
    for _ in 0..10 {
        fleet.more(50).await;
        let client = format!("{}-probe-1", scene.site);
        let packet = mqtt::connect(Version::V5, &client, 0);
        let mut stream = TcpStream::connect(("127.0.0.1", scene.port())).await?;
        stream.write_all(&packet).await?;
        // The device connects again just now, perhaps, and is the other one's successor
        // before that one was welcomed.
        let welcome = next(&mut stream, &mut Framer::default()).await;
        takeovers += u32::from(welcome.is_ok());
    }
    ensure!(takeovers > 0, "no other device of the name was ever welcomed");
    fleet.more(300).await;
    let traffic = fleet.finish().await;
    let times = traffic.reconnections;
    ensure!(times > 0, "the device was never thrown out");
    scene.judge(traffic, &format!("{times} reconnections, {takeovers} takeovers")).await
}
