use std::{io, ops::Range, path::PathBuf, sync::Arc};

/// The errors of the log. Cheap to clone, because one disk failure is the result of every record
/// that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Another process has the embedded log open.
    #[error(
        "{}: another process uses this log\n\
         hint: end that process, or give each its own folder", dir.display()
    )]
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// The disk failed.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The attempted operation.
        doing: &'static str,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// A sync failed, so it is unknown what reached the disk.
    #[error("{}: cannot sync: {source}", path.display())]
    SyncFailed {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// A file that is being written was removed or replaced.
    #[error(
        "{} was removed, with records that were not read yet\n\
         hint: was its folder removed or replaced? stop what does that, put the folder back if you have it, then restart",
        path.display()
    )]
    Vanished {
        /// The file.
        path: PathBuf,
    },
    /// A durable record is damaged.
    #[error(
        "{} is damaged at byte {position}: {what}\n\
         hint: restore the file from a copy; what follows that byte cannot be trusted",
        path.display()
    )]
    Corrupt {
        /// The segment file.
        path: PathBuf,
        /// The position in it, bytes.
        position: u64,
        /// The found and the expected content.
        what: String,
    },
    /// An earlier write failed, so it is unknown what reached the disk.
    #[error(
        "topic {topic} accepts no more records since a write failed: {cause}\n\
         hint: fix the disk (`df -h`, `dmesg`), then restart"
    )]
    Poisoned {
        /// The topic.
        topic: String,
        /// The first failure.
        cause: Box<LogError>,
    },
    /// The log is closed, or was closed while the record waited.
    #[error("topic {topic} is closed")]
    Closed {
        /// The topic.
        topic: String,
    },
    /// A spool works in the background, which needs a tokio runtime.
    #[error("a writer with a spool is opened within a tokio runtime")]
    NoRuntime,
    /// A name that cannot be a topic's.
    #[error("`{topic}` cannot name a topic, expected 1 to 200 of the characters a-z A-Z 0-9 . _ -")]
    InvalidTopicName {
        /// The given name.
        topic: String,
    },
    /// A record over the size limit.
    #[error("topic {topic}: a record has {found_bytes} bytes, expected at most {max_bytes}")]
    TooLarge {
        /// The topic.
        topic: String,
        /// The record's size, bytes.
        found_bytes: usize,
        /// The limit, bytes.
        max_bytes: usize,
    },
    /// Kafka refuses a record because of its content, or because of another record in the same
    /// request.
    #[error("topic {topic}: Kafka refuses the record: {cause}")]
    Refused {
        /// The topic.
        topic: String,
        /// The reason for the refusal.
        refusal: RecordRefusal,
        /// librdkafka's message.
        cause: String,
    },
    /// A reader requested records that do not exist.
    #[error(
        "topic {topic} partition {partition}: offset {offset} was requested, but the log has {} to {}\n\
         hint: the log was trimmed or replaced since the position was stored; start from a fresh store, or restore the log",
        available.start, available.end
    )]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The requested offset.
        offset: i64,
        /// The available offsets.
        available: Range<i64>,
    },
    /// No Kafka broker answers.
    #[error(
        "Kafka at {brokers} does not answer: {cause}\n\
         hint: is it running (`ss -ltn` on that machine), and is log.kafka.brokers right?"
    )]
    Unreachable {
        /// The configured addresses.
        brokers: String,
        /// librdkafka's message.
        cause: String,
    },
    /// Kafka refused an operation.
    #[error("Kafka at {brokers}, topic {topic}: cannot {doing}: {cause}")]
    Kafka {
        /// The configured addresses.
        brokers: String,
        /// The topic.
        topic: String,
        /// The attempted operation.
        doing: &'static str,
        /// librdkafka's message.
        cause: String,
    },
    /// A setting with an invalid value.
    #[error("log.{key} = {found}: expected {expected}")]
    InvalidSetting {
        /// The key, below `log`.
        key: &'static str,
        /// The found value.
        found: String,
        /// The valid values.
        expected: String,
    },
}

/// The reason why Kafka refuses a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordRefusal {
    /// The record's size or content.
    Content,
    /// The record's time, by the broker's clock and the topic's limits.
    Timestamp,
    /// Another record of the same request.
    OtherRecord,
}

impl LogError {
    /// Whether the error concerns one record, or the records sent together with it, so that
    /// others can continue.
    #[must_use]
    pub fn is_record_specific(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::TooLarge { .. })
    }

    /// Whether the record itself is at fault, and not a neighbour or a clock.
    #[must_use]
    pub fn is_content_error(&self) -> bool {
        matches!(
            self,
            Self::Refused { refusal: RecordRefusal::Content, .. } | Self::TooLarge { .. }
        )
    }
}
