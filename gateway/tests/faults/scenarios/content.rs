//! Messages that are malformed, too large, repeated, or wrong in time.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Result, ensure};
use telemetry::ReportSource;

use super::{FaultScenario, build_scenario};
use crate::{
    delivery_evidence,
    fault_bench::FaultBench,
    fault_scene::{DeviceRoute, FaultScene},
    fleet_traffic::SERIAL,
    gateway_process::GatewayProcess,
    mqtt::RETAIN,
    sender::{DeliveryAnswer, FleetPlan, deliver_bytes, deliver_message},
};

pub(super) fn content_scenarios() -> Vec<FaultScenario> {
    vec![
        build_scenario("malformed corpus, listener", async |bench| {
            deliver_corpus(bench, DeviceRoute::Listener).await
        }),
        build_scenario("malformed corpus, bridge", async |bench| {
            deliver_corpus(bench, DeviceRoute::Bridge).await
        }),
        build_scenario("broken packets", broken_packets),
        build_scenario("at each limit and over it", reach_limits),
        build_scenario("retained replay", replay_retained),
        build_scenario("overlapping wildcards", subscribe_overlapping),
        build_scenario("clocks days off and stepping back", shift_clocks),
        build_scenario("device reboots to seq 0", async |bench| {
            reboot_devices(bench, "device reboots to seq 0", reboot_named).await
        }),
        build_scenario("device reboots to seq 0, no boot id", async |bench| {
            reboot_devices(bench, "device reboots to seq 0, no boot id", reboot_unnamed).await
        }),
        build_scenario("device reboots to seq 0 and 1970", async |bench| {
            reboot_devices(bench, "device reboots to seq 0 and 1970", reboot_in_1970).await
        }),
    ]
}

/// Every file of `corpus/<reason>/`. Its first line is a topic, and the rest is a payload. It
/// must become a dead letter with that reason, byte by byte; in `taken/` a report; in
/// `taken_but_<reason>/` both.
async fn deliver_corpus(bench: &FaultBench, via: DeviceRoute) -> Result<()> {
    let through = if via == DeviceRoute::Listener { "listener" } else { "bridge" };
    let log = bench.start_steady().await?;
    let name = format!("malformed corpus, {through}");
    let scene = FaultScene::open_scene(bench, &name, via, Some(log.clone()), &[], None).await?;
    let mut expect: BTreeMap<(String, Vec<u8>), String> = BTreeMap::new();
    let mut expected_reports = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/corpus");
    for reason in fs::read_dir(folder)? {
        let (folder, reason) = (reason.as_ref().expect("read").path(), reason?.file_name());
        for file in fs::read_dir(folder)? {
            let bytes = fs::read(file?.path())?;
            let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or_default();
            let topic = String::from_utf8(bytes[..end].to_vec())?.replace("$SITE", &scene.site);
            let payload = &bytes[end + 1..];
            let answer = deliver_message(scene.port(), &topic, payload).await?;
            ensure!(answer == DeliveryAnswer::Acknowledged, "{topic}: {answer:?}");
            let reason = reason.to_string_lossy();
            // An invalid sequence number does not affect the value beside it.
            expected_reports += usize::from(reason.starts_with("taken"));
            if reason != "taken" {
                let reason = reason.strip_prefix("taken_but_").unwrap_or(&reason).to_owned();
                expect.insert((topic, payload.to_vec()), reason);
            }
        }
    }
    let fleet = scene.start_fleet(&FleetPlan { messages: Some(20), ..FleetPlan::default() });
    let (site, count) = (scene.site.clone(), expect.len());
    let traffic = fleet.finish_fleet().await;
    scene
        .check_delivery(traffic, &format!("{count} malformed, {expected_reports} accepted"))
        .await?;
    let found = delivery_evidence::read_site(&log, &site).await?;
    for (topic, payload, reason) in found.letters {
        let expected = expect.remove(&(topic.clone(), payload.clone()));
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
        ensure!(
            expected.as_ref() == Some(&reason),
            "{topic} `{shown}`: {reason}, expected {expected:?}"
        );
    }
    ensure!(expect.is_empty(), "not among the dead letters: {:?}", expect.keys());
    let reports = found.reports.iter().filter(|report| report.seq.is_none()).count();
    ensure!(reports == expected_reports, "{reports} of {expected_reports} became reports");
    Ok(())
}

