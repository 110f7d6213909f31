//! Measures how many messages per second the embedded listener writes to the embedded log. They
//! are QoS 1, so each counts when its acknowledgement states that it is durable.
//!
//! ```sh
//! cargo run -p microclimate-gateway --example throughput -- [CONNECTIONS] [SECONDS] [FOLDER]
//! ```

use std::{
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use eventlog::EventLog;
use microclimate_gateway::{Gateway, GatewaySettings, GatewaySockets};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
};
use tokio_util::sync::CancellationToken;

/// Number of unacknowledged messages of one connection.
const WINDOW: u64 = 128;
/// Size of one PUBACK, bytes.
const ANSWER_BYTES: usize = 4;
const PAYLOAD_BYTES: usize = 150;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let connections: u64 = args.next().map_or(Ok(12), |text| text.parse())?;
    let seconds: u64 = args.next().map_or(Ok(10), |text| text.parse())?;
    let dir = args.next().map_or_else(|| std::env::temp_dir().join("throughput"), PathBuf::from);

    let settings = GatewaySettings::load(None, &[format!("log.dir={}", dir.display())])?;
    let log = EventLog::open(&settings.log)?;
    let gateway = Gateway::new(&settings, settings.metric_table()?, log.clone())?;
    let socket = TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let port = socket.local_addr()?.port();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
        async move { gateway.run(GatewaySockets { mqtt: Some(socket), rest: None }, shutdown).await }
    });

    // The devices have a thread of their own, as they would have machines of their own.
    let acknowledged = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let devices = std::thread::spawn({
        let (acknowledged, is_over) = (acknowledged.clone(), is_over.clone());
        move || -> anyhow::Result<()> {
            Builder::new_current_thread().enable_all().build()?.block_on(async {
                let devices = (0..connections)
                    .map(|device| run_device(port, device, acknowledged.clone(), is_over.clone()));
                futures_util::future::try_join_all(devices).await.map(|_| ())
            })
        }
    });
    let started = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (messages, took_s) = (acknowledged.load(Ordering::Relaxed), started.elapsed().as_secs());
    is_over.store(true, Ordering::Relaxed);
    tokio::task::spawn_blocking(|| devices.join()).await?.expect("no panic")?;
    shutdown.cancel();
    running.await??;
    let totals = gateway.ledger_snapshot().totals;
    println!(
        "{messages} messages of {PAYLOAD_BYTES} B acknowledged in {took_s} s over {connections} connections:"
    );
    println!("{} a second", messages / took_s.max(1));
    println!("{totals:?}");
    let bounds = log.offset_bounds(telemetry::topic::READINGS)?;
    let records: i64 = bounds.values().map(|offsets| offsets.end - offsets.start).sum();
    println!("{records} records in {}", dir.display());
    // Otherwise this would not have measured reading after reading.
    anyhow::ensure!(totals.received == totals.logged, "not every reading was logged as one");
    Ok(())
}

/// Runs one device: MQTT 3.1.1, as many messages as the acknowledgements allow.
async fn run_device(
    port: u16,
    device: u64,
    acknowledged: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    // Each device is a client of its own, or they would take over each other's slot.
    let connect =
        [&b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04"[..], &client_id(device)].concat();
    stream.write_all(&connect).await?;
    stream.read_exact(&mut [0; 4]).await?;
    let topic = format!("sensors/farm/bay-{device}/probe");
    let (mut sent, mut answered) = (0, 0);
    let (mut outgoing, mut incoming) = (Vec::new(), vec![0; 1024]);
    while answered < sent || !is_over.load(Ordering::Relaxed) {
        outgoing.clear();
        while sent - answered < WINDOW && !is_over.load(Ordering::Relaxed) {
            sent += 1;
            append_publish(&mut outgoing, &topic, sent)?;
        }
        stream.write_all(&outgoing).await?;
        if answered == sent {
            break;
        }
        // A partial answer is completed by the next read.
        let mut bytes = stream.read(&mut incoming).await?;
        anyhow::ensure!(bytes > 0, "the gateway closed the connection");
        let rest = bytes.next_multiple_of(ANSWER_BYTES) - bytes;
        stream.read_exact(&mut incoming[bytes..bytes + rest]).await?;
        bytes += rest;
        let answers = (bytes / ANSWER_BYTES) as u64;
        answered += answers;
        acknowledged.fetch_add(answers, Ordering::Relaxed);
    }
    Ok(())
}

/// Returns a client identifier of four bytes.
fn client_id(device: u64) -> Vec<u8> {
    format!("{:04}", device % 10_000).into_bytes()
}

/// Appends a PUBLISH with QoS 1.
fn append_publish(to: &mut Vec<u8>, topic: &str, seq: u64) -> anyhow::Result<()> {
    let mut payload = format!(
        r#"{{"seq":{seq},"boot":"b7","ts":{},"temperature":21.53,"humidity":64.2,"co2":812,"light":431.5,"soil_moisture":0.31"#,
        1_700_000_000_000 + seq
    );
    payload.push_str(&" ".repeat(PAYLOAD_BYTES.saturating_sub(payload.len() + 1)));
    payload.push('}');
    let len = 2 + topic.len() + 2 + payload.len();
    to.extend([0x32, u8::try_from(len & 0x7F)? | 0x80, u8::try_from(len >> 7)?]);
    to.extend(u16::try_from(topic.len())?.to_be_bytes());
    to.extend(topic.as_bytes());
    to.extend(u16::try_from(seq % 60_000 + 1)?.to_be_bytes());
    to.extend(payload.as_bytes());
    Ok(())
}
