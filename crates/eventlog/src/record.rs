use std::collections::BTreeMap;

use bytes::Bytes;

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Records of one key stay in one partition, in order.
    pub key: String,
    /// The content.
    pub payload: Bytes,
    /// Names and values beside the content.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The record's time, UTC milliseconds.
    pub timestamp_ms: i64,
}

impl Record {
    /// Creates a record without headers.
    pub fn new(key: impl Into<String>, payload: impl Into<Bytes>, timestamp_ms: i64) -> Self {
        Self { key: key.into(), payload: payload.into(), headers: Vec::new(), timestamp_ms }
    }

    /// Returns the value of the first header with that name.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_slice())
    }

    /// Size of the content without framing, bytes.
    pub(crate) fn content_bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.len() + self.payload.len() + headers
    }
}

/// A record and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The partition; always 0 in the embedded log.
    pub partition: i32,
    /// The record's offset; the partition's records are counted from 0.
    pub offset: i64,
    /// The record.
    pub record: Record,
}

/// The offset of the next record to read, by partition. A missing partition is read from its
/// oldest record.
pub type PartitionOffsets = BTreeMap<i32, i64>;
