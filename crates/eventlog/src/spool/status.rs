use serde::Serialize;

/// What a topic's spool holds at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Whether nothing is acknowledged, because the disk under it has no room.
    pub is_disk_full: bool,
    /// For how long it has held records, milliseconds; 0 while it is empty.
    pub age_ms: u64,
    /// Records that went through it since the start.
    pub spooled: u64,
    /// Records that it has brought to Kafka since the start.
    pub drained: u64,
    /// For how long it has held records of which none reached Kafka, milliseconds.
    pub stalled_ms: u64,
    /// Times since the start that bringing them to Kafka stood still and was begun again.
    pub restarts: u64,
    /// Records since the start that Kafka refuses for what they are, and that are kept elsewhere.
    pub refused: u64,
    /// The last failure while it holds records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