/// A packet that MQTT does not allow closes its connection and no other.
async fn broken_packets(bench: &FaultBench) -> Result<()> {
    let log = bench.start_steady().await?;
    let name = "broken packets";
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, Some(log), &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    let long = [&[0x32, 0xff, 0xff, 0x3f][..], &"x".repeat(70_000).into_bytes()].concat();
    let cases: [(&str, &[u8]); 8] = [
        ("a reserved type", &[0xF2, 0]),
        ("a length of five bytes", &[0x32, 0xff, 0xff, 0xff, 0xff, 1]),
        ("over mqtt.packet_bytes_max", &long),
        ("an empty topic", &[0x32, 4, 0, 0, 0, 1]),
        ("a wildcard in the topic", b"\x32\x06\x00\x02a#\x00\x01"),
        ("a topic that is not UTF-8", b"\x32\x06\x00\x02\xff\xfe\x00\x01"),
        ("packet identifier 0", b"\x32\x06\x00\x02aa\x00\x00"),
        ("QoS 3", b"\x36\x06\x00\x02aa\x00\x01"),
    ];
    for (what, packet) in cases {
        let answer = deliver_bytes(scene.port(), packet).await?;
        // Some become dead letters, as topics without a device.
        ensure!(answer != DeliveryAnswer::Nothing, "{what}: neither an answer nor an end");
    }
    // The listener waits for the rest of a topic that is longer than its packet states. Only that
    // connection becomes unusable.
    let over = b"\x32\x06\x00\xf0aa\x00\x01";
    for packet in [over.to_vec(), [&over[..], &[b'a'; 500]].concat()] {
        let answer = deliver_bytes(scene.port(), &packet).await?;
        ensure!(answer != DeliveryAnswer::Acknowledged, "half a topic is acknowledged");
    }
    fleet.wait_for_more(300).await;
    let traffic = fleet.finish_fleet().await;
    ensure!(scene.gateway.end_count() == 0, "{}", scene.gateway.log_tail());
    ensure!(traffic.reconnections == 0, "other connections were closed too");
    scene.check_delivery(traffic, "").await
}

