use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{error, warn};

use super::{
    disk::{self, DiskReservation},
    frame, io_error,
    segment::{self, HEADER_BYTES},
    topic::{DurablePosition, PendingAppend, TopicState},
};
use crate::{EventLogConfig, FaultInjector, LogError, fault_injection};

/// Largest number of records in one write and sync.
const GROUP_RECORDS_MAX: usize = 16 * 1024;
/// Wait before another attempt on a full disk.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// A segment is at most one part in this many of the topic's limit, so that whole segments can be
/// removed.
const SEGMENT_SHARE: u64 = 4;

/// Writes and syncs everything that is queued at once, and then answers all of it (group commit:
/// Gray, "Notes on Data Base Operating Systems", 1978; PostgreSQL's `commit_delay`).
pub(super) struct SegmentAppender {
    shared: Arc<TopicState>,
    file: File,
    queue: UnboundedReceiver<PendingAppend>,
    segment_bytes_max: u64,
    room: DiskReservation,
    faults: FaultInjector,
    /// The bytes of a group. The buffer is reused for its capacity.
    buffer: Vec<u8>,
}

impl SegmentAppender {
    pub(super) fn new(
        shared: Arc<TopicState>,
        file: File,
        queue: UnboundedReceiver<PendingAppend>,
        settings: &EventLogConfig,
        faults: FaultInjector,
    ) -> Self {
        let segment_bytes_max =
            settings.segment_bytes_max.min(shared.retention.bytes_max / SEGMENT_SHARE);
        let len_bytes = shared.durable.borrow().len_bytes;
        let room = DiskReservation::new(settings.free_bytes_min, len_bytes);
        Self { shared, file, queue, segment_bytes_max, room, faults, buffer: Vec::new() }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut group = Vec::new();
        while self.queue.blocking_recv_many(&mut group, GROUP_RECORDS_MAX) > 0 {
            if let Err(cause) = self.commit_when_room(&mut group) {
                error!(topic = %self.shared.name, %cause, "write failed: no more records are accepted");
                self.shared.poison.get_or_init(|| cause);
            }
            if let Some(poisoned) = self.shared.poison_error() {
                for pending in group.drain(..) {
                    let _ = pending.answer.send(Err(poisoned.clone()));
                }
            }
            if !group.is_empty() {
                // The topic is being closed while the disk is full. The rest of the group stays
                // with its senders, and so do all later records, which must not be written before
                // it.
                return;
            }
        }
    }

    /// Writes, syncs and answers a group, all at once if the disk has room for it. While the disk
    /// is full, ever smaller parts are tried, and then it waits for room. Nothing of the rest was
    /// acknowledged, and nothing of it was written that a crash would leave behind. Records
    /// remain in `group` only if the topic is being closed.
    ///
    /// # Errors
    /// Returns the errors that waiting does not fix.
    fn commit_when_room(&mut self, group: &mut Vec<PendingAppend>) -> Result<(), LogError> {
        let mut count = group.len();
        while self.shared.poison.get().is_none() && !group.is_empty() {
            match self.commit_group(&group[..count]) {
                Ok(first) => {
                    self.shared.set_full(None);
                    for (offset, pending) in (first..).zip(group.drain(..count)) {
                        // Nobody waits for a dropped receipt.
                        let _ = pending.answer.send(Ok((0, offset)));
                    }
                    count = (2 * count).min(group.len());
                }
                Err(cause) if disk::is_full_error(&cause) && count > 1 => count /= 2,
                Err(cause) if disk::is_full_error(&cause) => {
                    self.shared.set_full(Some(&cause));
                    if self.shared.is_closing() {
                        return Ok(());
                    }
                    thread::sleep(FULL_RETRY);
                }
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    /// Writes and syncs records. Returns the offset of the first one.
    fn commit_group(&mut self, group: &[PendingAppend]) -> Result<i64, LogError> {
        let DurablePosition { next: first, mut base, mut len_bytes } =
            *self.shared.durable.borrow();
        if len_bytes >= self.segment_bytes_max && base != first {
            self.begin_segment(first)?;
            (base, len_bytes) = (first, HEADER_BYTES);
        }
        self.buffer.clear();
        let mut next = first;
        for pending in group {
            frame::encode_frame(&pending.record, next, first, &mut self.buffer);
            next += 1;
        }
        let path = segment::segment_path(&self.shared.dir, base);
        let end_bytes = len_bytes + self.buffer.len() as u64;
        let reserved = self.room.reserve_bytes(&self.shared.dir, &self.file, end_bytes);
        reserved.map_err(|e| io_error(&path, "take room", e))?;
        fault_injection::kill_point("append");
        let written = self.file.write_all_at(&self.buffer, len_bytes);
        written.map_err(|e| io_error(&path, "write", e))?;
        fault_injection::kill_point("fsync");
        let synced = self.faults.before_sync().and_then(|()| self.file.sync_data());
        synced.map_err(|e| LogError::SyncFailed { path: path.clone(), source: Arc::new(e) })?;
        check_not_replaced(&path, &self.file)?;
        self.shared.durable.send_replace(DurablePosition { next, base, len_bytes: end_bytes });
        Ok(first)
    }

    /// Continues in a new segment, and applies the retention.
    fn begin_segment(&mut self, first: i64) -> Result<(), LogError> {
        let file = segment::create_segment(&self.shared.dir, first)?;
        // The reserved and unused space is returned to the disk.
        let len_bytes = self.shared.durable.borrow().len_bytes;
        let _ = self.file.set_len(len_bytes);
        self.file = file;
        self.room.begin_segment();
        self.shared.lock_segments().push(first);
        // Nothing of the new segment is durable yet. A reader finds it by its first offset.
        self.shared.durable.send_replace(DurablePosition {
            next: first,
            base: first,
            len_bytes: HEADER_BYTES,
        });
        if let Err(error) = self.shared.apply_retention(SystemTime::now()) {
            warn!(topic = %self.shared.name, %error, "cannot apply the retention: old records stay for now");
        }
        Ok(())
    }
}

/// Checks that a file is still where it was opened. Data that is synced into a removed file is
/// lost at the next start.
///
/// # Errors
/// [`LogError::Vanished`].
fn check_not_replaced(path: &Path, file: &File) -> Result<(), LogError> {
    let is_in_place = || -> io::Result<bool> {
        let (here, open) = (fs::metadata(path)?, file.metadata()?);
        Ok((here.dev(), here.ino()) == (open.dev(), open.ino()))
    };
    match is_in_place() {
        Ok(true) => Ok(()),
        Ok(false) => Err(LogError::Vanished { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(LogError::Vanished { path: path.to_owned() })
        }
        Err(error) => Err(io_error(path, "look for", error)),
    }
}
