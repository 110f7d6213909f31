//! The table `[log]` of a service's configuration.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use service::Secret;

use crate::LogError;

/// The table `[log]` of a service's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLogConfig {
    /// Whether the log is embedded or Kafka.
    pub kind: EventLogKind,
    /// The folder of the embedded log.
    pub dir: PathBuf,
    /// Size at which a segment file is closed, bytes.
    pub segment_bytes_max: u64,
    /// Records that wait for the disk or for Kafka, bytes for each topic. Appending waits while
    /// the queue is full.
    pub queue_bytes_max: usize,
    /// Largest record, bytes.
    pub record_bytes_max: usize,
    /// Free disk space that the embedded log and the spool leave to others, bytes; at most a
    /// twentieth of the disk. With less free space they accept no records.
    #[serde(default = "free_bytes_min")]
    pub free_bytes_min: u64,
    /// How long the embedded log keeps records.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// Apache Kafka.
    pub kafka: KafkaConfig,
    /// The spool that takes records while Kafka is away.
    #[serde(default)]
    pub spool: SpoolConfig,
}

impl EventLogConfig {
    /// Returns the folder for files that belong to a writer of this log; `None` if the log has no
    /// folder.
    #[must_use]
    pub fn state_dir(&self) -> Option<&std::path::Path> {
        let dir = match self.kind {
            EventLogKind::Embedded => &self.dir,
            EventLogKind::Kafka => &self.spool.dir,
        };
        (!dir.as_os_str().is_empty()).then_some(dir)
    }
}

/// How long the embedded log keeps the records of a topic. Whole segments are removed, oldest
/// first. A segment is removed when every consumer of the topic has committed its records, and
/// they are older than `age_days` or the topic is larger than `bytes_max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionConfig {
    /// Age at which records may be removed, days.
    pub age_days: f64,
    /// Approximate size limit of the topic's files, bytes.
    pub bytes_max: u64,
    /// Topics with another retention, by name.
    #[serde(default)]
    pub topics: BTreeMap<String, TopicRetention>,
}

/// How long the embedded log keeps the records of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicRetention {
    /// Age at which records may be removed, days.
    pub age_days: f64,
    /// Approximate size limit of the topic's files, bytes.
    pub bytes_max: u64,
}

impl Default for RetentionConfig {
    /// A week, and 4 GiB.
    fn default() -> Self {
        Self { age_days: 7.0, bytes_max: 4 << 30, topics: BTreeMap::new() }
    }
}

impl RetentionConfig {
    /// A retention that removes nothing, except from some topics.
    pub(crate) fn unlimited_except<const N: usize>(topics: [(&str, TopicRetention); N]) -> Self {
        let by_name = topics.map(|(topic, retention)| (topic.to_owned(), retention));
        Self { age_days: f64::INFINITY, bytes_max: u64::MAX, topics: by_name.into() }
    }

    /// Returns the retention of a topic.
    #[must_use]
    pub fn for_topic(&self, topic: &str) -> TopicRetention {
        let default = TopicRetention { age_days: self.age_days, bytes_max: self.bytes_max };
        self.topics.get(topic).copied().unwrap_or(default)
    }
}

const fn free_bytes_min() -> u64 {
    256 << 20
}

/// The spool in front of Apache Kafka.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolConfig {
    /// The spool's folder. Empty for no spool; then nothing is durable while Kafka is away.
    pub dir: PathBuf,
    /// Limit on disk, bytes for each topic.
    pub bytes_max: u64,
    /// Kafka counts as away when it has not acknowledged a record for this long, milliseconds.
    pub after_ms: u64,
}

impl Default for SpoolConfig {
    /// No spool.
    fn default() -> Self {
        Self { dir: PathBuf::new(), bytes_max: 1 << 30, after_ms: 2_000 }
    }
}

