//! The gateway ends itself by SIGKILL at each place that a message passes.

use anyhow::{Result, ensure};

use super::{Scenario, scenario};
use crate::{
    bench::Bench,
    scene::{Scene, Via},
    sender::Plan,
};

/// The n-th time that the place is passed: amid traffic, not at its beginning.
const NTH: u32 = 400;
/// Groups, not messages, pass the places at the disk.
const NTH_GROUP: u32 = 20;

pub(super) fn all() -> Vec<Scenario> {
    let with_kafka = ["receive", "enqueue", "report", "ack"].map(|place| (place, NTH, true));
    let embedded = [("append", NTH_GROUP), ("fsync", NTH_GROUP), ("ack", NTH)];
    let embedded = embedded.map(|(place, nth)| (place, nth, false));
    let mut list = Vec::new();
    for (via, through) in [(Via::Listener, "listener"), (Via::Bridge, "bridge")] {
        for (place, nth, is_kafka) in with_kafka.into_iter().chain(embedded) {
            let log = if is_kafka { "kafka" } else { "embedded" };
            let name = format!("kill -9 at {place}, {through}, {log}");
            let own = name.clone();
            list.push(scenario(name, move |bench| async move {
                kill(bench, &own, via, &format!("{place}:{nth}"), is_kafka).await
            }));
        }
    }
    list
}

async fn kill(bench: &Bench, name: &str, via: Via, place: &str, is_kafka: bool) -> Result<()> {
    let log = if is_kafka { Some(bench.steady().await?) } else { None };
    let scene = Scene::open(bench, name, via, log, &[], Some(place)).await?;
    let fleet = scene.send(&Plan::default());
    scene.gateway.ended(1).await?;
    scene.gateway.ready().await?;
    fleet.more(500).await;
    let traffic = fleet.finish().await;
    let ends = scene.gateway.ends();
    ensure!(ends == 1, "the gateway ended {ends} times:\n{}", scene.gateway.last_words());
    scene.judge(traffic, "").await
}
