//! SIGTERM, a bad configuration, a long run.

use std::{env, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use telemetry::Report;
use tokio::time::{Instant, sleep};

use super::{Scenario, scenario};
use crate::{
    bench::Bench,
    scene::{Scene, Via},
    sender::{Answer, Plan, deliver},
    verdict,
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
    list.push(scenario("bad configuration at SIGHUP", reload));
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

/// A configuration that makes no sense, or that needs a restart, changes
/// nothing; a good one comes into force without a lost connection.
async fn reload(bench: &Bench) -> Result<()> {
    let (dir, log) = (tempfile::tempdir()?, bench.steady().await?);
    let (name, via) = ("bad configuration at SIGHUP", Via::Listener);
    let config = dir.path().join("gateway.toml");
    let write = |text: &str| std::fs::write(&config, text);
    write("")?;
    let scene = Scene::open_in(bench, name, via, dir, log.clone(), &[], None).await?;
    let topic = format!("sensors/{}/bay-0/probe-0/sap_flow", scene.site);
    let fleet = scene.send(&Plan::default());
    let refusals = async |times| {
        let count = async || scene.gateway.said().matches("the old settings stay in force").count();
        scene.gateway.until("refusing the configuration", async || count().await == times).await
    };
    let bad = [
        "[mqtt]\nreceive_maximum = 0",
        "[mqtt]\nrecieve_maximum = 1",
        "[mqtt",
        "[log]\ndir = \"x\"",
    ];
    for (times, text) in (1..).zip(bad) {
        fleet.more(100).await;
        write(text)?;
        scene.gateway.signal(Signal::SIGHUP);
        refusals(times).await?;
    }
    ensure!(deliver(scene.port(), &topic, b"1").await? == Answer::Acknowledged, "not taken");
    write("[metrics.sap_flow]\nunit = \"%\"\nmin = 0.0\nmax = 100.0")?;
    scene.gateway.signal(Signal::SIGHUP);
    let is_new = async || scene.gateway.said().contains("new settings are in force");
    scene.gateway.until("taking the configuration", is_new).await?;
    ensure!(deliver(scene.port(), &topic, b"1").await? == Answer::Acknowledged, "not taken");
    fleet.more(100).await;
    let (traffic, site, ends) = (fleet.finish().await, scene.site.clone(), scene.gateway.ends());
    ensure!(ends == 0, "the gateway ended {ends} times:\n{}", scene.gateway.last_words());
    ensure!(traffic.reconnections == 0, "{} connections were lost", traffic.reconnections);
    scene.judge(traffic, "").await?;
    let found = verdict::find(&log, &site).await?;
    let is_wet = |report: &&Report| report.readings.iter().any(|r| r.metric == "sap_flow");
    let counts = (found.letters.len(), found.reports.iter().filter(is_wet).count());
    ensure!(counts == (1, 1), "before and after the new metric: {counts:?}");
    Ok(())
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
