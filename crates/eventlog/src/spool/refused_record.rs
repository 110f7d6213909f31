use tokio::sync::oneshot;

use crate::Record;

/// A record that was durable in the spool and that Kafka refuses for what it is. It is no
/// longer in the way of the others once `done` says that somebody keeps it.
#[derive(Debug)]
pub struct RefusedRecord {
    /// The record.
    pub record: Record,
    /// Why Kafka refuses it.
    pub cause: String,
    /// Told `true` when it is durable elsewhere; else the spool keeps it in a file of its own.
    pub done: oneshot::Sender<bool>,
}
