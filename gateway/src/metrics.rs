//! The gateway's metrics, for Prometheus.

use std::sync::atomic::Ordering;

use service::prometheus::{MetricsPage, format_label};

use crate::{
    gateway::{Gateway, GatewayInner},
    ledger::{LedgerCounts, LedgerSnapshot},
};

pub(crate) fn render_metrics(gateway: &Gateway) -> String {
    let mut page = MetricsPage::new("microclimate_gateway");
    write_reading_metrics(&mut page, gateway);
    write_device_metrics(&mut page, gateway);
    write_connection_metrics(&mut page, gateway);
    write_listener_metrics(&mut page, gateway);
    write_acknowledgement_metrics(&mut page, gateway);
    write_topic_metrics(&mut page, gateway);
    write_spool_metrics(&mut page, gateway);
    write_kafka_metrics(&mut page, gateway);
    page.into_text()
}

fn write_reading_metrics(page: &mut MetricsPage, gateway: &Gateway) {
    let LedgerSnapshot { messages, totals, .. } = gateway.ledger_snapshot();
    let LedgerCounts { received, logged, dead_lettered, duplicates, .. } = totals;
    let LedgerCounts { dropped, in_flight, unaccounted, .. } = totals;
    page.add_metric(("messages_total", "counter", "Messages received, by MQTT or HTTP"), messages);
    page.add_metric(("readings_received_total", "counter", "Readings received"), received);
    let outcomes = [
        ("logged", logged),
        ("dead_lettered", dead_lettered),
        ("duplicate", duplicates),
        ("dropped", dropped),
    ];
    let outcomes = outcomes.map(|(name, count)| (format_label("outcome", name), count));
    page.add_family(("readings_total", "counter", "Readings settled, by outcome"), outcomes);
    page.add_metric(("readings_in_flight", "gauge", "Readings not yet durable"), in_flight);
    page.add_metric(("readings_unaccounted", "gauge", "Readings lost: must be 0"), unaccounted);
    let letters = &gateway.0.dead_letters;
    let reasons = letters.counts_by_reason().into_iter();
    let reasons = reasons.map(|(reason, count)| (format_label("reason", reason), count));
    page.add_family(("dead_letters_total", "counter", "Dead letters, by reason"), reasons);
    let repeated = letters.repeat_counts().into_iter();
    let repeated = repeated.map(|(reason, count)| (format_label("reason", reason), count));
    let about = ("dead_letters_repeated_total", "counter", "Dead letters counted and not stored");
    page.add_family(about, repeated);
    let about = ("dead_letters_reinjected_total", "counter", "Dead letters that became readings");
    page.add_metric(about, letters.reinjected_total());
}

fn write_device_metrics(page: &mut MetricsPage, gateway: &Gateway) {
    let LedgerSnapshot { totals, devices, evicted_devices, entities, .. } =
        gateway.ledger_snapshot();
    let about =
        ("devices_evicted_total", "counter", "Devices whose ledger line was given to others");
    page.add_metric(about, evicted_devices);
    let about = ("entities", "gauge", "Announced entities, properties and metrics remembered");
    page.add_metric(about, entities.remembered);
    let about = (
        "entities_evicted_total",
        "counter",
        "Entities forgotten above the mappings' entities_max",
    );
    page.add_metric(about, entities.evicted);
    let about = ("sequence_gaps", "gauge", "Missing sequence numbers of devices");
    page.add_metric(about, totals.sequence_gaps);
    let about = ("device_resets_total", "counter", "Times that devices began a new run");
    page.add_metric(about, totals.resets);
    page.add_metric(("devices", "gauge", "Devices seen"), devices.len());
    let off = devices.iter().filter_map(|line| line.clock_offset_ms).map(i64::unsigned_abs).max();
    let about = ("clock_offset_seconds_max", "gauge", "Largest offset of a device's clock");
    page.add_metric(about, off.unwrap_or(0) as f64 / 1000.0);
}

fn write_connection_metrics(page: &mut MetricsPage, gateway: &Gateway) {
    let GatewayInner { connections, downlink, is_ready, .. } = &*gateway.0;
    let about = ("lost_sessions_total", "counter", "MQTT sessions that a broker lost");
    page.add_metric(about, gateway.ledger_snapshot().lost_sessions);
    let about = ("connections", "gauge", "MQTT clients connected");
    page.add_metric(about, connections.load(Ordering::Relaxed));
    let about = ("downlink_missed_total", "counter", "Messages that slow subscribers missed");
    page.add_metric(about, downlink.missed_count());
    let about = ("downlink_waiting_bytes", "gauge", "Bytes that wait for subscribers");
    page.add_metric(about, downlink.waiting_bytes());
    let about = ("retained_bytes", "gauge", "Bytes of messages retained for later subscribers");
    page.add_metric(about, downlink.retained_bytes());
    let about = ("retained_refused_total", "counter", "Retained messages not stored: no room");
    page.add_metric(about, downlink.retained_refused());
    let about = ("ready", "gauge", "Whether messages are accepted");
    page.add_metric(about, u8::from(is_ready.load(Ordering::Relaxed)));
}

