//! Slow, greedy and hostile clients of the listener: limits, and what is told.

mod support;

use std::time::{Duration, Instant};

use support::{
    Running, start,
    wire::{Device, Hello, Packet, Version},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const BOTH: [Version; 2] = [Version::V3, Version::V5];

fn metric(gateway: &Running, name: &str) -> f64 {
    let text = gateway.gateway.metrics();
    let line = text.lines().find(|line| line.starts_with(&format!("microclimate_gateway_{name} ")));
    line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse().ok()).unwrap()
}

fn cut(gateway: &Running, reason: &str) -> f64 {
    metric(gateway, &format!("connections_cut_total{{reason=\"{reason}\"}}"))
}

/// Waits until a count is as wanted.
async fn until(gateway: &Running, what: &str, is_so: impl Fn(&Running) -> bool) {
    let wait = async {
        while !is_so(gateway) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(support::AGES, wait).await;
    assert!(waited.is_ok(), "not {what}: {}", gateway.gateway.metrics());
}

#[tokio::test]
async fn at_the_limit_the_next_client_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &["mqtt.connections_max=2"]);
    let first = Device::connect(gateway.mqtt, Version::V3).await;
    let mut second = Device::connect(gateway.mqtt, Version::V5).await;
    let open = async |version| Device::open(gateway.mqtt, version, Hello::default()).await.1;
    // Server busy; server unavailable.
    assert_eq!(open(Version::V5).await, Packet::Connected(0x89));
    assert_eq!(open(Version::V3).await, Packet::Connected(3));
    assert_eq!(cut(&gateway, "too_many"), 2.0);
    second.ping().await;
    drop(first);
    until(&gateway, "left", |gateway| metric(gateway, "connections") < 2.0).await;
    let again = async { while open(Version::V3).await != Packet::Connected(0) {} };
    within(again).await;
    gateway.stop().await;
}

#[tokio::test]
async fn half_a_connect_is_cut_after_seconds_and_gives_way_before() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &["mqtt.connections_max=2"]);
    let began = Instant::now();
    let mut half = Vec::new();
    for bytes in [&b""[..], b"\x10\x20\x00\x04MQ"] {
        let mut stream = TcpStream::connect(gateway.mqtt).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        half.push(stream);
    }
    // There is no place, until one of them has had its second.
    let let_in = async {
        loop {
            let opened = Device::open(gateway.mqtt, Version::V3, Hello::default()).await;
            if opened.1 == Packet::Connected(0) {
                return opened.0;
            }
        }
    };
    let mut device = within(let_in).await;
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    device.ping().await;
    for mut stream in half {
        assert_eq!(within(stream.read(&mut [0; 16])).await.unwrap_or(0), 0);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(cut(&gateway, "half_open"), 2.0);
    gateway.stop().await;
}

/// The head of a PUBLISH with QoS 1 that says that it is this long.
fn head_of_publish(bytes: usize) -> Vec<u8> {
    let mut head = vec![0x32];
    let mut left = bytes;
    while left > 0 {
        let more = if left > 0x7F { 0x80 } else { 0 };
        head.push((left & 0x7F) as u8 | more);
        left >>= 7;
    }
    head
}

