//! The bridge, with a real Mosquitto if one is installed.

mod support;

use std::{collections::HashSet, time::Duration};

use eventlog::EventLog;
use support::{
    RunningGateway, TEST_TIMEOUT,
    broker::MosquittoFixture,
    wire::{ServerPacket, WireDevice},
    within_timeout,
};
use telemetry::{ReportSource, SensorReport, topic};

const PROBE: &str = "sensors/farm/bay-1/probe";

fn numbered_message(seq: u64) -> String {
    format!(r#"{{"temperature": 21.5, "seq": {seq}, "boot": "b"}}"#)
}

async fn logged_messages(gateway: &RunningGateway) -> Vec<(u64, ReportSource)> {
    let entries = gateway.read_topic(topic::READINGS).await;
    let reports =
        entries.iter().map(|entry| SensorReport::from_json(&entry.record.payload).unwrap());
    reports.map(|report| (report.seq.unwrap(), report.source)).collect()
}

fn live_messages(seqs: std::ops::Range<u64>) -> Vec<(u64, ReportSource)> {
    seqs.map(|seq| (seq, ReportSource::Live)).collect()
}

#[tokio::test]
async fn the_broker_keeps_what_the_gateway_has_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = MosquittoFixture::start(dir.path()) else { return };
    let log = dir.path().join("log");
    let mut device = broker.connect_device().await;

    let mut gateway = broker.start_gateway(&log, &["limits.drain_s=0"]).await;
    // The first message may arrive before the subscription, so they are repeated until one is
    // received.
    let mut seq = 0;
    while gateway.gateway.ledger_snapshot().messages == 0 {
        device.deliver_message(1, PROBE, &numbered_message(0)).await;
    }
    gateway.wait_until("logged", |ledger| ledger.totals.logged == 1).await;
    for _ in 0..300 {
        seq += 1;
        device.deliver_message(1, PROBE, &numbered_message(seq)).await;
    }
    gateway.wait_until("logged", |ledger| ledger.totals.logged == 301).await;
    assert_eq!(logged_messages(&gateway).await, live_messages(0..301));

    // These messages never become durable in this process, so it acknowledges none.
    gateway.faults.fail_syncs();
    for _ in 0..300 {
        seq += 1;
        device.deliver_message(1, PROBE, &numbered_message(seq)).await;
    }
    assert!(gateway.wait_until_ended().await.is_err());
    drop(gateway);

    let gateway = broker.start_gateway(&log, &[]).await;
    // A message that was synced just before the end, without a sent acknowledgement, is delivered
    // again. The new process does not know it and logs it again.
    let got = within_timeout(async {
        loop {
            let (mut known, mut got) = (HashSet::new(), logged_messages(&gateway).await);
            got.retain(|(seq, _)| known.insert(*seq));
            if got.len() == 601 {
                break got;
            }
        }
    })
    .await;
    assert_eq!(got, live_messages(0..601));
    let ledger = gateway.wait_until("settled", |ledger| ledger.totals.in_flight == 0).await;
    assert_eq!(ledger.totals.unaccounted, 0);
    // The counts of the first process continue, and contain everything that is logged.
    let all = gateway.read_topic(topic::READINGS).await.len() as u64;
    assert_eq!(ledger.totals.logged, all);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_broken_connection_brings_messages_again_and_they_are_logged_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = MosquittoFixture::start(dir.path()) else { return };
    broker.connect_device().await;
    let gateway = broker.start_gateway(&dir.path().join("log"), &[]).await;
    let mut device = broker.connect_device().await;
    while gateway.gateway.ledger_snapshot().messages == 0 {
        device.deliver_message(1, PROBE, &numbered_message(0)).await;
    }
    gateway.wait_until("settled", |ledger| ledger.totals.in_flight == 0).await;
    gateway.faults.hold_syncs();
    device.deliver_message(1, PROBE, &numbered_message(1)).await;
    gateway.wait_until("in flight", |ledger| ledger.totals.in_flight == 1).await;
    // The acknowledgement of 1 belongs to a connection that ends here.
    broker.restart();
    gateway
        .wait_until("disconnected", |_| {
            gateway.gateway.render_metrics().contains("gateway_ready 0")
        })
        .await;
    gateway.faults.release_syncs();
    let mut device = broker.connect_device().await;
    for seq in 2..50 {
        device.deliver_message(1, PROBE, &numbered_message(seq)).await;
    }
    // A killed broker may have lost its session, and the messages before the new subscription
    // with it. The last message is sent until it arrives.
    let last = async {
        while !logged_messages(&gateway).await.iter().any(|(seq, _)| *seq == 50) {
            device.deliver_message(1, PROBE, &numbered_message(50)).await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, last).await.unwrap();
    gateway.wait_until("settled", |ledger| ledger.totals.in_flight == 0).await;
    let got = logged_messages(&gateway).await;
    assert!(got.is_sorted_by(|a, b| a.0 < b.0), "{got:?}");
    assert_eq!(gateway.gateway.ledger_snapshot().totals.unaccounted, 0);
    gateway.stop_gateway().await;
}

/// Sends numbered messages of QoS 0. Returns when the broker has them.
async fn send_burst(device: &mut WireDevice, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        device.send_unacknowledged(PROBE, &numbered_message(seq)).await;
    }
    device.ping().await;
}

