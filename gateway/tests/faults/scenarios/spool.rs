//! Kafka is away, and then something happens to the spool.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use super::{FaultScenario, build_scenario, disk::SmallFileSystem};
use crate::{
    fault_bench::FaultBench,
    fault_scene::{DeviceRoute, FaultScene},
    fleet_traffic::SERIAL,
    gateway_process::HAS_SPOOL,
    sender::FleetPlan,
};

/// The n-th group at the disk.
const NTH: u32 = 20;

pub(super) fn spool_scenarios() -> Vec<FaultScenario> {
    if !*HAS_SPOOL {
        return Vec::new();
    }
    let mut list = Vec::new();
    for (place, nth) in [("append", NTH), ("fsync", NTH), ("ack", 800)] {
        let name = format!("Kafka away, kill -9 at {place}, spool");
        let scenario_name = name.clone();
        let run = move |bench| async move {
            kill_gateway(bench, &scenario_name, &format!("{place}:{nth}")).await
        };
        list.push(build_scenario(name, run));
    }
    list.push(build_scenario("Kafka away, spool full", fill_spool));
    list.push(build_scenario("Kafka away, disk under the spool full", fill_disk));
    list
}

async fn kill_gateway(bench: &FaultBench, name: &str, place: &str) -> Result<()> {
    let frail = bench.lock_disturbed().await?;
    let log = Some(frail.log_settings());
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, log, &[], Some(place)).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(300).await;
    frail.line.refuse_connections();
    scene.gateway.wait_until_ended(1).await?;
    // It starts again without Kafka, and continues from its spool.
    fleet.wait_for_more(500).await;
    frail.line.restore_line();
    fleet.wait_for_more(500).await;
    scene.finish_fleet(fleet).await
}

/// When the spool is full, nothing is acknowledged, and the disk holds no more than the limit.
async fn fill_spool(bench: &FaultBench) -> Result<()> {
    const BYTES_MAX: u64 = 2 << 20;
    /// Disk space beside the records: headers of segments, and records that Kafka already has.
    const SPARE_BYTES: u64 = 1 << 20;
    let frail = bench.lock_disturbed().await?;
    let set = [format!("log.spool.bytes_max={BYTES_MAX}")];
    let (name, log) = ("Kafka away, spool full", Some(frail.log_settings()));
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, log, &[&set[0]], None).await?;
    let payload = |serial| {
        let blanks = " ".repeat(8000);
        format!(r#"{{"seq": {serial}, "boot": "b1", "{SERIAL}": {serial}{blanks}}}"#)
    };
    let fleet = scene.start_fleet(&FleetPlan { payload, window: 128, ..FleetPlan::default() });
    fleet.wait_for_more(100).await;
    frail.line.refuse_connections();
    let is_full = async || scene.gateway.log_text().contains("the spool is full");
    scene.gateway.wait_until("out of room", is_full).await?;
    let held_bytes = bytes_in(&scene.dir.path().join("spool"))?;
    ensure!(held_bytes <= BYTES_MAX + SPARE_BYTES, "the spool takes {held_bytes} B of disk");
    frail.line.restore_line();
    fleet.wait_for_more(500).await;
    let traffic = fleet.finish_fleet().await;
    scene.check_delivery(traffic, &format!("{held_bytes} B of disk")).await
}

async fn fill_disk(bench: &FaultBench) -> Result<()> {
    let frail = bench.lock_disturbed().await?;
    let dir = tempfile::tempdir()?;
    let Some(disk) = SmallFileSystem::try_mount(&dir.path().join("spool"))? else {
        eprintln!("skipped: disk under the spool full: needs the right to mount (root)");
        return Ok(());
    };
    let (name, via) = ("Kafka away, disk under the spool full", DeviceRoute::Listener);
    let log = frail.log_settings();
    let scene = FaultScene::open_in(bench, name, via, dir, log, &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(300).await;
    frail.line.refuse_connections();
    let is_full = async || scene.gateway.log_text().contains("the disk is full");
    scene.gateway.wait_until("out of disk", is_full).await?;
    disk.enlarge()?;
    frail.line.restore_line();
    fleet.wait_for_more(500).await;
    let traffic = fleet.finish_fleet().await;
    let ends = scene.gateway.end_count();
    ensure!(ends == 0, "the gateway ended {ends} times:\n{}", scene.gateway.log_tail());
    scene.check_delivery(traffic, "the gateway went on").await
}

fn bytes_in(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let (path, metadata) = {
            let entry = entry?;
            (entry.path(), entry.metadata()?)
        };
        bytes += if metadata.is_dir() { bytes_in(&path)? } else { metadata.len() };
    }
    Ok(bytes)
}