fn write_listener_metrics(page: &mut MetricsPage, gateway: &Gateway) {
    let GatewayInner { listener_counts: counts, access, .. } = &*gateway.0;
    let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let reasons =
        counts.cut_counts().map(|(reason, count)| (format_label("reason", reason), count));
    let about = ("connections_cut_total", "counter", "Connections refused or cut, by reason");
    page.add_family(about, reasons);
    let about = (
        "connections_held_bytes",
        "gauge",
        "Bytes of unfinished packets, names, wills and filters",
    );
    page.add_metric(about, read(&counts.held_bytes));
    let about = (
        "publishes_denied_total",
        "counter",
        "Messages refused: the user may not publish to the topic",
    );
    page.add_metric(about, read(&counts.denied_publishes));
    let about = ("subscriptions_denied_total", "counter", "Subscriptions that a user may not have");
    page.add_metric(about, read(&counts.denied_subscriptions));
    let about =
        ("attempts_refused_total", "counter", "Passwords refused unchecked: too many guesses");
    page.add_metric(about, access.refused_attempts());
    let about = ("guessers_forgotten_total", "counter", "Guessing users and addresses forgotten");
    page.add_metric(about, access.forgotten_guessers());
    page.add_metric(
        ("sessions", "gauge", "MQTT sessions that are remembered"),
        read(&counts.sessions),
    );
    let about = ("sessions_evicted_total", "counter", "MQTT sessions forgotten: no room");
    page.add_metric(about, read(&counts.sessions_evicted));
}

fn write_acknowledgement_metrics(page: &mut MetricsPage, gateway: &Gateway) {
    let about = ("acknowledgement_seconds", "From a message's arrival to its durability");
    page.add_histogram(about, [(String::new(), &*gateway.0.lag)]);
}

/// Writes the disk usage of the embedded log.
fn write_topic_metrics(page: &mut MetricsPage, gateway: &Gateway) {
    let log = &gateway.0.log;
    let about = ("disk_full", "gauge", "Whether nothing is acknowledged because the disk is full");
    page.add_metric(about, u8::from(log.is_disk_full()));
    // An error is reported where the log is used.
    let topics = log.topic_storage().unwrap_or_default();
    let mut each = |about, value: &dyn Fn(&eventlog::TopicStorage) -> f64| {
        page.add_family(
            about,
            topics.iter().map(|(name, storage)| (format_label("topic", name), value(storage))),
        );
    };
    each(("log_bytes", "gauge", "Size of the topic's segments"), &|topic| topic.bytes as f64);
    let about = ("log_bytes_max", "gauge", "Retention by size");
    each(about, &|topic| topic.retention.bytes_max as f64);
    each(("log_first_offset", "gauge", "The oldest record"), &|topic| topic.first_offset as f64);
    each(("log_next_offset", "gauge", "The next record"), &|topic| topic.next_offset as f64);
    let about = ("log_uncommitted_records", "gauge", "Records that a consumer has not committed");
    each(about, &|topic| {
        let least = topic.committed.values().min().copied().unwrap_or(topic.next_offset);
        (topic.next_offset - least).max(0) as f64
    });
    let about = ("log_removed_records_total", "counter", "Records that retention has removed");
    each(about, &|topic| topic.removed_records as f64);
    let about =
        ("log_held_back", "gauge", "Whether a consumer keeps the topic above its retention");
    each(about, &|topic| f64::from(topic.is_held_back));
}

fn write_spool_metrics(page: &mut MetricsPage, gateway: &Gateway) {
    let spools = gateway.0.log.spool_statuses();
    let mut each = |about, value: &dyn Fn(&eventlog::SpoolStatus) -> f64| {
        page.add_family(
            about,
            spools.iter().map(|(topic, spool)| (format_label("topic", topic), value(spool))),
        );
    };
    each(("spool_records", "gauge", "Records that Kafka does not have yet"), &|s| s.records as f64);
    each(("spool_bytes", "gauge", "Size of these records"), &|s| s.bytes as f64);
    each(("spool_bytes_max", "gauge", "The spool's limit"), &|s| s.bytes_max as f64);
    let about = ("spool_age_seconds", "gauge", "Seconds for which the spool has held records");
    each(about, &|s| s.age_ms as f64 / 1000.0);
    each(("spool_full", "gauge", "Whether acknowledging has stopped"), &|s| f64::from(s.is_full));
    each(("spool_direct", "gauge", "Whether records go directly to Kafka"), &|s| {
        f64::from(s.is_direct)
    });
    let about = ("spool_stalled_seconds", "gauge", "Seconds without progress of the drain");
    each(about, &|s| s.stalled_ms as f64 / 1000.0);
    let about = ("spool_restarts_total", "counter", "Restarts of a stalled drain");
    each(about, &|s| s.restarts as f64);
    let about = ("spool_refused_total", "counter", "Records that Kafka refused, stored elsewhere");
    each(about, &|s| s.refused as f64);
    each(("spooled_total", "counter", "Records that went to the spool"), &|s| s.spooled as f64);
    each(("spool_drained_total", "counter", "Records sent from the spool to Kafka"), &|s| {
        s.drained as f64
    });
}

/// Writes librdkafka's statistics (its STATISTICS.md).
fn write_kafka_metrics(page: &mut MetricsPage, gateway: &Gateway) {
    let missing = gateway.ledger_snapshot().kafka.missing_records;
    let about =
        ("kafka_missing_records_total", "counter", "Records that Kafka acknowledged and lost");
    page.add_metric(about, missing);
    let statistics = gateway.0.log.kafka_statistics();
    let mut each = |about, value: &dyn Fn(&eventlog::KafkaStatistics) -> f64| {
        page.add_family(
            about,
            statistics.iter().map(|(topic, s)| (format_label("topic", topic), value(s))),
        );
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
