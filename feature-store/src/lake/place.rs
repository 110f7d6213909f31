use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::{
    elsewhere::{Elsewhere, ORPHANS_KEY},
    files::{Folder, Made, ORPHANS, failed},
    owner::{OWNER, OWNER_BYTES_MAX},
};
use crate::{Settings, StoreError};

/// Where the files of the lake are.
#[derive(Debug)]
pub(super) enum Place {
    Here(Folder),
    Elsewhere(Elsewhere),
}

/// A file that is listed.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// Below the lake's place.
    pub(super) path: String,
    pub(super) bytes: u64,
}

impl Place {
    /// That of the settings, where there is a lake.
    pub(super) fn open(settings: &Settings) -> Result<Option<Self>, StoreError> {
        let lake = &settings.lake;
        let Some(folder) = lake.folder() else { return Ok(None) };
        let folder = Folder::open(folder)?;
        Ok(Some(match lake.address() {
            None => Self::Here(folder),
            Some(address) => Self::Elsewhere(Elsewhere::open(
                address,
                &settings.s3,
                folder,
                lake.cache_bytes_max,
            )?),
        }))
    }

    /// Whether its files need not be fetched to be read.
    pub(super) fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// How messages name it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Here(folder) => folder.path("").display().to_string(),
            Self::Elsewhere(elsewhere) => elsewhere.name(),
        }
    }

    /// Whose mark it has.
    pub(super) fn read_owner(&self) -> Result<Option<String>, StoreError> {
        let found = match self {
            Self::Here(folder) => folder.read_small(OWNER, OWNER_BYTES_MAX)?,
            Self::Elsewhere(elsewhere) => elsewhere.read_owner()?,
        };
        Ok(found.map(|id| String::from_utf8_lossy(&id).trim().to_owned()))
    }

    /// Leaves a mark where there is none.
    pub(super) fn create_owner(&self, own: &str) -> Result<(), StoreError> {
        match self {
            Self::Here(folder) => folder.write_small(OWNER, own.as_bytes()),
            Self::Elsewhere(elsewhere) => elsewhere.create_owner(own),
        }
    }

    /// Leaves a mark in the place of the one that there is.
    pub(super) fn replace_owner(&self, own: &str) -> Result<(), StoreError> {
        if let Self::Elsewhere(elsewhere) = self {
            elsewhere.remove_owner()?;
        }
        self.create_owner(own)
    }

    /// Files of a table, by their paths.
    pub(super) fn below(&self, table: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Here(folder) => folder.below(table),
            Self::Elsewhere(elsewhere) => elsewhere.below(table),
        }
    }

    /// Puts a file that is not listed out of the way; it is kept.
    pub(super) fn put_aside(&self, path: &str) -> Result<(), StoreError> {
        match self {
            Self::Here(folder) => folder.put_aside(path).map(drop),
            Self::Elsewhere(elsewhere) => elsewhere.put_aside(path),
        }
    }

    /// Files that were put out of the way.
    pub(super) fn files_aside(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Here(folder) => folder.every_file_below(ORPHANS),
            Self::Elsewhere(elsewhere) => elsewhere.below(ORPHANS_KEY),
        }
    }

    /// Where one file can be read, and its bytes.
    pub(super) fn fetch_unlisted(&self, path: &str) -> Result<(PathBuf, u64), StoreError> {
        match self {
            Self::Here(folder) => {
                let here = folder.path(path);
                let meta = std::fs::metadata(&here).map_err(|source| failed(&here, source))?;
                Ok((here, meta.len()))
            }
            Self::Elsewhere(elsewhere) => elsewhere.fetch_unlisted(path),
        }
    }

    /// A new empty folder to write a move into.
    pub(super) fn aside(&self, move_id: u32) -> Result<PathBuf, StoreError> {
        self.folder().aside(move_id)
    }

    /// Puts what was made aside in its place: durable once this returns.
    pub(super) fn settle(&self, aside: &Path, made: &[Made]) -> Result<(), StoreError> {
        match self {
            Self::Here(folder) => folder.settle(made)?,
            Self::Elsewhere(elsewhere) => elsewhere.settle(made)?,
        }
        self.folder().leave(aside)
    }

    /// Where files can be read, in their order, until others are asked for.
    pub(super) fn fetch(&self, files: &[Listed]) -> Result<Vec<PathBuf>, StoreError> {
        match self {
            Self::Here(folder) => Ok(files.iter().map(|file| folder.path(&file.path)).collect()),
            Self::Elsewhere(elsewhere) => elsewhere.fetch(files),
        }
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), StoreError> {
        if let Self::Elsewhere(elsewhere) = self {
            elsewhere.remove(path)?;
        }
        self.folder().remove(path)
    }

    /// Puts files of moves that were not committed aside: named like those of a move, and not
    /// listed. Those that were never put in their place go: their rows are where they were.
    pub(super) fn clean(&self, listed: &HashSet<String>) -> Result<(), StoreError> {
        self.folder().clean_aside()?;
        for path in self.move_files()?.iter().filter(|path| !listed.contains(*path)) {
            tracing::warn!(
                path,
                "a file of the lake is not listed: put aside, see `feature-store lake orphans`"
            );
            self.put_aside(path)?;
        }
        Ok(())
    }

    fn folder(&self) -> &Folder {
        match self {
            Self::Here(folder) => folder,
            Self::Elsewhere(elsewhere) => elsewhere.cache(),
        }
    }
}
