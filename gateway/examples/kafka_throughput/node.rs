//! The measured gateway: a separate process of this program, so that its memory can be measured.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use eventlog::EventLog;
use microclimate_gateway::{GatewaySettings, GatewaySockets};
use service::shutdown;
use tokio::time::sleep;

use super::TEST_TIMEOUT;

/// The first argument of a process that runs as the gateway.
pub(crate) const ROLE: &str = "as-gateway";

/// Runs as the gateway, with settings as arguments, until SIGTERM.
pub(crate) fn run_gateway(set: &[String]) -> Result<()> {
    service::log::init_logging(service::log::LogFormat::default(), "info");
    let settings = GatewaySettings::load(None, set)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let bind = |address| {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        let sockets = GatewaySockets {
            mqtt: Some(bind(settings.mqtt.listen)?),
            rest: Some(bind(settings.rest.listen)?),
        };
        let (metrics, log) = (settings.metric_table()?, EventLog::open(&settings.log)?);
        Ok(microclimate_gateway::run(
            &settings,
            metrics,
            log,
            sockets,
            shutdown::cancel_on_signal()?,
        )
        .await?)
    })
}

/// A running gateway. Dropping it kills it.
pub(crate) struct MeasuredGateway {
    pub(crate) mqtt: u16,
    rest: u16,
    child: Child,
}

impl MeasuredGateway {
    /// Starts a gateway over Kafka, as a client of the broker on port `broker`, or with its own
    /// listener.
    pub(crate) fn start_gateway(dir: &Path, kafka: &str, broker: Option<u16>) -> Result<Self> {
        let free =
            || Ok::<_, anyhow::Error>(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let (mqtt, rest) = (free()?, free()?);
        let mut set = vec![
            format!("mqtt.listen=127.0.0.1:{mqtt}"),
            format!("rest.listen=127.0.0.1:{rest}"),
            "log.kind=kafka".to_owned(),
            format!("log.kafka.brokers={kafka}"),
        ];
        if let Some(port) = broker {
            set.extend(["mqtt.mode=bridge".to_owned(), format!("mqtt.port={port}")]);
        }
        if microclimate_gateway::settings::DEFAULTS.contains("[log.spool]") {
            set.push(format!("log.spool.dir={}", dir.display()));
        }
        let mut command = Command::new(std::env::current_exe()?);
        let log_file = fs::File::create(dir.with_extension("log"))?;
        let child =
            command.arg(ROLE).args(set).stdout(log_file.try_clone()?).stderr(log_file).spawn()?;
        Ok(Self { mqtt, rest, child })
    }

    pub(crate) async fn wait_until_ready(&self) -> Result<()> {
        let (url, began) = (format!("http://127.0.0.1:{}/readyz", self.rest), Instant::now());
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
            ensure!(began.elapsed() < TEST_TIMEOUT, "the gateway is not ready");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Returns VmHWM of proc(5), MB.
    pub(crate) fn peak_rss_mb(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let text = text.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) * 1024.0 / 1e6
    }

    /// Returns how long messages waited for their acknowledgement; `None` if the gateway does not
    /// measure it.
    pub(crate) async fn read_lag(&self) -> Result<Option<LagHistogram>> {
        let url = format!("http://127.0.0.1:{}/metrics", self.rest);
        let page = reqwest::get(&url).await?.text().await?;
        let buckets: Vec<(f64, u64)> = page.lines().filter_map(parse_bucket).collect();
        Ok((!buckets.is_empty()).then_some(LagHistogram(buckets)))
    }
}

impl Drop for MeasuredGateway {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A histogram: upper bound in seconds, and number of messages up to it.
pub(crate) struct LagHistogram(Vec<(f64, u64)>);

fn parse_bucket(line: &str) -> Option<(f64, u64)> {
    let rest = line.strip_prefix("microclimate_gateway_acknowledgement_seconds_bucket{le=\"")?;
    let (bound, count) = rest.split_once("\"} ")?;
    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
    Some((bound, count.parse().ok()?))
}

impl LagHistogram {
    /// Returns the messages since `before`.
    pub(crate) fn difference_from(&self, before: &Self) -> Self {
        let pairs = self.0.iter().zip(&before.0);
        Self(pairs.map(|((bound, now), (_, then))| (*bound, now - then)).collect())
    }

    /// Returns the bound that this share of messages did not exceed, ms.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let all = self.0.last().map_or(0, |(_, count)| *count) as f64;
        let found = self.0.iter().find(|(_, count)| *count as f64 >= all * share);
        found.map_or(f64::NAN, |(bound, _)| bound * 1e3)
    }
}