/// The kinds of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventLogKind {
    /// Local files.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// The connection to Apache Kafka.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Addresses of the brokers: `host:port`, comma-separated.
    pub brokers: String,
    /// Number of partitions of a newly created topic.
    pub partitions: i32,
    /// Number of replicas of a newly created topic; -1 for the brokers' default.
    pub replication: i32,
    /// The compression of records on their way to Kafka and in it.
    #[serde(default)]
    pub compression: Compression,
    /// The rule that assigns keys to partitions.
    #[serde(default)]
    pub partitioner: Partitioner,
    /// Longest wait for the first response of a broker, milliseconds.
    pub connect_timeout_ms: u64,
    /// The consumer group, whose readers share a topic's partitions. Empty for none: each reader
    /// reads all partitions.
    #[serde(default)]
    pub group: String,
    /// The reader's static name in the group. A reader that returns under it within
    /// `session_timeout_ms` gets its partitions back. Empty for none.
    #[serde(default)]
    pub member: String,
    /// Silence after which a reader of a group counts as dead, milliseconds.
    #[serde(default = "session_timeout_ms")]
    pub session_timeout_ms: u32,
    /// The security of connections.
    #[serde(default)]
    pub security: KafkaSecurity,
    /// PEM file of the authority of the brokers' certificates; empty for the system's
    /// authorities.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// PEM file of the client certificate; empty for none.
    #[serde(default)]
    pub cert_file: PathBuf,
    /// PEM file of the client certificate's key.
    #[serde(default)]
    pub key_file: PathBuf,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[serde(default = "sasl_mechanism")]
    pub sasl_mechanism: String,
    /// The user name.
    #[serde(default)]
    pub user: String,
    /// The password.
    #[serde(default)]
    pub password: Secret,
}

/// The compression of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// No compression.
    None,
    /// LZ4: a third of the size of readings for little time.
    #[default]
    Lz4,
    /// gzip: smaller and slower.
    Gzip,
    /// Snappy.
    Snappy,
}

impl Compression {
    /// Returns librdkafka's `compression.type`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
        }
    }
}

/// The rule that assigns keys to partitions. Changing it moves zones to other partitions, so the
/// order of a zone's records is lost at that moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partitioner {
    /// murmur2 of the key, as Kafka's Java clients, Spark and Kafka Streams do.
    #[default]
    Murmur2,
    /// CRC32 of the key, as librdkafka does by default, and as this program did until 0.1.
    Crc32,
}

impl Partitioner {
    /// Returns librdkafka's `partitioner`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Murmur2 => "murmur2_random",
            Self::Crc32 => "consistent_random",
        }
    }
}

/// The security of connections to Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaSecurity {
    /// No encryption and no user.
    #[default]
    Plaintext,
    /// Encrypted; both sides may show certificates.
    Tls,
    /// User and password, in plain text with `PLAIN`.
    SaslPlaintext,
    /// User and password, encrypted.
    SaslTls,
}

impl KafkaSecurity {
    /// Returns librdkafka's `security.protocol`.
    pub(crate) const fn protocol_name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Tls => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslTls => "sasl_ssl",
        }
    }

    pub(crate) const fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::SaslTls)
    }

    pub(crate) const fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslTls)
    }
}

const SASL_MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Kafka's default session timeout.
const fn session_timeout_ms() -> u32 {
    45_000
}

fn sasl_mechanism() -> String {
    "SCRAM-SHA-512".to_owned()
}

