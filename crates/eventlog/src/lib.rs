//! The one interface to the log that carries every reading: embedded (local,
//! durable, no server) or Apache Kafka.
//!
//! # Layout
//! In the order in which a record meets them:
//! - [`settings`]: which log, where, and its limits
//! - `record`: what is kept: key, payload, headers, time
//! - `log`: [`EventLog`], which opens writers and readers of topics
//! - `writer`: takes records in order; a [`AppendReceipt`] resolves once one is durable
//! - `embedded`: segment files, one appender thread a topic, group commit
//! - `kafka`: idempotent producer; consumer of all partitions, or of a group's share
//! - `spool`: takes records while Kafka is away, and brings them in order
//! - `reader`: batches of what is durable, from given [`PartitionOffsets`]; what a
//!   consumer group gives and takes
//! - [`fault`]: holds or fails the embedded log's disk, for tests
//! - `error`: what can go wrong, and what to do
//!
//! ```
//! # use std::time::Duration;
//! # use microclimate_eventlog::{EventLog, PartitionOffsets, Record, EventLogConfig};
//! # let dir = tempfile::tempdir().unwrap();
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let log = EventLog::open(&EventLogConfig::embedded(dir.path()))?;
//! let receipt = log.writer("sensor.readings")?.append(Record::new("farm/bay-1", "21.5", 0)).await?;
//! assert_eq!(receipt.await?, (0, 0)); // partition and offset; durable from here on
//!
//! let mut reader = log.reader("sensor.readings", &PartitionOffsets::new())?;
//! let batch = reader.next_batch(100, Duration::from_secs(1)).await?;
//! assert_eq!(batch[0].record.key, "farm/bay-1");
//! # Ok::<(), microclimate_eventlog::LogError>(()) }).unwrap();
//! ```

pub mod config;
mod embedded;
mod error;
pub mod fault_injection;
mod kafka;
mod log;
mod reader;
mod record;
mod spool;
mod writer;

/// Doors for `fuzz/`.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Decodes a frame of the embedded log.
    pub fn frame(bytes: &[u8]) {
        crate::embedded::fuzz_frame(bytes);
    }
}

pub use config::{
    Compression, EventLogConfig, EventLogKind, Partitioner, RetentionConfig, TopicRetention,
};
pub use embedded::TopicStorage;
pub use error::{LogError, RecordRefusal};
pub use fault_injection::FaultInjector;
pub use kafka::KafkaStatistics;
pub use log::EventLog;
pub use reader::{PartitionsAssigned, PartitionsRevoked, ReaderEvent, TopicReader};
pub use record::{PartitionOffsets, Record, StoredRecord};
pub use spool::{RefusedRecord, SpoolStatus};
pub use writer::{AppendReceipt, TopicWriter};
