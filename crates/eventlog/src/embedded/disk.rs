//! Disk space of the log: reserved before it is written to, with some left to others.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use service::disk::DiskSpace;

use crate::LogError;

/// Step in which disk space is reserved, bytes.
const STEP_BYTES: u64 = 256 * 1024;
/// The free space is checked again after this time, or once half of it is used.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Checks whether the disk has room, and reserves it.
#[derive(Debug)]
pub(super) struct DiskReservation {
    free_bytes_min: u64,
    asked_at: Option<Instant>,
    /// Bytes that may be reserved before the free space is checked again.
    unasked_bytes: u64,
    /// Bytes of the current segment that are reserved.
    reserved_bytes: u64,
}

impl DiskReservation {
    /// Creates the state for a segment that already has `reserved_bytes`.
    pub(super) fn new(free_bytes_min: u64, reserved_bytes: u64) -> Self {
        Self { free_bytes_min, asked_at: None, unasked_bytes: 0, reserved_bytes }
    }

    /// Starts a new segment, which has nothing reserved.
    pub(super) fn begin_segment(&mut self) {
        self.reserved_bytes = 0;
    }

    /// Reserves the bytes of a segment up to `end_bytes`. Neither a write into them nor the sync
    /// after it then finds the disk full. A failed sync could not be recovered from.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if there is not enough space. Nothing was written then.
    pub(super) fn reserve_bytes(
        &mut self,
        dir: &Path,
        file: &File,
        end_bytes: u64,
    ) -> io::Result<()> {
        if end_bytes <= self.reserved_bytes {
            return Ok(());
        }
        let until_bytes = end_bytes.next_multiple_of(STEP_BYTES);
        let more_bytes = until_bytes - self.reserved_bytes;
        self.check_free_space(dir, more_bytes)?;
        let range = [self.reserved_bytes, more_bytes];
        let [from, len] = range.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, len) {
            // A file system without reservations reports a full disk at the write.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.unasked_bytes = self.unasked_bytes.saturating_sub(more_bytes);
        self.reserved_bytes = until_bytes;
        Ok(())
    }

    fn check_free_space(&mut self, dir: &Path, more_bytes: u64) -> io::Result<()> {
        let is_known = self.asked_at.is_some_and(|at| at.elapsed() < ASK_EVERY);
        if is_known && more_bytes <= self.unasked_bytes {
            return Ok(());
        }
        let space = DiskSpace::at_path(dir)?;
        let usable_bytes = space.usable_bytes(self.free_bytes_min);
        if more_bytes > usable_bytes {
            self.asked_at = None;
            let free_bytes = space.free_bytes;
            let what = format!(
                "no space left on device except for others (log.free_bytes_min): \
                 {free_bytes} bytes are free, {usable_bytes} for the log"
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        (self.asked_at, self.unasked_bytes) = (Some(Instant::now()), usable_bytes / 2);
        Ok(())
    }
}

/// Whether an error means that there is no disk space or no file descriptor, which may change
/// later. A failed sync is not such an error, because it is unknown what reached the disk.
pub(super) fn is_full_error(error: &LogError) -> bool {
    matches!(
        error,
        LogError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
                || service::descriptors::is_exhausted(source)
    )
}
