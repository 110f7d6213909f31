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

/// Most records of one write and sync.
const GROUP_RECORDS_MAX: usize = 16 * 1024;
/// A full disk is tried again after this.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// A segment is at most this part of what the topic may have, so that whole ones can go.
const SEGMENT_SHARE: u64 = 4;

/// Takes everything that is queued, writes it at once, syncs it at once, and
/// then answers all of it (group commit: Gray, "Notes on Data Base Operating
/// Systems", 1978; `PostgreSQL`'s `commit_delay`).
pub(super) struct SegmentAppender {
    shared: Arc<TopicState>,
    file: File,
    queue: UnboundedReceiver<PendingAppend>,
    segment_bytes_max: u64,
    room: DiskReservation,
    faults: FaultInjector,
    /// The bytes of a group, kept for its capacity.
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
                error!(topic = %self.shared.name, %cause, "write failed: nothing is taken any more");
                self.shared.poison.get_or_init(|| cause);
            }
            if let Some(poisoned) = self.shared.poison_error() {
                for pending in group.drain(..) {
                    let _ = pending.answer.send(Err(poisoned.clone()));
                }
            }
            if !group.is_empty() {
                // The topic is being closed on a full disk: its senders keep what is left, and
                // all that came after it, which must not go before it.
                return;
            }
        }
    }

    /// Writes, syncs and answers a group, at once if the disk has room for it. While it is full
    /// ever smaller parts are tried, and then room is waited for: nothing of what is left was
    /// acknowledged, and nothing of it was written that a crash would leave. Leaves some only
    /// where the topic is being closed.
    ///
    /// # Errors
    /// What no waiting mends.
    fn commit_when_room(&mut self, group: &mut Vec<PendingAppend>) -> Result<(), LogError> {
        let mut count = group.len();
        while self.shared.poison.get().is_none() && !group.is_empty() {
            match self.commit_group(&group[..count]) {
                Ok(first) => {
                    self.shared.set_full(None);
                    for (offset, pending) in (first..).zip(group.drain(..count)) {
                        // A receipt that was dropped has nobody to tell.
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

    /// Writes and syncs records; the offset of the first.
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

    /// Goes on in a new segment, and lets old ones go.
    fn begin_segment(&mut self, first: i64) -> Result<(), LogError> {
        let file = segment::create_segment(&self.shared.dir, first)?;
        // What was reserved and not used goes back to the disk.
        let len_bytes = self.shared.durable.borrow().len_bytes;
        let _ = self.file.set_len(len_bytes);
        self.file = file;
        self.room.begin_segment();
        self.shared.lock_segments().push(first);
        // Nothing of it is durable yet; a reader finds the new segment by its first offset.
        self.shared.durable.send_replace(DurablePosition {
            next: first,
            base: first,
            len_bytes: HEADER_BYTES,
        });
        if let Err(error) = self.shared.apply_retention(SystemTime::now()) {
            warn!(topic = %self.shared.name, %error, "old records stay for now");
        }
        Ok(())
    }
}

/// Whether a file is where it was opened: what is synced into a file that was removed is lost
/// at the next start.
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
