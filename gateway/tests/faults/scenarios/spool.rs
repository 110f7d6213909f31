//! Kafka is away, and then something happens to the spool.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use super::{Scenario, disk::Small, scenario};
use crate::{
    bench::Bench,
    process::HAS_SPOOL,
    scene::{Scene, Via},
    sender::Plan,
    traffic::SERIAL,
};

/// The n-th group at the disk.
const NTH: u32 = 20;

pub(super) fn all() -> Vec<Scenario> {
    if !*HAS_SPOOL {
        return Vec::new();
    }
    let mut list = Vec::new();
    for (place, nth) in [("append", NTH), ("fsync", NTH), ("ack", 800)] {
        let name = format!("Kafka away, kill -9 at {place}, spool");
        let own = name.clone();
        let run = move |bench| async move { kill(bench, &own, &format!("{place}:{nth}")).await };
        list.push(scenario(name, run));
    }
    list.push(scenario("Kafka away, spool full", full));
    list.push(scenario("Kafka away, disk under the spool full", disk_full));
    list
}

async fn kill(bench: &Bench, name: &str, place: &str) -> Result<()> {
    let frail = bench.frail().await?;
    let log = Some(frail.settings());
    let scene = Scene::open(bench, name, Via::Listener, log, &[], Some(place)).await?;
    let fleet = scene.send(&Plan::default());
    fleet.more(300).await;
    frail.line.refuse();
    scene.gateway.ended(1).await?;
    // It starts again without Kafka, and goes on from the spool that it left.
    fleet.more(500).await;
    frail.line.heal();
    fleet.more(500).await;
    scene.finish(fleet).await
}

/// When the spool is full nothing is acknowledged, and the disk holds no more
/// than was allowed.
async fn full(bench: &Bench) -> Result<()> {
    const BYTES_MAX: u64 = 2 << 20;
    /// Beside the records: headers of segments, what Kafka has already.
    const SPARE_BYTES: u64 = 1 << 20;
    let frail = bench.frail().await?;
    let set = [format!("log.spool.bytes_max={BYTES_MAX}")];
    let (name, log) = ("Kafka away, spool full", Some(frail.settings()));
    let scene = Scene::open(bench, name, Via::Listener, log, &[&set[0]], None).await?;
    let payload = |serial| {
        let blanks = " ".repeat(8000);
        format!(r#"{{"seq": {serial}, "boot": "b1", "{SERIAL}": {serial}{blanks}}}"#)
    };
    let fleet = scene.send(&Plan { payload, window: 128, ..Plan::default() });
    fleet.more(100).await;
    frail.line.refuse();
    let is_full = async || scene.gateway.said().contains("the spool is full");
    scene.gateway.until("out of room", is_full).await?;
    let held_bytes = bytes_in(&scene.dir.path().join("spool"))?;
    ensure!(held_bytes <= BYTES_MAX + SPARE_BYTES, "the spool takes {held_bytes} B of disk");
    frail.line.heal();
    fleet.more(500).await;
    let traffic = fleet.finish().await;
    scene.judge(traffic, &format!("{held_bytes} B of disk")).await
}

async fn disk_full(bench: &Bench) -> Result<()> {
    let frail = bench.frail().await?;
    let dir = tempfile::tempdir()?;
    let Some(disk) = Small::mount(&dir.path().join("spool"))? else {
        eprintln!("skipped: disk under the spool full: needs the right to mount (root)");
        return Ok(());
    };
    let (name, via) = ("Kafka away, disk under the spool full", Via::Listener);
    let log = frail.settings();
    let scene = Scene::open_in(bench, name, via, dir, log, &[], None).await?;
    let fleet = scene.send(&Plan::default());
    fleet.more(300).await;
    frail.line.refuse();
    let is_full = async || scene.gateway.said().contains("the disk is full");
    scene.gateway.until("out of disk", is_full).await?;
    disk.enlarge()?;
    frail.line.heal();
    fleet.more(500).await;
    let traffic = fleet.finish().await;
    let ends = scene.gateway.ends();
    ensure!(ends == 0, "the gateway ended {ends} times:\n{}", scene.gateway.last_words());
    scene.judge(traffic, "the gateway went on").await
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
