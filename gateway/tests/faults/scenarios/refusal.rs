//! Kafka refuses a record because of its size or its time. The others continue.

use std::time::Duration;

use anyhow::{Result, ensure};
use eventlog::{EventLog, EventLogConfig, PartitionOffsets, Record};
use rdkafka::admin::{AlterConfig, ResourceSpecifier};
use telemetry::topic::READINGS;

use super::{
    FaultScenario, build_scenario,
    kafka::{admin_client, admin_options},
};
use crate::{
    TEST_TIMEOUT,
    fault_bench::{FaultBench, run_blocking},
    fault_scene::{DeviceRoute, FaultScene},
    fleet_traffic::SERIAL,
    sender::FleetPlan,
};

pub(super) fn refusal_scenarios() -> Vec<FaultScenario> {
    let sizes = [("none", "700"), ("lz4", "520")].map(|(compression, bytes_max)| {
        let name = format!("Kafka refuses one device's records, their size, {compression}");
        let scenario_name = name.clone();
        build_scenario(name, async move |bench| {
            refuse_size(bench, &scenario_name, compression, bytes_max).await
        })
    });
    let times = build_scenario("Kafka refuses records, their time", refuse_time);
    sizes.into_iter().chain([times]).collect()
}

/// Number of messages of the device whose records are too large.
const LARGE: u64 = 10;

