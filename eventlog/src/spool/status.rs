use serde::Serialize;

/// What a topic's spool holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpoolStatus {
    /// Whether new records go to Kafka directly; if not, through the spool.
    pub is_direct: bool,
    /// Records that Kafka does not have yet.
    pub records: u64,
    /// Their size, bytes; after a restart, that of the files.
    pub bytes: u64,
    /// The limit, bytes.
    pub bytes_max: u64,
    /// The limit is reached: appending waits, so nothing is acknowledged.
    pub is_full: bool,
    /// For how long it has held records, milliseconds; 0 while it is empty.
    pub age_ms: u64,
    /// Records that went through it since the start.
    pub spooled: u64,
    /// Records that it has brought to Kafka since the start.
    pub drained: u64,
}
