//! The one interface to the log that carries every reading: embedded (local, durable, no server)
//! or Apache Kafka.
//!
//! # Layout
//! In the order in which a record meets them:
//! - [`config`]: the kind of log, its place and its limits
//! - `record`: the content of a record: key, payload, headers, time
//! - `log`: [`EventLog`], which opens writers and readers of topics
//! - `writer`: appends records in order; an [`AppendReceipt`] resolves when its record is durable
//! - `embedded`: segment files, one appender thread for each topic, group commit
//! - `kafka`: idempotent producer; consumer of all partitions, or of a group's share
//! - `spool`: stores records while Kafka is away, and sends them in order afterwards
//! - `reader`: batches of durable records from given [`PartitionOffsets`]; events of a consumer
//!   group
//! - [`fault_injection`]: blocks or fails syncs of the embedded log, for tests
//! - `error`: the errors, with hints
//!
//! ```
//! # use std::time::Duration;
//! # use microclimate_eventlog::{EventLog, PartitionOffsets, Record, EventLogConfig};
//! # let dir = tempfile::tempdir().unwrap();
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let log = EventLog::open(&EventLogConfig::for_embedded(dir.path()))?;
//! let writer = log.open_writer("sensor.readings")?;
//! let receipt = writer.append(Record::new("farm/bay-1", "21.5", 0)).await?;
//! assert_eq!(receipt.await?, (0, 0)); // partition and offset; durable from here on
//!
//! let mut reader = log.open_reader("sensor.readings", &PartitionOffsets::new())?;
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

/// Entry points for `fuzz/`.
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
