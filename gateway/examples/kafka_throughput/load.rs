//! Devices that send as fast as they are acknowledged, or at a given rate.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
    time::{Instant, sleep_until},
};

use super::mqtt::{self, ProtocolLevel};

pub(crate) const PAYLOAD_BYTES: usize = 256;
/// Number of unacknowledged messages of one connection.
const WINDOW: usize = 128;
/// Size of one PUBACK in MQTT 3.1.1, bytes.
const ANSWER_BYTES: usize = 4;

/// Which messages to send, and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadPlan {
    pub(crate) port: u16,
    pub(crate) site: &'static str,
    pub(crate) connections: u64,
    /// Messages per second of all connections; without it as many as are acknowledged.
    pub(crate) per_s: Option<u64>,
}

/// Running devices, on a thread of their own.
pub(crate) struct RunningLoad {
    acknowledged: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    began: Instant,
    thread: JoinHandle<Result<Vec<u32>>>,
}

/// The result of a load.
pub(crate) struct LoadResult {
    pub(crate) acknowledged: u64,
    pub(crate) seconds: f64,
    /// Latency of each PUBACK, µs, in ascending order.
    latencies_us: Vec<u32>,
}

impl LoadResult {
    /// Returns the latency that this share of messages did not exceed, ms.
    pub(crate) fn latency_ms(&self, share: f64) -> f64 {
        let at = (self.latencies_us.len() as f64 * share) as usize;
        self.latencies_us.get(at).map_or(f64::NAN, |&us| f64::from(us) / 1e3)
    }
}

impl LoadPlan {
    pub(crate) fn start_load(self) -> RunningLoad {
        let (acknowledged, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let shared = (acknowledged.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            Builder::new_current_thread().enable_all().build()?.block_on(async {
                let (acknowledged, is_over) = &shared;
                let devices =
                    (0..self.connections).map(|n| self.run_device(n, acknowledged, is_over));
                let all = futures_util::future::try_join_all(devices).await?;
                Ok(all.concat())
            })
        });
        RunningLoad { acknowledged, is_over, began: Instant::now(), thread }
    }

    /// Runs one device, until the load is over and everything is acknowledged.
    async fn run_device(
        &self,
        device: u64,
        acknowledged: &AtomicU64,
        is_over: &AtomicBool,
    ) -> Result<Vec<u32>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let client = format!("{}-{device}", self.site);
        stream.write_all(&mqtt::encode_connect(ProtocolLevel::V3, &client, 0)).await?;
        stream.read_exact(&mut [0; 4]).await?;
        let topic = format!("sensors/{}/bay-{device}/probe", self.site);
        let every = self.per_s.map(|per_s| Duration::from_secs(self.connections) / per_s as u32);
        let mut due = Instant::now();
        let (mut open, mut latencies_us) = (VecDeque::new(), Vec::new());
        let (mut seq, mut outgoing, mut incoming) = (0, Vec::new(), [0; 1024]);
        let mut cut = 0;
        loop {
            let is_over = is_over.load(Ordering::Relaxed);
            if is_over && open.is_empty() {
                return Ok(latencies_us);
            }
            outgoing.clear();
            let now = Instant::now();
            while !is_over && open.len() < WINDOW && (every.is_none() || due <= now) {
                let id = (seq % 60_000 + 1) as u16;
                let packet = mqtt::encode_publish(
                    ProtocolLevel::V3,
                    0,
                    topic.as_bytes(),
                    id,
                    &build_payload(seq),
                );
                outgoing.extend(packet);
                // The time counts from when the message was due: a waiting sender must not hide
                // it.
                open.push_back(if every.is_some() { due } else { now });
                due += every.unwrap_or_default();
                seq += 1;
            }
            stream.write_all(&outgoing).await?;
            let wake = if open.len() < WINDOW && every.is_some() { due } else { now + LOOK };
            tokio::select! {
                bytes = stream.read(&mut incoming) => {
                    let bytes = bytes?;
                    ensure!(bytes > 0, "the connection was closed");
                    // An answer may be incomplete.
                    let (answers, rest) = ((cut + bytes) / ANSWER_BYTES, (cut + bytes) % ANSWER_BYTES);
                    cut = rest;
                    let now = Instant::now();
                    for since in open.drain(..answers) {
                        latencies_us.push(now.duration_since(since).as_micros() as u32);
                    }
                    acknowledged.fetch_add(answers as u64, Ordering::Relaxed);
                }
                () = sleep_until(wake) => {}
            }
        }
    }
}

/// Interval at which a waiting device checks whether the load is over.
const LOOK: Duration = Duration::from_millis(50);

impl RunningLoad {
    pub(crate) fn acknowledged_count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Sends no new messages. Returns the result when all are acknowledged.
    pub(crate) async fn finish_load(self) -> Result<LoadResult> {
        let seconds = self.began.elapsed().as_secs_f64();
        self.is_over.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        let mut latencies_us = joined.expect("devices do not panic")?;
        latencies_us.sort_unstable();
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        Ok(LoadResult { acknowledged, seconds, latencies_us })
    }
}

pub(crate) fn build_payload(seq: u64) -> Vec<u8> {
    let mut payload = format!(
        r#"{{"seq":{seq},"boot":"b7","temperature":21.53,"humidity":64.2,"co2":812,"light":431.5,"soil_moisture":31.2"#
    );
    payload.push_str(&" ".repeat(PAYLOAD_BYTES.saturating_sub(payload.len() + 1)));
    payload.push('}');
    payload.into_bytes()
}
