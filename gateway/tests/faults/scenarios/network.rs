//! The line between the gateway and whoever sends to it: devices, or a broker.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{Scenario, scenario};
use crate::{
    bench::Bench,
    scene::{Scene, Via},
    sender::Plan,
};

/// A bad line.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    HalfOpen,
    Far,
    Slow,
}

pub(super) fn all() -> Vec<Scenario> {
    let faults = [
        (Fault::HalfOpen, "half-open"),
        (Fault::Slow, "1 kB/s"),
        (Fault::Far, "2 s round trip"),
        (Fault::Cut, "cut ten times"),
    ];
    let mut list = Vec::new();
    for (fault, what) in faults {
        for (via, who) in [(Via::Listener, "device"), (Via::Bridge, "broker")] {
            let name = format!("line to the {who}: {what}");
            let own = name.clone();
            let run = move |bench| async move { bad_line(bench, &own, via, fault).await };
            list.push(scenario(name, run));
        }
    }
    list
}

async fn bad_line(bench: &Bench, name: &str, via: Via, fault: Fault) -> Result<()> {
    // So that a client notices soon that nothing comes any more.
    let set = ["mqtt.keep_alive_s=2"];
    let log = Some(bench.steady().await?);
    let scene = Scene::open(bench, name, via, log, &set, None).await?;
    let patience = Duration::from_secs(if matches!(fault, Fault::HalfOpen) { 2 } else { 20 });
    let fleet = scene.send(&Plan { patience, ..Plan::default() });
    fleet.more(300).await;
    match fault {
        Fault::Cut => {
            for _ in 0..10 {
                scene.line.cut();
                fleet.more(100).await;
            }
        }
        Fault::HalfOpen => {
            scene.line.half_open();
            sleep(Duration::from_secs(3)).await;
        }
        Fault::Far => {
            scene.line.delay(Duration::from_secs(1));
            sleep(Duration::from_secs(6)).await;
        }
        Fault::Slow => {
            scene.line.throttle(1000);
            sleep(Duration::from_secs(6)).await;
        }
    }
    scene.line.heal();
    fleet.more(300).await;
    let traffic = fleet.finish().await;
    let connections = if via == Via::Listener {
        traffic.reconnections
    } else {
        u64::try_from(scene.tap.heard().connections).context("a count")?
    };
    let who = if via == Via::Listener { "reconnections" } else { "connections" };
    scene.judge(traffic, &format!("{connections} {who}")).await
}
