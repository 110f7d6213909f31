//! Everything that a scenario needs, put together:
//! devices → proxy → gateway → log, or
//! devices → Mosquitto → proxy with a tap → gateway → log.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use eventlog::{Kind, Settings};
use tempfile::TempDir;

use super::{
    bench::Bench,
    mosquitto::Mosquitto,
    process::Gateway,
    proxy::Proxy,
    sender::{Fleet, Plan},
    table::Row,
    tap::Tap,
    traffic::Traffic,
    verdict::{self, Evidence},
};

/// How devices reach the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// They connect to it.
    Listener,
    /// Through a Mosquitto that keeps its sessions when it ends.
    Bridge,
    /// Through one that loses them.
    ForgetfulBridge,
}

/// A gateway among everything around it.
pub(crate) struct Scene<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) name: String,
    /// Of this scenario's devices alone: Kafka is shared.
    pub(crate) site: String,
    pub(crate) gateway: Gateway,
    /// Between the gateway and whoever sends to it.
    pub(crate) line: Proxy,
    pub(crate) broker: Option<Mosquitto>,
    pub(crate) tap: Arc<Tap>,
    pub(crate) log: Settings,
    /// Each device's messages are logged in its order; not where partitions are
    /// added, nor where two gateways write.
    pub(crate) is_ordered: bool,
    /// Everything that the gateway writes is in it.
    pub(crate) dir: TempDir,
    via: Via,
    began: Instant,
}

impl<'a> Scene<'a> {
    /// Starts a gateway over `log`, with further settings, and waits until it
    /// takes messages. `kill_at` is where its first process ends itself.
    pub(crate) async fn open(
        bench: &'a Bench,
        name: &str,
        via: Via,
        log: Option<Settings>,
        set: &[&str],
        kill_at: Option<&str>,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("scene-").tempdir()?;
        let log = log.unwrap_or_else(|| Settings::embedded(&dir.path().join("log")));
        Self::open_in(bench, name, via, dir, log, set, kill_at).await
    }

    /// The same in a folder that the caller made.
    pub(crate) async fn open_in(
        bench: &'a Bench,
        name: &str,
        via: Via,
        dir: TempDir,
        log: Settings,
        set: &[&str],
        kill_at: Option<&str>,
    ) -> Result<Self> {
        let (tap, began) = (Arc::new(Tap::default()), Instant::now());
        let mut all: Vec<String> = match log.kind {
            Kind::Kafka => vec![
                "log.kind=kafka".to_owned(),
                format!("log.kafka.brokers={}", log.kafka.brokers),
            ],
            Kind::Embedded => vec![format!("log.dir={}", log.dir.display())],
        };
        all.extend(set.iter().map(|&setting| setting.to_owned()));
        let (broker, line) = if via == Via::Listener {
            (None, Proxy::start(0, None).await)
        } else {
            let broker = Mosquitto::start(&dir.path().join("mosquitto"), via == Via::Bridge)?;
            let line = Proxy::start(broker.port, Some(tap.clone())).await;
            let port = format!("mqtt.port={}", line.port);
            all.extend(["mqtt.mode=bridge".to_owned(), port]);
            (Some(broker), line)
        };
        let gateway = Gateway::start(dir.path(), &all, kill_at)?;
        if broker.is_none() {
            line.lead_to(gateway.mqtt);
        }
        let (name, site) = (name.to_owned(), site(name));
        let scene = Self {
            bench,
            name,
            site,
            gateway,
            line,
            broker,
            tap,
            log,
            is_ordered: true,
            dir,
            via,
            began,
        };
        scene.gateway.ready().await?;
        if via != Via::Listener {
            scene.subscribed(1).await?;
        }
        Ok(scene)
    }

    /// Waits until the broker has granted so many subscriptions in all.
    pub(crate) async fn subscribed(&self, times: usize) -> Result<()> {
        let is_so = async || self.tap.heard().subscriptions >= times;
        self.gateway.until("subscribed", is_so).await
    }

    /// The port that devices connect to.
    pub(crate) fn port(&self) -> u16 {
        self.broker.as_ref().map_or(self.line.port, |broker| broker.port)
    }

    /// Devices at work.
    pub(crate) fn send(&self, plan: &Plan) -> Fleet {
        Fleet::start(self.port(), &self.site, plan)
    }

    /// No new messages; when all are acknowledged, ends the gateway and judges.
    pub(crate) async fn finish(self, fleet: Fleet) -> Result<()> {
        let traffic = fleet.finish().await;
        self.judge(traffic, "").await
    }

    /// Ends the gateway, compares what was acknowledged with what is in the
    /// log, and puts it into the table.
    pub(crate) async fn judge(mut self, traffic: Traffic, note: &str) -> Result<()> {
        if self.broker.is_some() {
            self.delivered(&traffic).await?;
        }
        let mut problems = traffic.violations.clone();
        let is_settled = async || {
            let ledger = self.gateway.ledger().await;
            ledger.is_ok_and(|ledger| ledger.totals.in_flight == 0)
        };
        self.gateway.until("settled", is_settled).await?;
        self.gateway
            .until("done with its spool", async || self.gateway.spooled().await == 0)
            .await?;
        let unaccounted = self.gateway.ledger().await?.totals.unaccounted;
        if unaccounted != 0 {
            problems.push(format!("the ledger has unaccounted = {unaccounted}"));
        }
        let peak_rss_bytes = self.gateway.peak_rss_bytes();
        self.gateway.stop().await?;
        let heard = self.tap.heard();
        problems.extend(heard.violations.iter().cloned());
        let mut owed: Vec<_> = heard.acknowledged;
        if self.via != Via::ForgetfulBridge {
            owed.extend(traffic.acknowledged());
        }
        let found = verdict::find(&self.log, &self.site).await?;
        let evidence = Evidence { owed, found, is_ordered: self.is_ordered };
        let row = Row {
            fault: self.name.clone(),
            sent: traffic.sent,
            acknowledged: traffic.acknowledged().count() as u64,
            seconds: self.began.elapsed().as_secs_f64(),
            peak_rss_bytes,
            note: note.to_owned(),
            ..evidence.row(&mut problems)
        };
        if peak_rss_bytes > RSS_BYTES_MAX {
            problems.push(format!("resident set {peak_rss_bytes} B, at most {RSS_BYTES_MAX}"));
        }
        self.bench.note(row);
        problems.truncate(10);
        ensure!(problems.is_empty(), "{}\n{}", problems.join("\n"), self.gateway.last_words());
        Ok(())
    }

    /// Waits until the broker has handed over, and the gateway acknowledged,
    /// each device's last message.
    pub(crate) async fn delivered(&self, traffic: &Traffic) -> Result<()> {
        let last = |(device, serials): (&String, &Vec<u64>)| {
            serials.iter().max().map(|&serial| (device.clone(), serial))
        };
        let last: BTreeMap<String, u64> = traffic.acknowledged.iter().filter_map(last).collect();
        let is_so = async || {
            let heard = self.tap.heard().acknowledged;
            let has = |device: &String, serial| {
                heard.iter().any(|key| key.device == *device && key.serial == serial)
            };
            last.iter().all(|(device, &serial)| has(device, serial))
        };
        self.gateway.until("done with what the broker has", is_so).await
    }
}

/// What the gateway may occupy, bytes: "What we hold ourselves to", design.
const RSS_BYTES_MAX: u64 = 64 << 20;

/// A site's name that no other scenario has.
fn site(name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    name.to_lowercase()
}
