//! SIGTERM, an invalid configuration, a long run.

use std::{env, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use telemetry::SensorReport;
use tokio::time::{Instant, sleep};

use super::{FaultScenario, build_scenario};
use crate::{
    delivery_evidence,
    fault_bench::FaultBench,
    fault_scene::{DeviceRoute, FaultScene},
    sender::{DeliveryAnswer, FleetPlan, deliver_message},
};

/// Default duration of a soak, seconds; `MICROCLIMATE_SOAK_S` overrides it.
const SOAK_S: u64 = 600;

pub(super) fn lifecycle_scenarios() -> Vec<FaultScenario> {
    let mut list = Vec::new();
    for (via, through) in [(DeviceRoute::Listener, "listener"), (DeviceRoute::Bridge, "bridge")] {
        let name = format!("SIGTERM in flight, {through}");
        let scenario_name = name.clone();
        list.push(build_scenario(name, move |bench| async move {
            terminate_gateway(bench, &scenario_name, via).await
        }));
    }
    list.push(build_scenario("bad configuration at SIGHUP", reload_settings));
    list.push(FaultScenario { is_long: true, ..build_scenario("soak", run_soak) });
    list
}

async fn terminate_gateway(bench: &FaultBench, name: &str, via: DeviceRoute) -> Result<()> {
    let log = Some(bench.start_steady().await?);
    let scene = FaultScene::open_scene(bench, name, via, log, &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    for times in 1..=3 {
        fleet.wait_for_more(300).await;
        scene.gateway.send_signal(Signal::SIGTERM);
        scene.gateway.wait_until_ended(times).await?;
        scene.gateway.wait_until_ready().await?;
    }
    fleet.wait_for_more(300).await;
    scene.finish_fleet(fleet).await
}

/// A configuration that is invalid or needs a restart changes nothing. A valid one takes effect
/// without a lost connection.
async fn reload_settings(bench: &FaultBench) -> Result<()> {
    let (dir, log) = (tempfile::tempdir()?, bench.start_steady().await?);
    let (name, via) = ("bad configuration at SIGHUP", DeviceRoute::Listener);
    let config = dir.path().join("gateway.toml");
    let write = |text: &str| std::fs::write(&config, text);
    write("")?;
    let scene = FaultScene::open_in(bench, name, via, dir, log.clone(), &[], None).await?;
    let topic = format!("sensors/{}/bay-0/probe-0/sap_flow", scene.site);
    let fleet = scene.start_fleet(&FleetPlan::default());
    let refusals = async |times| {
        let count =
            async || scene.gateway.log_text().matches("the old settings stay in force").count();
        scene
            .gateway
            .wait_until("refusing the configuration", async || count().await == times)
            .await
    };
    let bad = [
        "[mqtt]\nreceive_maximum = 0",
        "[mqtt]\nrecieve_maximum = 1",
        "[mqtt",
        "[log]\ndir = \"x\"",
    ];
    for (times, text) in (1..).zip(bad) {
        fleet.wait_for_more(100).await;
        write(text)?;
        scene.gateway.send_signal(Signal::SIGHUP);
        refusals(times).await?;
    }
    ensure!(
        deliver_message(scene.port(), &topic, b"1").await? == DeliveryAnswer::Acknowledged,
        "not accepted"
    );
    write("[metrics.sap_flow]\nunit = \"%\"\nmin = 0.0\nmax = 100.0")?;
    scene.gateway.send_signal(Signal::SIGHUP);
    let is_new = async || scene.gateway.log_text().contains("new settings are in force");
    scene.gateway.wait_until("taking the configuration", is_new).await?;
    ensure!(
        deliver_message(scene.port(), &topic, b"1").await? == DeliveryAnswer::Acknowledged,
        "not accepted"
    );
    fleet.wait_for_more(100).await;
    let (traffic, site, ends) =
        (fleet.finish_fleet().await, scene.site.clone(), scene.gateway.end_count());
    ensure!(ends == 0, "the gateway ended {ends} times:\n{}", scene.gateway.log_tail());
    ensure!(traffic.reconnections == 0, "{} connections were lost", traffic.reconnections);
    scene.check_delivery(traffic, "").await?;
    let found = delivery_evidence::read_site(&log, &site).await?;
    let is_wet = |report: &&SensorReport| report.readings.iter().any(|r| r.metric == "sap_flow");
    let counts = (found.letters.len(), found.reports.iter().filter(is_wet).count());
    ensure!(counts == (1, 1), "before and after the new metric: {counts:?}");
    Ok(())
}

/// One fault after the other for a long time. Memory must not grow.
async fn run_soak(bench: &FaultBench) -> Result<()> {
    let text = env::var("MICROCLIMATE_SOAK_S").ok();
    let seconds = text.map(|text| text.parse()).transpose().context("MICROCLIMATE_SOAK_S")?;
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SOAK_S));
    let frail = bench.lock_disturbed().await?;
    let scene = FaultScene::open_scene(
        bench,
        "soak",
        DeviceRoute::Bridge,
        Some(frail.log_settings()),
        &[],
        None,
    )
    .await?;
    let fleet = scene.start_fleet(&FleetPlan { devices: 12, ..FleetPlan::default() });
    let mut rounds = 0;
    let mut first_peak_bytes = None;
    while Instant::now() < end {
        fleet.wait_for_more(2000).await;
        match rounds % 4 {
            0 => frail.line.refuse_connections(),
            1 => frail.line.throttle_bytes(50_000),
            2 => scene.line.cut_connections(),
            _ => frail.kafka.freeze(),
        }
        sleep(Duration::from_secs(4)).await;
        frail.kafka.thaw();
        frail.line.restore_line();
        rounds += 1;
        if rounds == 8 {
            // Every fault has occurred twice: from here on nothing should grow.
            first_peak_bytes = Some(scene.gateway.peak_rss_bytes());
        }
    }
    let traffic = fleet.finish_fleet().await;
    let (ends, peak_bytes) = (scene.gateway.end_count(), scene.gateway.peak_rss_bytes());
    ensure!(ends == 0, "the gateway ended {ends} times:\n{}", scene.gateway.log_tail());
    if let Some(first_bytes) = first_peak_bytes {
        ensure!(
            peak_bytes <= first_bytes + first_bytes / 4,
            "the resident set grew from {first_bytes} to {peak_bytes} B"
        );
    }
    scene.check_delivery(traffic, &format!("{rounds} faults")).await
}
