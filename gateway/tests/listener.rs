//! Devices on real sockets: what is acknowledged is durable, in order.

mod support;

use gateway::GatewayError;
use support::{
    Running, start,
    wire::{Device, Hello, Packet, Version},
    within,
};
use telemetry::{Report, Source, topic};

const PROBE: &str = "sensors/farm/bay-1/probe";
const BOTH: [Version; 2] = [Version::V3, Version::V5];

fn message(seq: u64) -> String {
    format!(r#"{{"temperature": 21.5, "seq": {seq}, "boot": "b"}}"#)
}

/// The devices' numbers in the log.
async fn logged(gateway: &Running) -> Vec<u64> {
    let entries = gateway.read(topic::READINGS).await;
    let reports = entries.iter().map(|entry| Report::from_json(&entry.record.payload).unwrap());
    reports.map(|report| report.seq.unwrap()).collect()
}

#[tokio::test]
async fn a_message_is_acknowledged_once_it_is_durable_and_not_before() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &[]);
        let mut device = Device::connect(gateway.mqtt, version).await;
        device.deliver(1, PROBE, &message(0)).await;
        gateway.faults.hold();
        device.publish(2, PROBE, &message(1)).await.unwrap();
        gateway.until("in flight", |ledger| ledger.totals.in_flight == 1).await;
        // The listener has had its turn: it answered another.
        Device::connect(gateway.mqtt, version).await.ping().await;
        assert!(device.is_silent(), "{version:?}");
        assert_eq!(logged(&gateway).await, [0]);
        gateway.faults.release();
        assert_eq!(within(device.next()).await, Packet::Acknowledged(2, 0));
        assert_eq!(logged(&gateway).await, [0, 1]);
        gateway.check([2, 2, 0, 0]);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_message_in_parts_is_not_overtaken_by_those_after_it() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &[]);
        let mut device = Device::connect(gateway.mqtt, version).await;
        let payloads: Vec<String> = (0..16).map(message).collect();
        // The topic and a part of the payload; then the listener has its turn.
        let pause = async { Device::connect(gateway.mqtt, version).await.ping().await };
        device.publish_in_parts(PROBE, &payloads, PROBE.len() + 20, pause).await;
        for id in 1..=16 {
            assert_eq!(within(device.next()).await, Packet::Acknowledged(id, 0), "{version:?}");
        }
        assert_eq!(logged(&gateway).await, (0..16).collect::<Vec<_>>(), "{version:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_the_gateway_ends() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let mut gateway = start(dir.path(), &[]);
        let mut device = Device::connect(gateway.mqtt, version).await;
        gateway.faults.fail();
        device.publish(1, PROBE, &message(0)).await.unwrap();
        assert!(!matches!(within(device.next()).await, Packet::Acknowledged(..)), "{version:?}");
        assert!(matches!(gateway.ended().await, Err(GatewayError::Log(_))));
    }
}

