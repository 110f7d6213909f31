//! The gateway's counts, for Prometheus.

use std::sync::atomic::Ordering;

use service::prometheus::{Page, label};

use crate::{
    gateway::{Gateway, Inner},
    ledger::{Counts, Snapshot},
};

pub(crate) fn metrics(gateway: &Gateway) -> String {
    let mut page = Page::new("microclimate_gateway");
    readings(&mut page, gateway);
    devices(&mut page, gateway);
    connections(&mut page, gateway);
    listener(&mut page, gateway);
    acknowledgements(&mut page, gateway);
    topics(&mut page, gateway);
    spools(&mut page, gateway);
    kafka(&mut page, gateway);
    page.finish()
}

fn readings(page: &mut Page, gateway: &Gateway) {
    let Snapshot { messages, totals, .. } = gateway.ledger();
    let Counts { received, logged, dead_lettered, duplicates, .. } = totals;
    let Counts { dropped, in_flight, unaccounted, .. } = totals;
    page.one(("messages_total", "counter", "Messages that came, by MQTT or HTTP"), messages);
    page.one(("readings_received_total", "counter", "Readings that came"), received);
    let outcomes = [
        ("logged", logged),
        ("dead_lettered", dead_lettered),
        ("duplicate", duplicates),
        ("dropped", dropped),
    ];
    let outcomes = outcomes.map(|(name, count)| (label("outcome", name), count));
    page.family(("readings_total", "counter", "Readings settled, by outcome"), outcomes);
    page.one(("readings_in_flight", "gauge", "Readings not yet durable"), in_flight);
    page.one(("readings_unaccounted", "gauge", "Readings lost: must be 0"), unaccounted);
    let letters = &gateway.0.dead_letters;
    let reasons = letters.by_reason().into_iter();
    let reasons = reasons.map(|(reason, count)| (label("reason", reason), count));
    page.family(("dead_letters_total", "counter", "Dead letters, by reason"), reasons);
    let repeated = letters.repeated().into_iter();
    let repeated = repeated.map(|(reason, count)| (label("reason", reason), count));
    let about = ("dead_letters_repeated_total", "counter", "Dead letters counted and not stored");
    page.family(about, repeated);
    let about = ("dead_letters_reinjected_total", "counter", "Dead letters that became readings");
    page.one(about, letters.reinjected_total());
}

fn devices(page: &mut Page, gateway: &Gateway) {
    let Snapshot { totals, devices, evicted_devices, entities, .. } = gateway.ledger();
    let about = ("devices_evicted_total", "counter", "Devices that lost their line to others");
    page.one(about, evicted_devices);
    let about = ("entities", "gauge", "Announced entities, properties and metrics remembered");
    page.one(about, entities.remembered);
    let about = ("entities_evicted_total", "counter", "Those over the mappings' entities_max");
    page.one(about, entities.evicted);
    let about = ("sequence_gaps", "gauge", "Numbers missing in the devices' counting");
    page.one(about, totals.sequence_gaps);
    let about = ("device_resets_total", "counter", "Times that devices began to count anew");
    page.one(about, totals.resets);
    page.one(("devices", "gauge", "Devices seen"), devices.len());
    let off = devices.iter().filter_map(|line| line.clock_offset_ms).map(i64::unsigned_abs).max();
    let about = ("clock_offset_seconds_max", "gauge", "Largest offset of a device's clock");
    page.one(about, off.unwrap_or(0) as f64 / 1000.0);
}

fn connections(page: &mut Page, gateway: &Gateway) {
    let Inner { connections, downlink, is_ready, .. } = &*gateway.0;
    let about = ("lost_sessions_total", "counter", "MQTT sessions that a broker lost");
    page.one(about, gateway.ledger().lost_sessions);
    let about = ("connections", "gauge", "MQTT clients connected");
    page.one(about, connections.load(Ordering::Relaxed));
    let about = ("downlink_missed_total", "counter", "Messages that slow subscribers missed");
    page.one(about, downlink.missed());
    let about = ("downlink_waiting_bytes", "gauge", "Bytes that wait for subscribers");
    page.one(about, downlink.waiting_bytes());
    let about = ("retained_bytes", "gauge", "Bytes that are kept for later subscribers");
    page.one(about, downlink.retained_bytes());
    let about = ("retained_refused_total", "counter", "Retained messages not kept: no room");
    page.one(about, downlink.retained_refused());
    let about = ("ready", "gauge", "Whether messages are taken");
    page.one(about, u8::from(is_ready.load(Ordering::Relaxed)));
}

fn listener(page: &mut Page, gateway: &Gateway) {
    let Inner { listener_counts: counts, access, .. } = &*gateway.0;
    let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let reasons = counts.cut().map(|(reason, count)| (label("reason", reason), count));
    let about = ("connections_cut_total", "counter", "Connections refused or cut, by reason");
    page.family(about, reasons);
    let about = (
        "connections_held_bytes",
        "gauge",
        "Bytes of unfinished packets, names, wills and filters",
    );
    page.one(about, read(&counts.held_bytes));
    let about = ("publishes_denied_total", "counter", "Messages that their user may not publish");
    page.one(about, read(&counts.denied_publishes));
    let about = ("subscriptions_denied_total", "counter", "Subscriptions that a user may not have");
    page.one(about, read(&counts.denied_subscriptions));
    let about = ("attempts_refused_total", "counter", "Passwords not looked at: too many guesses");
    page.one(about, access.refused_attempts());
    let about = ("guessers_forgotten_total", "counter", "Guessing users and addresses forgotten");
    page.one(about, access.forgotten_guessers());
    page.one(("sessions", "gauge", "MQTT sessions that are remembered"), read(&counts.sessions));
    let about = ("sessions_evicted_total", "counter", "MQTT sessions forgotten for want of room");
    page.one(about, read(&counts.sessions_evicted));
}

