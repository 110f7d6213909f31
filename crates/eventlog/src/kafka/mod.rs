//! Apache Kafka through librdkafka.
//!
//! # Layout
//! - [`context`]: forwards librdkafka's messages and errors to the log
//! - [`producer`]: idempotent, in order, with results by delivery callback
//! - [`statistics`]: librdkafka's statistics of a producer
//! - [`consumer`]: all partitions, or those of a group; the reader's owner stores the offsets
//! - [`rebalance`]: assignment and revocation of a group's partitions

mod consumer;
mod context;
mod producer;
mod rebalance;
mod statistics;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
    metadata::{MetadataPartition, MetadataTopic},
};
use tracing::info;

pub(crate) use consumer::KafkaConsumer;
use context::LoggingContext;
pub(crate) use producer::{KafkaProducer, QueueAttempt};
pub use statistics::KafkaStatistics;
use statistics::LatestStatistics;

use crate::{EventLogConfig, LogError, PartitionOffsets, config};

/// The connection settings of the brokers.
#[derive(Debug)]
pub(crate) struct KafkaClient {
    settings: config::KafkaConfig,
    queue_bytes_max: usize,
    record_bytes_max: usize,
    statistics: Mutex<BTreeMap<String, LatestStatistics>>,
    acknowledged: Mutex<BTreeMap<String, AcknowledgedOffsets>>,
    clocks: Mutex<BTreeMap<String, BrokerClock>>,
    /// The largest request of each topic with a producer, bytes; `None` if it is unknown.
    limits: Mutex<BTreeMap<String, Option<usize>>>,
    has_spool: bool,
}

/// The newest time that a topic accepts, if it refuses this machine's time. From then on it
/// advances with elapsed time and no longer follows this machine's clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct BrokerClock(Arc<Mutex<Option<(i64, Instant)>>>);

impl BrokerClock {
    /// Notes that a record with this time was accepted just now.
    pub(crate) fn note_accepted(&self, accepted_ms: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((accepted_ms, Instant::now()));
    }

    /// Returns the newest time that is accepted now, UTC ms; `None` if no time was refused.
    fn newest_ms(&self) -> Option<i64> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.map(|(accepted_ms, at)| {
            let since_ms = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
            accepted_ms.saturating_add(since_ms)
        })
    }
}

/// For each partition of a topic, the offset after the last record that was acknowledged to this
/// process. The successive producers of a topic share it.
#[derive(Clone, Debug, Default)]
struct AcknowledgedOffsets(Arc<Mutex<BTreeMap<i32, i64>>>);

impl AcknowledgedOffsets {
    fn note_acknowledged(&self, partition: i32, offset: i64) {
        // Kafka does not always report the offset.
        if offset >= 0 {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(partition, offset.saturating_add(1));
        }
    }

    fn get(&self) -> BTreeMap<i32, i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl KafkaClient {
    pub(crate) fn new(settings: &EventLogConfig) -> Self {
        Self {
            settings: settings.kafka.clone(),
            queue_bytes_max: settings.queue_bytes_max,
            record_bytes_max: settings.record_bytes_max,
            statistics: Mutex::default(),
            acknowledged: Mutex::default(),
            clocks: Mutex::default(),
            limits: Mutex::default(),
            has_spool: !settings.spool.dir.as_os_str().is_empty(),
        }
    }

    /// Returns librdkafka's statistics of each topic's producer.
    pub(crate) fn producer_statistics(&self) -> BTreeMap<String, KafkaStatistics> {
        let all = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(topic, latest)| (topic.clone(), latest.get())).collect()
    }

    /// Returns the place where a topic's producer stores its statistics.
    fn statistics_for(&self, topic: &str) -> LatestStatistics {
        let mut all = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(topic.to_owned()).or_default().clone()
    }

    /// Returns, for each partition, the offset after the newest acknowledged record.
    pub(crate) fn acknowledged_offsets(&self, topic: &str) -> BTreeMap<i32, i64> {
        self.acknowledged_for(topic).get()
    }

