//! Slow, greedy and hostile clients of the listener: limits and refusals.

mod support;

use std::time::{Duration, Instant};

use support::{
    RunningGateway, start_gateway,
    wire::{ConnectPacket, ProtocolVersion, ServerPacket, WireDevice},
    within_timeout,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V3, ProtocolVersion::V5];

fn metric_value(gateway: &RunningGateway, name: &str) -> f64 {
    let text = gateway.gateway.render_metrics();
    let line = text.lines().find(|line| line.starts_with(&format!("microclimate_gateway_{name} ")));
    line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse().ok()).unwrap()
}

fn cut_count(gateway: &RunningGateway, reason: &str) -> f64 {
    metric_value(gateway, &format!("connections_cut_total{{reason=\"{reason}\"}}"))
}

/// Waits until a condition holds.
async fn wait_until(gateway: &RunningGateway, what: &str, is_so: impl Fn(&RunningGateway) -> bool) {
    let wait = async {
        while !is_so(gateway) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(support::TEST_TIMEOUT, wait).await;
    assert!(waited.is_ok(), "not {what}: {}", gateway.gateway.render_metrics());
}

#[tokio::test]
async fn at_the_limit_the_next_client_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &["mqtt.connections_max=2"]);
    let first = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    let mut second = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    let open = async |version| {
        WireDevice::open_connection(gateway.mqtt, version, ConnectPacket::default()).await.1
    };
    // Reason codes: server busy; server unavailable.
    assert_eq!(open(ProtocolVersion::V5).await, ServerPacket::Connected(0x89));
    assert_eq!(open(ProtocolVersion::V3).await, ServerPacket::Connected(3));
    assert_eq!(cut_count(&gateway, "too_many"), 2.0);
    second.ping().await;
    drop(first);
    wait_until(&gateway, "left", |gateway| metric_value(gateway, "connections") < 2.0).await;
    let again = async { while open(ProtocolVersion::V3).await != ServerPacket::Connected(0) {} };
    within_timeout(again).await;
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn half_a_connect_is_cut_after_seconds_and_gives_way_before() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &["mqtt.connections_max=2"]);
    let began = Instant::now();
    let mut half = Vec::new();
    for bytes in [&b""[..], b"\x10\x20\x00\x04MQ"] {
        let mut stream = TcpStream::connect(gateway.mqtt).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        half.push(stream);
    }
    // There is no slot, until one of the connections is a second old.
    let let_in = async {
        loop {
            let opened = WireDevice::open_connection(
                gateway.mqtt,
                ProtocolVersion::V3,
                ConnectPacket::default(),
            )
            .await;
            if opened.1 == ServerPacket::Connected(0) {
                return opened.0;
            }
        }
    };
    let mut device = within_timeout(let_in).await;
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    device.ping().await;
    for mut stream in half {
        assert_eq!(within_timeout(stream.read(&mut [0; 16])).await.unwrap_or(0), 0);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(cut_count(&gateway, "half_open"), 2.0);
    gateway.stop_gateway().await;
}

