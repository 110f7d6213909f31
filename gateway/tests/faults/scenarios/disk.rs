//! The local log's disk: full, failing, torn, damaged.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use eventlog::{EventLog, Faults, Settings as LogSettings};
use gateway::{Settings, Sockets};
use telemetry::topic::READINGS;
use tokio_util::sync::CancellationToken;

use super::{Scenario, scenario};
use crate::{
    bench::Bench,
    scene::{Scene, Via},
    sender::{Fleet, Plan},
};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        scenario("disk full, then enlarged", full),
        scenario("disk fails a sync (EIO)", failing),
        scenario("log torn in the middle of a frame", async |bench| {
            torn(bench, "log torn in the middle of a frame", |first| first[..40].to_vec()).await
        }),
        scenario("log torn, its end zeros", async |bench| {
            torn(bench, "log torn, its end zeros", |_| vec![0; 4096]).await
        }),
        scenario("log with a flipped bit", flipped),
    ]
}

/// A small file system of its own.
pub(super) struct Small(PathBuf);

impl Small {
    /// None where this user may not mount.
    pub(super) fn mount(dir: &Path) -> Result<Option<Self>> {
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

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a failed test's gateway may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn full(bench: &Bench) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let log = LogSettings::embedded(&dir.path().join("log"));
    let Some(disk) = Small::mount(&log.dir)? else {
        eprintln!("skipped: disk full: needs the right to mount (root)");
        return Ok(());
    };
    let (name, via) = ("disk full, then enlarged", Via::Listener);
    let scene = Scene::open_in(bench, name, via, dir, log, &[], None).await?;
    let fleet = scene.send(&Plan::default());
    let is_full = async || scene.gateway.said().contains("the disk is full");
    scene.gateway.until("out of disk", is_full).await?;
    // It goes on, and says what is wrong where it is asked.
    let health = scene.gateway.get("/healthz").await?;
    ensure!(health["status"] == "full", "{health}");
    ensure!(scene.gateway.get("/readyz").await.is_err(), "ready on a full disk");
    let topics = &scene.gateway.get("/ledger").await?["topics"];
    ensure!(topics[READINGS]["is_full"] == true, "{topics}");
    disk.enlarge()?;
    fleet.more(500).await;
    let traffic = fleet.finish().await;
    scene.gateway.ready().await?;
    let ends = scene.gateway.ends();
    ensure!(ends == 0, "the gateway ended {ends} times:\n{}", scene.gateway.last_words());
    scene.judge(traffic, "the gateway went on").await
}

/// A gateway in this process, whose disk can be told to fail; then a real one
/// goes on in the same folder.
async fn failing(bench: &Bench) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let log = LogSettings::embedded(&dir.path().join("log"));
    let settings = Settings::load(None, &[format!("log.dir={}", log.dir.display())])?;
    let (faults, shutdown) = (Faults::default(), CancellationToken::new());
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let port = socket.local_addr()?.port();
    let line = crate::proxy::Proxy::start(port, None).await;
    let running = tokio::spawn({
        let (settings, faults) = (settings.clone(), faults.clone());
        async move {
            let log = EventLog::open_with(&settings.log, faults)?;
            let sockets = Sockets { mqtt: Some(socket), rest: None };
            gateway::run(&settings, settings.metric_table()?, log, sockets, shutdown).await
        }
    });
    let name = "disk fails a sync (EIO)";
    let fleet = Fleet::start(line.port, "eio", &Plan::default());
    fleet.more(300).await;
    faults.fail();
    let Err(error) = running.await? else { bail!("a gateway whose disk fails went on") };
    ensure!(error.to_string().contains("injected fault"), "{error}");
    let mut scene = Scene::open_in(bench, name, Via::Listener, dir, log, &[], None).await?;
    "eio".clone_into(&mut scene.site);
    line.lead_to(scene.gateway.mqtt);
    fleet.more(300).await;
    scene.finish(fleet).await
}

/// A write that a power cut tore: the beginning of a frame, or zeros where the
/// file system had only extended the file.
async fn torn(bench: &Bench, name: &str, tail: fn(&[u8]) -> Vec<u8>) -> Result<()> {
    let mut scene = Scene::open(bench, name, Via::Listener, None, &[], None).await?;
    let fleet = scene.send(&Plan::default());
    fleet.more(300).await;
    scene.gateway.stop().await?;
    let path = segment(&scene)?;
    let mut bytes = fs::read(&path)?;
    let end = tail(&bytes[SEGMENT_HEADER_BYTES..]);
    bytes.extend(end);
    fs::write(&path, bytes)?;
    scene.gateway.start_again();
    fleet.more(300).await;
    ensure!(scene.gateway.said().contains("cut off a torn write"), "it said nothing of it");
    scene.finish(fleet).await
}

/// Damage to what was durable is not a torn write: the gateway says where and
/// takes nothing until it is mended.
async fn flipped(bench: &Bench) -> Result<()> {
    let name = "log with a flipped bit";
    let mut scene = Scene::open(bench, name, Via::Listener, None, &[], None).await?;
    let fleet = scene.send(&Plan::default());
    fleet.more(300).await;
    scene.gateway.stop().await?;
    let path = segment(&scene)?;
    flip(&path)?;
    let (ends, acknowledged) = (scene.gateway.ends(), fleet.acknowledged());
    scene.gateway.start_again();
    scene.gateway.ended(ends + 2).await?;
    let said = scene.gateway.said();
    ensure!(said.contains("is damaged at byte"), "{}", scene.gateway.last_words());
    ensure!(fleet.acknowledged() == acknowledged, "it acknowledges over a damaged log");
    flip(&path)?;
    fleet.more(300).await;
    scene.finish(fleet).await
}

/// Bytes before the first frame of a segment.
const SEGMENT_HEADER_BYTES: usize = 24;

/// The file of the readings' newest segment.
fn segment(scene: &Scene<'_>) -> Result<PathBuf> {
    let files = fs::read_dir(scene.log.dir.join(READINGS))?;
    let mut paths: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    paths.sort();
    paths.pop().context("no segment")
}

/// Flips the lowest bit of the byte in the middle.
fn flip(path: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let (at, mut byte) = (file.metadata()?.len() / 2, [0]);
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1;
    Ok(file.write_all_at(&byte, at)?)
}