#[tokio::test]
async fn messages_are_logged_and_acknowledged_in_the_order_sent() {
    const MESSAGES: u16 = 20_000;
    // At most Receive Maximum at once, as MQTT 5 has it.
    const AT_ONCE: u16 = 200;
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &[]);
        let mut device = Device::connect(gateway.mqtt, version).await;
        for id in 1..=MESSAGES + AT_ONCE {
            if id <= MESSAGES {
                device.publish(id, PROBE, &message(id.into())).await.unwrap();
            }
            if id > AT_ONCE {
                let answer = within(device.next()).await;
                assert_eq!(answer, Packet::Acknowledged(id - AT_ONCE, 0), "{version:?}");
            }
        }
        assert_eq!(logged(&gateway).await, (1..=MESSAGES.into()).collect::<Vec<u64>>());
        let n = MESSAGES.into();
        gateway.check([n, n, 0, 0]);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_at_once_loses_nothing_that_it_sent_at_qos_0() {
    // Fewer than are read at once, about as many, and many times as many.
    for count in [3, 1_000, 20_000] {
        for version in BOTH {
            let dir = tempfile::tempdir().unwrap();
            let gateway = start(dir.path(), &[]);
            let device = Device::connect(gateway.mqtt, version).await;
            let payloads: Vec<String> = (0..count).map(message).collect();
            device.say_and_leave(PROBE, &payloads).await;
            gateway.until("all logged", |ledger| ledger.totals.logged == count).await;
            assert_eq!(logged(&gateway).await, (0..count).collect::<Vec<_>>(), "{version:?}");
            gateway.check([count, count, 0, 0]);
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn what_comes_twice_is_acknowledged_twice_and_logged_once() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    for version in BOTH {
        let mut device = Device::connect(gateway.mqtt, version).await;
        device.deliver(1, PROBE, &message(7)).await;
    }
    gateway.check([2, 1, 0, 1]);
    assert_eq!(logged(&gateway).await, [7]);
    gateway.stop().await;
}

#[tokio::test]
async fn dead_letters_keep_their_bytes_and_reason_and_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V5).await;
    device.deliver(1, PROBE, r#"{"temperature": 1, "warmth": 2}"#).await;
    device.deliver(2, "tele/x/SENSOR", "{").await;
    gateway.check([3, 1, 2, 0]);
    let letters = gateway.read(topic::DEAD_LETTERS).await;
    let record = &letters[1].record;
    assert_eq!((record.key.as_str(), &record.payload[..]), ("tele/x/SENSOR", &b"{"[..]));
    assert_eq!(record.header("reason"), Some(&b"bad_topic"[..]));
    let page = gateway.get("/dead-letters?limit=1").await;
    assert_eq!(page["dead_letters"].as_array().unwrap().len(), 1);
    assert_eq!(page["dead_letters"][0]["topic"], "tele/x/SENSOR");
    assert_eq!(page["by_reason"]["unknown_metric"], 1);
    gateway.stop().await;

    let again = start(dir.path(), &[]);
    Device::connect(again.mqtt, Version::V5).await.deliver(1, PROBE, "").await;
    let topics: Vec<_> = again.gateway.dead_letters(9).into_iter().map(|l| l.topic).collect();
    assert_eq!(topics, [PROBE, "tele/x/SENSOR", PROBE]);
    again.stop().await;
}

#[tokio::test]
async fn the_log_goes_on_where_it_was_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let gateway = start(dir.path(), &[]);
        let mut device = Device::connect(gateway.mqtt, Version::V3).await;
        for seq in run * 10..(run + 1) * 10 {
            device.deliver(1, PROBE, &message(seq)).await;
        }
        // The ledger counts on.
        let all = (run + 1) * 10;
        gateway.check([all, all, 0, 0]);
        assert_eq!(logged(&gateway).await, (0..all).collect::<Vec<u64>>());
        gateway.stop().await;
    }
}

#[tokio::test]
async fn draining_acknowledges_what_is_under_way() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let mut gateway = start(dir.path(), &[]);
        let mut device = Device::connect(gateway.mqtt, version).await;
        gateway.faults.hold();
        device.publish(1, PROBE, &message(0)).await.unwrap();
        gateway.until("in flight", |ledger| ledger.totals.in_flight == 1).await;
        gateway.shutdown.cancel();
        gateway.faults.release();
        assert_eq!(within(device.next()).await, Packet::Acknowledged(1, 0), "{version:?}");
        gateway.ended().await.unwrap();
    }
}

#[tokio::test]
async fn draining_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = start(dir.path(), &["limits.drain_s=0"]);
    let mut device = Device::connect(gateway.mqtt, Version::V3).await;
    gateway.faults.hold();
    device.publish(1, PROBE, &message(0)).await.unwrap();
    gateway.until("in flight", |ledger| ledger.totals.in_flight == 1).await;
    gateway.shutdown.cancel();
    gateway.ended().await.unwrap();
    assert!(!matches!(within(device.next()).await, Packet::Acknowledged(..)));
}

