//! The processes of a scenario together:
//! - devices → proxy → gateway → log, or
//! - devices → Mosquitto → proxy with a tap → gateway → log.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use eventlog::{EventLogConfig, EventLogKind};
use tempfile::TempDir;

use super::{
    delivery_evidence::{self, DeliveryEvidence},
    fault_bench::FaultBench,
    fault_proxy::FaultProxy,
    fleet_traffic::FleetTraffic,
    gateway_process::GatewayProcess,
    mosquitto::MosquittoProcess,
    packet_tap::PacketTap,
    result_table::ResultRow,
    sender::{DeviceFleet, FleetPlan},
};

/// How devices reach the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceRoute {
    /// They connect to it directly.
    Listener,
    /// Through a Mosquitto that keeps its sessions when it ends.
    Bridge,
    /// Through a Mosquitto that loses its sessions.
    ForgetfulBridge,
}

/// A gateway with everything around it.
pub(crate) struct FaultScene<'a> {
    pub(crate) bench: &'a FaultBench,
    pub(crate) name: String,
    /// The site of this scenario's devices alone, because Kafka is shared.
    pub(crate) site: String,
    pub(crate) gateway: GatewayProcess,
    /// The proxy between the gateway and its senders.
    pub(crate) line: FaultProxy,
    pub(crate) broker: Option<MosquittoProcess>,
    pub(crate) tap: Arc<PacketTap>,
    pub(crate) log: EventLogConfig,
    /// Whether each device's messages must be logged in its order. They need not if partitions
    /// are added or two gateways write.
    pub(crate) is_ordered: bool,
    /// The folder of everything that the gateway writes.
    pub(crate) dir: TempDir,
    via: DeviceRoute,
    began: Instant,
}

impl<'a> FaultScene<'a> {
    /// Starts a gateway over `log` with further settings, and waits until it accepts messages.
    /// `kill_at` is the point where its first process ends itself.
    pub(crate) async fn open_scene(
        bench: &'a FaultBench,
        name: &str,
        via: DeviceRoute,
        log: Option<EventLogConfig>,
        set: &[&str],
        kill_at: Option<&str>,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("scene-").tempdir()?;
        let log = log.unwrap_or_else(|| EventLogConfig::for_embedded(&dir.path().join("log")));
        Self::open_in(bench, name, via, dir, log, set, kill_at).await
    }

    /// The same as [`Self::open_scene`], in a folder that the caller created.
    pub(crate) async fn open_in(
        bench: &'a FaultBench,
        name: &str,
        via: DeviceRoute,
        dir: TempDir,
        log: EventLogConfig,
        set: &[&str],
        kill_at: Option<&str>,
    ) -> Result<Self> {
        let (tap, began) = (Arc::new(PacketTap::default()), Instant::now());
        let mut all: Vec<String> = match log.kind {
            EventLogKind::Kafka => vec![
                "log.kind=kafka".to_owned(),
                format!("log.kafka.brokers={}", log.kafka.brokers),
            ],
            EventLogKind::Embedded => vec![format!("log.dir={}", log.dir.display())],
        };
        all.extend(set.iter().map(|&setting| setting.to_owned()));
        let (broker, line) = if via == DeviceRoute::Listener {
            (None, FaultProxy::start_proxy(0, None).await)
        } else {
            let broker = MosquittoProcess::start_mosquitto(
                &dir.path().join("mosquitto"),
                via == DeviceRoute::Bridge,
            )?;
            let line = FaultProxy::start_proxy(broker.port, Some(tap.clone())).await;
            let port = format!("mqtt.port={}", line.port);
            all.extend(["mqtt.mode=bridge".to_owned(), port]);
            (Some(broker), line)
        };
        let gateway = GatewayProcess::start_gateway(dir.path(), &all, kill_at)?;
        if broker.is_none() {
            line.set_upstream(gateway.mqtt);
        }
        let (name, site) = (name.to_owned(), site_name(name));
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
        scene.gateway.wait_until_ready().await?;
        if via != DeviceRoute::Listener {
            scene.wait_until_subscribed(1).await?;
        }
        Ok(scene)
    }