#[tokio::test]
async fn half_a_packet_that_does_not_go_on_is_cut_and_slow_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut stalled = Device::connect(gateway.mqtt, Version::V3).await;
    let mut idle = Device::connect(gateway.mqtt, Version::V5).await;
    let mut subscriber = Device::connect(gateway.mqtt, Version::V5).await;
    assert_eq!(subscriber.subscribe("x/#").await, 0);
    stalled.raw(&head_of_publish(100_000)).await.unwrap();
    stalled.raw(b"\x00\x03a/b").await.unwrap();
    assert_eq!(within(stalled.next()).await, Packet::End);
    assert_eq!(cut(&gateway, "stalled"), 1.0);
    idle.ping().await;
    subscriber.ping().await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_connections_hold_is_bounded_and_the_greedy_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 1 << 20;
    let gateway = start(dir.path(), &[&format!("limits.connections_bytes_max={limit}")]);
    let mut honest = Device::connect(gateway.mqtt, Version::V3).await;
    let mut greedy = Vec::new();
    for _ in 0..20 {
        let mut device = Device::connect(gateway.mqtt, Version::V3).await;
        device.raw(&head_of_publish(250_000)).await.unwrap();
        // Its connection may be cut while it sends.
        let _ = device.raw(&vec![b'x'; 200_000]).await;
        honest.deliver(1, "sensors/farm/bay-1/probe/temperature", "21.5").await;
        assert!(metric(&gateway, "connections_held_bytes") <= f64::from(limit));
        greedy.push(device);
    }
    until(&gateway, "cut", |gateway| cut(gateway, "held_too_much") >= 10.0).await;
    honest.ping().await;
    drop(greedy);
    let is_back = |gateway: &Running| metric(gateway, "connections_held_bytes") < 1000.0;
    until(&gateway, "given back", is_back).await;
    // Names and wills count as well, for as long as they are there.
    let will = "x".repeat(50_000);
    let hello = Hello { will: Some(("status/x", &will)), ..Hello::default() };
    let (device, answer) = Device::open(gateway.mqtt, Version::V5, hello).await;
    assert_eq!(answer, Packet::Connected(0));
    assert!(metric(&gateway, "connections_held_bytes") >= 50_000.0);
    drop(device);
    until(&gateway, "given back", is_back).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_misses_and_holds_little() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &[]);
        let mut slow = Device::connect(gateway.mqtt, version).await;
        assert_eq!(slow.subscribe("status/#").await, 0);
        let mut teller = Device::connect(gateway.mqtt, version).await;
        let payload = "x".repeat(200_000);
        for _ in 0..300 {
            teller.say("status/x", &payload, false).await.unwrap();
        }
        teller.ping().await;
        assert!(metric(&gateway, "downlink_missed_total") > 200.0);
        let waiting = metric(&gateway, "downlink_waiting_bytes");
        assert!(waiting <= f64::from(1 << 20), "{waiting}");
        // It reads again, and gets what waited and what comes.
        for _ in 0..4 {
            let got = within(slow.next()).await;
            assert!(matches!(got, Packet::Message(topic, _) if topic == "status/x"));
        }
        until(&gateway, "read", |gateway| metric(gateway, "downlink_waiting_bytes") < 1e6).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn of_one_subscribe_only_so_many_filters_are_looked_at() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &[]);
        for topic in 0..100 {
            gateway.gateway.downlink().publish(&format!("status/{topic}"), "on", true);
        }
        let mut device = Device::connect(gateway.mqtt, version).await;
        let codes = device.subscribe_all(&vec!["status/#"; 10_000]).await;
        let taken = codes.iter().take_while(|code| **code == 0).count();
        let refused = if version == Version::V5 { 0x97 } else { 0x80 };
        assert_eq!((taken, codes.len()), (64, 10_000), "{version:?}");
        assert!(codes[64..].iter().all(|code| *code == refused));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn filters_count_among_what_connections_hold() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V5).await;
    let before = metric(&gateway, "connections_held_bytes");
    let filters: Vec<String> = (0..64).map(|i| format!("{i}/{}", "x".repeat(1000))).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    for _ in 0..3 {
        assert!(device.subscribe_all(&filters).await.iter().all(|code| *code == 0));
        let held = metric(&gateway, "connections_held_bytes") - before;
        assert!((64_000.0..70_000.0).contains(&held), "{held}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_retained_is_bounded_in_bytes_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &["limits.retained_bytes_max=1000000"]);
    let mut device = Device::connect(gateway.mqtt, Version::V5).await;
    let payload = "x".repeat(200_000);
    for topic in 0..20 {
        device.retain(1, &format!("status/{topic}"), &payload).await;
        assert_eq!(within(device.next()).await, Packet::Acknowledged(1, 0));
    }
    assert_eq!(metric(&gateway, "retained_refused_total"), 16.0);
    assert!(metric(&gateway, "retained_bytes") <= 1e6);
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_is_there_again_after_a_restart() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let hello = Hello { client: Some("probe"), keeps_session: true, ..Hello::default() };
        let open =
            async |gateway: &Running, hello| Device::open(gateway.mqtt, version, hello).await;
        let gateway = start(dir.path(), &[]);
        let (mut device, answer) = open(&gateway, hello).await;
        assert_eq!(answer, Packet::Connected(0), "{version:?}");
        assert_eq!(device.subscribe("status/#").await, 0);
        device.goodbye().await;
        gateway.stop().await;

        let gateway = start(dir.path(), &[]);
        gateway.gateway.downlink().publish("status/x", "kept", true);
        let (mut device, answer) = open(&gateway, hello).await;
        assert_eq!(answer, Packet::Resumed, "{version:?}");
        // Its subscription too; what is retained comes as after a SUBSCRIBE.
        let kept = Packet::Message("status/x".to_owned(), "kept".to_owned());
        assert_eq!(within(device.next()).await, kept);
        gateway.gateway.downlink().publish("status/y", "new", false);
        let new = Packet::Message("status/y".to_owned(), "new".to_owned());
        assert_eq!(within(device.next()).await, new);
        drop(device);
        // A clean start ends it.
        let (device, answer) = open(&gateway, Hello { keeps_session: false, ..hello }).await;
        assert_eq!(answer, Packet::Connected(0), "{version:?}");
        drop(device);
        let (_, answer) = open(&gateway, hello).await;
        assert_eq!(answer, Packet::Connected(0), "{version:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_session_with_qos_2_is_not_said_to_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let hello = Hello { client: Some("probe"), keeps_session: true, ..Hello::default() };
    let (mut device, _) = Device::open(gateway.mqtt, Version::V3, hello).await;
    let topic = "sensors/farm/bay-1/probe/temperature";
    device.deliver_exactly_once(1, topic, "21.5").await;
    drop(device);
    let (_, answer) = Device::open(gateway.mqtt, Version::V3, hello).await;
    assert_eq!(answer, Packet::Connected(0));
    gateway.stop().await;
}

#[tokio::test]
async fn the_end_says_so_and_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V5).await;
    let half = TcpStream::connect(gateway.mqtt).await.unwrap();
    let began = Instant::now();
    gateway.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(within(device.next()).await, Packet::Other(14), "DISCONNECT");
    drop(half);
}
