//! Free space on a disk.

use std::{io, path::Path};

use nix::sys::statvfs::statvfs;

/// On a small disk, at most one part in this many stays free for others.
const FREE_SHARE_MAX: u64 = 20;

/// Free space on a disk, for a process without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Free space, bytes.
    pub free_bytes: u64,
    /// The size of the disk, bytes.
    pub total_bytes: u64,
}

impl DiskSpace {
    /// Reads the space of the disk that holds `path`, an existing file or folder.
    ///
    /// # Errors
    /// Returns the system's error.
    ///
    /// ```
    /// let space = microclimate_service::disk::DiskSpace::at_path(".".as_ref())?;
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

    /// Returns how many bytes can be written while `free_bytes_min`, or a twentieth of a small
    /// disk, stay free for others.
    #[must_use]
    pub fn usable_bytes(&self, free_bytes_min: u64) -> u64 {
        let left_bytes = free_bytes_min.min(self.total_bytes / FREE_SHARE_MAX);
        self.free_bytes.saturating_sub(left_bytes)
    }
}
