use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// The counters of published messages.
#[derive(Debug, Default)]
pub(crate) struct PublishTally {
    messages_published: AtomicU64,
    readings_published: AtomicU64,
    messages_acknowledged: AtomicU64,
    readings_acknowledged: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

/// Number of published and acknowledged messages and readings. A message that cannot be decoded
/// counts as one reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PublishCounts {
    /// Messages given to a connection. A message that is sent again counts once.
    pub messages_published: u64,
    /// Readings in these messages.
    pub readings_published: u64,
    /// Messages with a PUBACK.
    pub messages_acknowledged: u64,
    /// Readings in these messages.
    pub readings_acknowledged: u64,
    /// Messages that the broker refused with a reason.
    pub refused: u64,
    /// Messages that did not fit into a device's offline buffer.
    pub dropped: u64,
}

impl PublishTally {
    pub(crate) fn count_published(&self, readings: u64) {
        self.messages_published.fetch_add(1, Ordering::Relaxed);
        self.readings_published.fetch_add(readings, Ordering::Relaxed);
    }

    pub(crate) fn count_acknowledged(&self, readings: u64) {
        self.messages_acknowledged.fetch_add(1, Ordering::Relaxed);
        self.readings_acknowledged.fetch_add(readings, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn load_counts(&self) -> PublishCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PublishCounts {
            messages_published: load(&self.messages_published),
            readings_published: load(&self.readings_published),
            messages_acknowledged: load(&self.messages_acknowledged),
            readings_acknowledged: load(&self.readings_acknowledged),
            refused: load(&self.refused),
            dropped: load(&self.dropped),
        }
    }
}