fn acknowledgements(page: &mut Page, gateway: &Gateway) {
    let about = ("acknowledgement_seconds", "From a message's arrival to its durability");
    page.histogram(about, [(String::new(), &*gateway.0.lag)]);
}

/// What the embedded log has on disk.
fn topics(page: &mut Page, gateway: &Gateway) {
    let log = &gateway.0.log;
    let about = ("disk_full", "gauge", "Whether nothing is acknowledged for want of disk space");
    page.one(about, u8::from(log.is_disk_full()));
    // What cannot be read now is said where it is used.
    let topics = log.storage().unwrap_or_default();
    let mut each = |about, value: &dyn Fn(&eventlog::TopicStorage) -> f64| {
        page.family(about, topics.iter().map(|(name, own)| (label("topic", name), value(own))));
    };
    each(("log_bytes", "gauge", "Size of the topic's segments"), &|own| own.bytes as f64);
    let about = ("log_bytes_max", "gauge", "Retention by size");
    each(about, &|own| own.retention.bytes_max as f64);
    each(("log_first_offset", "gauge", "The oldest record"), &|own| own.first_offset as f64);
    each(("log_next_offset", "gauge", "The next record"), &|own| own.next_offset as f64);
    let about = ("log_uncommitted_records", "gauge", "Records that a consumer has not committed");
    each(about, &|own| {
        let least = own.committed.values().min().copied().unwrap_or(own.next_offset);
        (own.next_offset - least).max(0) as f64
    });
    let about = ("log_removed_records_total", "counter", "Records that retention has removed");
    each(about, &|own| own.removed_records as f64);
    let about = ("log_held_back", "gauge", "Whether a consumer keeps the topic over its retention");
    each(about, &|own| f64::from(own.is_held_back));
}

fn spools(page: &mut Page, gateway: &Gateway) {
    let spools = gateway.0.log.spools();
    let mut each = |about, value: &dyn Fn(&eventlog::SpoolStatus) -> f64| {
        page.family(
            about,
            spools.iter().map(|(topic, spool)| (label("topic", topic), value(spool))),
        );
    };
    each(("spool_records", "gauge", "Records that Kafka does not have yet"), &|s| s.records as f64);
    each(("spool_bytes", "gauge", "Their size"), &|s| s.bytes as f64);
    each(("spool_bytes_max", "gauge", "The spool's limit"), &|s| s.bytes_max as f64);
    let about = ("spool_age_seconds", "gauge", "For how long the spool has held records");
    each(about, &|s| s.age_ms as f64 / 1000.0);
    each(("spool_full", "gauge", "Whether acknowledging has stopped"), &|s| f64::from(s.is_full));
    each(("spool_direct", "gauge", "Whether Kafka takes records directly"), &|s| {
        f64::from(s.is_direct)
    });
    let about = ("spool_stalled_seconds", "gauge", "For how long none of its records moved");
    each(about, &|s| s.stalled_ms as f64 / 1000.0);
    let about = ("spool_restarts_total", "counter", "Times that draining stood still");
    each(about, &|s| s.restarts as f64);
    let about = ("spool_refused_total", "counter", "Records that Kafka refuses, kept elsewhere");
    each(about, &|s| s.refused as f64);
    each(("spooled_total", "counter", "Records that went to the spool"), &|s| s.spooled as f64);
    each(("spool_drained_total", "counter", "Records brought from it to Kafka"), &|s| {
        s.drained as f64
    });
}

/// What librdkafka says of itself (its STATISTICS.md).
fn kafka(page: &mut Page, gateway: &Gateway) {
    let missing = gateway.ledger().kafka.missing_records;
    let about =
        ("kafka_missing_records_total", "counter", "Records that Kafka acknowledged and lost");
    page.one(about, missing);
    let statistics = gateway.0.log.kafka_statistics();
    let mut each = |about, value: &dyn Fn(&eventlog::KafkaStatistics) -> f64| {
        page.family(about, statistics.iter().map(|(topic, s)| (label("topic", topic), value(s))));
    };
    each(("kafka_queue_records", "gauge", "Records in librdkafka's queues"), &|s| s.queue_records);
    each(("kafka_queue_bytes", "gauge", "Bytes in librdkafka's queues"), &|s| s.queue_bytes);
    each(("kafka_sent_records_total", "counter", "Records sent to brokers"), &|s| s.sent_records);
    each(("kafka_sent_bytes_total", "counter", "Bytes sent to brokers"), &|s| s.sent_bytes);
    each(("kafka_retries_total", "counter", "Requests sent again"), &|s| s.retries);
    each(("kafka_errors_total", "counter", "Requests that failed"), &|s| s.errors);
    let about = ("kafka_rtt_seconds_p99", "gauge", "Round trip to the slowest broker");
    each(about, &|s| s.rtt_p99_us / 1e6);
}
