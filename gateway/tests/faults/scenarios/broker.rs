//! The MQTT broker ends, or another client takes the gateway's client id.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{FaultScenario, build_scenario};
use crate::{
    fault_bench::FaultBench,
    fault_scene::{DeviceRoute, FaultScene},
    gateway_process::GatewayProcess,
    mqtt::{self, PacketFramer, ProtocolLevel},
    sender::{FleetPlan, next_packet},
};

pub(super) fn broker_scenarios() -> Vec<FaultScenario> {
    vec![
        build_scenario("MQTT broker ends, session kept", async |bench| {
            end_broker(bench, DeviceRoute::Bridge).await
        }),
        build_scenario("MQTT broker killed, session lost", async |bench| {
            end_broker(bench, DeviceRoute::ForgetfulBridge).await
        }),
        build_scenario("MQTT broker with a backlog", deliver_backlog),
        build_scenario("duplicate client id, bridge", duplicate_bridge),
        build_scenario("duplicate client id, listener", duplicate_device),
    ]
}

async fn end_broker(bench: &FaultBench, via: DeviceRoute) -> Result<()> {
    let name = match via {
        DeviceRoute::ForgetfulBridge => "MQTT broker killed, session lost",
        _ => "MQTT broker ends, session kept",
    };
    let mut scene =
        FaultScene::open_scene(bench, name, via, Some(bench.start_steady().await?), &[], None)
            .await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(500).await;
    let broker = scene.broker.as_mut().context("a bridge has a broker")?;
    if via == DeviceRoute::ForgetfulBridge {
        broker.kill()?;
    } else {
        broker.stop()?;
    }
    broker.restart()?;
    scene.wait_until_subscribed(2).await?;
    fleet.wait_for_more(500).await;
    let traffic = fleet.finish_fleet().await;
    let lost = scene.gateway.get_ledger().await?.lost_sessions;
    let expect = u64::from(via == DeviceRoute::ForgetfulBridge);
    ensure!(lost == expect, "the ledger counts {lost} lost sessions, expected {expect}");
    let mut note = format!("lost sessions {lost}");
    if via == DeviceRoute::ForgetfulBridge {
        note.push_str("; what only the broker had acknowledged went with it");
    }
    scene.check_delivery(traffic, &note).await
}

/// Mosquitto 2.0.11 with a backlog does not obey Receive Maximum. The gateway holds it back.
/// Otherwise it would reach its limit, disconnect, and get the same messages again.
async fn deliver_backlog(bench: &FaultBench) -> Result<()> {
    const BACKLOG: u64 = 20_000;
    let (name, set) = ("MQTT broker with a backlog", ["limits.in_flight_bytes_max=600000"]);
    let log = Some(bench.start_steady().await?);
    let mut scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Bridge, log, &set, None).await?;
    scene.gateway.stop_gateway().await?;
    let before = scene.tap.snapshot().connections;
    let (messages, every) = (Some(BACKLOG / 6), Duration::ZERO);
    let traffic = scene
        .start_fleet(&FleetPlan { messages, every, window: 128, ..FleetPlan::default() })
        .finish_fleet()
        .await;
    scene.gateway.start_again();
    scene.wait_until_subscribed(2).await?;
    scene.wait_until_delivered(&traffic).await?;
    // One connection to subscribe and one to publish.
    let times = scene.tap.snapshot().connections - before;
    ensure!(times <= 2, "{times} connections:\n{}", scene.gateway.log_tail());
    scene.check_delivery(traffic, "").await
}

/// Two gateways with one client id disconnect each other, and each reconnects. Nothing is lost,
/// but only each gateway's own order is kept. Messages that one has acknowledged from its spool,
/// because it had not reached Kafka yet, follow those that the other sent directly in the
/// meantime.
async fn duplicate_bridge(bench: &FaultBench) -> Result<()> {
    let log = bench.start_steady().await?;
    let brokers = format!("log.kafka.brokers={}", log.kafka.brokers);
    let mut scene = FaultScene::open_scene(
        bench,
        "duplicate client id, bridge",
        DeviceRoute::Bridge,
        Some(log),
        &[],
        None,
    )
    .await?;
    scene.is_ordered = false;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(300).await;
    let (dir, port) = (tempfile::tempdir()?, format!("mqtt.port={}", scene.line.port));
    let set = ["mqtt.mode=bridge", "log.kind=kafka", port.as_str(), brokers.as_str()];
    let mut other = GatewayProcess::start_gateway(dir.path(), &set.map(str::to_owned), None)?;
    other.wait_until_ready().await?;
    sleep(Duration::from_secs(3)).await;
    // Its folder is removed with it, and a spool would be lost.
    other.wait_until("done with its spool", async || other.spooled_count().await == 0).await?;
    other.stop_gateway().await?;
    let times = scene.tap.snapshot().connections;
    fleet.wait_for_more(300).await;
    let traffic = fleet.finish_fleet().await;
    scene.check_delivery(traffic, &format!("{times} connections")).await
}

/// Another device with the same client id takes over the first one's slot, again and again.
async fn duplicate_device(bench: &FaultBench) -> Result<()> {
    let (name, log) = ("duplicate client id, listener", bench.start_steady().await?);
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, Some(log), &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    let mut takeovers = 0;
    for _ in 0..10 {
        fleet.wait_for_more(50).await;
        let client = format!("{}-probe-1", scene.site);
        let packet = mqtt::encode_connect(ProtocolLevel::V5, &client, 0);
        let mut stream = TcpStream::connect(("127.0.0.1", scene.port())).await?;
        stream.write_all(&packet).await?;
        // The first device may reconnect at this moment and take over the slot before the other
        // one got its CONNACK.
        let welcome = next_packet(&mut stream, &mut PacketFramer::default()).await;
        takeovers += u32::from(welcome.is_ok());
    }
    ensure!(takeovers > 0, "no other device of the name was ever welcomed");
    fleet.wait_for_more(300).await;
    let traffic = fleet.finish_fleet().await;
    let times = traffic.reconnections;
    ensure!(times > 0, "the device was never thrown out");
    scene.check_delivery(traffic, &format!("{times} reconnections, {takeovers} takeovers")).await
}
