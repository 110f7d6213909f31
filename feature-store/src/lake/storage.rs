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

/// Where the files of the lake are.
#[derive(Debug)]
pub(super) enum LakeStorage {
    Local(LakeDirectory),
    Remote(RemoteLake),
}

/// A file that is listed.
#[derive(Clone, Debug)]
pub(super) struct ListedFile {
    /// Below the lake's place.
    pub(super) path: String,
    pub(super) bytes: u64,
}

impl LakeStorage {
    /// That of the settings, where there is a lake.
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

    /// Whether its files need not be fetched to be read.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// How messages name it.
    pub(super) fn display_name(&self) -> String {
        match self {
            Self::Local(folder) => folder.full_path("").display().to_string(),
            Self::Remote(elsewhere) => elsewhere.display_name(),
        }
    }

    /// Whose mark it has.
    pub(super) fn read_owner(&self) -> Result<Option<String>, StoreError> {
        let found = match self {
            Self::Local(folder) => folder.read_small(OWNER_FILE, OWNER_BYTES_MAX)?,
            Self::Remote(elsewhere) => elsewhere.read_owner()?,
        };
        Ok(found.map(|id| String::from_utf8_lossy(&id).trim().to_owned()))
    }

    /// Leaves a mark where there is none.
    pub(super) fn create_owner(&self, own: &str) -> Result<(), StoreError> {
        match self {
            Self::Local(folder) => folder.write_small(OWNER_FILE, own.as_bytes()),
            Self::Remote(elsewhere) => elsewhere.create_owner(own),
        }
    }

    /// Leaves a mark in the place of the one that there is.
    pub(super) fn replace_owner(&self, own: &str) -> Result<(), StoreError> {
        if let Self::Remote(elsewhere) = self {
            elsewhere.remove_owner()?;
        }
        self.create_owner(own)
    }

    /// Files of a table, by their paths.
    pub(super) fn list_table_files(&self, table: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Local(folder) => folder.list_parquet_files(table),
            Self::Remote(elsewhere) => elsewhere.list_objects(table),
        }
    }

    /// Puts a file that is not listed out of the way; it is kept.
    pub(super) fn quarantine_file(&self, path: &str) -> Result<(), StoreError> {
        match self {
            Self::Local(folder) => folder.quarantine_file(path).map(drop),
            Self::Remote(elsewhere) => elsewhere.quarantine_object(path),
        }
    }

    /// Files that were put out of the way.
    pub(super) fn list_quarantined(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Local(folder) => folder.every_file_below(QUARANTINE_DIR),
            Self::Remote(elsewhere) => elsewhere.list_objects(QUARANTINE_KEY),
        }
    }

    /// Where one file can be read, and its bytes.
    pub(super) fn fetch_unlisted(&self, path: &str) -> Result<(PathBuf, u64), StoreError> {
        match self {
            Self::Local(folder) => {
                let here = folder.full_path(path);
                let meta =
                    std::fs::metadata(&here).map_err(|source| directory_error(&here, source))?;
                Ok((here, meta.len()))
            }
            Self::Remote(elsewhere) => elsewhere.fetch_unlisted(path),
        }
    }

    /// A new empty folder to write a move into.
    pub(super) fn create_staging_dir(&self, move_id: u32) -> Result<PathBuf, StoreError> {
        self.local_directory().create_staging_dir(move_id)
    }

    /// Puts what was made aside in its place: durable once this returns.
    pub(super) fn publish_staged(
        &self,
        aside: &Path,
        made: &[StagedFile],
    ) -> Result<(), StoreError> {
        match self {
            Self::Local(folder) => folder.publish_staged(made)?,
            Self::Remote(elsewhere) => elsewhere.upload_staged(made)?,
        }
        self.local_directory().remove_staging_dir(aside)
    }

    /// Where files can be read, in their order, until others are asked for.
    pub(super) fn fetch_files(&self, files: &[ListedFile]) -> Result<Vec<PathBuf>, StoreError> {
        match self {
            Self::Local(folder) => {
                Ok(files.iter().map(|file| folder.full_path(&file.path)).collect())
            }
            Self::Remote(elsewhere) => elsewhere.fetch_to_cache(files),
        }
    }

    pub(super) fn remove_file(&self, path: &str) -> Result<(), StoreError> {
        if let Self::Remote(elsewhere) = self {
            elsewhere.remove_object(path)?;
        }
        self.local_directory().remove_file(path)
    }

    /// Puts files of moves that were not committed aside: named like those of a move, and not
    /// listed. Those that were never put in their place go: their rows are where they were.
    pub(super) fn quarantine_unlisted(&self, listed: &HashSet<String>) -> Result<(), StoreError> {
        self.local_directory().clean_staging()?;
        for path in self.list_archive_files()?.iter().filter(|path| !listed.contains(*path)) {
            tracing::warn!(
                path,
                "a file of the lake is not listed: put aside, see `feature-store lake orphans`"
            );
            self.quarantine_file(path)?;
        }
        Ok(())
    }

    fn local_directory(&self) -> &LakeDirectory {
        match self {
            Self::Local(folder) => folder,
            Self::Remote(elsewhere) => elsewhere.cache(),
        }
    }
}
