//! Devices on real sockets: acknowledged messages are durable and in order.

mod support;

use microclimate_gateway::GatewayError;
use support::{
    RunningGateway, start_gateway,
    wire::{ConnectPacket, ProtocolVersion, ServerPacket, WireDevice},
    within_timeout,
};
use telemetry::{ReportSource, SensorReport, topic};

const PROBE: &str = "sensors/farm/bay-1/probe";
const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V3, ProtocolVersion::V5];

fn numbered_message(seq: u64) -> String {
    format!(r#"{{"temperature": 21.5, "seq": {seq}, "boot": "b"}}"#)
}

/// Returns the devices' sequence numbers in the log.
async fn logged_numbers(gateway: &RunningGateway) -> Vec<u64> {
    let entries = gateway.read_topic(topic::READINGS).await;
    let reports =
        entries.iter().map(|entry| SensorReport::from_json(&entry.record.payload).unwrap());
    reports.map(|report| report.seq.unwrap()).collect()
}

#[tokio::test]
async fn a_message_is_acknowledged_once_it_is_durable_and_not_before() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &[]);
        let mut device = WireDevice::connect(gateway.mqtt, version).await;
        device.deliver_message(1, PROBE, &numbered_message(0)).await;
        gateway.faults.hold_syncs();
        device.publish(2, PROBE, &numbered_message(1)).await.unwrap();
        gateway.wait_until("in flight", |ledger| ledger.totals.in_flight == 1).await;
        // The listener has had its turn, because it answered another client.
        WireDevice::connect(gateway.mqtt, version).await.ping().await;
        assert!(device.is_silent(), "{version:?}");
        assert_eq!(logged_numbers(&gateway).await, [0]);
        gateway.faults.release_syncs();
        assert_eq!(within_timeout(device.next_packet()).await, ServerPacket::Acknowledged(2, 0));
        assert_eq!(logged_numbers(&gateway).await, [0, 1]);
        gateway.check_totals([2, 2, 0, 0]);
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn a_message_in_parts_is_not_overtaken_by_those_after_it() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &[]);
        let mut device = WireDevice::connect(gateway.mqtt, version).await;
        let payloads: Vec<String> = (0..16).map(numbered_message).collect();
        // The topic and a part of the payload; then the listener has its turn.
        let pause = async { WireDevice::connect(gateway.mqtt, version).await.ping().await };
        device.publish_in_parts(PROBE, &payloads, PROBE.len() + 20, pause).await;
        for id in 1..=16 {
            assert_eq!(
                within_timeout(device.next_packet()).await,
                ServerPacket::Acknowledged(id, 0),
                "{version:?}"
            );
        }
        assert_eq!(logged_numbers(&gateway).await, (0..16).collect::<Vec<_>>(), "{version:?}");
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_the_gateway_ends() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let mut gateway = start_gateway(dir.path(), &[]);
        let mut device = WireDevice::connect(gateway.mqtt, version).await;
        gateway.faults.fail_syncs();
        device.publish(1, PROBE, &numbered_message(0)).await.unwrap();
        assert!(
            !matches!(within_timeout(device.next_packet()).await, ServerPacket::Acknowledged(..)),
            "{version:?}"
        );
        assert!(matches!(gateway.wait_until_ended().await, Err(GatewayError::Log(_))));
    }
}

#[tokio::test]
async fn messages_are_logged_and_acknowledged_in_the_order_sent() {
    const MESSAGES: u16 = 20_000;
    // At most Receive Maximum at once, as MQTT 5 requires.
    const AT_ONCE: u16 = 200;
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &[]);
        let mut device = WireDevice::connect(gateway.mqtt, version).await;
        for id in 1..=MESSAGES + AT_ONCE {
            if id <= MESSAGES {
                device.publish(id, PROBE, &numbered_message(id.into())).await.unwrap();
            }
            if id > AT_ONCE {
                let answer = within_timeout(device.next_packet()).await;
                assert_eq!(answer, ServerPacket::Acknowledged(id - AT_ONCE, 0), "{version:?}");
            }
        }
        assert_eq!(logged_numbers(&gateway).await, (1..=MESSAGES.into()).collect::<Vec<u64>>());
        let n = MESSAGES.into();
        gateway.check_totals([n, n, 0, 0]);
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_at_once_loses_nothing_that_it_sent_at_qos_0() {
    // Fewer messages than are read at once, about as many, and many times as many.
    for count in [3, 1_000, 20_000] {
        for version in BOTH {
            let dir = tempfile::tempdir().unwrap();
            let gateway = start_gateway(dir.path(), &[]);
            let device = WireDevice::connect(gateway.mqtt, version).await;
            let payloads: Vec<String> = (0..count).map(numbered_message).collect();
            device.send_all_and_leave(PROBE, &payloads).await;
            gateway.wait_until("all logged", |ledger| ledger.totals.logged == count).await;
            assert_eq!(
                logged_numbers(&gateway).await,
                (0..count).collect::<Vec<_>>(),
                "{version:?}"
            );
            gateway.check_totals([count, count, 0, 0]);
            gateway.stop_gateway().await;
        }
    }
}

