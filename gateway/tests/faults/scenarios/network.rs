//! The connection between the gateway and its senders: devices, or a broker.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{FaultScenario, build_scenario};
use crate::{
    fault_bench::FaultBench,
    fault_scene::{DeviceRoute, FaultScene},
    sender::FleetPlan,
};

/// A fault of the connection.
#[derive(Clone, Copy, Debug)]
enum NetworkFault {
    Cut,
    HalfOpen,
    Far,
    Slow,
}

pub(super) fn network_scenarios() -> Vec<FaultScenario> {
    let faults = [
        (NetworkFault::HalfOpen, "half-open"),
        (NetworkFault::Slow, "1 kB/s"),
        (NetworkFault::Far, "2 s round trip"),
        (NetworkFault::Cut, "cut ten times"),
    ];
    let mut list = Vec::new();
    for (fault, what) in faults {
        for (via, who) in [(DeviceRoute::Listener, "device"), (DeviceRoute::Bridge, "broker")] {
            let name = format!("line to the {who}: {what}");
            let scenario_name = name.clone();
            let run = move |bench| async move { bad_line(bench, &scenario_name, via, fault).await };
            list.push(build_scenario(name, run));
        }
    }
    list
}

async fn bad_line(
    bench: &FaultBench,
    name: &str,
    via: DeviceRoute,
    fault: NetworkFault,
) -> Result<()> {
    // A client then notices soon that nothing arrives any more.
    let set = ["mqtt.keep_alive_s=2"];
    let log = Some(bench.start_steady().await?);
    let scene = FaultScene::open_scene(bench, name, via, log, &set, None).await?;
    let patience =
        Duration::from_secs(if matches!(fault, NetworkFault::HalfOpen) { 2 } else { 20 });
    let fleet = scene.start_fleet(&FleetPlan { patience, ..FleetPlan::default() });
    fleet.wait_for_more(300).await;
    match fault {
        NetworkFault::Cut => {
            for _ in 0..10 {
                scene.line.cut_connections();
                fleet.wait_for_more(100).await;
            }
        }
        NetworkFault::HalfOpen => {
            scene.line.hold_half_open();
            sleep(Duration::from_secs(3)).await;
        }
        NetworkFault::Far => {
            scene.line.delay_bytes(Duration::from_secs(1));
            sleep(Duration::from_secs(6)).await;
        }
        NetworkFault::Slow => {
            scene.line.throttle_bytes(1000);
            sleep(Duration::from_secs(6)).await;
        }
    }
    scene.line.restore_line();
    fleet.wait_for_more(300).await;
    let traffic = fleet.finish_fleet().await;
    let connections = if via == DeviceRoute::Listener {
        traffic.reconnections
    } else {
        u64::try_from(scene.tap.snapshot().connections).context("a count")?
    };
    let who = if via == DeviceRoute::Listener { "reconnections" } else { "connections" };
    scene.check_delivery(traffic, &format!("{connections} {who}")).await
}
