use std::{io, ops::Range, path::PathBuf, sync::Arc};

/// What can go wrong with the log. Cheap to clone: one failure of the disk
/// answers every record that waited for it.
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
        /// What was attempted.
        doing: &'static str,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The disk failed to keep what was written: what reached it is unknown.
    #[error("{}: cannot sync: {source}", path.display())]
    SyncFailed {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// A file that is being written is no longer where it was.
    #[error(
        "{} is gone, and with it what was not read yet\n\
         hint: was its folder removed or replaced? stop what does that, put the folder back if you have it, then restart",
        path.display()
    )]
    Vanished {
        /// The file.
        path: PathBuf,
    },
    /// A record that was durable is damaged.
    #[error(
        "{} is damaged at byte {position}: {what}\n\
         hint: restore the file from a copy; what follows that byte cannot be trusted",
        path.display()
    )]
    Corrupt {
        /// The segment file.
        path: PathBuf,
        /// Where in it, bytes.
        position: u64,
        /// What was found and what was expected.
        what: String,
    },
    /// An earlier write failed, and what reached the disk is unknown.
    #[error(
        "topic {topic} takes no more records since a write failed: {cause}\n\
         hint: mend the disk (`df -h`, `dmesg`), then restart"
    )]
    Poisoned {
        /// The topic.
        topic: String,
        /// The first failure.
        cause: Box<LogError>,
    },
    /// The log is shut, or was while the record waited.
    #[error("topic {topic} is closed")]
    Closed {
        /// The topic.
        topic: String,
    },
    /// A spool works in the background, which needs a runtime.
    #[error("a writer with a spool is opened within a tokio runtime")]
    NoRuntime,
    /// A name that no topic can have.
    #[error("`{topic}` cannot name a topic, expected 1 to 200 of the characters a-z A-Z 0-9 . _ -")]
    InvalidTopicName {
        /// The name given.
        topic: String,
    },
    /// A record over the limit.
    #[error("topic {topic}: a record has {found_bytes} bytes, at most {max_bytes} are taken")]
    TooLarge {
        /// The topic.
        topic: String,
        /// Its size.
        found_bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// A record that Kafka refuses for what it is, or that was sent together with such a one.
    #[error("topic {topic}: Kafka refuses the record: {cause}")]
    Refused {
        /// The topic.
        topic: String,
        /// What about it.
        refusal: RecordRefusal,
        /// What librdkafka says.
        cause: String,
    },
    /// A reader asked for records that are not there.
    #[error(
        "topic {topic} partition {partition}: offset {offset} was asked for, the log has {} to {}\n\
         hint: the log was trimmed or replaced since the position was stored; start from a fresh store, or restore the log",
        available.start, available.end
    )]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset asked for.
        offset: i64,
        /// What there is.
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
        /// What librdkafka says.
        cause: String,
    },
    /// Kafka refused.
    #[error("Kafka at {brokers}, topic {topic}: cannot {doing}: {cause}")]
    Kafka {
        /// The configured addresses.
        brokers: String,
        /// The topic.
        topic: String,
        /// What was attempted.
        doing: &'static str,
        /// What librdkafka says.
        cause: String,
    },
    /// A setting that cannot be.
    #[error("log.{key} = {found}: expected {expected}")]
    InvalidSetting {
        /// The key, below `log`.
        key: &'static str,
        /// What was set.
        found: String,
        /// What can be set.
        expected: String,
    },
}

/// What about a record Kafka refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordRefusal {
    /// Its size, or its content.
    Content,
    /// Its time, by the broker's clock and the topic's limits.
    Timestamp,
    /// Another record of the same request.
    OtherRecord,
}

impl LogError {
    /// Whether it says something of one record, or of those that were sent together with it, so
    /// that others can go on.
    #[must_use]
    pub fn is_record_specific(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::TooLarge { .. })
    }

    /// Whether the record itself is at fault, not its neighbour and not a clock.
    #[must_use]
    pub fn is_content_error(&self) -> bool {
        matches!(
            self,
            Self::Refused { refusal: RecordRefusal::Content, .. } | Self::TooLarge { .. }
        )
    }
}