async fn reach_limits(bench: &FaultBench) -> Result<()> {
    let log = bench.start_steady().await?;
    let name = "at each limit and over it";
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, Some(log.clone()), &[], None)
            .await?;
    let topic = format!("sensors/{}/bay/probe", scene.site);
    let padded = |bytes: usize| {
        let reading = r#"{"temperature": 1}"#;
        format!("{reading}{}", " ".repeat(bytes - reading.len()))
    };
    let metrics = |count: usize| {
        let names = (1..count).map(|n| format!(r#", "m{n}": 1"#)).collect::<String>();
        format!(r#"{{"temperature": 1{names}}}"#)
    };
    // Payload, number of reports, number of dead letters.
    let cases = [
        (padded(16_384), 1, 0),
        (padded(16_385), 0, 1),
        (padded(250_000), 0, 1),
        (metrics(64), 1, 1),
        // The readings within the limit are still logged.
        (metrics(65), 1, 1),
    ];
    let (mut reports, mut letters) = (0, 0);
    for (payload, report, letter) in &cases {
        let answer = deliver_message(scene.port(), &topic, payload.as_bytes()).await?;
        ensure!(answer == DeliveryAnswer::Acknowledged, "{} bytes: {answer:?}", payload.len());
        (reports, letters) = (reports + report, letters + letter);
    }
    let answer = deliver_message(scene.port(), &topic, padded(262_145).as_bytes()).await?;
    ensure!(answer == DeliveryAnswer::Closed, "over mqtt.packet_bytes_max: {answer:?}");
    let site = scene.site.clone();
    let fleet = scene.start_fleet(&FleetPlan { messages: Some(20), ..FleetPlan::default() });
    let traffic = fleet.finish_fleet().await;
    scene.check_delivery(traffic, "").await?;
    let found = delivery_evidence::read_site(&log, &site).await?;
    let unnumbered = found.reports.iter().filter(|report| report.seq.is_none()).count();
    ensure!(
        (unnumbered, found.letters.len()) == (reports, letters),
        "{unnumbered}, {}",
        found.letters.len()
    );
    Ok(())
}

/// A retained message is marked as such, and is not a new message.
async fn replay_retained(bench: &FaultBench) -> Result<()> {
    const DEVICES: usize = 12;
    let log = bench.start_steady().await?;
    let brokers = format!("log.kafka.brokers={}", log.kafka.brokers);
    let name = "retained replay";
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Bridge, Some(log.clone()), &[], None)
            .await?;
    let plan = FleetPlan {
        devices: DEVICES as u64,
        messages: Some(1),
        flags: RETAIN,
        ..FleetPlan::default()
    };
    let traffic = scene.start_fleet(&plan).finish_fleet().await;
    // A client id that the broker does not know gets its retained messages.
    let (dir, port) = (tempfile::tempdir()?, format!("mqtt.port={}", scene.line.port));
    let set = ["mqtt.mode=bridge", "log.kind=kafka", "mqtt.client_id=new", &port, &brokers];
    let mut other = GatewayProcess::start_gateway(dir.path(), &set.map(str::to_owned), None)?;
    let has_all = async || {
        let ledger = other.get_ledger().await;
        ledger.is_ok_and(|l| l.messages == DEVICES as u64 && l.totals.in_flight == 0)
    };
    other.wait_until("given the retained messages", has_all).await?;
    // Until it has found Kafka, it acknowledges from its spool, whose folder is removed here.
    other.wait_until("done with its spool", async || other.spooled_count().await == 0).await?;
    other.stop_gateway().await?;
    let site = scene.site.clone();
    scene.check_delivery(traffic, "").await?;
    let found = delivery_evidence::read_site(&log, &site).await?;
    let count = |source| found.reports.iter().filter(|report| report.source == source).count();
    let counts = (count(ReportSource::Live), count(ReportSource::Retained));
    ensure!(counts == (DEVICES, DEVICES), "live and retained: {counts:?}");
    Ok(())
}

/// A broker may deliver a message once for each subscription that matches.
async fn subscribe_overlapping(bench: &FaultBench) -> Result<()> {
    let log = bench.start_steady().await?;
    let set = [r##"mqtt.filters=["sensors/#", "sensors/+/+/+", "#"]"##];
    let name = "overlapping wildcards";
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Bridge, Some(log), &set, None).await?;
    let fleet = scene.start_fleet(&FleetPlan::default());
    fleet.wait_for_more(500).await;
    let traffic = fleet.finish_fleet().await;
    let duplicates = scene.gateway.get_ledger().await?.totals.duplicates;
    scene.check_delivery(traffic, &format!("{duplicates} readings twice from the broker")).await
}

/// Times that are days ahead, days behind, and step back with every seventh message.
fn clock_ms(serial: u64) -> i64 {
    const DAY_MS: i64 = 86_400_000;
    1_750_000_000_000 + serial as i64 * 1000 + (serial as i64 % 7 - 3) * DAY_MS
}

async fn shift_clocks(bench: &FaultBench) -> Result<()> {
    let log = bench.start_steady().await?;
    let name = "clocks days off and stepping back";
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, Some(log.clone()), &[], None)
            .await?;
    let payload = |serial| {
        let ts = clock_ms(serial);
        format!(r#"{{"seq": {serial}, "boot": "b", "ts": {ts}, "{SERIAL}": {serial}}}"#)
    };
    let fleet = scene.start_fleet(&FleetPlan { payload, ..FleetPlan::default() });
    fleet.wait_for_more(300).await;
    scene.line.cut_connections();
    fleet.wait_for_more(300).await;
    let site = scene.site.clone();
    scene.finish_fleet(fleet).await?;
    for report in delivery_evidence::read_site(&log, &site).await?.reports {
        for reading in &report.readings {
            let expect = clock_ms(reading.value as u64);
            ensure!(reading.event_ms == expect, "{} for {expect}: {report:?}", reading.event_ms);
        }
    }
    Ok(())
}

/// Number of messages per boot.
const BOOT_MESSAGES: u64 = 40;

fn reboot_named(serial: u64) -> String {
    let (boot, seq) = (serial / BOOT_MESSAGES, serial % BOOT_MESSAGES);
    format!(r#"{{"seq": {seq}, "boot": "b{boot}", "{SERIAL}": {serial}}}"#)
}

fn reboot_unnamed(serial: u64) -> String {
    let seq = serial % BOOT_MESSAGES;
    format!(r#"{{"seq": {seq}, "{SERIAL}": {serial}}}"#)
}

/// A clock without a battery: every boot begins at the same time.
fn reboot_in_1970(serial: u64) -> String {
    let seq = serial % BOOT_MESSAGES;
    format!(r#"{{"seq": {seq}, "ts": {}, "{SERIAL}": {serial}}}"#, seq * 1000)
}

async fn reboot_devices(bench: &FaultBench, name: &str, payload: fn(u64) -> String) -> Result<()> {
    let log = bench.start_steady().await?;
    let scene =
        FaultScene::open_scene(bench, name, DeviceRoute::Listener, Some(log), &[], None).await?;
    let fleet = scene.start_fleet(&FleetPlan { payload, ..FleetPlan::default() });
    fleet.wait_for_more(1000).await;
    scene.line.cut_connections();
    fleet.wait_for_more(1000).await;
    scene.finish_fleet(fleet).await
}
