//! The local log's disk: full, failing, torn, damaged.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use eventlog::{EventLog, EventLogConfig as LogSettings, FaultInjector};
use microclimate_gateway::{GatewaySettings, GatewaySockets};
use telemetry::topic::READINGS;
use tokio_util::sync::CancellationToken;

use super::{FaultScenario, build_scenario};
use crate::{
    fault_bench::FaultBench,
    fault_scene::{DeviceRoute, FaultScene},
    sender::{DeviceFleet, FleetPlan},
};

pub(super) fn disk_scenarios() -> Vec<FaultScenario> {
    vec![
        build_scenario("disk full, then enlarged", fill_disk),
        build_scenario("disk fails a sync (EIO)", fail_sync),
        build_scenario("log torn in the middle of a frame", async |bench| {
            tear_log(bench, "log torn in the middle of a frame", |first| first[..40].to_vec()).await
        }),
        build_scenario("log torn, its end zeros", async |bench| {
            tear_log(bench, "log torn, its end zeros", |_| vec![0; 4096]).await
        }),
        build_scenario("log with a flipped bit", flip_log_bit),
    ]
}

/// A small file system of its own.
pub(super) struct SmallFileSystem(PathBuf);

impl SmallFileSystem {
    /// Mounts the file system; `None` if this user may not mount.
    pub(super) fn try_mount(dir: &Path) -> Result<Option<Self>> {
        fs::create_dir_all(dir)?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(dir);
        let is_mounted = command.output().is_ok_and(|output| output.status.success());
        Ok(is_mounted.then(|| Self(dir.to_owned())))
    }

    pub(super) fn enlarge(&self) -> Result<()> {
        let mut command = Command::new("mount");
        let status = command.args(["-o", "remount,size=256m"]).arg(&self.0).status()?;
        ensure!(status.success(), "cannot enlarge {}", self.0.display());
        Ok(())
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // Unmounted lazily, because a failed test's gateway may still use it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn fill_disk(bench: &FaultBench) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let log = LogSettings::for_embedded(&dir.path().join("log"));
    let Some(disk) = SmallFileSystem::try_mount(&log.dir)? else {
        eprintln!("skipped: disk full: needs the right to mount (root)");
        return Ok(());
    };
    let (name, via) = ("disk full, then enlarged", DeviceRoute::Listener);
    let scene = FaultScene::open_in(bench, name, via, dir, log, &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    let is_full = async || scene.gateway.log_text().contains("the disk is full");
    scene.gateway.wait_until("out of disk", is_full).await?;
    // It continues, and reports the problem when it is asked.
    let health = scene.gateway.get_json("/healthz").await?;
    ensure!(health["status"] == "full", "{health}");
    ensure!(scene.gateway.get_json("/readyz").await.is_err(), "ready on a full disk");
    let topics = &scene.gateway.get_json("/ledger").await?["topics"];
    ensure!(topics[READINGS]["is_full"] == true, "{topics}");
    disk.enlarge()?;
    fleet.wait_for_more(500).await;
    let traffic = fleet.finish_fleet().await;
    scene.gateway.wait_until_ready().await?;
    let ends = scene.gateway.end_count();
    ensure!(ends == 0, "the gateway ended {ends} times:\n{}", scene.gateway.log_tail());
    scene.check_delivery(traffic, "the gateway went on").await
}

/// A gateway in this process, whose disk fails on demand; then a real one continues in the same
/// folder.
async fn fail_sync(bench: &FaultBench) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let log = LogSettings::for_embedded(&dir.path().join("log"));
    let settings = GatewaySettings::load(None, &[format!("log.dir={}", log.dir.display())])?;
    let (faults, shutdown) = (FaultInjector::default(), CancellationToken::new());
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let port = socket.local_addr()?.port();
    let line = crate::fault_proxy::FaultProxy::start_proxy(port, None).await;
    let running = tokio::spawn({
        let (settings, faults) = (settings.clone(), faults.clone());
        async move {
            let log = EventLog::open_with_faults(&settings.log, faults)?;
            let sockets = GatewaySockets { mqtt: Some(socket), rest: None };
            microclimate_gateway::run(&settings, settings.metric_table()?, log, sockets, shutdown)
                .await
        }
    });
    let name = "disk fails a sync (EIO)";
    let fleet = DeviceFleet::start_fleet(line.port, "eio", &FleetPlan::default());
    fleet.wait_for_more(300).await;
    faults.fail_syncs();
    let Err(error) = running.await? else { bail!("a gateway whose disk fails went on") };
    ensure!(error.to_string().contains("injected fault"), "{error}");
    let mut scene =
        FaultScene::open_in(bench, name, DeviceRoute::Listener, dir, log, &[], None).await?;
    "eio".clone_into(&mut scene.site);
    line.set_upstream(scene.gateway.mqtt);
    fleet.wait_for_more(300).await;
    scene.finish_fleet(fleet).await
}

/// A write that a power cut tore: the beginning of a frame, or zeros if the file system had only
/// extended the file.
async fn tear_log(bench: &FaultBench, name: &str, tail: fn(&[u8]) -> Vec<u8>) -> Result<()> {
    let mut scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, None, &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(300).await;
    scene.gateway.stop_gateway().await?;
    let path = newest_segment(&scene)?;
    let mut bytes = fs::read(&path)?;
    let end = tail(&bytes[SEGMENT_HEADER_BYTES..]);
    bytes.extend(end);
    fs::write(&path, bytes)?;
    scene.gateway.start_again();
    fleet.wait_for_more(300).await;
    ensure!(scene.gateway.log_text().contains("cut off a torn write"), "it did not report it");
    scene.finish_fleet(fleet).await
}

/// Damage to a durable record is not a torn write: the gateway reports the position and accepts
/// nothing until it is fixed.
async fn flip_log_bit(bench: &FaultBench) -> Result<()> {
    let name = "log with a flipped bit";
    let mut scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, None, &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(300).await;
    scene.gateway.stop_gateway().await?;
    let path = newest_segment(&scene)?;
    flip_middle_bit(&path)?;
    let (ends, acknowledged) = (scene.gateway.end_count(), fleet.acknowledged_count());
    scene.gateway.start_again();
    scene.gateway.wait_until_ended(ends + 2).await?;
    let log_text = scene.gateway.log_text();
    ensure!(log_text.contains("is damaged at byte"), "{}", scene.gateway.log_tail());
    ensure!(fleet.acknowledged_count() == acknowledged, "it acknowledges over a damaged log");
    flip_middle_bit(&path)?;
    fleet.wait_for_more(300).await;
    scene.finish_fleet(fleet).await
}

/// Size of a segment's header, bytes.
const SEGMENT_HEADER_BYTES: usize = 24;

/// Returns the newest segment file of the readings.
fn newest_segment(scene: &FaultScene<'_>) -> Result<PathBuf> {
    let files = fs::read_dir(scene.log.dir.join(READINGS))?;
    let mut paths: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    paths.sort();
    paths.pop().context("no segment")
}

/// Flips the lowest bit of the byte in the middle.
fn flip_middle_bit(path: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let (at, mut byte) = (file.metadata()?.len() / 2, [0]);
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1;
    Ok(file.write_all_at(&byte, at)?)
}