    /// Returns the place where a topic's producer notes acknowledged records.
    fn acknowledged_for(&self, topic: &str) -> AcknowledgedOffsets {
        let mut all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(topic.to_owned()).or_default().clone()
    }

    /// Returns the clock of a topic.
    pub(crate) fn broker_clock(&self, topic: &str) -> BrokerClock {
        let mut all = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(topic.to_owned()).or_default().clone()
    }

    pub(crate) fn open_producer(&self, topic: &str) -> Result<KafkaProducer, LogError> {
        self.ensure_partitions(topic)?;
        let topic_bytes_max = self.topic_bytes_max(topic);
        let mut known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(topic.to_owned(), topic_bytes_max);
        drop(known);
        KafkaProducer::open(self, topic, topic_bytes_max)
    }

    /// Opens another producer of a topic, with the limits that the previous one found.
    pub(crate) fn reopen_producer(&self, topic: &str) -> Result<KafkaProducer, LogError> {
        let known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let topic_bytes_max = known.get(topic).copied().flatten();
        drop(known);
        KafkaProducer::open(self, topic, topic_bytes_max)
    }

    /// Queries the largest request that a topic accepts, bytes; `None` if the brokers do not
    /// state it.
    fn topic_bytes_max(&self, topic: &str) -> Option<usize> {
        let admin: AdminClient<LoggingContext> =
            self.client_config().create_with_context(LoggingContext).ok()?;
        let options = AdminOptions::new().request_timeout(Some(self.connect_timeout()));
        let found = block_on_thread(async {
            admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await
        });
        let found = match found {
            Ok(Ok(found)) => found.into_iter().next()?.ok()?,
            // The user may not be allowed to query. A record that is too large is then refused
            // when it is sent.
            Ok(Err(_)) | Err(_) => return None,
        };
        let value = found.entry_map().get("max.message.bytes")?.value.clone()?;
        value.parse().ok()
    }

    pub(crate) fn open_reader(
        &self,
        topic: &str,
        from: &PartitionOffsets,
    ) -> Result<KafkaConsumer, LogError> {
        let bounds = self.fetch_bounds(topic)?;
        for (&partition, &offset) in from {
            let available = bounds.get(&partition).cloned().unwrap_or(0..0);
            if offset < available.start || offset > available.end {
                let topic = topic.to_owned();
                return Err(LogError::OutOfRange { topic, partition, offset, available });
            }
        }
        let from = bounds.iter().map(|(p, have)| (*p, *from.get(p).unwrap_or(&have.start)));
        KafkaConsumer::open_partitions(self, topic, &from.collect())
    }

    /// Opens a reader of the partitions that the consumer group assigns to it.
    pub(crate) fn open_group_reader(&self, topic: &str) -> Result<KafkaConsumer, LogError> {
        self.ensure_partitions(topic)?;
        KafkaConsumer::join_group(self, topic)
    }

    pub(crate) fn fetch_bounds(&self, topic: &str) -> Result<BTreeMap<i32, Range<i64>>, LogError> {
        let partitions = self.ensure_partitions(topic)?;
        let client = self.create_client(topic)?;
        let bounds = partitions.into_iter().map(|partition| {
            let found = client.fetch_watermarks(topic, partition, self.connect_timeout());
            let (low, high) = found.map_err(|e| self.kafka_error(topic, "read the bounds", &e))?;
            Ok((partition, low..high))
        });
        bounds.collect()
    }

