//! The gateway ends itself by SIGKILL at each point that a message passes.

use anyhow::{Result, ensure};

use super::{FaultScenario, build_scenario};
use crate::{
    fault_bench::FaultBench,
    fault_scene::{DeviceRoute, FaultScene},
    sender::FleetPlan,
};

/// The n-th time that the point is passed: during traffic, not at its beginning.
const NTH: u32 = 400;
/// Groups, not messages, pass the points at the disk.
const NTH_GROUP: u32 = 20;

pub(super) fn kill_scenarios() -> Vec<FaultScenario> {
    let with_kafka = ["receive", "enqueue", "report", "ack"].map(|place| (place, NTH, true));
    let embedded = [("append", NTH_GROUP), ("fsync", NTH_GROUP), ("ack", NTH)];
    let embedded = embedded.map(|(place, nth)| (place, nth, false));
    let mut list = Vec::new();
    for (via, through) in [(DeviceRoute::Listener, "listener"), (DeviceRoute::Bridge, "bridge")] {
        for (place, nth, is_kafka) in with_kafka.into_iter().chain(embedded) {
            let log = if is_kafka { "kafka" } else { "embedded" };
            let name = format!("kill -9 at {place}, {through}, {log}");
            let scenario_name = name.clone();
            list.push(build_scenario(name, move |bench| async move {
                kill_gateway(bench, &scenario_name, via, &format!("{place}:{nth}"), is_kafka).await
            }));
        }
    }
    list
}

async fn kill_gateway(
    bench: &FaultBench,
    name: &str,
    via: DeviceRoute,
    place: &str,
    is_kafka: bool,
) -> Result<()> {
    let log = if is_kafka { Some(bench.start_steady().await?) } else { None };
    let scene = FaultScene::open_scene(bench, name, via, log, &[], Some(place)).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    scene.gateway.wait_until_ended(1).await?;
    scene.gateway.wait_until_ready().await?;
    fleet.wait_for_more(500).await;
    let traffic = fleet.finish_fleet().await;
    let ends = scene.gateway.end_count();
    ensure!(ends == 1, "the gateway ended {ends} times:\n{}", scene.gateway.log_tail());
    scene.check_delivery(traffic, "").await
}
