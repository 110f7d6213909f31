//! The gateway as a separate process, against clients that try to exhaust its descriptors and its
//! memory.

mod support;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use service::descriptors::raise_limit;
use support::{
    broker::free_port,
    wire::{ConnectPacket, ProtocolVersion, ServerPacket, WireDevice},
    within_timeout,
};
use telemetry::topic;

/// Largest resident set, whatever one sender does, kB.
const MEMORY_KB_MAX: u64 = 64 * 1024;
/// The same for many large messages at once. There are up to three copies of a message in flight,
/// and the system's allocator keeps some of the released memory.
const MEMORY_OF_MANY_KB_MAX: u64 = 96 * 1024;

struct LimitedGateway {
    child: Child,
    mqtt: SocketAddr,
    rest: SocketAddr,
}

impl LimitedGateway {
    /// Starts the program under these limits of open files, soft and hard.
    async fn start_limited(dir: &Path, open_files: (u64, u64), set: &[&str]) -> Self {
        let (mqtt, rest) = (free_address(), free_address());
        let (soft, hard) = open_files;
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_gateway"), "run"]);
        let settings = [
            format!("mqtt.listen={mqtt}"),
            format!("rest.listen={rest}"),
            format!("log.dir={}", dir.join("log").display()),
        ];
        for setting in settings.iter().map(String::as_str).chain(set.iter().copied()) {
            command.args(["--set", setting]);
        }
        let log = fs::File::create(dir.join("gateway.log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        let process = Self { child: command.spawn().unwrap(), mqtt, rest };
        let url = format!("http://{rest}/readyz");
        let ready = async {
            while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within_timeout(ready).await;
        process
    }

    async fn read_metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.rest);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    async fn metric_value(&self, name: &str) -> f64 {
        let text = self.read_metrics().await;
        let start = format!("microclimate_gateway_{name} ");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Returns the largest resident set so far, kB (VmHWM of proc(5)).
    fn peak_kb(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// Whether the process has ended.
    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for LimitedGateway {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// Whether this test may have this many open files itself.
fn may_open(files: u64) -> bool {
    let may = raise_limit().is_ok_and(|limit| limit > files + 100);
    if !may {
        assert!(std::env::var_os("MICROCLIMATE_BROKERS").is_none(), "ulimit -Hn is too low");
        eprintln!("skipped: needs {files} open files, see `ulimit -Hn`");
    }
    may
}

#[tokio::test]
async fn more_clients_than_descriptors_are_told_and_nothing_is_lost() {
    const CLIENTS: usize = 1100;
    if !may_open(CLIENTS as u64) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // New segments are opened while every connection slot is in use.
    let set = [
        "log.segment_bytes_max=200000",
        "log.record_bytes_max=200000",
        "mqtt.packet_bytes_max=16384",
        "limits.readings_max=8",
        "limits.payload_bytes_max=16384",
    ];
    let mut gateway = LimitedGateway::start_limited(dir.path(), (256, 1024), &set).await;
    let (mut admitted, mut refused) = (Vec::new(), 0);
    for number in 0..CLIENTS {
        let version = if number % 2 == 0 { ProtocolVersion::V3 } else { ProtocolVersion::V5 };
        let (device, answer) =
            WireDevice::open_connection(gateway.mqtt, version, ConnectPacket::default()).await;
        match answer {
            ServerPacket::Connected(0) => admitted.push(device),
            ServerPacket::Connected(3 | 0x89) => refused += 1,
            other => panic!("{number}: {other:?}"),
        }
    }
    // The soft limit was raised to the hard one, and a reserve of it is kept.
    assert_eq!((admitted.len(), refused), (768, CLIENTS - 768));
    for id in 1..=8 {
        for device in &mut admitted {
            device
                .deliver_message(id, "sensors/farm/bay-1/probe", r#"{"temperature": 21.5}"#)
                .await;
        }
    }
    let segments = fs::read_dir(dir.path().join("log").join(topic::READINGS));
    let segments = segments.unwrap().count();
    assert!(segments > 3, "{segments}");
    assert!(!gateway.has_ended());
    assert_eq!(
        gateway.metric_value("connections_cut_total{reason=\"too_many\"}").await,
        refused as f64
    );
    let log_text = fs::read_to_string(dir.path().join("gateway.log")).unwrap();
    assert!(log_text.contains("fewer clients than mqtt.connections_max"), "{log_text}");
    assert!(log_text.contains("too many clients"), "{log_text}");
    // A client that disconnects makes room.
    admitted.truncate(100);
    while gateway.metric_value("connections").await > 100.0 {}
    let (_, answer) =
        WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V5, ConnectPacket::default())
            .await;
    assert_eq!(answer, ServerPacket::Connected(0));
}

/// Returns the head of a PUBLISH with QoS 1 on status/x, with 250,000 bytes to follow.
fn head_of_publish() -> Vec<u8> {
    let mut head = vec![0x32, 0x9A, 0xA1, 0x0F];
    head.extend(b"\x00\x08status/x\x00\x01");
    head
}

#[tokio::test]
async fn no_sender_pushes_the_memory_over_its_ceiling() {
    if !may_open(1500) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = LimitedGateway::start_limited(dir.path(), (4096, 4096), &[]).await;
    let mut peaks = vec![("at rest", gateway.peak_kb())];
    let big = "x".repeat(200_000);

    // Packets that never end.
    let mut unfinished = Vec::new();
    for _ in 0..1000 {
        let (mut device, answer) = WireDevice::open_connection(
            gateway.mqtt,
            ProtocolVersion::V3,
            ConnectPacket::default(),
        )
        .await;
        assert_eq!(answer, ServerPacket::Connected(0));
        // The connection may be cut while the device sends.
        let _ = device.send_raw(&head_of_publish()).await;
        let _ = device.send_raw(big.as_bytes()).await;
        unfinished.push(device);
    }
    assert!(gateway.metric_value("connections_cut_total{reason=\"held_too_much\"}").await > 900.0);
    peaks.push(("1000 unfinished packets", gateway.peak_kb()));
    drop(unfinished);

    // Long names and wills, which last as long as the connections.
    let mut named = Vec::new();
    for number in 0..1000 {
        let name = format!("{number}{}", "x".repeat(60_000));
        let will = "x".repeat(60_000);
        let hello = ConnectPacket {
            client: Some(&name),
            will: Some(("status/x", &will)),
            ..ConnectPacket::default()
        };
        named.push(WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V5, hello).await);
    }
    peaks.push(("1000 long names and wills", gateway.peak_kb()));
    drop(named);

    // Retained messages without end.
    let mut teller = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    for number in 0..500 {
        teller.send_qos0(&format!("status/{number}"), &big, true).await.unwrap();
    }
    teller.ping().await;
    assert!(gateway.metric_value("retained_refused_total").await > 400.0);
    peaks.push(("500 retained messages", gateway.peak_kb()));

    // Subscribers that do not read.
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
        assert_eq!(device.subscribe("status/x").await, 0);
        slow.push(device);
    }
    for _ in 0..200 {
        teller.send_qos0("status/x", &big, false).await.unwrap();
    }
    teller.ping().await;
    assert!(gateway.metric_value("downlink_missed_total").await > 5000.0);
    peaks.push(("50 subscribers that do not read", gateway.peak_kb()));
    drop(slow);

    // One client that sends as fast as it can and reads no acknowledgement.
    let mut flood = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    for id in 1..=500 {
        let packet = flood.packet_of(id, "sensors/farm/bay-1/probe", &big);
        flood.send_raw(&packet).await.unwrap();
    }
    for id in 1..=500 {
        assert_eq!(within_timeout(flood.next_packet()).await, ServerPacket::Acknowledged(id, 0));
    }
    peaks.push(("500 large messages at once", gateway.peak_kb()));

    println!("{peaks:?} (kB)");
    assert!(!gateway.has_ended());
    let (what, peak) = peaks.last().unwrap();
    assert!(*peak < MEMORY_KB_MAX, "{what}: {peaks:?} kB");
}

#[tokio::test]
async fn many_senders_at_once_do_not_either() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = LimitedGateway::start_limited(dir.path(), (4096, 4096), &[]).await;
    let big = "x".repeat(200_000);
    // Clients that send as fast as they can, and read no acknowledgement before the end.
    let floods = (0..200).map(|_| {
        let (mqtt, big) = (gateway.mqtt, big.clone());
        tokio::spawn(async move {
            let mut device = WireDevice::connect(mqtt, ProtocolVersion::V3).await;
            for id in 1..=10 {
                let packet = device.packet_of(id, "sensors/farm/bay-1/probe", &big);
                // The connection is closed when the log is behind.
                if device.send_raw(&packet).await.is_err() {
                    return 0;
                }
            }
            let mut acknowledged = 0;
            while let ServerPacket::Acknowledged(..) = device.next_packet().await {
                acknowledged += 1;
                if acknowledged == 10 {
                    break;
                }
            }
            acknowledged
        })
    });
    let mut acknowledged = 0;
    for flood in floods.collect::<Vec<_>>() {
        acknowledged += within_timeout(flood).await.unwrap();
    }
    assert!(acknowledged > 0);
    let peak = gateway.peak_kb();
    println!("200 clients with ten messages of 200 kB each: {peak} kB");
    assert!(!gateway.has_ended());
    assert!(peak < MEMORY_OF_MANY_KB_MAX, "{peak} kB");
}
