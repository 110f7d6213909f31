use tokio::sync::oneshot;

use crate::Record;

/// A record that was durable in the spool and that Kafka refuses because of its content. It holds
/// up the others until `done` reports that somebody stores it.
#[derive(Debug)]
pub struct RefusedRecord {
    /// The record.
    pub record: Record,
    /// Why Kafka refuses it.
    pub cause: String,
    /// Send `true` when the record is durable elsewhere. Otherwise the spool stores it in a file
    /// of its own.
    pub done: oneshot::Sender<bool>,
}
