use std::collections::BTreeMap;

use bytes::Bytes;

/// What the log keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Records of one key stay in one partition, in order.
    pub key: String,
    /// The content.
    pub payload: Bytes,
    /// Names and values beside the content.
    pub headers: Vec<(String, Vec<u8>)>,
    /// UTC milliseconds.
    pub timestamp_ms: i64,
}

impl Record {
    /// A record without headers.
    pub fn new(key: impl Into<String>, payload: impl Into<Bytes>, timestamp_ms: i64) -> Self {
        Self { key: key.into(), payload: payload.into(), headers: Vec::new(), timestamp_ms }
    }

    /// The value of the first header of that name.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }

    /// Bytes of content, without framing.
    pub(crate) fn content_bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.len() + self.payload.len() + headers
    }
}

/// A record and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The partition; always 0 in the embedded log.
    pub partition: i32,
    /// Counts the partition's records from 0.
    pub offset: i64,
    /// The record.
    pub record: Record,
}

/// Partition → offset of the next record to read. A partition that is not in
/// it is read from its oldest record.
pub type PartitionOffsets = BTreeMap<i32, i64>;