#[tokio::test]
async fn what_comes_twice_is_acknowledged_twice_and_logged_once() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    for version in BOTH {
        let mut device = WireDevice::connect(gateway.mqtt, version).await;
        device.deliver_message(1, PROBE, &numbered_message(7)).await;
    }
    gateway.check_totals([2, 1, 0, 1]);
    assert_eq!(logged_numbers(&gateway).await, [7]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn dead_letters_keep_their_bytes_and_reason_and_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    device.deliver_message(1, PROBE, r#"{"temperature": 1, "warmth": 2}"#).await;
    device.deliver_message(2, "tele/x/SENSOR", "{").await;
    gateway.check_totals([3, 1, 2, 0]);
    let letters = gateway.read_topic(topic::DEAD_LETTERS).await;
    let record = &letters[1].record;
    assert_eq!((record.key.as_str(), &record.payload[..]), ("tele/x/SENSOR", &b"{"[..]));
    assert_eq!(record.header_value("reason"), Some(&b"bad_topic"[..]));
    let page = gateway.get_json("/dead-letters?limit=1").await;
    assert_eq!(page["dead_letters"].as_array().unwrap().len(), 1);
    assert_eq!(page["dead_letters"][0]["topic"], "tele/x/SENSOR");
    assert_eq!(page["by_reason"]["unknown_metric"], 1);
    gateway.stop_gateway().await;

    let again = start_gateway(dir.path(), &[]);
    WireDevice::connect(again.mqtt, ProtocolVersion::V5).await.deliver_message(1, PROBE, "").await;
    let topics: Vec<_> =
        again.gateway.latest_dead_letters(9).into_iter().map(|l| l.topic).collect();
    assert_eq!(topics, [PROBE, "tele/x/SENSOR", PROBE]);
    again.stop_gateway().await;
}

#[tokio::test]
async fn the_log_goes_on_where_it_was_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let gateway = start_gateway(dir.path(), &[]);
        let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
        for seq in run * 10..(run + 1) * 10 {
            device.deliver_message(1, PROBE, &numbered_message(seq)).await;
        }
        // The ledger continues across runs.
        let all = (run + 1) * 10;
        gateway.check_totals([all, all, 0, 0]);
        assert_eq!(logged_numbers(&gateway).await, (0..all).collect::<Vec<u64>>());
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn draining_acknowledges_what_is_under_way() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let mut gateway = start_gateway(dir.path(), &[]);
        let mut device = WireDevice::connect(gateway.mqtt, version).await;
        gateway.faults.hold_syncs();
        device.publish(1, PROBE, &numbered_message(0)).await.unwrap();
        gateway.wait_until("in flight", |ledger| ledger.totals.in_flight == 1).await;
        gateway.shutdown.cancel();
        gateway.faults.release_syncs();
        assert_eq!(
            within_timeout(device.next_packet()).await,
            ServerPacket::Acknowledged(1, 0),
            "{version:?}"
        );
        gateway.wait_until_ended().await.unwrap();
    }
}

#[tokio::test]
async fn draining_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = start_gateway(dir.path(), &["limits.drain_s=0"]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    gateway.faults.hold_syncs();
    device.publish(1, PROBE, &numbered_message(0)).await.unwrap();
    gateway.wait_until("in flight", |ledger| ledger.totals.in_flight == 1).await;
    gateway.shutdown.cancel();
    gateway.wait_until_ended().await.unwrap();
    assert!(!matches!(within_timeout(device.next_packet()).await, ServerPacket::Acknowledged(..)));
}