impl EventLogConfig {
    /// Settings of the embedded log in `dir`, with the limits of [`EventLogConfig::default`].
    #[must_use]
    pub fn for_embedded(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), ..Self::default() }
    }

    /// Settings of Kafka at `brokers` (`host:port`, comma-separated), with the limits of
    /// [`EventLogConfig::default`].
    #[must_use]
    pub fn for_kafka(brokers: &str) -> Self {
        let kafka = KafkaConfig { brokers: brokers.to_owned(), ..Self::default().kafka };
        Self { kind: EventLogKind::Kafka, kafka, ..Self::default() }
    }

    /// Whether readers share the topics' partitions as a consumer group.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.kind == EventLogKind::Kafka && !self.kafka.group.is_empty()
    }

    pub(crate) fn check_values(&self) -> Result<(), LogError> {
        let refuse = |key, found: String, expected: String| {
            Err(LogError::InvalidSetting { key, found, expected })
        };
        if self.record_bytes_max == 0 || self.record_bytes_max > RECORD_BYTES_MAX {
            let expected = format!("1 to {RECORD_BYTES_MAX}");
            return refuse("record_bytes_max", self.record_bytes_max.to_string(), expected);
        }
        let queue = self.record_bytes_max..=QUEUE_BYTES_MAX;
        if !queue.contains(&self.queue_bytes_max) {
            let expected = format!("{} (one record) to {QUEUE_BYTES_MAX}", queue.start());
            return refuse("queue_bytes_max", self.queue_bytes_max.to_string(), expected);
        }
        if self.segment_bytes_max < self.record_bytes_max as u64 {
            let expected = format!("at least record_bytes_max, {}", self.record_bytes_max);
            return refuse("segment_bytes_max", self.segment_bytes_max.to_string(), expected);
        }
        let topics = self.retention.topics.values().copied();
        for TopicRetention { age_days, bytes_max } in topics.chain([self.retention.for_topic("")]) {
            if !(age_days > 0.0 && age_days.is_finite()) {
                let expected = "a number of days over 0".to_owned();
                return refuse("retention.age_days", age_days.to_string(), expected);
            }
            if bytes_max < 4 * self.record_bytes_max as u64 {
                let expected =
                    format!("at least four records of record_bytes_max, {}", self.record_bytes_max);
                return refuse("retention.bytes_max", bytes_max.to_string(), expected);
            }
        }
        let KafkaConfig { security, sasl_mechanism, user, password, .. } = &self.kafka;
        if security.has_sasl() && !SASL_MECHANISMS.contains(&sasl_mechanism.as_str()) {
            let expected = format!("one of {}", SASL_MECHANISMS.join(", "));
            return refuse("kafka.sasl_mechanism", format!("{sasl_mechanism:?}"), expected);
        }
        if security.has_sasl() && (user.is_empty() || password.expose_secret().is_none()) {
            let expected = "user and password, as log.kafka.security asks for them".to_owned();
            return refuse("kafka.user", format!("{user:?}"), expected);
        }
        if self.kafka.group.is_empty() && !self.kafka.member.is_empty() {
            let expected = "kafka.group beside it: a member is a member of a group".to_owned();
            return refuse("kafka.member", format!("{:?}", self.kafka.member), expected);
        }
        // Kafka's default limits of the session timeout.
        let session = 6_000..=1_800_000;
        if !session.contains(&self.kafka.session_timeout_ms) {
            let expected = format!("{} to {}", session.start(), session.end());
            let found = self.kafka.session_timeout_ms.to_string();
            return refuse("kafka.session_timeout_ms", found, expected);
        }
        let SpoolConfig { bytes_max, after_ms, .. } = self.spool;
        if bytes_max < 2 * self.record_bytes_max as u64 {
            let expected =
                format!("at least two records of record_bytes_max, {}", self.record_bytes_max);
            return refuse("spool.bytes_max", bytes_max.to_string(), expected);
        }
        if !(10..=3_600_000).contains(&after_ms) {
            return refuse("spool.after_ms", after_ms.to_string(), "10 to 3600000".to_owned());
        }
        Ok(())
    }
}

/// Largest record, bytes. The length of a frame must be plausible when a torn file is searched.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;
/// Largest queue, bytes. A semaphore counts them.
const QUEUE_BYTES_MAX: usize = 1 << 30;

impl Default for EventLogConfig {
    fn default() -> Self {
        Self {
            kind: EventLogKind::Embedded,
            dir: PathBuf::from("var/log"),
            segment_bytes_max: 64 << 20,
            queue_bytes_max: 16 << 20,
            record_bytes_max: 1 << 20,
            free_bytes_min: free_bytes_min(),
            retention: RetentionConfig::default(),
            kafka: KafkaConfig {
                brokers: "127.0.0.1:9092".to_owned(),
                partitions: 6,
                replication: -1,
                compression: Compression::default(),
                partitioner: Partitioner::default(),
                connect_timeout_ms: 10_000,
                group: String::new(),
                member: String::new(),
                session_timeout_ms: session_timeout_ms(),
                security: KafkaSecurity::default(),
                ca_file: PathBuf::new(),
                cert_file: PathBuf::new(),
                key_file: PathBuf::new(),
                sasl_mechanism: sasl_mechanism(),
                user: String::new(),
                password: Secret::default(),
            },
            spool: SpoolConfig::default(),
        }
    }
}
