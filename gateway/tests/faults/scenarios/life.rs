//! SIGTERM, a bad configuration, a long run.

use std::{env, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::{Scenario, scenario};
use crate::{
    bench::Bench,
    scene::{Scene, Via},
    sender::Plan,
};

/// How long a soak takes unless `MICROCLIMATE_SOAK_S` says otherwise, seconds.
const SOAK_S: u64 = 600;

pub(super) fn all() -> Vec<Scenario> {
    let mut list = Vec::new();
    for (via, through) in [(Via::Listener, "listener"), (Via::Bridge, "bridge")] {
        let name = format!("SIGTERM in flight, {through}");
        let own = name.clone();
        list.push(scenario(name, move |bench| async move { terminate(bench, &own, via).await }));
    }
    list.push(Scenario { is_long: true, ..scenario("soak", soak) });
    list
}

async fn terminate(bench: &Bench, name: &str, via: Via) -> Result<()> {
    let log = Some(bench.steady().await?);
    let scene = Scene::open(bench, name, via, log, &[], None).await?;
    let fleet = scene.send(&Plan::default());
    for times in 1..=3 {
        fleet.more(300).await;
        scene.gateway.signal(Signal::SIGTERM);
        scene.gateway.ended(times).await?;
        scene.gateway.ready().await?;
    }
    fleet.more(300).await;
    scene.finish(fleet).await
}

/// One fault after the other for a long time; memory must stay flat.
async fn soak(bench: &Bench) -> Result<()> {
    let text = env::var("MICROCLIMATE_SOAK_S").ok();
    let seconds = text.map(|text| text.parse()).transpose().context("MICROCLIMATE_SOAK_S")?;
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SOAK_S));
    let frail = bench.frail().await?;
    let scene = Scene::open(bench, "soak", Via::Bridge, Some(frail.settings()), &[], None).await?;
    let fleet = scene.send(&Plan { devices: 12, ..Plan::default() });
    let mut rounds = 0;
    let mut first_peak_bytes = None;
    while Instant::now() < end {
        fleet.more(2000).await;
        match rounds % 4 {
            0 => frail.line.refuse(),
            1 => frail.line.throttle(50_000),
            2 => scene.line.cut(),
            _ => frail.kafka.freeze(),
        }
        sleep(Duration::from_secs(4)).await;
        frail.kafka.thaw();
        frail.line.heal();
        rounds += 1;
        if rounds == 8 {
            // Every fault came twice: from here on nothing should grow.
            first_peak_bytes = Some(scene.gateway.peak_rss_bytes());
        }
    }
    let traffic = fleet.finish().await;
    let (ends, peak_bytes) = (scene.gateway.ends(), scene.gateway.peak_rss_bytes());
    ensure!(ends == 0, "the gateway ended {ends} times:\n{}", scene.gateway.last_words());
    if let Some(first_bytes) = first_peak_bytes {
        ensure!(
            peak_bytes <= first_bytes + first_bytes / 4,
            "the resident set grew from {first_bytes} to {peak_bytes} B"
        );
    }
    scene.judge(traffic, &format!("{rounds} faults")).await
}