/// Returns a payload of this device whose record exceeds the topic's limit from now on.
fn large_payload(serial: u64) -> String {
    let metrics = [
        "temperature",
        "humidity",
        "co2",
        "light",
        "soil_moisture",
        "soil_temperature",
        "irrigation",
        "pressure",
        "wind_speed",
        "battery",
        "outdoor_temperature",
        "heater",
    ];
    // Digits that do not compress.
    let digits = |at: usize| (serial + 1) * 7_919 * (at as u64 + 3) * 104_729 % 999_983;
    let fields = metrics.iter().enumerate();
    let fields = fields.map(|(at, metric)| format!(r#""{metric}": 0.{:06}, "#, digits(at)));
    let fields: String = fields.collect();
    format!(r#"{{{fields}"seq": {serial}, "boot": "b1", "{SERIAL}": {serial}}}"#)
}

/// The topic's limit is lowered while the gateway runs, so that it learns of it only when a whole
/// request is refused.
async fn refuse_size(
    bench: &FaultBench,
    name: &str,
    compression: &str,
    bytes_max: &str,
) -> Result<()> {
    let (frail, set) =
        (bench.lock_disturbed().await?, format!("log.kafka.compression={compression}"));
    let log = frail.log_settings();
    let scene = FaultScene::open_scene(
        bench,
        name,
        DeviceRoute::Listener,
        Some(log.clone()),
        &[&set],
        None,
    )
    .await?;
    let others = scene.start_fleet(&FleetPlan::default());
    others.wait_for_more(300).await;
    set_topic(&log, READINGS, "max.message.bytes", bytes_max).await?;
    let site = format!("{}-large", scene.site);
    let plan = FleetPlan {
        devices: 1,
        zones: 1,
        messages: Some(LARGE),
        payload: large_payload,
        ..FleetPlan::default()
    };
    let one = crate::sender::DeviceFleet::start_fleet(scene.port(), &site, &plan);
    others.wait_for_more(1_000).await;
    let large = one.finish_fleet().await;
    others.wait_for_more(500).await;
    scene.gateway.wait_until_ready().await?;
    let traffic = others.finish_fleet().await;
    let is_drained = async || scene.gateway.spooled_count().await == 0;
    scene.gateway.wait_until("done with its spool", is_drained).await?;
    let letters = scene.gateway.get_json("/dead-letters?limit=1000").await?;
    let letters = letters["dead_letters"].as_array().cloned().unwrap_or_default();
    // Kafka has the dead letters of other gateways too.
    let is_own = |letter: &&serde_json::Value| {
        let topic = letter["topic"].as_str().unwrap_or_default();
        letter["reason"] == "refused" && topic.contains(&site)
    };
    let refused = letters.iter().filter(is_own).count();
    set_topic(&log, READINGS, "max.message.bytes", "1048588").await?;
    ensure!(large.violations.is_empty(), "{:?}", large.violations);
    ensure!(
        large.acknowledged_keys().count() as u64 == LARGE,
        "{} of {LARGE}",
        large.acknowledged_keys().count()
    );
    ensure!(refused as u64 == LARGE, "{refused} of {LARGE} refused records are dead letters");
    let totals = scene.gateway.get_ledger().await?.totals;
    ensure!(totals.dead_lettered == 12 * LARGE, "{totals:?}");
    scene.check_delivery(traffic, &format!("{LARGE} dead letters of the one device")).await
}

/// Records with timestamps in the future, one among others and then all of them, as from a
/// machine whose clock is ahead. The records are not at fault: Kafka gets another time, and
/// readers get the original one.
async fn refuse_time(bench: &FaultBench) -> Result<()> {
    const TOPIC: &str = "refusal.time";
    const HOUR_MS: i64 = 3_600_000;
    let frail = bench.lock_disturbed().await?;
    let dir = tempfile::tempdir()?;
    let mut settings = frail.log_settings();
    settings.spool.dir = dir.path().join("spool");
    let log = EventLog::open(&settings)?;
    let writer = log.open_writer(TOPIC)?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let shift_ms = |n: usize| match n {
        100 => 2 * HOUR_MS,
        300..400 => 30 * 24 * HOUR_MS,
        _ => 0,
    };
    let mut receipts = Vec::new();
    for n in 0..500 {
        let stamp_ms = now_ms + shift_ms(n) + n as i64;
        let record = Record::new(format!("zone-{}", n % 5), n.to_string(), stamp_ms);
        receipts.push(writer.append(record).await?);
        if n == 50 || n == 250 {
            // The earlier messages go to Kafka directly.
            wait_until(|| log.spool_statuses()[TOPIC].records == 0).await?;
        }
    }
    for receipt in receipts {
        tokio::time::timeout(TEST_TIMEOUT, receipt).await??;
    }
    wait_until(|| log.spool_statuses()[TOPIC].records == 0).await?;
    let status = log.spool_statuses()[TOPIC].clone();
    ensure!(status.refused == 0, "{status:?}");
    let opened = {
        let log = log.clone();
        run_blocking(move || {
            Ok::<_, anyhow::Error>(log.open_reader(TOPIC, &PartitionOffsets::new())?)
        })
    };
    let mut reader = opened.await?;
    let mut found: Vec<(usize, i64)> = Vec::new();
    loop {
        let batch = reader.next_batch(1_000, Duration::from_secs(3)).await?;
        if batch.is_empty() {
            break;
        }
        for entry in batch {
            let n = std::str::from_utf8(&entry.record.payload)?.parse()?;
            found.push((n, entry.record.timestamp_ms - now_ms));
        }
    }
    for zone in 0..5 {
        let mut of_zone: Vec<_> = found.iter().filter(|(n, _)| n % 5 == zone).copied().collect();
        of_zone.dedup();
        let expect: Vec<_> =
            (0..500).filter(|n| n % 5 == zone).map(|n| (n, shift_ms(n) + n as i64)).collect();
        ensure!(of_zone == expect, "zone {zone}: {of_zone:?}");
    }
    Ok(())
}

async fn wait_until(is_so: impl Fn() -> bool) -> Result<()> {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(tokio::time::timeout(TEST_TIMEOUT, wait).await?)
}

async fn set_topic(log: &EventLogConfig, topic: &str, key: &str, value: &str) -> Result<()> {
    let config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
    let changed =
        admin_client(&log.kafka.brokers)?.alter_configs([&config], &admin_options()).await?;
    ensure!(changed.iter().all(Result::is_ok), "{changed:?}");
    Ok(())
}