    /// Waits until the broker has granted this many subscriptions in all.
    pub(crate) async fn wait_until_subscribed(&self, times: usize) -> Result<()> {
        let is_so = async || self.tap.snapshot().subscriptions >= times;
        self.gateway.wait_until("subscribed", is_so).await
    }

    /// Returns the port that devices connect to.
    pub(crate) fn port(&self) -> u16 {
        self.broker.as_ref().map_or(self.line.port, |broker| broker.port)
    }

    /// Starts the devices.
    pub(crate) fn start_fleet(&self, plan: &FleetPlan) -> DeviceFleet {
        DeviceFleet::start_fleet(self.port(), &self.site, plan)
    }

    /// Sends no new messages. When all are acknowledged, ends the gateway and checks the
    /// delivery.
    pub(crate) async fn finish_fleet(self, fleet: DeviceFleet) -> Result<()> {
        let traffic = fleet.finish_fleet().await;
        self.check_delivery(traffic, "").await
    }

    /// Ends the gateway, compares the acknowledged messages with the log, and adds the result to
    /// the table.
    pub(crate) async fn check_delivery(mut self, traffic: FleetTraffic, note: &str) -> Result<()> {
        if self.broker.is_some() {
            self.wait_until_delivered(&traffic).await?;
        }
        let mut problems = traffic.violations.clone();
        let is_settled = async || {
            let ledger = self.gateway.get_ledger().await;
            ledger.is_ok_and(|ledger| ledger.totals.in_flight == 0)
        };
        self.gateway.wait_until("settled", is_settled).await?;
        self.gateway
            .wait_until("done with its spool", async || self.gateway.spooled_count().await == 0)
            .await?;
        let unaccounted = self.gateway.get_ledger().await?.totals.unaccounted;
        if unaccounted != 0 {
            problems.push(format!("the ledger has unaccounted = {unaccounted}"));
        }
        let peak_rss_bytes = self.gateway.peak_rss_bytes();
        self.gateway.stop_gateway().await?;
        let heard = self.tap.snapshot();
        problems.extend(heard.violations.iter().cloned());
        let mut owed: Vec<_> = heard.acknowledged;
        if self.via != DeviceRoute::ForgetfulBridge {
            owed.extend(traffic.acknowledged_keys());
        }
        let found = delivery_evidence::read_site(&self.log, &self.site).await?;
        let evidence = DeliveryEvidence { owed, found, is_ordered: self.is_ordered };
        let row = ResultRow {
            fault: self.name.clone(),
            sent: traffic.sent,
            acknowledged: traffic.acknowledged_keys().count() as u64,
            seconds: self.began.elapsed().as_secs_f64(),
            peak_rss_bytes,
            note: note.to_owned(),
            ..evidence.result_row(&mut problems)
        };
        if peak_rss_bytes > RSS_BYTES_MAX {
            problems.push(format!("resident set {peak_rss_bytes} B, at most {RSS_BYTES_MAX}"));
        }
        self.bench.add_row(row);
        problems.truncate(10);
        ensure!(problems.is_empty(), "{}\n{}", problems.join("\n"), self.gateway.log_tail());
        Ok(())
    }

    /// Waits until the broker has delivered, and the gateway acknowledged, each device's last
    /// message.
    pub(crate) async fn wait_until_delivered(&self, traffic: &FleetTraffic) -> Result<()> {
        let last = |(device, serials): (&String, &Vec<u64>)| {
            serials.iter().max().map(|&serial| (device.clone(), serial))
        };
        let last: BTreeMap<String, u64> = traffic.acknowledged.iter().filter_map(last).collect();
        let is_so = async || {
            let heard = self.tap.snapshot().acknowledged;
            let has = |device: &String, serial| {
                heard.iter().any(|key| key.device == *device && key.serial == serial)
            };
            last.iter().all(|(device, &serial)| has(device, serial))
        };
        self.gateway.wait_until("done with what the broker has", is_so).await
    }
}

/// Largest resident set of the gateway, bytes.
const RSS_BYTES_MAX: u64 = 64 << 20;

/// Returns the name of a site that no other scenario has.
fn site_name(name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    name.to_lowercase()
}
