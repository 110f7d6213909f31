//! The table `[log]` of every service.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use service::Secret;

use crate::LogError;

/// The table `[log]` of every service's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLogConfig {
    /// Which log.
    pub kind: EventLogKind,
    /// Folder of the embedded log.
    pub dir: PathBuf,
    /// A segment file is closed at this size, bytes.
    pub segment_bytes_max: u64,
    /// Records waiting for the disk or for Kafka, bytes a topic; appending
    /// waits while it is full.
    pub queue_bytes_max: usize,
    /// Largest record, bytes.
    pub record_bytes_max: usize,
    /// Free space of the disk that the embedded log and the spool leave to others, bytes; at
    /// most a twentieth of the disk. Under it they take nothing until there is room again.
    #[serde(default = "free_bytes_min")]
    pub free_bytes_min: u64,
    /// How long the embedded log keeps records.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// Apache Kafka.
    pub kafka: KafkaConfig,
    /// What takes records while Kafka is away.
    #[serde(default)]
    pub spool: SpoolConfig,
}

impl EventLogConfig {
    /// The folder where what belongs to a writer of this log may be kept; none where it has no
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

/// How long the embedded log keeps the records of a topic. Whole segments go, the oldest first,
/// once every consumer of the topic has committed what is in them and they are older than
/// `age_days` or the topic is larger than `bytes_max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionConfig {
    /// Records older than this may go, days.
    pub age_days: f64,
    /// The topic's files are at most about this large, bytes.
    pub bytes_max: u64,
    /// Topics that differ, by name.
    #[serde(default)]
    pub topics: BTreeMap<String, TopicRetention>,
}

/// How long the embedded log keeps the records of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicRetention {
    /// Records older than this may go, days.
    pub age_days: f64,
    /// The topic's files are at most about this large, bytes.
    pub bytes_max: u64,
}

impl Default for RetentionConfig {
    /// A week, and 4 GiB.
    fn default() -> Self {
        Self { age_days: 7.0, bytes_max: 4 << 30, topics: BTreeMap::new() }
    }
}

impl RetentionConfig {
    /// Nothing goes by itself, but of some topics.
    pub(crate) fn unlimited_except<const N: usize>(topics: [(&str, TopicRetention); N]) -> Self {
        let topics = topics.map(|(topic, retention)| (topic.to_owned(), retention));
        Self { age_days: f64::INFINITY, bytes_max: u64::MAX, topics: topics.into() }
    }

    /// What holds for a topic.
    #[must_use]
    pub fn for_topic(&self, topic: &str) -> TopicRetention {
        let own = TopicRetention { age_days: self.age_days, bytes_max: self.bytes_max };
        self.topics.get(topic).copied().unwrap_or(own)
    }
}

const fn free_bytes_min() -> u64 {
    256 << 20
}

/// The spool in front of Apache Kafka.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolConfig {
    /// Its folder; empty for none: then nothing is durable while Kafka is away.
    pub dir: PathBuf,
    /// At most this much on disk, bytes a topic.
    pub bytes_max: u64,
    /// Kafka is away when it has not acknowledged a record for so long,
    /// milliseconds.
    pub after_ms: u64,
}

impl Default for SpoolConfig {
    /// None.
    fn default() -> Self {
        Self { dir: PathBuf::new(), bytes_max: 1 << 30, after_ms: 2_000 }
    }
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventLogKind {
    /// Local files.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// How to reach Apache Kafka.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Partitions of a topic that does not exist yet.
    pub partitions: i32,
    /// Copies of a topic that does not exist yet; -1 for as many as the brokers make by default.
    pub replication: i32,
    /// How records are compressed on their way to Kafka and there.
    #[serde(default)]
    pub compression: Compression,
    /// Which partition a key's records go to.
    #[serde(default)]
    pub partitioner: Partitioner,
    /// How long to wait for the first answer of a broker, milliseconds.
    pub connect_timeout_ms: u64,
    /// Readers of the same group share a topic's partitions; empty: each reads
    /// all of them.
    #[serde(default)]
    pub group: String,
    /// This reader's own name in the group: one that comes back under it within
    /// `session_timeout_ms` finds its partitions kept for it. Empty for none.
    #[serde(default)]
    pub member: String,
    /// A reader of a group that is not heard of for so long is taken for dead,
    /// milliseconds.
    #[serde(default = "session_timeout_ms")]
    pub session_timeout_ms: u32,
    /// How connections are secured.
    #[serde(default)]
    pub security: KafkaSecurity,
    /// PEM file of the authority of the brokers' certificates; empty for those
    /// of the system.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// PEM file of the own certificate; empty for none.
    #[serde(default)]
    pub cert_file: PathBuf,
    /// PEM file of its key.
    #[serde(default)]
    pub key_file: PathBuf,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[serde(default = "sasl_mechanism")]
    pub sasl_mechanism: String,
    /// Who logs in.
    #[serde(default)]
    pub user: String,
    /// With which password.
    #[serde(default)]
    pub password: Secret,
}

/// How records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
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
    /// librdkafka's `compression.type`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
        }
    }
}

/// Which partition a key's records go to. Who changes it moves zones to other partitions: the
/// order of a zone's records is lost at that moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partitioner {
    /// As Kafka's Java clients, Spark and Kafka Streams: by murmur2 of the key.
    #[default]
    Murmur2,
    /// As librdkafka by default, and this program until 0.1: by CRC32 of the key.
    Crc32,
}

impl Partitioner {
    /// librdkafka's `partitioner`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Murmur2 => "murmur2_random",
            Self::Crc32 => "consistent_random",
        }
    }
}

/// How connections to Kafka are secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaSecurity {
    /// Not at all.
    #[default]
    Plaintext,
    /// Encrypted; both sides may show certificates.
    Tls,
    /// User and password, in the clear with `PLAIN`.
    SaslPlaintext,
    /// User and password, encrypted.
    SaslTls,
}

impl KafkaSecurity {
    /// librdkafka's `security.protocol`.
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

/// Kafka's own default.
const fn session_timeout_ms() -> u32 {
    45_000
}

fn sasl_mechanism() -> String {
    "SCRAM-SHA-512".to_owned()
}

impl EventLogConfig {
    /// The embedded log in `dir`, limits as in [`EventLogConfig::default`].
    #[must_use]
    pub fn for_embedded(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), ..Self::default() }
    }

    /// Kafka at `brokers` (`host:port`, comma-separated), limits as in
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
        // Kafka's limits, unless its administrator changed them.
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

/// A frame's length must be plausible when a torn file is searched.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;
/// A semaphore counts the queue's bytes.
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