#[tokio::test]
async fn a_log_that_is_behind_stops_reading_from_who_brings_more() {
    let set = ["mqtt.packet_bytes_max=1000", "limits.in_flight_bytes_max=60000"];
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &set);
        let mut device = WireDevice::connect(gateway.mqtt, version).await;
        gateway.faults.hold_syncs();
        // Together they exceed the messages that may be in flight; one read of the connection
        // does not.
        for id in 1..=100 {
            let padded = format!("{}{}", numbered_message(id.into()), " ".repeat(800));
            device.publish(id, PROBE, &padded).await.unwrap();
        }
        gateway.wait_until("in flight", |ledger| ledger.totals.in_flight > 10).await;
        // The listener has had its turn, because it answered another client.
        WireDevice::connect(gateway.mqtt, version).await.ping().await;
        assert!(gateway.gateway.ledger_snapshot().totals.in_flight < 60);
        assert!(device.is_silent(), "{version:?}");
        gateway.faults.release_syncs();
        for id in 1..=100 {
            assert_eq!(
                within_timeout(device.next_packet()).await,
                ServerPacket::Acknowledged(id, 0),
                "{version:?}"
            );
        }
        assert_eq!(logged_numbers(&gateway).await, (1..=100).collect::<Vec<u64>>(), "{version:?}");
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn a_log_too_far_behind_closes_connections_and_loses_nothing() {
    let set = ["mqtt.packet_bytes_max=1000", "limits.in_flight_bytes_max=2000"];
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &set);
        gateway.faults.hold_syncs();
        let mut devices = Vec::new();
        for id in 1..=20 {
            let mut device = WireDevice::connect(gateway.mqtt, version).await;
            device.publish(id, PROBE, &numbered_message(id.into())).await.unwrap();
            devices.push((id, device));
        }
        // The last one arrived when there was no room any more.
        assert!(!matches!(
            within_timeout(devices[19].1.next_packet()).await,
            ServerPacket::Acknowledged(..)
        ));
        gateway.faults.release_syncs();
        let mut closed = 0;
        let mut again = WireDevice::connect(gateway.mqtt, version).await;
        for (id, mut device) in devices {
            if !matches!(within_timeout(device.next_packet()).await, ServerPacket::Acknowledged(..))
            {
                again.deliver_message(id, PROBE, &numbered_message(id.into())).await;
                closed += 1;
            }
        }
        assert!(closed > 5, "{version:?}: {closed}");
        let mut logged = logged_numbers(&gateway).await;
        logged.sort_unstable();
        assert_eq!(logged, (1..=20).collect::<Vec<u64>>(), "{version:?}");
        assert_eq!(gateway.gateway.ledger_snapshot().totals.unaccounted, 0);
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn only_the_right_password_opens() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &["mqtt.user=bay", "mqtt.password=s3cret"]);
    for version in BOTH {
        let check = async |credentials, expect| {
            let hello = ConnectPacket { credentials, ..ConnectPacket::default() };
            let (_, answer) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
            assert_eq!(answer == ServerPacket::Connected(0), expect, "{version:?} {credentials:?}");
        };
        check(None, false).await;
        check(Some(("bay", "secret")), false).await;
        check(Some(("bat", "s3cret")), false).await;
        check(Some(("bay", "s3cret")), true).await;
    }
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_client_that_comes_back_takes_the_place_of_its_connection_before() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    for version in BOTH {
        let hello = ConnectPacket {
            client: Some("bay-1-probe"),
            will: Some(("status/p", "gone")),
            ..ConnectPacket::default()
        };
        let (mut before, _) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
        before.deliver_message(1, PROBE, r#"{"temperature": 1}"#).await;
        let (mut now, answer) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
        assert_eq!(answer, ServerPacket::Connected(0));
        loop {
            match within_timeout(before.next_packet()).await {
                ServerPacket::End => break,
                // MQTT 5 states the reason: DISCONNECT.
                other => assert_eq!(other, ServerPacket::Other(14)),
            }
        }
        now.deliver_message(2, PROBE, r#"{"temperature": 2}"#).await;
    }
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn dead_letters_become_readings_once_their_metric_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    device
        .deliver_message(1, PROBE, r#"{"warmth": 2, "ts": 1700000000000, "seq": 5, "boot": "b"}"#)
        .await;
    device.deliver_message(2, PROBE, "{").await;
    let again = async |body: &str| gateway.post_json("/dead-letters/reinject", body).await;
    assert_eq!(again(r#"{"dry_run": true}"#).await["selected"], 2);
    let outcome = again("{}").await;
    assert_eq!(
        (&outcome["reinjected"], &outcome["still_dead"]["unknown_metric"]),
        (&0.into(), &1.into())
    );
    assert_eq!(gateway.read_topic(topic::DEAD_LETTERS).await.len(), 2);

    let mut settings = gateway.settings.clone();
    let warmth = toml::from_str("unit = '°C'\nmin = -40.0\nmax = 60.0").unwrap();
    settings.metrics.insert("warmth".into(), warmth);
    gateway.gateway.apply_settings(&settings).unwrap();
    assert_eq!(again(r#"{"reason": "unknown_metric"}"#).await["reinjected"], 1);
    let entries = gateway.read_topic(topic::READINGS).await;
    let report = SensorReport::from_json(&entries[0].record.payload).unwrap();
    assert_eq!(
        (report.source, report.readings[0].event_ms),
        (ReportSource::Backfill, 1_700_000_000_000)
    );
    assert!(report.arrival_ms > 1_700_000_000_000);
    // It is reinjected once, and no longer shown.
    assert_eq!(again("{}").await["selected"], 1);
    let shown = gateway.get_json("/dead-letters").await;
    assert_eq!(shown["dead_letters"].as_array().unwrap().len(), 1);
    assert_eq!(gateway.gateway.ledger_snapshot().totals.unaccounted, 0);
    gateway.stop_gateway().await;

    let restarted = start_gateway(dir.path(), &[]);
    // A client is admitted after the earlier dead letters were loaded.
    WireDevice::connect(restarted.mqtt, ProtocolVersion::V5).await;
    assert_eq!(restarted.gateway.latest_dead_letters(9).len(), 1);
    restarted.stop_gateway().await;
}

#[tokio::test]
async fn new_settings_are_in_force_at_once_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut settings = gateway.settings.clone();
    settings.limits.payload_bytes_max = 4;
    settings.mqtt.receive_maximum = 7;
    let refused = gateway.gateway.apply_settings(&settings).unwrap_err().to_string();
    assert!(refused.contains("mqtt.receive_maximum") && refused.contains("restart"), "{refused}");
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    device.deliver_message(1, PROBE, &numbered_message(0)).await;
    gateway.check_totals([1, 1, 0, 0]);

    settings.mqtt.receive_maximum = gateway.settings.mqtt.receive_maximum;
    gateway.gateway.apply_settings(&settings).unwrap();
    device.deliver_message(2, PROBE, &numbered_message(1)).await;
    gateway.check_totals([2, 1, 1, 0]);
    // An anonymous client is no longer admitted.
    settings.mqtt.password = "s3cret".into();
    gateway.gateway.apply_settings(&settings).unwrap();
    assert_eq!(within_timeout(device.next_packet()).await, ServerPacket::End);
    let (_, answer) =
        WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V3, ConnectPacket::default())
            .await;
    assert_ne!(answer, ServerPacket::Connected(0));
    gateway.stop_gateway().await;
}

/// Sends messages of one device without a clock, in order, and checks how many are logged and how
/// many are duplicates.
async fn check_copies(
    messages: impl IntoIterator<Item = String>,
    expect: (u64, u64),
) -> serde_json::Value {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    let mut sent = 0;
    for payload in messages {
        device.deliver_message(1, PROBE, &payload).await;
        sent += 1;
    }
    gateway.check_totals([sent, expect.0, 0, expect.1]);
    let shown = gateway.get_json("/duplicates?limit=5000").await;
    gateway.stop_gateway().await;
    shown
}

#[tokio::test]
async fn counters_that_come_around_lose_nothing() {
    let of = |boot: &'static str, width: u64| {
        move |i: u64| format!(r#"{{"temperature": 21.5, "seq": {}, "boot": "{boot}"}}"#, i % width)
    };
    check_copies((0..2_000).map(of("a", 256)), (2_000, 0)).await;
    // Three runs of a hundred messages whose boot is the firmware's version.
    check_copies((0..300).map(of("1.2.0", 100)), (300, 0)).await;
    // A value for each number, the same in each run.
    let valued = (0..300).map(|i| {
        let seq = i % 100;
        format!(r#"{{"temperature": {}, "seq": {seq}, "boot": "1.2.0"}}"#, f64::from(seq) / 4.0)
    });
    check_copies(valued, (300, 0)).await;
}

#[tokio::test]
async fn what_is_sent_again_is_found_and_can_be_looked_at() {
    let shown =
        check_copies((0..100).chain(60..100).chain(100..110).map(numbered_message), (110, 40))
            .await;
    let duplicates = shown["duplicates"].as_array().unwrap();
    assert_eq!(duplicates.len(), 40);
    let newest = &duplicates[0];
    assert_eq!(newest["seq"], 99);
    assert_eq!(newest["boot"], "b");
    assert_eq!(newest["device"], "probe");
    assert_eq!(newest["zone"], "farm/bay-1");
    assert_eq!(newest["topic"], PROBE);
    assert_eq!(newest["payload"], numbered_message(99));
    assert_eq!(newest["readings"], 1);
    assert!(newest["original_ms"].as_i64() < newest["received_ms"].as_i64());
    assert!(newest["why"].as_str().unwrap().contains("same number and content"));
}

#[tokio::test]
async fn the_dup_flag_tells_even_without_a_boot() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    let payload = r#"{"temperature": 21.5, "seq": 3}"#;
    device.deliver_message(1, PROBE, payload).await;
    device.publish_again(1, PROBE, payload).await;
    gateway.check_totals([2, 1, 0, 1]);
    // A new number is new, whatever the flag says.
    device.publish_again(2, PROBE, r#"{"temperature": 21.5, "seq": 4}"#).await;
    gateway.check_totals([3, 2, 0, 1]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn equal_values_of_one_moment_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    for id in 1..=200 {
        device.publish(id, PROBE, r#"{"temperature": 21.5}"#).await.unwrap();
    }
    for id in 1..=200 {
        assert_eq!(within_timeout(device.next_packet()).await, ServerPacket::Acknowledged(id, 0));
    }
    let entries = gateway.read_topic(topic::READINGS).await;
    let events = entries
        .iter()
        .map(|entry| SensorReport::from_json(&entry.record.payload).unwrap().readings[0].event_ms)
        .collect::<Vec<_>>();
    assert!(events.is_sorted_by(|a, b| a < b), "{events:?}");
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_record_has_the_time_of_its_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    let replay = r#"{"temperature": 1, "ts": 1600000000000, "source": "replay"}"#;
    device.deliver_message(1, PROBE, replay).await;
    let entry = gateway.read_topic(topic::READINGS).await.remove(0);
    let report = SensorReport::from_json(&entry.record.payload).unwrap();
    assert_eq!(report.arrival_ms, 1_600_000_000_000);
    assert!(entry.record.timestamp_ms >= gateway.gateway.ledger_snapshot().since_ms);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_will_is_a_message_like_any_other() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &[]);
        for (topic, payload) in [("sensors/farm/bay-1/dying/temperature", "-127"), ("x/y", "gone")]
        {
            let hello = ConnectPacket { will: Some((topic, payload)), ..ConnectPacket::default() };
            drop(WireDevice::open_connection(gateway.mqtt, version, hello).await);
        }
        let ledger = gateway
            .wait_until("both wills", |ledger| {
                ledger.totals.logged + ledger.totals.dead_lettered == 2
            })
            .await;
        assert_eq!((ledger.totals.logged, ledger.totals.dead_lettered), (1, 1), "{version:?}");
        gateway.check_totals([2, 1, 1, 0]);
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn clients_without_a_name_are_let_in_side_by_side() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start_gateway(dir.path(), &[]);
        let hello = ConnectPacket { client: Some(""), ..ConnectPacket::default() };
        let (mut first, answer) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
        assert_eq!(answer, ServerPacket::Connected(0), "{version:?}");
        let (mut second, answer) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
        assert_eq!(answer, ServerPacket::Connected(0), "{version:?}");
        first.ping().await;
        second.ping().await;
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn qos_2_of_mqtt_3_is_done_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V3).await;
    for seq in 0..20 {
        device.deliver_exactly_once(1 + seq as u16 % 3, PROBE, &numbered_message(seq)).await;
    }
    gateway.check_totals([20, 20, 0, 0]);
    gateway.stop_gateway().await;
}