/// Waits until this many messages are logged, and compares them all.
async fn check_logged(gateway: &RunningGateway, messages: u64) {
    gateway.wait_until("all logged", |ledger| ledger.totals.logged >= messages).await;
    assert_eq!(logged_messages(gateway).await, live_messages(0..messages));
    let totals = gateway.gateway.ledger_snapshot().totals;
    assert_eq!((totals.dropped, totals.unaccounted), (0, 0));
}

#[tokio::test]
async fn qos_0_is_held_back_while_the_log_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = MosquittoFixture::start(dir.path()) else { return };
    let mut device = broker.connect_device().await;
    // Leaves room for only a part of the messages that may wait otherwise.
    let set = ["mqtt.packet_bytes_max=32768", "limits.in_flight_bytes_max=131072"];
    for (at, set) in [&[][..], &set[..]].into_iter().enumerate() {
        let name = format!("mqtt.client_id='gateway-{at}'");
        let log = dir.path().join(format!("log-{at}"));
        let gateway = broker.start_gateway(&log, &[&[name.as_str()], set].concat()).await;
        send_burst(&mut device, 0..1).await;
        gateway.wait_until("the first", |ledger| ledger.totals.logged == 1).await;
        gateway.faults.hold_syncs();
        send_burst(&mut device, 1..20_000).await;
        gateway.wait_until("behind", |ledger| ledger.totals.in_flight > 200).await;
        gateway.faults.release_syncs();
        check_logged(&gateway, 20_000).await;
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn a_broker_that_is_held_back_for_longer_than_the_keep_alive_is_not_left() {
    /// How long the fault lasts. The library gives up at the second ping without an answer.
    const FAULT_LASTS: Duration = Duration::from_millis(3500);
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = MosquittoFixture::start(dir.path()) else { return };
    let mut device = broker.connect_device().await;
    let gateway = broker.start_gateway(&dir.path().join("log"), &["mqtt.keep_alive_s=1"]).await;
    gateway.faults.hold_syncs();
    send_burst(&mut device, 0..5000).await;
    tokio::time::sleep(FAULT_LASTS).await;
    gateway.faults.release_syncs();
    check_logged(&gateway, 5000).await;
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn qos_0_survives_an_orderly_restart_where_the_broker_queues_it() {
    const MESSAGES: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let queues = "queue_qos0_messages true";
    let Some(broker) = MosquittoFixture::start_with(dir.path(), queues) else { return };
    let mut device = broker.connect_device().await;
    let log = dir.path().join("log");
    let mut gateway = broker.start_gateway(&log, &[]).await;
    let sending = tokio::spawn(async move {
        for from in (0..MESSAGES).step_by(20) {
            send_burst(&mut device, from..from + 20).await;
        }
    });
    for _ in 0..3 {
        gateway.wait_until("some", |ledger| ledger.totals.logged > 500).await;
        gateway.stop_gateway().await;
        gateway = broker.start_gateway(&log, &[]).await;
    }
    within_timeout(sending).await.unwrap();
    let all = async {
        while logged_messages(&gateway).await.len() < MESSAGES as usize {
            tokio::task::yield_now().await;
        }
    };
    let outcome = tokio::time::timeout(TEST_TIMEOUT, all).await;
    assert_eq!(logged_messages(&gateway).await, live_messages(0..MESSAGES), "{outcome:?}");
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_retained_message_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = MosquittoFixture::start(dir.path()) else { return };
    let mut device = broker.connect_device().await;
    device.retain(1, PROBE, &numbered_message(7)).await;
    assert_eq!(device.next_packet().await, ServerPacket::Acknowledged(1, 16)); // no subscriber yet
    let gateway = broker.start_gateway(&dir.path().join("log"), &[]).await;
    gateway.wait_until("logged", |ledger| ledger.totals.logged == 1).await;
    assert_eq!(logged_messages(&gateway).await, [(7, ReportSource::Retained)]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_stored_value_is_logged_once_however_often_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = MosquittoFixture::start(dir.path()) else { return };
    let mut device = broker.connect_device().await;
    let (old, stamped) = (r#"{"temperature": 5}"#, r#"{"temperature": 19, "ts": 1600000000000}"#);
    device.retain(1, PROBE, old).await;
    device.next_packet().await;
    device.retain(2, "sensors/farm/bay-1/other", stamped).await;
    device.next_packet().await;
    // Another client id has another session, to which the broker sends its retained messages
    // again. The ledger continues across starts.
    for start in 0..3_u64 {
        let name = format!("mqtt.client_id='gateway-{start}'");
        let gateway = broker.start_gateway(&dir.path().join("log"), &[&name]).await;
        let ledger =
            gateway.wait_until("both came", |ledger| ledger.totals.received == 2 * start + 2).await;
        gateway.wait_until("settled", |ledger| ledger.totals.in_flight == 0).await;
        drop(ledger);
        gateway.check_totals([2 * start + 2, 2, 0, 2 * start]);
        let entries = gateway.read_topic(topic::READINGS).await;
        assert_eq!(entries.len(), 2);
        let shown = gateway.gateway.latest_duplicates(None, 10);
        assert_eq!(shown.len(), if start == 0 { 0 } else { 2 });
        assert!(
            shown
                .iter()
                .all(|duplicate| duplicate.why.contains("retained")
                    && duplicate.original_ms.is_none())
        );
        let settings = gateway.settings.log.clone();
        gateway.stop_gateway().await;
        // The threads release the log a moment after the end.
        within_timeout(async {
            while EventLog::open(&settings).is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // A live message on the same topic counts as usual, and so does another retained value.
    let gateway =
        broker.start_gateway(&dir.path().join("log"), &["mqtt.client_id='gateway-3'"]).await;
    gateway.wait_until("both came", |ledger| ledger.totals.duplicates == 6).await;
    device.deliver_message(3, PROBE, old).await;
    gateway.wait_until("live", |ledger| ledger.totals.logged == 3).await;
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn predictions_go_to_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = MosquittoFixture::start(dir.path()) else { return };
    broker.connect_device().await;
    let gateway = broker.start_gateway(&dir.path().join("log"), &["mqtt.filters=[\"#\"]"]).await;
    // The message comes back through the gateway's own subscription, but not as a reading.
    let came_back = async {
        while gateway.gateway.latest_dead_letters(1).is_empty() {
            gateway.gateway.downlink().publish("predictions/frost", "0.1", false);
            tokio::task::yield_now().await;
        }
    };
    within_timeout(came_back).await;
    assert_eq!(gateway.gateway.latest_dead_letters(1)[0].topic, "predictions/frost");
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn filters_change_in_a_session_that_the_broker_kept() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = MosquittoFixture::start(dir.path()) else { return };
    let mut device = broker.connect_device().await;
    let log = dir.path().join("log");
    broker.start_gateway(&log, &[]).await.stop_gateway().await;

    let gateway = broker.start_gateway(&log, &["mqtt.filters=['sensors/#', 'plant/#']"]).await;
    // Waits for the new subscription.
    while gateway.gateway.ledger_snapshot().totals.dead_lettered == 0 {
        device.deliver_message(1, "plant/pot", "1").await;
    }
    device.deliver_message(1, PROBE, &numbered_message(0)).await;
    gateway.wait_until("logged", |ledger| ledger.totals.logged == 1).await;

    let mut settings = gateway.settings.clone();
    settings.mqtt.filters = vec!["plant/#".to_owned()];
    gateway.gateway.apply_settings(&settings).unwrap();
    // Code 16: the broker has no subscriber for it, once the old filter is removed.
    loop {
        device.publish(1, PROBE, &numbered_message(1)).await.unwrap();
        if device.next_packet().await == ServerPacket::Acknowledged(1, 16) {
            break;
        }
    }
    let before = gateway.gateway.ledger_snapshot().totals.dead_lettered;
    device.deliver_message(1, "plant/pot", "2").await;
    gateway.wait_until("the other filter", |ledger| ledger.totals.dead_lettered > before).await;
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn what_metadata_told_is_asked_for_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = MosquittoFixture::start(dir.path()) else { return };
    let mut device = broker.connect_device().await;
    let config = r#"{"stat_t": "home/x", "dev_cla": "humidity"}"#;
    device.retain(1, "homeassistant/sensor/x/config", config).await;
    assert_eq!(device.next_packet().await, ServerPacket::Acknowledged(1, 16)); // no subscriber yet
    let mapping = r#"mappings=[{ convention = "home-assistant", site = "s", zone = "z" }]"#;
    // The second time there is a session, and its subscriptions are not new.
    for start in 0..2_u64 {
        let set = ["mqtt.filters=[\"home/#\"]", mapping];
        let gateway = broker.start_gateway(&dir.path().join("log"), &set).await;
        gateway.wait_until("told", |ledger| ledger.messages == 2 * start + 1).await;
        device.deliver_message(2, "home/x", "40").await;
        gateway.wait_until("logged", |ledger| ledger.messages == 2 * start + 2).await;
        gateway.wait_until("settled", |ledger| ledger.totals.in_flight == 0).await;
        gateway.check_totals([start + 1, start + 1, 0, 0]);
        gateway.stop_gateway().await;
    }
}
