//! The room on a disk.

use std::{io, path::Path};

use nix::sys::statvfs::statvfs;

/// No more than this part of a disk is left to others.
const FREE_SHARE_MAX: u64 = 20;

/// The room on a disk, for a process without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that can be written.
    pub free_bytes: u64,
    /// The size of the disk, bytes.
    pub total_bytes: u64,
}

impl DiskSpace {
    /// The room on the disk that holds `path`, a file or folder that exists.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// ```
    /// let space = microclimate_service::disk::DiskSpace::at(".".as_ref())?;
    /// assert!(space.free_bytes <= space.total_bytes);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn at_path(path: &Path) -> io::Result<Self> {
        let found = statvfs(path)?;
        let block_bytes = found.fragment_size();
        Ok(Self {
            free_bytes: found.blocks_available().saturating_mul(block_bytes),
            total_bytes: found.blocks().saturating_mul(block_bytes),
        })
    }

    /// Bytes that can be written while `free_bytes_min`, or a twentieth of a small disk, stay
    /// free for others.
    #[must_use]
    pub fn usable_bytes(&self, free_bytes_min: u64) -> u64 {
        let left_bytes = free_bytes_min.min(self.total_bytes / FREE_SHARE_MAX);
        self.free_bytes.saturating_sub(left_bytes)
    }
}
