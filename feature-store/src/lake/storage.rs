use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::{
    lake_directory::{LakeDirectory, QUARANTINE_DIR, StagedFile, directory_error},
    ownership::{OWNER_BYTES_MAX, OWNER_FILE},
    remote_lake::{QUARANTINE_KEY, RemoteLake},
};
use crate::{FeatureStoreSettings, StoreError};

/// Storage of the lake's files.
#[derive(Debug)]
pub(super) enum LakeStorage {
    Local(LakeDirectory),
    Remote(RemoteLake),
}

/// A file that the DuckDB file lists.
#[derive(Clone, Debug)]
pub(super) struct ListedFile {
    /// Path below the lake.
    pub(super) path: String,
    pub(super) bytes: u64,
}

impl LakeStorage {
    /// Opens the configured storage; `None` if no lake is configured.
    pub(super) fn open(settings: &FeatureStoreSettings) -> Result<Option<Self>, StoreError> {
        let lake = &settings.lake;
        let Some(folder) = lake.local_folder() else { return Ok(None) };
        let folder = LakeDirectory::open(folder)?;
        Ok(Some(match lake.bucket_address() {
            None => Self::Local(folder),
            Some(address) => {
                Self::Remote(RemoteLake::open(address, &settings.s3, folder, lake.cache_bytes_max)?)
            }
        }))
    }

    /// Returns whether its files can be read without fetching them first.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Returns the name for messages.
    pub(super) fn display_name(&self) -> String {
        match self {
            Self::Local(folder) => folder.full_path("").display().to_string(),
            Self::Remote(remote) => remote.display_name(),
        }
    }

    /// Returns the id in the lake's owner mark.
    pub(super) fn read_owner(&self) -> Result<Option<String>, StoreError> {
        let found = match self {
            Self::Local(folder) => folder.read_small(OWNER_FILE, OWNER_BYTES_MAX)?,
            Self::Remote(remote) => remote.read_owner()?,
        };
        Ok(found.map(|id| String::from_utf8_lossy(&id).trim().to_owned()))
    }

    /// Creates the owner mark if the lake has none.
    pub(super) fn create_owner(&self, owner: &str) -> Result<(), StoreError> {
        match self {
            Self::Local(folder) => folder.write_small(OWNER_FILE, owner.as_bytes()),
            Self::Remote(remote) => remote.create_owner(owner),
        }
    }

    /// Creates the owner mark, or replaces it.
    pub(super) fn replace_owner(&self, owner: &str) -> Result<(), StoreError> {
        if let Self::Remote(remote) = self {
            remote.remove_owner()?;
        }
        self.create_owner(owner)
    }

    /// Lists the files of a table, by path.
    pub(super) fn list_table_files(&self, table: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Local(folder) => folder.list_parquet_files(table),
            Self::Remote(remote) => remote.list_objects(table),
        }
    }

    /// Moves an unlisted file to the quarantine, where it is kept.
    pub(super) fn quarantine_file(&self, path: &str) -> Result<(), StoreError> {
        match self {
            Self::Local(folder) => folder.quarantine_file(path).map(drop),
            Self::Remote(remote) => remote.quarantine_object(path),
        }
    }

    /// Lists the files in quarantine.
    pub(super) fn list_quarantined(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Local(folder) => folder.every_file_below(QUARANTINE_DIR),
            Self::Remote(remote) => remote.list_objects(QUARANTINE_KEY),
        }
    }

    /// Fetches one file; returns its local path and bytes.
    pub(super) fn fetch_unlisted(&self, path: &str) -> Result<(PathBuf, u64), StoreError> {
        match self {
            Self::Local(folder) => {
                let here = folder.full_path(path);
                let meta =
                    std::fs::metadata(&here).map_err(|source| directory_error(&here, source))?;
                Ok((here, meta.len()))
            }
            Self::Remote(remote) => remote.fetch_unlisted(path),
        }
    }

    /// Creates an empty staging folder for a move.
    pub(super) fn create_staging_dir(&self, move_id: u32) -> Result<PathBuf, StoreError> {
        self.local_directory().create_staging_dir(move_id)
    }

    /// Publishes staged files; they are durable once this returns.
    pub(super) fn publish_staged(
        &self,
        staging: &Path,
        staged: &[StagedFile],
    ) -> Result<(), StoreError> {
        match self {
            Self::Local(folder) => folder.publish_staged(staged)?,
            Self::Remote(remote) => remote.upload_staged(staged)?,
        }
        self.local_directory().remove_staging_dir(staging)
    }

    /// Returns local paths of files, in their order; valid until other files are fetched.
    pub(super) fn fetch_files(&self, files: &[ListedFile]) -> Result<Vec<PathBuf>, StoreError> {
        match self {
            Self::Local(folder) => {
                Ok(files.iter().map(|file| folder.full_path(&file.path)).collect())
            }
            Self::Remote(remote) => remote.fetch_to_cache(files),
        }
    }

    pub(super) fn remove_file(&self, path: &str) -> Result<(), StoreError> {
        if let Self::Remote(remote) = self {
            remote.remove_object(path)?;
        }
        self.local_directory().remove_file(path)
    }

    /// Quarantines the files of moves that were not committed: those that are named like files of
    /// a move but not listed. Removes staged files that were never published, as their rows have
    /// not moved.
    pub(super) fn quarantine_unlisted(&self, listed: &HashSet<String>) -> Result<(), StoreError> {
        self.local_directory().clean_staging()?;
        for path in self.list_archive_files()?.iter().filter(|path| !listed.contains(*path)) {
            tracing::warn!(
                path,
                "a file of the lake is not listed; quarantined, see `feature-store lake orphans`"
            );
            self.quarantine_file(path)?;
        }
        Ok(())
    }

    fn local_directory(&self) -> &LakeDirectory {
        match self {
            Self::Local(folder) => folder,
            Self::Remote(remote) => remote.cache(),
        }
    }
}