#[tokio::test]
async fn a_log_that_is_behind_stops_reading_from_who_brings_more() {
    let set = ["mqtt.packet_bytes_max=1000", "limits.in_flight_bytes_max=60000"];
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &set);
        let mut device = Device::connect(gateway.mqtt, version).await;
        gateway.faults.hold();
        // All of them are more than may be in flight; one read of the connection is not.
        for id in 1..=100 {
            let padded = format!("{}{}", message(id.into()), " ".repeat(800));
            device.publish(id, PROBE, &padded).await.unwrap();
        }
        gateway.until("in flight", |ledger| ledger.totals.in_flight > 10).await;
        // The listener has had its turn: it answered another.
        Device::connect(gateway.mqtt, version).await.ping().await;
        assert!(gateway.gateway.ledger().totals.in_flight < 60);
        assert!(device.is_silent(), "{version:?}");
        gateway.faults.release();
        for id in 1..=100 {
            assert_eq!(within(device.next()).await, Packet::Acknowledged(id, 0), "{version:?}");
        }
        assert_eq!(logged(&gateway).await, (1..=100).collect::<Vec<u64>>(), "{version:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_log_too_far_behind_closes_connections_and_loses_nothing() {
    let set = ["mqtt.packet_bytes_max=1000", "limits.in_flight_bytes_max=2000"];
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &set);
        gateway.faults.hold();
        let mut devices = Vec::new();
        for id in 1..=20 {
            let mut device = Device::connect(gateway.mqtt, version).await;
            device.publish(id, PROBE, &message(id.into())).await.unwrap();
            devices.push((id, device));
        }
        // The last one came when there was no room any more.
        assert!(!matches!(within(devices[19].1.next()).await, Packet::Acknowledged(..)));
        gateway.faults.release();
        let mut closed = 0;
        let mut again = Device::connect(gateway.mqtt, version).await;
        for (id, mut device) in devices {
            if !matches!(within(device.next()).await, Packet::Acknowledged(..)) {
                again.deliver(id, PROBE, &message(id.into())).await;
                closed += 1;
            }
        }
        assert!(closed > 5, "{version:?}: {closed}");
        let mut logged = logged(&gateway).await;
        logged.sort_unstable();
        assert_eq!(logged, (1..=20).collect::<Vec<u64>>(), "{version:?}");
        assert_eq!(gateway.gateway.ledger().totals.unaccounted, 0);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn only_the_right_password_opens() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &["mqtt.user=bay", "mqtt.password=s3cret"]);
    for version in BOTH {
        let check = async |credentials, expect| {
            let hello = Hello { credentials, ..Hello::default() };
            let (_, answer) = Device::open(gateway.mqtt, version, hello).await;
            assert_eq!(answer == Packet::Connected(0), expect, "{version:?} {credentials:?}");
        };
        check(None, false).await;
        check(Some(("bay", "secret")), false).await;
        check(Some(("bat", "s3cret")), false).await;
        check(Some(("bay", "s3cret")), true).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_comes_back_takes_the_place_of_its_connection_before() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    for version in BOTH {
        let hello = Hello {
            client: Some("bay-1-probe"),
            will: Some(("status/p", "gone")),
            ..Hello::default()
        };
        let (mut before, _) = Device::open(gateway.mqtt, version, hello).await;
        before.deliver(1, PROBE, r#"{"temperature": 1}"#).await;
        let (mut now, answer) = Device::open(gateway.mqtt, version, hello).await;
        assert_eq!(answer, Packet::Connected(0));
        loop {
            match within(before.next()).await {
                Packet::End => break,
                // MQTT 5 says why: DISCONNECT.
                other => assert_eq!(other, Packet::Other(14)),
            }
        }
        now.deliver(2, PROBE, r#"{"temperature": 2}"#).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn dead_letters_become_readings_once_their_metric_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V5).await;
    device.deliver(1, PROBE, r#"{"warmth": 2, "ts": 1700000000000, "seq": 5, "boot": "b"}"#).await;
    device.deliver(2, PROBE, "{").await;
    let again = async |body: &str| gateway.post("/dead-letters/reinject", body).await;
    assert_eq!(again(r#"{"dry_run": true}"#).await["selected"], 2);
    let outcome = again("{}").await;
    assert_eq!(
        (&outcome["reinjected"], &outcome["still_dead"]["unknown_metric"]),
        (&0.into(), &1.into())
    );
    assert_eq!(gateway.read(topic::DEAD_LETTERS).await.len(), 2);

    let mut settings = gateway.settings.clone();
    let warmth = toml::from_str("unit = '°C'\nmin = -40.0\nmax = 60.0").unwrap();
    settings.metrics.insert("warmth".into(), warmth);
    gateway.gateway.reload(&settings).unwrap();
    assert_eq!(again(r#"{"reason": "unknown_metric"}"#).await["reinjected"], 1);
    let entries = gateway.read(topic::READINGS).await;
    let report = Report::from_json(&entries[0].record.payload).unwrap();
    assert_eq!((report.source, report.readings[0].event_ms), (Source::Backfill, 1_700_000_000_000));
    assert!(report.arrival_ms > 1_700_000_000_000);
    // Once, and shown no more.
    assert_eq!(again("{}").await["selected"], 1);
    let shown = gateway.get("/dead-letters").await;
    assert_eq!(shown["dead_letters"].as_array().unwrap().len(), 1);
    assert_eq!(gateway.gateway.ledger().totals.unaccounted, 0);
    gateway.stop().await;

    let restarted = start(dir.path(), &[]);
    // Who is let in comes after the letters of before.
    Device::connect(restarted.mqtt, Version::V5).await;
    assert_eq!(restarted.gateway.dead_letters(9).len(), 1);
    restarted.stop().await;
}

#[tokio::test]
async fn new_settings_are_in_force_at_once_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut settings = gateway.settings.clone();
    settings.limits.payload_bytes_max = 4;
    settings.mqtt.receive_maximum = 7;
    let refused = gateway.gateway.reload(&settings).unwrap_err().to_string();
    assert!(refused.contains("mqtt.receive_maximum") && refused.contains("restart"), "{refused}");
    let mut device = Device::connect(gateway.mqtt, Version::V3).await;
    device.deliver(1, PROBE, &message(0)).await;
    gateway.check([1, 1, 0, 0]);

    settings.mqtt.receive_maximum = gateway.settings.mqtt.receive_maximum;
    gateway.gateway.reload(&settings).unwrap();
    device.deliver(2, PROBE, &message(1)).await;
    gateway.check([2, 1, 1, 0]);
    // Nobody in particular is nobody any more.
    settings.mqtt.password = "s3cret".into();
    gateway.gateway.reload(&settings).unwrap();
    assert_eq!(within(device.next()).await, Packet::End);
    let (_, answer) = Device::open(gateway.mqtt, Version::V3, Hello::default()).await;
    assert_ne!(answer, Packet::Connected(0));
    gateway.stop().await;
}

/// Messages of one device without a clock, in order → how many are logged and how many are
/// duplicates.
async fn check_copies(
    messages: impl IntoIterator<Item = String>,
    expect: (u64, u64),
) -> serde_json::Value {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V3).await;
    let mut sent = 0;
    for payload in messages {
        device.deliver(1, PROBE, &payload).await;
        sent += 1;
    }
    gateway.check([sent, expect.0, 0, expect.1]);
    let shown = gateway.get("/duplicates?limit=5000").await;
    gateway.stop().await;
    shown
}

#[tokio::test]
async fn counters_that_come_around_lose_nothing() {
    let of = |boot: &'static str, width: u64| {
        move |i: u64| format!(r#"{{"temperature": 21.5, "seq": {}, "boot": "{boot}"}}"#, i % width)
    };
    check_copies((0..2_000).map(of("a", 256)), (2_000, 0)).await;
    // Three runs of a hundred whose boot is the firmware's version.
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
    let shown = check_copies((0..100).chain(60..100).chain(100..110).map(message), (110, 40)).await;
    let duplicates = shown["duplicates"].as_array().unwrap();
    assert_eq!(duplicates.len(), 40);
    let newest = &duplicates[0];
    assert_eq!(newest["seq"], 99);
    assert_eq!(newest["boot"], "b");
    assert_eq!(newest["device"], "probe");
    assert_eq!(newest["zone"], "farm/bay-1");
    assert_eq!(newest["topic"], PROBE);
    assert_eq!(newest["payload"], message(99));
    assert_eq!(newest["readings"], 1);
    assert!(newest["original_ms"].as_i64() < newest["received_ms"].as_i64());
    assert!(newest["why"].as_str().unwrap().contains("same number and content"));
}

#[tokio::test]
async fn the_dup_flag_tells_even_without_a_boot() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V3).await;
    let payload = r#"{"temperature": 21.5, "seq": 3}"#;
    device.deliver(1, PROBE, payload).await;
    device.publish_again(1, PROBE, payload).await;
    gateway.check([2, 1, 0, 1]);
    // A number that is new is new, whatever the flag says.
    device.publish_again(2, PROBE, r#"{"temperature": 21.5, "seq": 4}"#).await;
    gateway.check([3, 2, 0, 1]);
    gateway.stop().await;
}

#[tokio::test]
async fn equal_values_of_one_moment_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V3).await;
    for id in 1..=200 {
        device.publish(id, PROBE, r#"{"temperature": 21.5}"#).await.unwrap();
    }
    for id in 1..=200 {
        assert_eq!(within(device.next()).await, Packet::Acknowledged(id, 0));
    }
    let entries = gateway.read(topic::READINGS).await;
    let events = entries
        .iter()
        .map(|entry| Report::from_json(&entry.record.payload).unwrap().readings[0].event_ms)
        .collect::<Vec<_>>();
    assert!(events.is_sorted_by(|a, b| a < b), "{events:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_record_has_the_time_of_its_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V3).await;
    let replay = r#"{"temperature": 1, "ts": 1600000000000, "source": "replay"}"#;
    device.deliver(1, PROBE, replay).await;
    let entry = gateway.read(topic::READINGS).await.remove(0);
    let report = Report::from_json(&entry.record.payload).unwrap();
    assert_eq!(report.arrival_ms, 1_600_000_000_000);
    assert!(entry.record.timestamp_ms >= gateway.gateway.ledger().since_ms);
    gateway.stop().await;
}

#[tokio::test]
async fn a_will_is_a_message_like_any_other() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &[]);
        for (topic, payload) in [("sensors/farm/bay-1/dying/temperature", "-127"), ("x/y", "gone")]
        {
            let hello = Hello { will: Some((topic, payload)), ..Hello::default() };
            drop(Device::open(gateway.mqtt, version, hello).await);
        }
        let ledger = gateway
            .until("both wills", |ledger| ledger.totals.logged + ledger.totals.dead_lettered == 2)
            .await;
        assert_eq!((ledger.totals.logged, ledger.totals.dead_lettered), (1, 1), "{version:?}");
        gateway.check([2, 1, 1, 0]);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn clients_without_a_name_are_let_in_side_by_side() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let gateway = start(dir.path(), &[]);
        let hello = Hello { client: Some(""), ..Hello::default() };
        let (mut first, answer) = Device::open(gateway.mqtt, version, hello).await;
        assert_eq!(answer, Packet::Connected(0), "{version:?}");
        let (mut second, answer) = Device::open(gateway.mqtt, version, hello).await;
        assert_eq!(answer, Packet::Connected(0), "{version:?}");
        first.ping().await;
        second.ping().await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn qos_2_of_mqtt_3_is_done_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), &[]);
    let mut device = Device::connect(gateway.mqtt, Version::V3).await;
    for seq in 0..20 {
        device.deliver_exactly_once(1 + seq as u16 % 3, PROBE, &message(seq)).await;
    }
    gateway.check([20, 20, 0, 0]);
    gateway.stop().await;
}
