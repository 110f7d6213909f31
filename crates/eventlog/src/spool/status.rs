use serde::Serialize;

/// The content of a topic's spool at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpoolStatus {
    /// Whether new records go directly to Kafka, and not through the spool.
    pub is_direct: bool,
    /// Number of records that Kafka does not have yet.
    pub records: u64,
    /// Size of these records, bytes; after a restart, that of the files.
    pub bytes: u64,
    /// The size limit, bytes.
    pub bytes_max: u64,
    /// Whether the limit is reached. Appending waits then, so nothing is acknowledged.
    pub is_full: bool,
    /// Whether nothing is acknowledged because the spool's disk is full.
    pub is_disk_full: bool,
    /// For how long it has held records, milliseconds; 0 while it is empty.
    pub age_ms: u64,
    /// Number of records that went through it since the start of the process.
    pub spooled: u64,
    /// Number of records that it has sent to Kafka since the start of the process.
    pub drained: u64,
    /// For how long it has held records without sending any to Kafka, milliseconds.
    pub stalled_ms: u64,
    /// Number of restarts of a stalled drain since the start of the process.
    pub restarts: u64,
    /// Number of records since the start of the process that Kafka refused because of their
    /// content, and that are stored elsewhere.
    pub refused: u64,
    /// The last failure while it holds records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