/// Returns the head of a PUBLISH with QoS 1 that announces this length.
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
    let gateway = start_gateway(dir.path(), &[]);
    let mut stalled = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    let mut idle = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    let mut subscriber = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    assert_eq!(subscriber.subscribe("x/#").await, 0);
    stalled.send_raw(&head_of_publish(100_000)).await.unwrap();
    stalled.send_raw(b"\x00\x03a/b").await.unwrap();
    assert_eq!(within_timeout(stalled.next_packet()).await, ServerPacket::End);
    assert_eq!(cut_count(&gateway, "stalled"), 1.0);
    idle.ping().await;
    subscriber.ping().await;
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn what_connections_hold_is_bounded_and_the_greedy_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 1 << 20;
    let gateway = start_gateway(dir.path(), &[&format!("limits.connections_bytes_max={limit}")]);
    let mut honest = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    let mut greedy = Vec::new();
    for _ in 0..20 {
        let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
        device.send_raw(&head_of_publish(250_000)).await.unwrap();
        // The connection may be cut while the device sends.
        let _ = device.send_raw(&vec![b'x'; 200_000]).await;
        honest.deliver_message(1, "sensors/farm/bay-1/probe/temperature", "21.5").await;
        assert!(metric_value(&gateway, "connections_held_bytes") <= f64::from(limit));
        greedy.push(device);
    }
    wait_until(&gateway, "cut", |gateway| cut_count(gateway, "held_too_much") >= 10.0).await;
    honest.ping().await;
    drop(greedy);
    let is_back =
        |gateway: &RunningGateway| metric_value(gateway, "connections_held_bytes") < 1000.0;
    wait_until(&gateway, "given back", is_back).await;
    // Names and wills count too, as long as the connections last.
    let will = "x".repeat(50_000);
    let hello = ConnectPacket { will: Some(("status/x", &will)), ..ConnectPacket::default() };
    let (device, answer) =
        WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V5, hello).await;
    assert_eq!(answer, ServerPacket::Connected(0));
    assert!(metric_value(&gateway, "connections_held_bytes") >= 50_000.0);
    drop(device);
    wait_until(&gateway, "given back", is_back).await;
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_misses_and_holds_little() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &[]);
        let mut slow = WireDevice::connect(gateway.mqtt, version).await;
        assert_eq!(slow.subscribe("status/#").await, 0);
        let mut teller = WireDevice::connect(gateway.mqtt, version).await;
        let payload = "x".repeat(200_000);
        for _ in 0..300 {
            teller.send_qos0("status/x", &payload, false).await.unwrap();
        }
        teller.ping().await;
        assert!(metric_value(&gateway, "downlink_missed_total") > 200.0);
        let waiting = metric_value(&gateway, "downlink_waiting_bytes");
        assert!(waiting <= f64::from(1 << 20), "{waiting}");
        // The subscriber reads again, and gets the waiting and the new messages.
        for _ in 0..4 {
            let got = within_timeout(slow.next_packet()).await;
            assert!(matches!(got, ServerPacket::Message(topic, _) if topic == "status/x"));
        }
        wait_until(&gateway, "read", |gateway| {
            metric_value(gateway, "downlink_waiting_bytes") < 1e6
        })
        .await;
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn of_one_subscribe_only_so_many_filters_are_looked_at() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &[]);
        for topic in 0..100 {
            gateway.gateway.downlink().publish(&format!("status/{topic}"), "on", true);
        }
        let mut device = WireDevice::connect(gateway.mqtt, version).await;
        let codes = device.subscribe_all(&vec!["status/#"; 10_000]).await;
        let accepted = codes.iter().take_while(|code| **code == 0).count();
        let refused = if version == ProtocolVersion::V5 { 0x97 } else { 0x80 };
        assert_eq!((accepted, codes.len()), (64, 10_000), "{version:?}");
        assert!(codes[64..].iter().all(|code| *code == refused));
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn filters_count_among_what_connections_hold() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    let before = metric_value(&gateway, "connections_held_bytes");
    let filters: Vec<String> = (0..64).map(|i| format!("{i}/{}", "x".repeat(1000))).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    for _ in 0..3 {
        assert!(device.subscribe_all(&filters).await.iter().all(|code| *code == 0));
        let held = metric_value(&gateway, "connections_held_bytes") - before;
        assert!((64_000.0..70_000.0).contains(&held), "{held}");
    }
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn what_is_retained_is_bounded_in_bytes_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &["limits.retained_bytes_max=1000000"]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    let payload = "x".repeat(200_000);
    for topic in 0..20 {
        device.retain(1, &format!("status/{topic}"), &payload).await;
        assert_eq!(within_timeout(device.next_packet()).await, ServerPacket::Acknowledged(1, 0));
    }
    assert_eq!(metric_value(&gateway, "retained_refused_total"), 16.0);
    assert!(metric_value(&gateway, "retained_bytes") <= 1e6);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_session_is_there_again_after_a_restart() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let hello = ConnectPacket {
            client: Some("probe"),
            keeps_session: true,
            ..ConnectPacket::default()
        };
        let open = async |gateway: &RunningGateway, hello| {
            WireDevice::open_connection(gateway.mqtt, version, hello).await
        };
        let gateway = start_gateway(dir.path(), &[]);
        let (mut device, answer) = open(&gateway, hello).await;
        assert_eq!(answer, ServerPacket::Connected(0), "{version:?}");
        assert_eq!(device.subscribe("status/#").await, 0);
        device.disconnect().await;
        gateway.stop_gateway().await;

        let gateway = start_gateway(dir.path(), &[]);
        gateway.gateway.downlink().publish("status/x", "kept", true);
        let (mut device, answer) = open(&gateway, hello).await;
        assert_eq!(answer, ServerPacket::Resumed, "{version:?}");
        // Its subscription is resumed too; the retained message follows as after a SUBSCRIBE.
        let retained = ServerPacket::Message("status/x".to_owned(), "kept".to_owned());
        assert_eq!(within_timeout(device.next_packet()).await, retained);
        gateway.gateway.downlink().publish("status/y", "new", false);
        let new = ServerPacket::Message("status/y".to_owned(), "new".to_owned());
        assert_eq!(within_timeout(device.next_packet()).await, new);
        drop(device);
        // A clean start ends the session.
        let (device, answer) =
            open(&gateway, ConnectPacket { keeps_session: false, ..hello }).await;
        assert_eq!(answer, ServerPacket::Connected(0), "{version:?}");
        drop(device);
        let (_, answer) = open(&gateway, hello).await;
        assert_eq!(answer, ServerPacket::Connected(0), "{version:?}");
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn a_session_with_qos_2_is_not_said_to_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let hello =
        ConnectPacket { client: Some("probe"), keeps_session: true, ..ConnectPacket::default() };
    let (mut device, _) =
        WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V3, hello).await;
    let topic = "sensors/farm/bay-1/probe/temperature";
    device.deliver_exactly_once(1, topic, "21.5").await;
    drop(device);
    let (_, answer) = WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V3, hello).await;
    assert_eq!(answer, ServerPacket::Connected(0));
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn the_end_says_so_and_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    let half = TcpStream::connect(gateway.mqtt).await.unwrap();
    let began = Instant::now();
    gateway.stop_gateway().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(within_timeout(device.next_packet()).await, ServerPacket::Other(14), "DISCONNECT");
    drop(half);
}