    /// Returns the partitions of `topic`, which is created if it does not exist.
    fn ensure_partitions(&self, topic: &str) -> Result<Vec<i32>, LogError> {
        let client = self.create_client(topic)?;
        let find = || {
            let fetched = client.fetch_metadata(Some(topic), self.connect_timeout());
            let found = fetched.map_err(|e| LogError::Unreachable {
                brokers: self.settings.brokers.clone(),
                cause: e.to_string(),
            })?;
            let topic = found.topics().first().filter(|topic| topic.error().is_none());
            let ids =
                topic.into_iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id);
            Ok::<Vec<i32>, LogError>(ids.collect())
        };
        let mut partitions = find()?;
        // A queried broker knows a new topic only a moment after its creation.
        for _ in 0..METADATA_TRIES {
            if !partitions.is_empty() {
                break;
            }
            self.create_topic(topic)?;
            partitions = find()?;
        }
        if partitions.is_empty() {
            return Err(self.kafka_error(
                topic,
                "find its partitions",
                &"it has none after creation",
            ));
        }
        partitions.sort_unstable();
        Ok(partitions)
    }

    fn create_topic(&self, topic: &str) -> Result<(), LogError> {
        let failed = |cause: &dyn std::fmt::Display| self.kafka_error(topic, "create it", cause);
        let admin: AdminClient<LoggingContext> =
            self.client_config().create_with_context(LoggingContext).map_err(|e| failed(&e))?;
        let replication = TopicReplication::Fixed(self.settings.replication);
        let new = NewTopic::new(topic, self.settings.partitions, replication);
        let options = AdminOptions::new().operation_timeout(Some(self.connect_timeout()));
        let outcome = block_on_thread(async { admin.create_topics([&new], &options).await });
        let created = outcome.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        for result in created {
            match result {
                Ok(_) => info!(topic, partitions = self.settings.partitions, "created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(failed(&code)),
            }
        }
        Ok(())
    }

    fn create_client(&self, topic: &str) -> Result<BaseConsumer<LoggingContext>, LogError> {
        let client = self.client_config().create_with_context(LoggingContext);
        client.map_err(|e| self.kafka_error(topic, "make a client", &e))
    }

    fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.settings.brokers);
        config.set("client.id", "microclimate");
        // librdkafka's defaults are 60 s and 10 s. For so long it would not use a connection that
        // is silently dead, or one that broke a few times.
        config.set("socket.timeout.ms", "10000").set("reconnect.backoff.max.ms", "1000");
        self.set_security(&mut config);
        config
    }

    fn set_security(&self, config: &mut ClientConfig) {
        let config::KafkaConfig { security, ca_file, cert_file, key_file, .. } = &self.settings;
        config.set("security.protocol", security.protocol_name());
        if security.has_tls() {
            let files = [
                ("ssl.ca.location", ca_file),
                ("ssl.certificate.location", cert_file),
                ("ssl.key.location", key_file),
            ];
            for (key, file) in files.into_iter().filter(|(_, file)| !file.as_os_str().is_empty()) {
                config.set(key, file.display().to_string());
            }
            if ca_file.as_os_str().is_empty() {
                // The built-in OpenSSL does not know the system's folder of certificates.
                config.set("ssl.ca.location", "probe");
            }
        }
        if security.has_sasl() {
            config.set("sasl.mechanism", &self.settings.sasl_mechanism);
            config.set("sasl.username", &self.settings.user);
            config.set("sasl.password", self.settings.password.expose_secret().unwrap_or_default());
        }
    }

    fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.connect_timeout_ms)
    }

    fn kafka_error(
        &self,
        topic: &str,
        doing: &'static str,
        cause: &(impl std::fmt::Display + ?Sized),
    ) -> LogError {
        LogError::Kafka {
            brokers: self.settings.brokers.clone(),
            topic: topic.to_owned(),
            doing,
            cause: cause.to_string(),
        }
    }
}

/// Runs `work` on a thread of its own, because the caller may be on an async runtime, which must
/// not be entered twice.
fn block_on_thread<T: Send>(work: impl Future<Output = T> + Send) -> std::io::Result<T> {
    thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(work))
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Number of attempts to find a topic's partitions after its creation.
const METADATA_TRIES: usize = 20;

/// Whether librdkafka recovers from this error by itself.
fn is_transient(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
    )
}
