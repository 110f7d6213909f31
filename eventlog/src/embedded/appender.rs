use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use tokio::sync::mpsc::UnboundedReceiver;
use tracing::error;

use super::{
    frame, io_error,
    segment::{self, HEADER_BYTES},
    topic::{Durable, Pending, Shared},
};
use crate::{Faults, LogError, fault};

/// Most records of one write and sync.
const GROUP_RECORDS_MAX: usize = 16 * 1024;

/// Takes everything that is queued, writes it at once, syncs it at once, and
/// then answers all of it (group commit: Gray, "Notes on Data Base Operating
/// Systems", 1978; `PostgreSQL`'s `commit_delay`).
pub(super) struct Appender {
    shared: Arc<Shared>,
    file: File,
    queue: UnboundedReceiver<Pending>,
    segment_bytes_max: u64,
    faults: Faults,
    /// The bytes of a group, kept for its capacity.
    buffer: Vec<u8>,
}

impl Appender {
    pub(super) fn new(
        shared: Arc<Shared>,
        file: File,
        queue: UnboundedReceiver<Pending>,
        segment_bytes_max: u64,
        faults: Faults,
    ) -> Self {
        Self { shared, file, queue, segment_bytes_max, faults, buffer: Vec::new() }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut group = Vec::new();
        while self.queue.blocking_recv_many(&mut group, GROUP_RECORDS_MAX) > 0 {
            if self.shared.poison.get().is_none()
                && let Err(cause) = self.commit(&group)
            {
                error!(topic = %self.shared.name, %cause, "write failed: nothing is taken any more");
                self.shared.poison.get_or_init(|| cause);
            }
            self.answer(&mut group);
        }
    }

    fn commit(&mut self, group: &[Pending]) -> Result<(), LogError> {
        let Durable { next: first, mut base, mut len_bytes } = *self.shared.durable.borrow();
        if len_bytes >= self.segment_bytes_max {
            self.file = segment::create(&self.shared.dir, first)?;
            self.shared.segments().push(first);
            (base, len_bytes) = (first, HEADER_BYTES);
        }
        self.buffer.clear();
        let mut next = first;
        for pending in group {
            frame::encode(&pending.record, next, first, &mut self.buffer);
            next += 1;
        }
        let path = segment::path(&self.shared.dir, base);
        fault::point("append");
        let written = self.file.write_all_at(&self.buffer, len_bytes);
        written.map_err(|e| io_error(&path, "write", e))?;
        fault::point("fsync");
        let synced = self.faults.before_sync().and_then(|()| self.file.sync_data());
        synced.map_err(|e| io_error(&path, "sync", e))?;
        len_bytes += self.buffer.len() as u64;
        self.shared.durable.send_replace(Durable { next, base, len_bytes });
        Ok(())
    }

    /// A receipt that was dropped has nobody to tell.
    fn answer(&self, group: &mut Vec<Pending>) {
        if let Some(poisoned) = self.shared.poisoned() {
            for pending in group.drain(..) {
                let _ = pending.answer.send(Err(poisoned.clone()));
            }
            return;
        }
        let next = self.shared.durable.borrow().next;
        let first = next - i64::try_from(group.len()).unwrap_or(i64::MAX);
        for (offset, pending) in (first..).zip(group.drain(..)) {
            let _ = pending.answer.send(Ok((0, offset)));
        }
    }
}
